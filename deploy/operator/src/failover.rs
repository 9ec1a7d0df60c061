//! `picopay failover`: a shard of the cluster that `picopay up` runs gets its other server as primary.
//!
//! For practice. In production Patroni or CloudNativePG elects primaries.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::output::{OutputArgs, verdict_good};
use crate::up::DATA;
use crate::up::control::{Failover, Request, ask};

/// Make a shard's replica its primary.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    /// The shard: shard-1, for example
    name: String,
    /// The folder of the cluster that `up` runs
    #[arg(long, value_name = "FOLDER", default_value = DATA)]
    data: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn run(args: FailoverArgs) -> anyhow::Result<ExitCode> {
    let done: Failover = ask(&args.data, Request::Failover, &args.name).await?;
    args.output.print(&done, |done| {
        verdict_good(&format!(
            "{} is the primary of {} now: promoted in {} ms, and a new replica follows it since {} ms later.",
            done.primary, done.shard, done.promoted_in_ms, done.rebuilt_in_ms
        ))
    });
    Ok(ExitCode::SUCCESS)
}
