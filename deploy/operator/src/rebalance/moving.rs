//! What every command that moves slots does: settle, read, plan, carry out, report.

use std::num::{NonZeroU32, NonZeroUsize};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use picopay_mover::ownership::Ownership;
use picopay_mover::plan::{Holdings, Move};
use picopay_mover::queue::Queue;
use picopay_mover::slot_runs::SlotRuns;
use picopay_mover::{Batch, Limits, Mover, Settled};
use picopay_shared::cluster::Cluster;
use picopay_shared::config::human_duration;

use super::conduct::{Outcome, carry_out};
use super::progress::Board;
use super::report::{MoveReport, PlanReport, move_screen, plan_screen};
use super::stop::{self, Stop};
use crate::cluster_file::ClusterArgs;
use crate::output::OutputArgs;

/// Rows a second. Two cores that serve charges too reach 50,000 to 55,000. A faster copy takes processor time from charges
/// (docs/measurements.md).
const THROTTLE: &str = "80000";

/// What comes during a copy is left for the pause, so a slower copy would exceed its budget. A lower rate is kept by the
/// wait after each batch.
const COPY_AT_LEAST: NonZeroU32 = NonZeroU32::new(60_000).unwrap();

/// What every command that moves slots takes.
#[derive(Debug, Args)]
pub struct MoveArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Only show what would move, and how long it may take
    #[arg(long)]
    plan: bool,
    // One, since each move loads two primaries and their standbys, which have charges to see to as well.
    /// Moves at once, no two of them on one shard
    #[arg(long, value_name = "COUNT", default_value = "1")]
    max_parallel: NonZeroUsize,
    /// How long the writes of a batch's users may be held up; a batch that takes longer stays, and is tried again in halves
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = pause_budget)]
    pause_budget: Duration,
    /// Copy no more than this many rows a second, on the average of a batch, for each move at once
    #[arg(long, value_name = "ROWS", default_value = THROTTLE)]
    throttle: NonZeroU32,
}

fn pause_budget(text: &str) -> Result<Duration, String> {
    let read = human_duration::parse(text).filter(|budget| !budget.is_zero());
    read.ok_or_else(|| "write for example 500ms or 2s".to_owned())
}

/// `next` is what to do after.
pub async fn run(
    args: &MoveArgs,
    next: &str,
    planned: impl Fn(&[String], &Holdings) -> anyhow::Result<Vec<Move>>,
) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.load()?;
    let names: Vec<String> = cluster.shards.iter().map(|shard| shard.name.clone()).collect();
    if args.plan {
        let (_, _, plan) = make_plan(args, &cluster, &names, &planned).await?;
        args.output.print(&plan, plan_screen);
        return Ok(ExitCode::SUCCESS);
    }
    // Before anything is touched, since the mover's own refusal can only name what it meets first.
    Ownership::read(&cluster).await?.refuse_strangers()?;
    let rows_per_second = Some(args.throttle.max(COPY_AT_LEAST));
    let limits = Limits { pause_budget: args.pause_budget, rows_per_second };
    let mover = Mover::new(&cluster, limits);
    let settled = mover.settle().await?.iter().flat_map(settled_lines).collect();
    let (now, wanted, plan) = make_plan(args, &cluster, &names, &planned).await?;
    if let Some(note) = plan.notes.first() {
        bail!("{note}");
    }
    let queue = Queue::new(&now, &wanted, args.max_parallel.get());
    let outcome = if wanted.is_empty() {
        Outcome::default()
    } else {
        let board = Arc::new(Board::new(plan.slots, plan.rows));
        let stop = Stop::listen(Arc::clone(&board))?;
        let outcome = carry_out(&mover, &names, queue, args.throttle, &stop, &board).await;
        board.finish();
        outcome
    };
    let report = MoveReport::new(&names, plan, settled, outcome, next);
    args.output.print(&report, move_screen);
    Ok(match (report.is_done, report.was_stopped) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => stop::exit_code(),
        (false, false) => ExitCode::FAILURE,
    })
}

pub fn position_of(names: &[String], name: &str) -> anyhow::Result<usize> {
    names
        .iter()
        .position(|one| one == name)
        .with_context(|| format!("there is no shard {name:?}; the cluster's file names {}", names.join(", ")))
}

async fn make_plan(
    args: &MoveArgs,
    cluster: &Cluster,
    names: &[String],
    planned: impl Fn(&[String], &Holdings) -> anyhow::Result<Vec<Move>>,
) -> anyhow::Result<(Holdings, Vec<Move>, PlanReport)> {
    let ownership = Ownership::read(cluster).await?;
    ownership.refuse_strangers()?;
    let now = ownership.holdings(cluster).await?;
    let moves = planned(names, &now)?;
    let notes = obstacles(&ownership, &moves);
    let plan = PlanReport::new(names, &now, &moves, args.throttle, notes);
    Ok((now, moves, plan))
}

fn settled_lines((batch, settled): &(Batch, Settled)) -> Vec<String> {
    let Batch { from, to, .. } = batch;
    let of = |slots: &[i16]| -> SlotRuns { slots.iter().map(|slot| slot.cast_unsigned()).collect() };
    let mut lines = Vec::new();
    if !settled.moved.is_empty() {
        lines.push(format!(
            "slots {} had reached {to} from {from} when an earlier move ended",
            of(&settled.moved)
        ));
    }
    if !settled.aborted.is_empty() {
        let slots = of(&settled.aborted);
        lines.push(format!(
            "slots {slots} were on their way from {from} to {to} when an earlier move ended: {from} has them"
        ));
    }
    lines
}

fn obstacles(ownership: &Ownership, moves: &[Move]) -> Vec<String> {
    let takes_part = |position: usize| moves.iter().any(|one| one.from == position || one.to == position);
    let (unowned, _) = ownership.flaws();
    let mut notes = Vec::new();
    if !unowned.is_empty() {
        notes.push(format!(
            "slots {unowned} are in the middle of a move: another mover is at work, or one was interrupted, which this \
             command settles first"
        ));
    }
    for (position, shard) in ownership.shards.iter().enumerate() {
        if let Some(since) = shard.degraded_since.as_ref().filter(|_| takes_part(position)) {
            let name = &shard.name;
            notes.push(format!(
                "{name} is degraded since {since}: no slot moves from or to it until `picopay shard restore {name}`"
            ));
        }
    }
    notes
}
