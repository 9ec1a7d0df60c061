//! `picopay shard degrade`: charges go on without the standby, by an operator's word.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use picopay_postgres::{DbError, ShardDb};
use picopay_shared::cluster::Durability;
use picopay_shared::node_status::Degradation;
use serde::Serialize;

use super::nodes::{FollowingNode, nodes_screen, wait_for_nodes};
use super::word::{ShardArgs, connect, whoever_this_is};
use crate::output;

/// Let a shard go on without its synchronous standby.
#[derive(Debug, Args)]
pub struct DegradeArgs {
    #[command(flatten)]
    shard: ShardArgs,
    /// Why, for whoever finds it so
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who [default: this user on this machine]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// What `degrade` prints. With `--output json` these are the names of the fields; they stay.
#[derive(Debug, Serialize)]
struct DegradeReport {
    shard: String,
    #[serde(flatten)]
    degraded: Degradation,
    released: i64,
    nodes: Vec<FollowingNode>,
}

pub async fn run(args: DegradeArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.shard.cluster.load()?;
    let shard = crate::cluster_file::find_shard(&cluster, &args.shard.name)?;
    let name = &shard.name;
    if shard.durability == Durability::Local {
        bail!("{name} waits for no standby as it is (durability = \"local\"): there is nothing to degrade");
    }
    let database = connect(shard).await?;
    database.execute_all("SET synchronous_commit = local").await?;
    // First: a `restore` that was left waiting for the standby holds the row.
    let mut released = release(&database).await?;
    let by = args.by.unwrap_or_else(whoever_this_is);
    let said = database.execute(include_str!("../sql/shard/degrade.sql"), &[&by, &args.reason]).await?;
    let Some(degraded) = database.read_degradation().await? else {
        bail!("{name} was restored at the same moment: run this again if it is still meant");
    };
    if said == 0 {
        bail!(
            "{name} is degraded already, since {} by {} ({}): `picopay shard restore {name}` ends that",
            degraded.since,
            degraded.by,
            degraded.reason
        );
    }
    let release_more = async || {
        released += release(&database).await?;
        Ok(())
    };
    let nodes = wait_for_nodes(&cluster, shard, true, release_more).await?;
    database.close().await;
    let report = DegradeReport { shard: name.clone(), degraded, released, nodes };
    args.shard.output.print(&report, screen);
    Ok(if report.nodes.iter().all(|node| node.follows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lets go of commits that wait for the standby, and says of how many.
async fn release(database: &ShardDb) -> Result<i64, DbError> {
    Ok(database.query_one(include_str!("../sql/shard/release_waiting.sql"), &[]).await?.get(0))
}

fn screen(report: &DegradeReport) -> String {
    let name = &report.shard;
    let done = format!("{name} goes on without its standby.");
    let mut parts = vec![nodes_screen(&report.nodes, &done)];
    if report.released > 0 {
        parts.push(output::bullet(&format!(
            "{} commits that waited for the standby were let go",
            report.released
        )));
    }
    parts.push(output::bullet(
        "what is acknowledged from now on is on the primary alone: lose that, and it is lost",
    ));
    parts.push(output::bullet(&format!(
        "when a standby follows again: `picopay shard restore {name}`; `picopay status` shows it until then"
    )));
    parts.join("\n")
}
