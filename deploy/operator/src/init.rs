//! The first and only deal of the slots.
//!
//! A service never chooses a slot's owner: an operator runs this once, and later only moves change owners. It refuses
//! whenever it finds anything but a new cluster or an interrupted init. Shards are dealt in the order of the file, so an
//! interrupted init leaves the first few dealt.

use std::collections::BTreeSet;
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use futures_util::future::join_all;
use picopay_postgres::{DbError, Identity, Patience, ShardDb, begin_with_identity, read_identity};
use picopay_shared::cluster::{Cluster, Shard};
use picopay_shared::slot::SLOT_COUNT;
use picopay_shared::slot_owner::OwnerRow;
use serde::Serialize;
use tokio::time::sleep;
use uuid::Uuid;

use crate::cluster_file::ClusterArgs;
use crate::migrate::{MigratedShard, migrate};
use crate::output::{self, OutputArgs};

/// On an empty database a statement takes well under a second; a longer one waits for a lock or a missing standby.
pub const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(10), statement: Duration::from_secs(30) };

/// Nobody holds a lock on an empty database. Whoever starts a used cluster should hear soon what blocks it.
pub const LOCKS: Duration = Duration::from_mins(2);

/// Several containers may begin with an init at the same moment.
const OTHERS_WAIT: Duration = Duration::from_mins(1);
const OTHERS_POLL: Duration = Duration::from_millis(250);

/// A database takes seconds to start.
const PRIMARIES_POLL: Duration = Duration::from_millis(500);

/// Held in every shard during an init, so that two never mix their deals: "pico" and "init" in ASCII.
const INIT_LOCK: i64 = 0x7069_636f_696e_6974;

/// Deal out the slots of a new cluster.
///
/// The cluster gets the `cluster_id` of its file. Without that line it gets a new one, and the line is printed, to be added:
/// then no process takes the database of another cluster for its own.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Finish an interrupted init although there are users already. Be sure that the shards said to be empty
    /// were never dealt, and are not databases that were lost or swapped
    #[arg(long)]
    even_with_users: bool,
    /// Succeed on a cluster that is initialised completely, and bring its schema up to date: for what runs at every start
    #[arg(long)]
    if_needed: bool,
    /// Seconds for which primaries that cannot be reached yet are asked again: where databases start at the same time
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u32,
}

#[derive(Debug, Serialize)]
struct Deal {
    cluster_id: Uuid,
    /// The cluster was initialised before, completely: no slot was dealt. Only with `--if-needed`.
    was_initialised: bool,
    migrated: Vec<MigratedShard>,
    shards: Vec<DealtShard>,
    is_id_in_file: bool,
}

#[derive(Debug, Serialize)]
struct DealtShard {
    shard: String,
    first_slot: u16,
    last_slot: u16,
    slots: u16,
    /// An earlier init, interrupted since, had done it.
    was_dealt_before: bool,
}

pub async fn run(args: InitArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.load()?;
    let wait = Duration::from_secs(args.wait.into());
    let deal = deal_out(&cluster, args.even_with_users, args.if_needed, wait).await?;
    args.output.print(&deal, table);
    Ok(ExitCode::SUCCESS)
}

async fn deal_out(
    cluster: &Cluster,
    even_with_users: bool,
    if_needed: bool,
    wait: Duration,
) -> anyhow::Result<Deal> {
    if cluster.shards.len() > usize::from(SLOT_COUNT) {
        bail!("{} shards cannot share {SLOT_COUNT} slots", cluster.shards.len());
    }
    let databases = connect_within(wait, &cluster.shards).await?;
    let names: Vec<&str> = cluster.shards.iter().map(|shard| shard.name.as_str()).collect();
    refuse_shared_databases(&names, &databases).await?;
    lock_out_other_inits(&names, &databases, if if_needed { OTHERS_WAIT } else { Duration::ZERO }).await?;

    let (mut migrated, mut contents) = (Vec::new(), Vec::new());
    for (shard, database) in cluster.shards.iter().zip(&databases) {
        let applied = migrate(shard, LOCKS).await?;
        migrated.push(MigratedShard { shard: shard.name.clone(), applied, error: None, is_finished: None });
        contents.push(read_contents(database).await?);
    }
    let is_id_in_file = cluster.cluster_id().is_some();
    if if_needed && let Some(cluster_id) = id_if_initialised(&names, &contents) {
        join_all(databases.into_iter().map(ShardDb::close)).await;
        return Ok(Deal { cluster_id, was_initialised: true, migrated, shards: Vec::new(), is_id_in_file });
    }
    let ranges = (0..names.len()).map(|position| range_of(position, names.len()));
    let found: Vec<Found> = ranges
        .zip(names.iter().zip(&contents))
        .map(|(range, (name, contents))| classify(name, &range, contents))
        .collect();
    let cluster_id = match plan(&names, &found, even_with_users)? {
        Plan::Begin => cluster.cluster_id().unwrap_or_else(Uuid::new_v4),
        Plan::Finish(cluster_id) => cluster_id,
    };

    let mut shards = Vec::new();
    for (position, database) in databases.iter().enumerate() {
        let (name, range) = (names[position], range_of(position, names.len()));
        let was_dealt_before = matches!(found[position], Found::Dealt { .. });
        if !was_dealt_before {
            // No program has served it yet, so no older one is left.
            database.finish().await?;
            write_deal(database, cluster_id, name, &range).await.with_context(|| {
                format!("{name} could not be dealt its slots; run `picopay init` again to finish")
            })?;
        }
        shards.push(DealtShard {
            shard: name.to_owned(),
            first_slot: range.start,
            last_slot: range.end - 1,
            slots: range.end - range.start,
            was_dealt_before,
        });
    }
    join_all(databases.into_iter().map(ShardDb::close)).await;
    Ok(Deal { cluster_id, was_initialised: false, migrated, shards, is_id_in_file })
}

/// A server that answers and is wrong stays wrong; only one that cannot be reached is waited for.
async fn connect_within(wait: Duration, shards: &[Shard]) -> Result<Vec<ShardDb>, DbError> {
    let (started, mut databases) = (Instant::now(), Vec::new());
    for shard in shards {
        databases.push(loop {
            match ShardDb::primary(shard, PATIENCE).await {
                Err(DbError::Unreachable { .. }) if started.elapsed() < wait => sleep(PRIMARIES_POLL).await,
                connected => break connected?,
            }
        });
    }
    Ok(databases)
}

/// Contiguous, and even to within one slot.
fn range_of(position: usize, count: usize) -> Range<u16> {
    let bound = |position: usize| {
        u16::try_from(position * usize::from(SLOT_COUNT) / count).expect("at most the number of slots")
    };
    bound(position)..bound(position + 1)
}

/// Two entries that lead to one database would deal it two ranges under one identity.
pub async fn refuse_shared_databases(names: &[&str], databases: &[ShardDb]) -> anyhow::Result<()> {
    let mut seen: Vec<(String, &str)> = Vec::new();
    for (name, database) in names.iter().zip(databases) {
        let sql = "SELECT system_identifier::text || '/' || current_database() FROM pg_control_system()";
        let identity: String = database.query_one(sql, &[]).await?.get(0);
        if let Some((_, other)) = seen.iter().find(|(known, _)| *known == identity) {
            bail!(
                "{other} and {name} are one and the same database: give each shard its own in the cluster's file"
            );
        }
        seen.push((identity, name));
    }
    Ok(())
}

/// If every shard is a member of it and together they know all slots.
fn id_if_initialised(names: &[&str], contents: &[Contents]) -> Option<Uuid> {
    let cluster_id = contents.first()?.identity.as_ref()?.cluster_id;
    let is_member = |(name, contents): (&&str, &Contents)| {
        contents.identity.as_ref().is_some_and(|identity| *identity == Identity::of(cluster_id, name))
    };
    let slots: BTreeSet<u16> =
        contents.iter().flat_map(|contents| contents.owners.iter().map(|row| row.slot.get())).collect();
    let is_whole = slots.len() == usize::from(SLOT_COUNT);
    (is_whole && names.iter().zip(contents).all(is_member)).then_some(cluster_id)
}

/// In order of the shards' names, so that of two inits one always gets the first. Waits for each no longer than `wait`. The
/// locks go with the connections.
pub async fn lock_out_other_inits(
    names: &[&str],
    databases: &[ShardDb],
    wait: Duration,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut in_order: Vec<_> = names.iter().zip(databases).collect();
    in_order.sort_by_key(|(name, _)| **name);
    for (name, database) in in_order {
        while !database.query_one("SELECT pg_try_advisory_lock($1)", &[&INIT_LOCK]).await?.get::<_, bool>(0) {
            if started.elapsed() >= wait {
                bail!(
                    "another `picopay init` or `shard add` is at work on {name}: let it end, then look with `picopay status`"
                );
            }
            sleep(OTHERS_POLL).await;
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
pub struct Contents {
    pub identity: Option<Identity>,
    pub owners: Vec<OwnerRow>,
    pub has_users: bool,
}

pub async fn read_contents(database: &ShardDb) -> anyhow::Result<Contents> {
    let identity = read_identity(database).await?;
    let owners = database.read_owners().await?;
    let has_users = database.query_one("SELECT EXISTS (SELECT FROM users)", &[]).await?.get(0);
    Ok(Contents { identity, owners, has_users })
}

#[derive(Debug, Clone, PartialEq)]
enum Found {
    Empty,
    Dealt { cluster_id: Uuid, has_users: bool },
    Other(String),
}

fn classify(name: &str, range: &Range<u16>, contents: &Contents) -> Found {
    let owned = contents.owners.iter().filter(|row| row.is_owned()).count();
    let Some(identity) = &contents.identity else {
        return match (contents.owners.len(), contents.has_users) {
            (0, false) => Found::Empty,
            (rows, true) => Found::Other(format!("no identity, yet users and {rows} slot rows")),
            (rows, false) => Found::Other(format!("no identity, yet {rows} slot rows")),
        };
    };
    if *identity != Identity::of(identity.cluster_id, name) {
        return Found::Other(format!(
            "identity {:?} with {} slots hashed by {}",
            identity.shard_name, identity.slot_count, identity.slot_hash
        ));
    }
    let is_exact_deal = contents.owners.len() == range.len()
        && contents.owners.iter().zip(range.clone()).all(|(row, slot)| {
            row.slot.get() == slot && row.is_owned() && row.owner == name && row.epoch == 1
        });
    if is_exact_deal {
        Found::Dealt { cluster_id: identity.cluster_id, has_users: contents.has_users }
    } else {
        Found::Other(format!(
            "its own identity and {owned} owned slots, other than the {} that this file would deal it",
            range.len()
        ))
    }
}

#[derive(Debug, PartialEq)]
enum Plan {
    Begin,
    Finish(Uuid),
}

fn plan(names: &[&str], found: &[Found], even_with_users: bool) -> anyhow::Result<Plan> {
    let listing = || {
        let lines = names.iter().zip(found).map(|(name, found)| match found {
            Found::Empty => format!("\n  {name}: empty"),
            Found::Dealt { cluster_id, .. } => format!("\n  {name}: dealt, cluster {cluster_id}"),
            Found::Other(what) => format!("\n  {name}: {what}"),
        });
        lines.collect::<String>()
    };
    if found.iter().all(|found| *found == Found::Empty) {
        return Ok(Plan::Begin);
    }
    if found.iter().any(|found| matches!(found, Found::Other(_))) {
        bail!(
            "this is no new cluster, so no slot was dealt. Check the connection strings; slots of a cluster that is \
             in use change hands only by a move, and a new shard joins it by `picopay shard add`. Found:{}",
            listing()
        );
    }
    let mut ids = found.iter().filter_map(|found| match found {
        Found::Dealt { cluster_id, .. } => Some(*cluster_id),
        _ => None,
    });
    let cluster_id = ids.next().expect("neither all empty nor any other, so one is dealt");
    if ids.any(|other| other != cluster_id) {
        bail!("these shards are of different clusters; check the connection strings. Found:{}", listing());
    }
    let Some(first_empty) = found.iter().position(|found| *found == Found::Empty) else {
        bail!(
            "this cluster is initialised already (cluster {cluster_id}): its slots were dealt out once and for all. \
             See them with `picopay status`. With --if-needed this is a success"
        );
    };
    if found[first_empty..].iter().any(|found| *found != Found::Empty) {
        bail!(
            "{} is empty although a shard after it is dealt, which no interrupted init leaves behind: was its \
             database lost or swapped? Restore it; nothing was changed. Found:{}",
            names[first_empty],
            listing()
        );
    }
    let has_users = found.iter().any(|found| matches!(found, Found::Dealt { has_users: true, .. }));
    if has_users && !even_with_users {
        bail!(
            "{} is empty although the cluster has users already: was its database lost or swapped? If an init was \
             truly interrupted, finish it with --even-with-users. Found:{}",
            names[first_empty],
            listing()
        );
    }
    Ok(Plan::Finish(cluster_id))
}

async fn write_deal(
    database: &ShardDb,
    cluster_id: Uuid,
    name: &str,
    range: &Range<u16>,
) -> anyhow::Result<()> {
    begin_with_identity(database, cluster_id, name).await?;
    database
        .query(
            "INSERT INTO slot_owner (slot, state, owner, epoch)
             SELECT slot, 'owned', $1, 1 FROM generate_series($2::integer, $3::integer) AS slot",
            &[&name, &i32::from(range.start), &(i32::from(range.end) - 1)],
        )
        .await?;
    database.commit().await?;
    Ok(())
}

fn table(deal: &Deal) -> String {
    let mut parts = Vec::new();
    if deal.was_initialised {
        parts.push(format!("Cluster {} was initialised before. Its schema is up to date.", deal.cluster_id));
    } else {
        parts.push(format!("Cluster {} is ready.\n{}", deal.cluster_id, slots_table(deal)));
    }
    if !deal.is_id_in_file {
        parts.push(format!(
            "Add this line to the cluster's file, above the first [[shards]], so that nobody takes the database of another \
             cluster for one of this:\n\ncluster_id = \"{}\"",
            deal.cluster_id
        ));
    }
    parts.join("\n")
}

fn slots_table(deal: &Deal) -> String {
    let mut table = output::table(["shard", "slots", "count", ""]);
    for shard in &deal.shards {
        table.add_row([
            shard.shard.clone(),
            format!("{}–{}", shard.first_slot, shard.last_slot),
            shard.slots.to_string(),
            if shard.was_dealt_before { "dealt before" } else { "dealt now" }.to_owned(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use picopay_shared::slot::{SLOT_HASH, Slot};
    use picopay_shared::slot_owner::SlotState;

    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn row_of(name: &str, slot: u16, epoch: u64) -> OwnerRow {
        let slot = Slot::new(slot).unwrap();
        OwnerRow { slot, state: SlotState::Owned, owner: name.to_owned(), epoch }
    }

    fn dealt(id: Uuid) -> Found {
        Found::Dealt { cluster_id: id, has_users: false }
    }

    #[test]
    fn every_slot_is_dealt_once_in_order_and_evenly() {
        for count in [1, 2, 3, 5, 7, 64, 4095, 4096] {
            let ranges: Vec<_> = (0..count).map(|position| range_of(position, count)).collect();
            let slots: Vec<u16> = ranges.iter().cloned().flatten().collect();
            assert_eq!(slots, (0..SLOT_COUNT).collect::<Vec<_>>(), "{count} shards");
            let sizes: Vec<_> = ranges.iter().map(ExactSizeIterator::len).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{count} shards");
        }
    }

    #[test]
    fn slots_are_dealt_only_to_a_new_cluster_or_to_the_rest_of_an_interrupted_deal() {
        let other = || Found::Other("something".to_owned());
        let with_users = || Found::Dealt { cluster_id: ID, has_users: true };
        for (found, expected) in [
            ([Found::Empty, Found::Empty], Ok(Plan::Begin)),
            ([dealt(ID), Found::Empty], Ok(Plan::Finish(ID))),
            ([dealt(ID), dealt(ID)], Err("initialised already")),
            ([with_users(), dealt(ID)], Err("initialised already")),
            ([with_users(), Found::Empty], Err("--even-with-users")),
            ([Found::Empty, dealt(ID)], Err("lost or swapped")),
            ([dealt(ID), dealt(Uuid::from_u128(8))], Err("different clusters")),
            ([other(), Found::Empty], Err("no new cluster")),
            ([dealt(ID), other()], Err("no new cluster")),
        ] {
            let planned = plan(&["shard-1", "shard-2"], &found, false).map_err(|error| error.to_string());
            match (planned, expected) {
                (Ok(planned), Ok(expected)) => assert_eq!(planned, expected),
                (Err(message), Err(needle)) => assert!(message.contains(needle), "{message}"),
                (planned, expected) => panic!("{found:?}: {planned:?}, not {expected:?}"),
            }
        }
        let finished = plan(&["shard-1", "shard-2"], &[with_users(), Found::Empty], true);
        assert_eq!(finished.unwrap(), Plan::Finish(ID));
    }

    #[test]
    fn a_cluster_is_initialised_when_all_are_members_and_know_all_slots_wherever_they_are_now() {
        let member = |name: &str, slots: Range<u16>| Contents {
            identity: Some(Identity::of(ID, name)),
            owners: slots.map(|slot| row_of(name, slot, 3)).collect(),
            has_users: true,
        };
        let names = ["shard-1", "shard-2", "shard-3"];
        let all = || vec![member("shard-1", 0..9), member("shard-2", 9..4096), member("shard-3", 0..0)];
        assert_eq!(id_if_initialised(&names, &all()), Some(ID));
        let changes: [fn(&mut Vec<Contents>); 4] = [
            |contents| contents[2].identity = None,
            |contents| contents[1].identity = Some(Identity::of(Uuid::from_u128(8), "shard-2")),
            |contents| contents[1].identity = Some(Identity::of(ID, "shard-3")),
            |contents| contents[1].owners.truncate(9),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut contents = all();
            change(&mut contents);
            assert_eq!(id_if_initialised(&names, &contents), None, "change {number}");
        }
    }

    #[test]
    fn only_the_exact_deal_counts_as_dealt() {
        let identity = Identity {
            cluster_id: ID,
            shard_name: "shard-1".to_owned(),
            slot_count: 4096,
            slot_hash: SLOT_HASH.to_owned(),
        };
        let row = |slot| row_of("shard-1", slot, 1);
        let exact = || Contents {
            identity: Some(identity.clone()),
            owners: vec![row(0), row(1), row(2)],
            has_users: false,
        };
        let classify = |contents: &Contents| classify("shard-1", &(0..3), contents);
        assert_eq!(classify(&exact()), dealt(ID));
        assert_eq!(classify(&Contents::default()), Found::Empty);
        let changes: [fn(&mut Contents); 8] = [
            |contents| contents.identity = None,
            |contents| contents.identity.as_mut().unwrap().shard_name = "shard-2".to_owned(),
            |contents| contents.identity.as_mut().unwrap().slot_hash = "crc16".to_owned(),
            |contents| contents.owners[1].epoch = 2,
            |contents| contents.owners[1].state = SlotState::Released,
            |contents| contents.owners[1].owner = "shard-2".to_owned(),
            |contents| contents.owners[1].slot = Slot::new(9).unwrap(),
            |contents| contents.owners.truncate(2),
        ];
        for (position, change) in changes.iter().enumerate() {
            let mut contents = exact();
            change(&mut contents);
            assert!(matches!(classify(&contents), Found::Other(_)), "change {position}");
        }
    }
}
