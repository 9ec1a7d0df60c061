//! `picopay shard start`: the cluster that `picopay up` runs gets one more shard, without a slot.
//!
//! It prints what an operator does by hand on machines.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::output::{OutputArgs, verdict_good};
use crate::up::DATA;
use crate::up::control::{Request, Started, ask};

/// Start the servers of a new shard.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The new shard: shard-3, for example
    name: String,
    /// The folder of the cluster that `up` runs
    #[arg(long, value_name = "FOLDER", default_value = DATA)]
    data: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn run(args: StartArgs) -> anyhow::Result<ExitCode> {
    let started: Started = ask(&args.data, Request::StartShard, &args.name).await?;
    args.output.print(&started, screen);
    Ok(ExitCode::SUCCESS)
}

fn screen(started: &Started) -> String {
    let (shard, file) = (&started.shard, started.cluster_file.display());
    let entry = format!("  {}\n", started.entry.trim_end().replace('\n', "\n  "));
    format!(
        "{}\n\nA primary, its replica and a node were started. This was added to {file}, which gateways and nodes have read \
         again by themselves, and `picopay shard add {shard}` made it a member:\n\n{entry}\nIt owns no slot yet. To see what \
         moving some there means, and to do it:\n\n  picopay rebalance --plan --cluster {file}\n  picopay rebalance --cluster \
         {file}",
        verdict_good(&format!("{shard} is a member of the cluster.")),
    )
}
