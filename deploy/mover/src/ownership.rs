//! Who owns which slot now, read from all primaries, and kept by nobody.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use picopay_postgres::{Patience, ShardDb, owner_from_row, read_identity};
use picopay_shared::cluster::{Cluster, Shard};
use picopay_shared::slot::SLOT_COUNT;
use picopay_shared::slot_owner::{OwnerRow, SlotState};
use tokio::time::sleep;
use uuid::Uuid;

use crate::plan::Holdings;
use crate::slot_runs::SlotRuns;

/// Owner rows are a few thousand. Counting reads some million index entries a second; what takes longer than ten minutes
/// hangs.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(5), statement: Duration::from_mins(10) };

/// With a thousand rows each, some milliseconds in which charges lack a core. Counting a whole shard at once made all users
/// wait.
const COUNTED_AT_ONCE: u16 = 16;

/// One core and no more, no compiling, and one plan, by an index.
const COUNT_SETTINGS: &str = "SET max_parallel_workers_per_gather = 0; SET jit = off; SET enable_seqscan = off; \
                              SET plan_cache_mode = force_generic_plan";

pub struct Ownership {
    pub shards: Vec<ShardSlots>,
}

pub struct ShardSlots {
    pub name: String,
    /// The cluster and the name that its database has; nothing before it joined.
    pub identity: Option<(Uuid, String)>,
    /// Then no slot may move from or to it.
    pub degraded_since: Option<String>,
    pub entries: Vec<SlotEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotEntry {
    pub row: OwnerRow,
    pub age_s: i64,
    pub has_leftovers: bool,
}

impl Ownership {
    pub async fn read(cluster: &Cluster) -> anyhow::Result<Self> {
        let shards = try_join_all(cluster.shards.iter().map(read_shard)).await;
        Ok(Self { shards: shards.context("who owns which slot is only known when every shard answers")? })
    }

    /// Refuses a shard that is not of this cluster, with what to do about it.
    pub fn refuse_strangers(&self) -> anyhow::Result<()> {
        let cluster_id = self.shards.iter().find_map(|shard| Some(shard.identity.as_ref()?.0));
        for shard in &self.shards {
            let name = &shard.name;
            match &shard.identity {
                None => bail!(
                    "{name} is no part of the cluster yet: `picopay shard add {name}` for a new shard that joins, \
                     `picopay init` for a new cluster"
                ),
                Some((_, other)) if other != name => {
                    bail!("the database of {name} says that it is {other}: check the connection strings")
                }
                Some((id, _)) if Some(*id) != cluster_id => {
                    bail!("{name} is of another cluster ({id}): check the connection strings")
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    pub fn owners_of(&self, slot: u16) -> Vec<(usize, u64)> {
        let rows = self.shards.iter().enumerate().filter_map(|(position, shard)| {
            Some((position, shard.row(slot).filter(|row| row.is_owned())?.epoch))
        });
        rows.collect()
    }

    /// The slots that nobody owns, and those that several do.
    pub fn flaws(&self) -> (SlotRuns, SlotRuns) {
        let with = |wanted: fn(usize) -> bool| -> SlotRuns {
            (0..SLOT_COUNT).filter(|slot| wanted(self.owners_of(*slot).len())).collect()
        };
        (with(|owners| owners == 0), with(|owners| owners > 1))
    }

    /// A slot in the middle of a move counts as its target's.
    pub fn owners(&self) -> anyhow::Result<Vec<usize>> {
        let (_, owned_twice) = self.flaws();
        if !owned_twice.is_empty() {
            bail!(
                "slots {owned_twice} are owned by more than one shard: stop their nodes, then find out why"
            );
        }
        let given_to = |slot: u16| {
            let rows = self.shards.iter().filter_map(|shard| shard.row(slot));
            let last = rows.filter(|row| row.state == SlotState::Released).max_by_key(|row| row.epoch)?;
            self.shards.iter().position(|shard| shard.name == last.owner)
        };
        let owner = |slot: u16| match self.owners_of(slot).first() {
            Some((position, _)) => Some(*position),
            None => given_to(slot),
        };
        let owners: Vec<Option<usize>> = (0..SLOT_COUNT).map(owner).collect();
        let lost: SlotRuns = (0..SLOT_COUNT).filter(|slot| owners[usize::from(*slot)].is_none()).collect();
        if !lost.is_empty() {
            bail!(
                "slots {lost} are owned by no shard of the cluster's file, and no move accounts for it: does the file \
                 name all shards, and is none of their databases lost?"
            );
        }
        Ok(owners.into_iter().flatten().collect())
    }

    pub async fn holdings(&self, cluster: &Cluster) -> anyhow::Result<Holdings> {
        let owners = self.owners()?;
        // One after the other, or they take all cores of a machine that they share.
        let mut counted = Vec::with_capacity(cluster.shards.len());
        for shard in &cluster.shards {
            counted.push(count_rows(shard).await?);
        }
        let rows = owners.iter().enumerate().map(|(slot, owner)| counted[*owner][slot]).collect();
        Ok(Holdings { shards: self.shards.len(), owners, rows })
    }
}

impl ShardSlots {
    pub fn row(&self, slot: u16) -> Option<&OwnerRow> {
        let place = self.entries.binary_search_by_key(&slot, |entry| entry.row.slot.get()).ok()?;
        Some(&self.entries[place].row)
    }
}

async fn read_shard(shard: &Shard) -> anyhow::Result<ShardSlots> {
    let database = ShardDb::primary(shard, PATIENCE).await?;
    let tables = "SELECT to_regclass('degradation') IS NOT NULL";
    let has_schema = database.query_one(tables, &[]).await?.get(0);
    let (mut identity, mut degraded_since, mut entries) = (None, None, Vec::new());
    if has_schema {
        database.require_schema().await?;
        identity = read_identity(&database).await?.map(|identity| (identity.cluster_id, identity.shard_name));
        degraded_since = database.read_degradation().await?.map(|degraded| degraded.since);
        entries = read_entries(&database).await?;
    }
    database.close().await;
    Ok(ShardSlots { name: shard.name.clone(), identity, degraded_since, entries })
}

async fn read_entries(database: &ShardDb) -> anyhow::Result<Vec<SlotEntry>> {
    let read = database.query(include_str!("sql/ownership/read_owners.sql"), &[]).await?;
    let entry = |row: &tokio_postgres::Row| {
        let owner = owner_from_row(row).context("a shard says of a slot what cannot be")?;
        Ok(SlotEntry { row: owner, age_s: row.get(4), has_leftovers: row.get(5) })
    };
    read.iter().map(entry).collect()
}

pub async fn count_rows(shard: &Shard) -> anyhow::Result<Vec<u64>> {
    let database = ShardDb::primary(shard, PATIENCE).await?;
    database.execute_all(COUNT_SETTINGS).await?;
    let count = database.prepare(include_str!("sql/ownership/count_rows.sql")).await?;
    let mut rows = vec![0; usize::from(SLOT_COUNT)];
    for first in (0..SLOT_COUNT).step_by(usize::from(COUNTED_AT_ONCE)) {
        let began = Instant::now();
        let last = first + COUNTED_AT_ONCE - 1;
        for row in database.query(&count, &[&first.cast_signed(), &last.cast_signed()]).await? {
            rows[usize::from(slot_of(row.get(0)))] = u64::try_from(row.get::<_, i64>(1)).expect("a count");
        }
        // Users have as much of the machine as the count.
        sleep(began.elapsed()).await;
    }
    database.close().await;
    Ok(rows)
}

fn slot_of(column: i32) -> u16 {
    u16::try_from(column)
        .ok()
        .filter(|slot| *slot < SLOT_COUNT)
        .expect("the column is checked to be below 4096")
}

#[cfg(test)]
mod tests {
    use picopay_shared::slot::Slot;

    use super::SlotState::{Importing, Owned, Released};
    use super::*;

    fn entry(slot: u16, state: SlotState, owner: &str, epoch: u64) -> SlotEntry {
        let row = OwnerRow { slot: Slot::new(slot).unwrap(), state, owner: owner.to_owned(), epoch };
        SlotEntry { row, age_s: 0, has_leftovers: false }
    }

    fn shard(name: &str, entries: Vec<SlotEntry>) -> ShardSlots {
        ShardSlots { name: name.to_owned(), identity: None, degraded_since: None, entries }
    }

    #[test]
    fn a_slot_between_two_shards_counts_as_the_one_s_that_it_was_given_to() {
        let owned = |from: u16| (from..SLOT_COUNT).map(|slot| entry(slot, Owned, "a", 1));
        let mut entries = vec![entry(0, Released, "b", 2)];
        entries.extend(owned(1));
        let mut ownership =
            Ownership { shards: vec![shard("a", entries), shard("b", vec![entry(0, Importing, "a", 2)])] };
        let owners = ownership.owners().unwrap();
        assert_eq!((owners[0], owners[1], owners[4095]), (1, 0, 0));
        assert_eq!(ownership.flaws().0.to_string(), "0");

        ownership.shards[1].entries = vec![entry(1, Owned, "b", 3)];
        assert!(ownership.owners().unwrap_err().to_string().contains("slots 1 are owned by more than one"));

        ownership.shards[1].entries.clear();
        ownership.shards[0].entries.remove(0);
        assert!(ownership.owners().unwrap_err().to_string().contains("slots 0 are owned by no shard"));
    }
}
