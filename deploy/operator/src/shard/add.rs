//! `picopay shard add`: a new, empty shard joins a cluster in use, without a slot.
//!
//! An empty database may also be one that was lost, or a wrong connection string. The others tell: together they own every
//! slot, so nothing can be missing.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::future::{join_all, try_join_all};
use picopay_mover::ownership::Ownership;
use picopay_postgres::{ShardDb, begin_with_identity};
use picopay_shared::cluster::Cluster;
use picopay_shared::slot::SLOT_COUNT;
use serde::Serialize;
use tokio::time::sleep;
use uuid::Uuid;

use crate::cluster_file::{ClusterArgs, find_shard};
use crate::init::{self, Contents};
use crate::migrate::migrate;
use crate::output::{self, OutputArgs};

/// During a move a slot may have no owner for a moment. The pauses between readings are together longer than that.
const READINGS_MAX: usize = 5;
const READING_PAUSE: Duration = Duration::from_millis(300);

/// Let a new shard join.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The shard, as the cluster's file names it
    name: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The fields' names of `--output json` stay.
#[derive(Debug, Serialize)]
struct AddReport {
    shard: String,
    cluster_id: Uuid,
    was_there_before: bool,
}

pub async fn run(args: AddArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.load()?;
    find_shard(&cluster, &args.name)?;
    let report = add(&cluster, &args.name).await?;
    args.output.print(&report, screen);
    Ok(ExitCode::SUCCESS)
}

async fn add(cluster: &Cluster, name: &str) -> anyhow::Result<AddReport> {
    let names: Vec<&str> = cluster.shards.iter().map(|shard| shard.name.as_str()).collect();
    let mut databases = Vec::new();
    for shard in &cluster.shards {
        databases.push(ShardDb::primary(shard, init::PATIENCE).await?);
    }
    init::refuse_shared_databases(&names, &databases).await?;
    init::lock_out_other_inits(&names, &databases, Duration::ZERO).await?;
    let position = names.iter().position(|one| *one == name).expect("it was found in the file");

    let cluster_id = id_of_others(&Ownership::read(cluster).await?, name)?;
    let contents = read_contents_if_any(&databases[position]).await?;
    let was_there_before = is_joined(name, cluster_id, &contents)?;
    if !was_there_before {
        others_own_all_slots(cluster, name).await?;
        migrate(find_shard(cluster, name)?, init::LOCKS).await?;
        // Gateways of an older release may be left as long as one of the others says so.
        let others = databases.iter().enumerate().filter(|(other, _)| *other != position);
        let are_finished = try_join_all(others.map(|(_, other)| other.is_finished())).await?;
        if are_finished.into_iter().all(|is_finished| is_finished) {
            databases[position].finish().await?;
        }
        join(&databases[position], cluster_id, name)
            .await
            .with_context(|| format!("{name} has not joined; run `picopay shard add {name}` again"))?;
    }
    join_all(databases.into_iter().map(ShardDb::close)).await;
    Ok(AddReport { shard: name.to_owned(), cluster_id, was_there_before })
}

fn id_of_others(ownership: &Ownership, name: &str) -> anyhow::Result<Uuid> {
    let mut cluster_id = None;
    for shard in ownership.shards.iter().filter(|shard| shard.name != name) {
        match &shard.identity {
            Some((id, own_name))
                if *own_name == shard.name && cluster_id.is_none_or(|known| known == *id) =>
            {
                cluster_id = Some(*id);
            }
            Some((id, other)) => bail!(
                "the database of {} says that it is {other} of cluster {id}: check the connection strings. Nothing was \
                 changed",
                shard.name
            ),
            None => bail!(
                "{} is of no cluster yet either: shards join one after the other, and a new cluster begins with \
                 `picopay init`",
                shard.name
            ),
        }
    }
    cluster_id
        .with_context(|| format!("there is no cluster that {name} could join: begin one with `picopay init`"))
}

async fn read_contents_if_any(database: &ShardDb) -> anyhow::Result<Contents> {
    if database.query_one("SELECT to_regclass('shard_identity') IS NOT NULL", &[]).await?.get(0) {
        return init::read_contents(database).await;
    }
    let found: Option<String> =
        database.query_one(include_str!("../sql/shard/find_tables.sql"), &[]).await?.get(0);
    if let Some(tables) = found {
        bail!(
            "its database holds tables of somebody else ({tables}): is the connection string right? Nothing was changed"
        );
    }
    Ok(Contents::default())
}

/// Whether it has joined already. Whatever is neither that nor empty is refused.
fn is_joined(name: &str, cluster_id: Uuid, contents: &Contents) -> anyhow::Result<bool> {
    match &contents.identity {
        Some(identity) if identity.cluster_id == cluster_id && identity.shard_name == name => Ok(true),
        Some(identity) => bail!(
            "the database of {name} is {} of cluster {} already: check the connection strings. Nothing was changed",
            identity.shard_name,
            identity.cluster_id
        ),
        None if contents.owners.is_empty() && !contents.has_users => Ok(false),
        None => bail!(
            "the database of {name} is not empty: it has {} slot rows and {} users, and no identity. Nothing was changed",
            contents.owners.len(),
            if contents.has_users { "some" } else { "no" }
        ),
    }
}

async fn others_own_all_slots(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    for reading in 1.. {
        let (nobody, several) = Ownership::read(cluster).await?.flaws();
        if nobody.is_empty() && several.is_empty() {
            return Ok(());
        }
        if !several.is_empty() || reading == READINGS_MAX {
            let (slots, by) =
                if several.is_empty() { (nobody, "no shard") } else { (several, "more than one") };
            bail!(
                "slots {slots} are owned by {by}. A shard joins only while the others own all {SLOT_COUNT}, each once: \
                 was the database of {name} lost, or is a move to be finished by `picopay rebalance`? Nothing was changed"
            );
        }
        sleep(READING_PAUSE).await;
    }
    unreachable!("the last reading returns")
}

async fn join(database: &ShardDb, cluster_id: Uuid, name: &str) -> anyhow::Result<()> {
    begin_with_identity(database, cluster_id, name).await?;
    database.commit().await?;
    Ok(())
}

fn screen(report: &AddReport) -> String {
    let AddReport { shard, cluster_id, was_there_before } = report;
    let done = if *was_there_before { "was part of it before" } else { "has joined" };
    let parts = [
        output::verdict_good(&format!("{shard} {done}: cluster {cluster_id}.")),
        output::bullet(
            "gateways must know it before slots move to it: have them reload the cluster's file (SIGHUP), and see \
             `picopay config check --against-running`",
        ),
        output::bullet("then `picopay rebalance --plan`, and `picopay rebalance`"),
    ];
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use picopay_postgres::Identity;
    use picopay_shared::slot::SLOT_HASH;

    use super::*;

    #[test]
    fn only_an_empty_database_or_one_that_has_joined_is_accepted() {
        let id = Uuid::from_u128(7);
        let identity = |shard_name: &str, cluster_id| Identity {
            cluster_id,
            shard_name: shard_name.to_owned(),
            slot_count: 4096,
            slot_hash: SLOT_HASH.to_owned(),
        };
        let of = |identity| Contents { identity: Some(identity), ..Contents::default() };
        let accepted = |contents: &Contents| is_joined("shard-3", id, contents).ok();
        assert_eq!(accepted(&Contents::default()), Some(false));
        assert_eq!(accepted(&of(identity("shard-3", id))), Some(true));
        assert_eq!(accepted(&of(identity("shard-2", id))), None);
        assert_eq!(accepted(&of(identity("shard-3", Uuid::from_u128(8)))), None);
        assert_eq!(accepted(&Contents { has_users: true, ..Contents::default() }), None);
    }
}
