//! What a shard has of slots that are not its own, and what was written there after they were given away.
//!
//! A move leaves rows behind until they are purged, which nobody reads, writes or counts. But they must be of before
//! the move: a later write has passed the fence, and its client was told of money that is not in the books. So what is
//! younger than the release, or nearly so, must be at the new owner.

use std::collections::BTreeMap;

use picopay_mover::slot_runs::SlotRuns;
use picopay_shared::slot::SLOT_COUNT;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::findings::{Finding, Findings, key};
use super::snapshot::Snapshot;

/// How far, in seconds, a primary's clock may have been set back between a write and the release. Rows younger than the
/// release less this are looked up at the new owner; if it cannot be asked, those younger than the release plus this are
/// wrong. (A user whose ids lie ahead of the clock would be taken for one of them then.)
const CLOCK_DIFFERENCE_MAX_S: f64 = 10.0;

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Leftovers {
    pub shard: String,
    pub state: String,
    pub runs: SlotRuns,
    pub rows: u64,
}

impl Leftovers {
    pub fn sentence(&self) -> String {
        let Self { shard, state, runs, rows } = self;
        match state.as_str() {
            "importing" => format!(
                "{shard} has {rows} rows of slots that are on their way in ({runs}): not counted here. Either a move is \
                 under way, or `picopay rebalance` has one to settle"
            ),
            "released" => format!(
                "{shard} has {rows} rows of slots that moved away ({runs}): not counted here. `picopay slots purge` \
                 removes them"
            ),
            _ => format!(
                "{shard} has {rows} rows of slots whose move was broken off ({runs}): not counted here. \
                 `picopay slots purge` removes them"
            ),
        }
    }
}

struct LateRow {
    slot: u16,
    user_id: i64,
    id: Option<Uuid>,
    created_at: String,
    released_at: String,
    /// Created after the release by more than clocks may differ.
    is_surely_later: bool,
}

/// Counts what is left in every shard, and finds what was written too late.
pub async fn check(snapshots: &[Snapshot], findings: &mut Findings) -> anyhow::Result<Vec<Leftovers>> {
    let owners = owners(snapshots);
    let mut all = Vec::new();
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.owners.iter().any(|row| !row.is_owned())) {
        let left = count(snapshot).await?;
        let has_released = left.iter().any(|left| left.state == "released");
        all.extend(left);
        if has_released {
            let mut late: BTreeMap<Option<usize>, Vec<LateRow>> = BTreeMap::new();
            for row in read_late(snapshot).await? {
                late.entry(owners[usize::from(row.slot)]).or_default().push(row);
            }
            for (owner, rows) in late {
                let wrong: Vec<LateRow> = match owner {
                    Some(owner) => missing_at(&snapshots[owner], rows).await?,
                    None => rows.into_iter().filter(|row| row.is_surely_later).collect(),
                };
                let owner = owner.map_or("a shard that owns it", |owner| &snapshots[owner].shard);
                for row in wrong {
                    findings.add("fence", || finding(&snapshot.shard, owner, &row));
                }
            }
        }
    }
    Ok(all)
}

/// Of two snapshots from before and after a move, the later one's word counts.
pub fn owners(snapshots: &[Snapshot]) -> Vec<Option<usize>> {
    let mut owners: Vec<Option<(u64, usize)>> = vec![None; usize::from(SLOT_COUNT)];
    for (position, snapshot) in snapshots.iter().enumerate() {
        for row in snapshot.owners.iter().filter(|row| row.is_owned()) {
            let owner = &mut owners[row.slot.index()];
            *owner = (*owner).max(Some((row.epoch, position)));
        }
    }
    owners.into_iter().map(|owner| owner.map(|(_, position)| position)).collect()
}

async fn count(snapshot: &Snapshot) -> anyhow::Result<Vec<Leftovers>> {
    let read = snapshot.database.query(include_str!("../sql/verify/count_leftovers.sql"), &[]).await?;
    let mut by_state: BTreeMap<String, (Vec<u16>, u64)> = BTreeMap::new();
    for row in &read {
        let of_state = by_state.entry(row.get(0)).or_default();
        of_state.0.push(u16::try_from(row.get::<_, i32>(1))?);
        of_state.1 += u64::try_from(row.get::<_, i64>(2))?;
    }
    let leftovers = by_state.into_iter().map(|(state, (slots, rows))| Leftovers {
        shard: snapshot.shard.clone(),
        state,
        runs: slots.into_iter().collect(),
        rows,
    });
    Ok(leftovers.collect())
}

async fn read_late(snapshot: &Snapshot) -> anyhow::Result<Vec<LateRow>> {
    let sql = include_str!("../sql/verify/find_late_rows.sql");
    let read = snapshot.database.query(sql, &[&CLOCK_DIFFERENCE_MAX_S]).await?;
    let row = |row: &tokio_postgres::Row| {
        Ok(LateRow {
            slot: u16::try_from(row.get::<_, i32>(0))?,
            user_id: row.get(1),
            id: row.get(2),
            created_at: row.get(3),
            released_at: row.get(4),
            is_surely_later: row.get(5),
        })
    };
    read.iter().map(row).collect()
}

async fn missing_at(owner: &Snapshot, rows: Vec<LateRow>) -> anyhow::Result<Vec<LateRow>> {
    let slots: Vec<i16> = rows.iter().map(|row| row.slot.cast_signed()).collect();
    let users: Vec<i64> = rows.iter().map(|row| row.user_id).collect();
    let ids: Vec<Option<Uuid>> = rows.iter().map(|row| row.id).collect();
    let sql = include_str!("../sql/verify/find_missing.sql");
    let missing = owner.database.query(sql, &[&slots, &users, &ids]).await?;
    let missing: Vec<usize> =
        missing.iter().map(|row| usize::try_from(row.get::<_, i64>(0))).collect::<Result<_, _>>()?;
    let is_missing = |(position, row)| missing.binary_search(&position).ok().map(|_| row);
    Ok(rows.into_iter().enumerate().filter_map(is_missing).collect())
}

fn finding(shard: &str, owner: &str, row: &LateRow) -> Finding {
    let LateRow { slot, user_id, created_at, released_at, .. } = row;
    let mut columns = key([("slot", json!(slot)), ("user_id", json!(user_id))]);
    if let Some(id) = row.id {
        columns.insert("id".to_owned(), json!(id));
    }
    Finding {
        shard: shard.to_owned(),
        table: if row.id.is_some() { "transactions" } else { "users" }.to_owned(),
        key: columns,
        expected: format!("at {owner} too, or nothing, since the slot was given away at {released_at}"),
        found: format!("created at {created_at}, and only here"),
    }
}
