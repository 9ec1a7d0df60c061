//! Has the mover carry out the batches of a plan, until all are done or something ends it.
//!
//! What was moved stands in the databases, so another run makes a new plan.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use picopay_mover::queue::{PlannedBatch, Queue};
use picopay_mover::{Batch, Ended, MoveError, Mover};
use picopay_postgres::pace::time_for;

use super::progress::Board;
use super::stop::Stop;

/// A checkpoint or a late standby may be over by then.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// In a row, without one that was moved in between. Each has cost its users a pause, and their size is not the reason.
const ABORTS_MAX: u32 = 8;

#[derive(Debug, Default)]
pub struct Outcome {
    pub slots: usize,
    pub rows: u64,
    pub took: Duration,
    pub pause_max: Duration,
    pub aborts: u32,
    pub given_up: Vec<(PlannedBatch, String)>,
    pub was_stopped: bool,
    pub failure: Option<String>,
}

pub async fn carry_out(
    mover: &Mover,
    names: &[String],
    mut queue: Queue,
    throttle: NonZeroU32,
    stop: &Stop,
    board: &Board,
) -> Outcome {
    let started = Instant::now();
    let mut outcome = Outcome::default();
    let mut aborts_in_a_row = 0;
    let mut running = FuturesUnordered::new();
    loop {
        outcome.was_stopped = stop.is_asked() && (!queue.is_empty() || !running.is_empty());
        while !stop.is_asked() && outcome.failure.is_none() {
            let Some(batch) = queue.take() else { break };
            running.push(run_batch(mover, names, batch, throttle, stop, board));
        }
        let Some((batch, ended)) = running.next().await else { break };
        queue.ended(&batch);
        match ended {
            Ok(Ended::Moved(figures)) => {
                aborts_in_a_row = 0;
                queue.note_pause(figures.pause);
                outcome.slots += batch.slots.len();
                outcome.rows += figures.rows;
                outcome.pause_max = outcome.pause_max.max(figures.pause);
            }
            Ok(Ended::Aborted { reason, is_worth_another_try, settled }) => {
                aborts_in_a_row += 1;
                outcome.aborts += 1;
                // Some may have been moved after all: the target took them, and its answer was lost.
                outcome.slots += settled.moved.len();
                let left = batch.without(&settled.moved);
                if left.slots.is_empty() {
                    continue;
                }
                if !is_worth_another_try || !queue.try_again(&left) {
                    outcome.given_up.push((left, reason));
                } else if aborts_in_a_row >= ABORTS_MAX {
                    outcome.failure = Some(format!(
                        "{ABORTS_MAX} batches in a row were aborted, the last one because {reason}"
                    ));
                }
            }
            Err(error) => {
                outcome.failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
    outcome.took = started.elapsed();
    outcome
}

async fn run_batch(
    mover: &Mover,
    names: &[String],
    batch: PlannedBatch,
    throttle: NonZeroU32,
    stop: &Stop,
    board: &Board,
) -> (PlannedBatch, Result<Ended, MoveError>) {
    if batch.tries > 1 {
        stop.sleep(RETRY_PAUSE).await;
    }
    let started = Instant::now();
    let progress = board.follow(&batch, names);
    let order =
        Batch { slots: batch.slots.clone(), from: names[batch.from].clone(), to: names[batch.to].clone() };
    let ended = mover.run(&order, &progress).await;
    match &ended {
        Ok(Ended::Moved(figures)) => {
            progress.moved();
            // What keeps a low rate, and heeds Ctrl-C.
            stop.sleep(time_for(figures.rows, throttle).saturating_sub(started.elapsed())).await;
        }
        Ok(Ended::Aborted { reason, .. }) => {
            progress.aborted();
            let (from, to) = (&order.from, &order.to);
            board.say(&format!("{} slots from {from} to {to} stay for now: {reason}", batch.slots.len()));
        }
        Err(_) => progress.aborted(),
    }
    (batch, ended)
}
