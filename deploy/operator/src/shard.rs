//! One shard: to let it join a cluster and to empty it, to go on without its synchronous standby and to come back, and to go on
//! from an earlier moment.
//!
//! Whether it is degraded, the shard's own database says in the row of `degradation`; its nodes read it there, so no file
//! has to be changed and no node to be reached. No command here needs more rights than the nodes have.

mod add;
mod degrade;
mod drain;
mod generation;
mod restore;
mod start;
mod stop;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, Subcommand};
use futures_util::future::join_all;
use picopay_postgres::{DbError, Patience, ShardDb, read_identity};
use picopay_shared::cluster::{Cluster, Shard};
use serde::Serialize;

use crate::cluster_file::ClusterArgs;
use crate::output::{self, OutputArgs};
use crate::probe;

/// All statements here read or write a row; what waits for a standby is told how long to wait by itself.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(2), statement: Duration::from_secs(10) };

/// Nodes look every second, and a commit of theirs may be on its way for some seconds more.
const NODES_WAIT: Duration = Duration::from_secs(10);

/// How often they are asked meanwhile.
const NODES_POLL: Duration = Duration::from_millis(100);

/// What can be done with one shard.
#[derive(Debug, Subcommand)]
pub enum ShardCommand {
    /// Let a new, empty shard join the cluster, without slots: `rebalance` gives it some
    Add(add::AddArgs),
    /// Give every slot of a shard to the others, so that it can be removed
    Drain(drain::DrainArgs),
    /// Let a shard go on without its synchronous standby: what it acknowledges is then on one machine only
    Degrade(degrade::DegradeArgs),
    /// End that, once the standby has everything
    Restore(restore::RestoreArgs),
    /// Say that a shard's database was restored to an earlier moment: what it answered since is replayed no more
    Restored(generation::RaiseArgs),
    /// Let a shard go on without what it acknowledged and a failover lost: its nodes say what, and take no writes until then
    AcceptLoss(generation::RaiseArgs),
    /// Start the servers of a new shard, in the cluster that `up` runs on this machine
    Start(start::StartArgs),
    /// End the servers of a shard that owns nothing any more, in the cluster that `up` runs on this machine
    Stop(stop::StopArgs),
}

/// What the commands about standby and generation take.
#[derive(Debug, Args)]
struct ShardArgs {
    /// The shard, as the cluster's file names it
    name: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A node, and what it makes of it.
#[derive(Debug, Serialize)]
struct NodeLine {
    url: String,
    /// Whether it does as the shard's database says.
    follows: bool,
    /// Why not.
    reason: Option<String>,
}

/// Runs `picopay shard …`.
pub async fn run(command: ShardCommand) -> anyhow::Result<ExitCode> {
    match command {
        ShardCommand::Add(args) => add::run(args).await,
        ShardCommand::Drain(args) => drain::run(args).await,
        ShardCommand::Degrade(args) => degrade::run(args).await,
        ShardCommand::Restore(args) => restore::run(args).await,
        ShardCommand::Restored(args) => generation::run(args, generation::Kind::Restored).await,
        ShardCommand::AcceptLoss(args) => generation::run(args, generation::Kind::LossAccepted).await,
        ShardCommand::Start(args) => start::run(args).await,
        ShardCommand::Stop(args) => stop::run(args).await,
    }
}

/// Connects to the primary of a shard that is one, of the cluster of its file, with the schema that this program needs.
async fn connect(shard: &Shard) -> anyhow::Result<ShardDb> {
    let name = &shard.name;
    let database = ShardDb::primary(shard, PATIENCE).await?;
    database.require_schema().await?;
    match read_identity(&database).await? {
        Some(identity) if identity.shard_name == *name => Ok(database),
        Some(identity) => bail!(
            "the database of {name} says that it is {}: check the connection strings. Nothing was changed",
            identity.shard_name
        ),
        None => bail!(
            "{name} is of no cluster yet: run `picopay init`, or `picopay shard add {name}` for one that joins"
        ),
    }
}

/// Who gives this word, unless `--by` says otherwise.
fn whoever_this_is() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), machine.as_deref().map_or("unknown", str::trim))
}

/// Waits until every node that answers is degraded, or is not any more, and takes writes. `meanwhile` runs before each look.
async fn wait_for_nodes(
    cluster: &Cluster,
    shard: &Shard,
    is_degraded: bool,
    mut meanwhile: impl AsyncFnMut() -> Result<(), DbError>,
) -> Result<Vec<NodeLine>, DbError> {
    let started = Instant::now();
    loop {
        meanwhile().await?;
        let asked = shard.nodes.iter().map(|url| probe::node(url, &cluster.internal_secret));
        let lines: Vec<NodeLine> = shard
            .nodes
            .iter()
            .zip(join_all(asked).await)
            .map(|(url, answer)| {
                let reason = match answer {
                    Err(reason) => Some(reason),
                    Ok(status) if status.is_ready && status.degraded.is_some() == is_degraded => None,
                    Ok(status) => {
                        Some(status.not_ready_reason.unwrap_or_else(|| "it has not looked yet".to_owned()))
                    }
                };
                NodeLine { url: url.clone(), follows: reason.is_none(), reason }
            })
            .collect();
        if lines.iter().all(|line| line.follows) || started.elapsed() > NODES_WAIT {
            return Ok(lines);
        }
        tokio::time::sleep(NODES_POLL).await;
    }
}

/// What the nodes make of it, and the last word on it.
fn nodes_screen(nodes: &[NodeLine], done: &str) -> String {
    let behind: Vec<&NodeLine> = nodes.iter().filter(|node| !node.follows).collect();
    if behind.is_empty() {
        return output::verdict_good(done);
    }
    let mut parts = vec![output::verdict_bad(&format!("{done} These nodes do not take writes yet:"))];
    parts.extend(behind.iter().map(|node| {
        output::bullet(&format!("{}: {}", node.url, node.reason.as_deref().unwrap_or("unknown")))
    }));
    parts.join("\n")
}
