//! `picopay slot move`: just these slots to one shard, for whoever has a reason that no plan knows.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use picopay_mover::plan;
use picopay_mover::slot_runs::Run;

use crate::rebalance::moving::{self, MoveArgs};

/// What can be done with single slots.
#[derive(Debug, Subcommand)]
pub enum SlotCommand {
    /// Move slots to a shard, from wherever they are
    Move(SlotMoveArgs),
}

/// Move slots to a shard.
#[derive(Debug, Args)]
pub struct SlotMoveArgs {
    /// Slots, or ranges of them: 7 100-199
    #[arg(value_name = "SLOT", required = true)]
    slots: Vec<Run>,
    /// The shard that shall own them
    #[arg(long, value_name = "NAME")]
    to: String,
    #[command(flatten)]
    moving: MoveArgs,
}

pub async fn run(command: SlotCommand) -> anyhow::Result<ExitCode> {
    let SlotCommand::Move(args) = command;
    let next = "Who gave them away keeps the old rows, fenced: `picopay slots purge` removes them.";
    let mut slots: Vec<u16> = args.slots.iter().flat_map(|run| run.first..=run.last).collect();
    slots.sort_unstable();
    slots.dedup();
    moving::run(&args.moving, next, |names, now| {
        let to = moving::position_of(names, &args.to)?;
        Ok(plan::gather(now, &slots, to))
    })
    .await
}
