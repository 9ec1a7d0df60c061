//! `picopay shard restore`: charges wait for the standby again, once it has everything.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use picopay_postgres::{DbError, Patience, ShardDb};
use picopay_shared::cluster::Shard;
use picopay_shared::node_status::Degradation;
use picopay_shared::slot::FENCE_LOCK;
use serde::Serialize;

use super::nodes::{FollowingNode, nodes_screen, wait_for_nodes};
use super::word::{PATIENCE, ShardArgs, connect};

/// For a standby that is there. Then the operator is told.
const CATCH_UP_WAIT: Duration = Duration::from_mins(1);

const CATCH_UP_POLL: Duration = Duration::from_millis(200);

/// Each time batches wait behind this for half a second at most.
const FENCE_TRIES: usize = 10;

/// End a shard's degradation.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    #[command(flatten)]
    shard: ShardArgs,
}

/// What `restore` prints. With `--output json` these are the names of the fields; they stay.
#[derive(Debug, Serialize)]
struct RestoreReport {
    shard: String,
    was_degraded: Degradation,
    nodes: Vec<FollowingNode>,
}

pub async fn run(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.shard.cluster.load()?;
    let shard = crate::cluster_file::find_shard(&cluster, &args.shard.name)?;
    let name = &shard.name;
    let database = connect(shard).await?;
    let Some(was_degraded) = database.read_degradation().await? else {
        bail!("{name} is not degraded: its commits wait for its standby as they should");
    };
    wait_for_standby(name, &database).await?;
    database.close().await;
    confirm(shard).await.with_context(|| format!("{name} stays degraded"))?;
    end(shard).await.with_context(|| format!("whether {name} is still degraded, `picopay status` says"))?;
    let nodes = wait_for_nodes(&cluster, shard, false, async || Ok(())).await?;
    let report = RestoreReport { shard: name.clone(), was_degraded, nodes };
    args.shard.output.print(&report, |report| {
        let done = format!("{name} waits for its standby again, which has everything.");
        nodes_screen(&report.nodes, &done)
    });
    Ok(if report.nodes.iter().all(|node| node.follows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn wait_for_standby(name: &str, database: &ShardDb) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let standbys = database.query(include_str!("../sql/shard/read_standbys.sql"), &[]).await?;
        // Who may not see how they are learns it from the commit that follows.
        if standbys.iter().any(|standby| standby.get::<_, bool>(1) || standby.get::<_, bool>(2)) {
            return Ok(());
        }
        if standbys.is_empty() {
            bail!(
                "{name} stays degraded: no standby follows its primary. Start it, or make a new one under a name in \
                 synchronous_standby_names, then run this again"
            );
        }
        if started.elapsed() > CATCH_UP_WAIT {
            let lines: Vec<String> = standbys.iter().map(|standby| standby.get(0)).collect();
            bail!(
                "{name} stays degraded: of its standbys ({}), none is streaming and named in \
                 synchronous_standby_names. Wait until one has caught up, then run this again",
                lines.join("; ")
            );
        }
        tokio::time::sleep(CATCH_UP_POLL).await;
    }
}

/// The log is one line, so a standby that confirms this has all that was written before.
async fn confirm(shard: &Shard) -> anyhow::Result<()> {
    let patient = Patience { statement: CATCH_UP_WAIT, ..PATIENCE };
    let database = ShardDb::primary(shard, patient).await?;
    database.execute_all("SET synchronous_commit = on").await?;
    database.confirm().await?;
    database.close().await;
    Ok(())
}

/// Removes the row under the fence, where every batch that waits for the primary alone sees the row. So none is
/// acknowledged like that afterwards.
async fn end(shard: &Shard) -> Result<(), DbError> {
    for _ in 1..FENCE_TRIES {
        if try_to_end(shard).await.is_ok() {
            return Ok(());
        }
    }
    try_to_end(shard).await
}

async fn try_to_end(shard: &Shard) -> Result<(), DbError> {
    let database = ShardDb::primary(shard, PATIENCE).await?;
    database.execute_all("SET synchronous_commit = on; SET lock_timeout = '500ms'; BEGIN").await?;
    database.query("SELECT pg_advisory_xact_lock($1)", &[&FENCE_LOCK]).await?;
    database.execute_all("DELETE FROM degradation").await?;
    database.commit().await?;
    database.close().await;
    Ok(())
}
