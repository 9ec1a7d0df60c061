//! `picopay rebalance`: an even share for every shard, with the fewest moves, while charges go on.
//!
//! It keeps no state. Each run settles what an earlier one left, then plans anew from the databases. What it shares with
//! `slot move` and `shard drain` is in [`moving`].

pub mod conduct;
pub mod moving;
mod progress;
mod report;
mod stop;

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use moving::MoveArgs;
use picopay_mover::plan;

/// Give every shard an even share.
#[derive(Debug, Args)]
pub struct RebalanceArgs {
    #[command(flatten)]
    moving: MoveArgs,
    /// What to share evenly: slots, or rows when users differ much
    #[arg(long, value_name = "WHAT", default_value = "slots")]
    by: Share,
}

/// What is shared evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Share {
    Slots,
    Rows,
}

pub async fn run(args: RebalanceArgs) -> anyhow::Result<ExitCode> {
    let next =
        "The shards that gave slots away keep the old rows, fenced: `picopay slots purge` removes them.";
    let by = args.by;
    moving::run(&args.moving, next, |_, now| {
        Ok(match by {
            Share::Slots => plan::even_by_slots(now),
            Share::Rows => plan::even_by_rows(now),
        })
    })
    .await
}
