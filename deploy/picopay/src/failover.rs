//! `picopay failover`: a shard of the cluster that `picopay up` runs in another terminal gets its other server as primary.
//!
//! For practice, and to see what clients notice. PicoPay elects no primaries: on machines of their own, Patroni or
//! CloudNativePG does.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::output::{OutputArgs, verdict_good};
use crate::up::DATA;
use crate::up::control::{Answer, ask_for_failover};

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

/// Runs `picopay failover`.
pub async fn run(args: FailoverArgs) -> anyhow::Result<ExitCode> {
    let done = match ask_for_failover(&args.data, &args.name).await? {
        Answer::Done(done) => done,
        Answer::Failed(reason) => bail!("{reason}"),
    };
    args.output.print(&done, |done| {
        verdict_good(&format!(
            "{} is the primary of {} now: promoted in {} ms, and a new replica follows it since {} ms later.",
            done.primary, done.shard, done.promoted_in_ms, done.rebuilt_in_ms
        ))
    });
    Ok(ExitCode::SUCCESS)
}
