//! Whether both sides of each transfer agree, which may be of two shards.
//!
//! Transfers go on meanwhile, and shards are not read at one moment. But what is looked for was there before: a credit is decided
//! after its transfer was begun, and a transfer is ended after its credit was decided. So the credits of the snapshots are
//! looked up among the transfers of now, and the ended transfers of the snapshots among the credits of now. Neither changes back.
//! A slot that moves at the moment has no owner, so what is missing is looked for again.

use std::time::Duration;

use futures_util::future::try_join_all;
use picopay_postgres::{Patience, ShardDb};
use picopay_shared::cluster::Cluster;
use picopay_shared::slot::UserId;
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use super::findings::{Finding, Findings, key};
use super::leftovers;
use super::snapshot::Snapshot;

/// A chunk is read with one statement for each shard.
const CHUNK: usize = 20_000;

const PATIENCE: Patience = Patience { connect: Duration::from_secs(10), statement: Duration::from_mins(10) };
const PAUSE: Duration = Duration::from_millis(500);
/// With their pauses they take several times as long as a slot may have no owner.
const READINGS_MAX: usize = 6;

/// One side of a transfer, which the other one must agree with.
#[derive(Debug, Clone)]
struct Side {
    transfer: Uuid,
    /// Whose shard says so.
    user: i64,
    /// Whose shard must say so, too.
    other: UserId,
    currency: String,
    amount: String,
    /// `given`, or why not.
    decided: String,
}

#[derive(Debug, Clone, Copy)]
struct Direction {
    from: &'static str,
    in_table: &'static str,
    look_up: &'static str,
    other_table: &'static str,
    /// Whether the other side may not know it yet.
    may_be_pending: bool,
}

const DIRECTIONS: [Direction; 2] = [
    Direction {
        from: include_str!("../sql/verify/read_credits.sql"),
        in_table: "transfer_credits",
        look_up: include_str!("../sql/verify/find_transfers.sql"),
        other_table: "transfers",
        may_be_pending: true,
    },
    Direction {
        from: include_str!("../sql/verify/read_ended_transfers.sql"),
        in_table: "transfers",
        look_up: include_str!("../sql/verify/find_credits.sql"),
        other_table: "transfer_credits",
        may_be_pending: false,
    },
];

pub async fn check(cluster: &Cluster, snapshots: &[Snapshot], findings: &mut Findings) -> anyhow::Result<()> {
    let open = cluster.shards.iter().map(|shard| ShardDb::primary_of_anybody(shard, PATIENCE));
    let now = try_join_all(open).await?;
    let owners = leftovers::owners(snapshots);
    for direction in DIRECTIONS {
        for snapshot in snapshots {
            for sides in read(snapshot, direction, findings).await?.chunks(CHUNK) {
                compare(direction, &snapshot.shard, (&now, &owners), sides, findings).await?;
            }
        }
    }
    for database in now {
        database.close().await;
    }
    Ok(())
}

async fn read(
    snapshot: &Snapshot,
    direction: Direction,
    findings: &mut Findings,
) -> anyhow::Result<Vec<Side>> {
    let mut sides = Vec::new();
    let take = |row: &tokio_postgres::Row| {
        let (user, transfer): (i64, Uuid) = (row.get(0), row.get(1));
        match UserId::try_from(row.get::<_, i64>(2)) {
            Ok(other) => sides.push(Side {
                transfer,
                user,
                other,
                currency: row.get(3),
                amount: row.get(4),
                decided: row.get(5),
            }),
            Err(error) => findings.add("transfer", || Finding {
                shard: snapshot.shard.clone(),
                table: direction.in_table.to_owned(),
                key: key([("user_id", json!(user)), ("transfer_id", json!(transfer))]),
                expected: "another user".to_owned(),
                found: error.to_string(),
            }),
        }
    };
    snapshot.database.for_each_row(direction.from, &[], take).await?;
    Ok(sides)
}

async fn compare(
    direction: Direction,
    shard: &str,
    (now, owners): (&[ShardDb], &[Option<usize>]),
    sides: &[Side],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut said: Vec<Option<String>> = vec![None; sides.len()];
    let mut wanted: Vec<usize> = (0..sides.len()).collect();
    for reading in 0..READINGS_MAX {
        if wanted.is_empty() {
            break;
        }
        if reading > 1 {
            sleep(PAUSE).await;
        }
        // At first each where it most likely is, then all of them everywhere.
        let asked = now.iter().enumerate().map(async |(position, database)| {
            let is_here =
                |side: &&usize| reading > 0 || owners[sides[**side].other.slot().index()] == Some(position);
            let here: Vec<usize> = wanted.iter().filter(is_here).copied().collect();
            look_up(database, direction, sides, &here).await
        });
        for (side, found) in try_join_all(asked).await?.concat() {
            let told = said[side].get_or_insert_default();
            // Twice there: each must agree.
            if !told.is_empty() {
                told.push_str(" and ");
            }
            told.push_str(&found);
        }
        wanted.retain(|side| said[*side].is_none());
    }
    for (side, found) in sides.iter().zip(said) {
        let Side { transfer, user, other, currency, amount, decided } = side;
        let (expected, pending) =
            (tell(*user, currency, amount, Some(decided)), tell(*user, currency, amount, None));
        let is_right = match &found {
            Some(found) => *found == expected || (direction.may_be_pending && *found == pending),
            None => false,
        };
        if !is_right {
            findings.add("transfer", || Finding {
                shard: shard.to_owned(),
                table: direction.in_table.to_owned(),
                key: key([
                    ("user_id", json!(user)),
                    ("transfer_id", json!(transfer)),
                    ("other_user_id", json!(other)),
                ]),
                expected: format!("{expected}, in {} of the other user, too", direction.other_table),
                found: found.unwrap_or_else(|| "no such row".to_owned()),
            });
        }
    }
    Ok(())
}

async fn look_up(
    database: &ShardDb,
    direction: Direction,
    sides: &[Side],
    wanted: &[usize],
) -> anyhow::Result<Vec<(usize, String)>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let of = || wanted.iter().map(|side| &sides[*side]);
    let slots: Vec<i16> = of().map(|side| side.other.slot().as_i16()).collect();
    let users: Vec<i64> = of().map(|side| side.other.get()).collect();
    let ids: Vec<Uuid> = of().map(|side| side.transfer).collect();
    let rows = database.query(direction.look_up, &[&slots, &users, &ids]).await?;
    let found = rows.iter().map(|row| {
        let position = usize::try_from(row.get::<_, i64>(0)).expect("a position of the chunk");
        (wanted[position], tell(row.get(1), row.get(2), row.get(3), row.get(4)))
    });
    Ok(found.collect())
}

/// What one side says of the user of the other one, of the amount, and of the decision.
fn tell(user: i64, currency: &str, amount: &str, decided: Option<&str>) -> String {
    let decided = match decided {
        None => "pending",
        Some("given") => "completed",
        Some(reason) => reason,
    };
    format!("{amount} {currency}, user {user}, {decided}")
}
