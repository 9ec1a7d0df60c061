//! `picopay shard restored` and `picopay shard accept-loss`: a shard's ledger lacks what it once had.
//!
//! Both raise the restore generation. Nodes see it within a second: they replay nothing older from Redis, and earlier
//! acknowledgements hold no gate shut.
//!
//! It counts as soon as the primary has it, without a standby: a restored database has none. Nothing later can be
//! replicated without it, because it comes first in the log.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use futures_util::future::join_all;
use picopay_postgres::ShardDb;
use picopay_shared::cluster::{Cluster, Durability, Shard};
use serde::Serialize;
use tokio::time::sleep;

use super::nodes::{NODES_POLL, NODES_WAIT};
use super::word::{PATIENCE, ShardArgs, whoever_this_is};
use crate::output;
use crate::probe;

/// Raise a shard's restore generation.
#[derive(Debug, Args)]
pub struct RaiseArgs {
    #[command(flatten)]
    shard: ShardArgs,
    /// Why, for whoever looks into the log of generations later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who [default: this user on this machine]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Restored,
    /// A failover lost what was acknowledged, and the shard goes on without it.
    LossAccepted,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::LossAccepted => "loss-accepted",
        }
    }
}

/// What both print. With `--output json` these are the names of the fields; they stay.
#[derive(Debug, Serialize)]
struct GenerationReport {
    shard: String,
    kind: Kind,
    generation: i64,
    at: String,
    by: String,
    reason: String,
    standby: Confirmation,
    nodes: Vec<NodeGeneration>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Confirmation {
    /// One has confirmed it.
    Confirmed,
    /// The shard waits for none: its durability is "local", or it is degraded.
    NotWaitedFor,
    /// None has, for this reason.
    NotConfirmed(String),
}

#[derive(Debug, Serialize)]
struct NodeGeneration {
    url: String,
    #[serde(flatten)]
    state: NodeState,
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "kebab-case")]
enum NodeState {
    Follows,
    Behind(String),
    /// It does not answer. When it serves again, it has looked.
    NotReached(String),
}

pub async fn run(args: RaiseArgs, kind: Kind) -> anyhow::Result<ExitCode> {
    let cluster = args.shard.cluster.load()?;
    let shard = crate::cluster_file::find_shard(&cluster, &args.shard.name)?;
    let by = args.by.unwrap_or_else(whoever_this_is);
    let database = ShardDb::primary(shard, PATIENCE).await?;
    database.execute_all("SET synchronous_commit = local").await?;
    let table = "SELECT to_regclass('restore_generations') IS NOT NULL";
    if !database.query_one(table, &[]).await?.get::<_, bool>(0) {
        bail!("{}: its schema is older than this command: run `picopay migrate`", shard.name);
    }
    let raise = include_str!("../sql/shard/raise_generation.sql");
    let raised = database.query(raise, &[&kind.as_str(), &by, &args.reason]).await?;
    let Some(raised) = raised.first() else {
        bail!("{} is of no cluster yet: there is nothing to go on from", shard.name);
    };
    let (generation, at) = (raised.get(0), raised.get(1));
    let standby = confirm(shard, &database).await;
    database.close().await;
    let nodes = wait_for_nodes(&cluster, shard, generation).await;
    let report = GenerationReport {
        shard: shard.name.clone(),
        kind,
        generation,
        at,
        by,
        reason: args.reason,
        standby,
        nodes,
    };
    args.shard.output.print(&report, screen);
    let is_behind = report.nodes.iter().any(|node| matches!(node.state, NodeState::Behind(_)));
    Ok(if is_behind { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn confirm(shard: &Shard, database: &ShardDb) -> Confirmation {
    let tried = async {
        if shard.durability == Durability::Local || database.read_degradation().await?.is_some() {
            return Ok(Confirmation::NotWaitedFor);
        }
        database.execute_all("SET synchronous_commit = on").await?;
        database.confirm().await?;
        Ok(Confirmation::Confirmed)
    };
    tried
        .await
        .unwrap_or_else(|error: picopay_postgres::DbError| Confirmation::NotConfirmed(error.to_string()))
}

/// Waits until no node that answers serves another generation.
async fn wait_for_nodes(cluster: &Cluster, shard: &Shard, generation: i64) -> Vec<NodeGeneration> {
    let started = Instant::now();
    loop {
        let asked = shard.nodes.iter().map(|url| probe::node(cluster, url));
        let lines: Vec<NodeGeneration> = shard
            .nodes
            .iter()
            .zip(join_all(asked).await)
            .map(|(url, answer)| {
                let state = match answer {
                    Err(reason) => NodeState::NotReached(reason),
                    Ok(status) => match status.generation {
                        Some(served) if served == generation => NodeState::Follows,
                        Some(served) => NodeState::Behind(format!("it is in generation {served} still")),
                        None if !status.is_ready => NodeState::Follows,
                        None => NodeState::Behind("it is of a version without generations".to_owned()),
                    },
                };
                NodeGeneration { url: url.clone(), state }
            })
            .collect();
        let is_behind = lines.iter().any(|line| matches!(line.state, NodeState::Behind(_)));
        if !is_behind || started.elapsed() > NODES_WAIT {
            return lines;
        }
        sleep(NODES_POLL).await;
    }
}

fn screen(report: &GenerationReport) -> String {
    let GenerationReport { shard, generation, .. } = report;
    let done = match report.kind {
        Kind::Restored => {
            format!(
                "{shard} is in generation {generation}: what it answered before is replayed from its ledger alone."
            )
        }
        Kind::LossAccepted => {
            format!(
                "{shard} goes on in generation {generation}, without what it acknowledged before and lacks now."
            )
        }
    };
    let is_behind = report.nodes.iter().any(|node| matches!(node.state, NodeState::Behind(_)));
    let mut parts = vec![if is_behind { output::verdict_bad(&done) } else { output::verdict_good(&done) }];
    match &report.standby {
        Confirmation::Confirmed => {}
        Confirmation::NotWaitedFor => {
            parts.push(output::bullet("it is on the primary alone, as all that the shard acknowledges now"));
        }
        Confirmation::NotConfirmed(reason) => parts.push(output::bullet(&format!(
            "no standby has confirmed it: the shard acknowledges nothing before one does. If the primary is lost before, run \
             this again ({reason})"
        ))),
    }
    for NodeGeneration { url, state } in &report.nodes {
        match state {
            NodeState::Follows => {}
            NodeState::Behind(reason) => parts.push(output::bullet(&format!("{url}: {reason}"))),
            NodeState::NotReached(reason) => parts.push(output::bullet(&format!(
                "{url} does not answer ({reason}); it looks before it serves"
            ))),
        }
    }
    parts.join("\n")
}
