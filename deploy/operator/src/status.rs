//! How the cluster is, on one screen: each shard's slots, databases, nodes and Redis.
//!
//! What is down is shown as down, the rest is shown all the same, and the answer comes within seconds. Problems are listed
//! below, in words.

mod judgement;
mod moves;
mod remarks;
mod report;
mod screen;

use std::process::ExitCode;

use clap::Args;
use futures_util::future::join_all;
use picopay_shared::cluster::Cluster;

use crate::cluster_file::ClusterArgs;
use crate::output::OutputArgs;
use crate::probe;
use report::StatusReport;

/// Show how the cluster is.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let report = read(&args.cluster.load()?).await;
    args.output.print(&report, screen::screen);
    Ok(if report.is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub async fn read(cluster: &Cluster) -> StatusReport {
    let probes = cluster.shards.iter().map(|shard| probe::probe(cluster, shard));
    judgement::judge(&cluster.shards, &join_all(probes).await)
}
