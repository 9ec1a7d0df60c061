//! `picopay shard stop`: a shard that owns nothing leaves the cluster that `picopay up` runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::output::{OutputArgs, verdict_good};
use crate::up::DATA;
use crate::up::control::{Request, ask};

/// End the servers of a shard that owns nothing any more, and delete its databases.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The shard: shard-1, for example
    name: String,
    /// The folder of the cluster that `up` runs
    #[arg(long, value_name = "FOLDER", default_value = DATA)]
    data: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn run(args: StopArgs) -> anyhow::Result<ExitCode> {
    let () = ask(&args.data, Request::StopShard, &args.name).await?;
    let shard = &args.name;
    args.output.print(&json!({ "shard": shard }), |_| {
        verdict_good(&format!("{shard} has left: its entry, its processes and its empty databases are gone."))
    });
    Ok(ExitCode::SUCCESS)
}
