//! What is printed of a plan, and of what came of it.

use std::num::NonZeroU32;
use std::time::Duration;

use comfy_table::CellAlignment::Right;
use picopay_mover::plan::{Holdings, Move};
use picopay_mover::queue::Queue;
use picopay_mover::slot_runs::SlotRuns;
use serde::Serialize;

use super::conduct::Outcome;
use crate::output;

/// Rows a second, somewhat less than `make grow` moves on two cores under load.
const ASSUMED_ROWS_PER_SECOND: u32 = 50_000;

/// A few commits that wait for two standbys, and the pause.
const ASSUMED_BATCH_TIME: Duration = Duration::from_millis(100);

/// A plan. With `--output json` these are the names of the fields; they stay.
#[derive(Debug, Serialize)]
pub struct PlanReport {
    pub shards: Vec<PlannedShard>,
    pub moves: Vec<PlannedMove>,
    pub slots: usize,
    pub rows: u64,
    pub estimate: Estimate,
    pub notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct PlannedShard {
    shard: String,
    slots_now: usize,
    slots_after: usize,
    rows_now: u64,
    rows_after: u64,
}

#[derive(Debug, Serialize)]
pub struct PlannedMove {
    from: String,
    to: String,
    count: usize,
    runs: SlotRuns,
    rows: u64,
}

#[derive(Debug, Serialize)]
pub struct Estimate {
    seconds: u64,
    rows_per_second: u32,
    source: &'static str,
    batches: usize,
}

impl PlanReport {
    pub fn new(
        names: &[String],
        now: &Holdings,
        moves: &[Move],
        throttle: NonZeroU32,
        notes: Vec<String>,
    ) -> Self {
        let after = now.after(moves);
        let (slots_now, slots_after) = (now.slots_per_shard(), after.slots_per_shard());
        let (rows_now, rows_after) = (now.rows_per_shard(), after.rows_per_shard());
        let shard = |(position, name): (usize, &String)| PlannedShard {
            shard: name.clone(),
            slots_now: slots_now[position],
            slots_after: slots_after[position],
            rows_now: rows_now[position],
            rows_after: rows_after[position],
        };
        let planned = |one: &Move| PlannedMove {
            from: names[one.from].clone(),
            to: names[one.to].clone(),
            count: one.slots.len(),
            runs: one.slots.iter().copied().collect(),
            rows: now.rows_of(&one.slots),
        };
        let moves_told: Vec<PlannedMove> = moves.iter().map(planned).collect();
        let rows = moves_told.iter().map(|one| one.rows).sum();
        let batches = Queue::new(now, moves, 1).len();
        Self {
            shards: names.iter().enumerate().map(shard).collect(),
            slots: moves_told.iter().map(|one| one.count).sum(),
            moves: moves_told,
            rows,
            estimate: estimate(rows, batches, throttle),
            notes,
        }
    }
}

fn estimate(rows: u64, batches: usize, throttle: NonZeroU32) -> Estimate {
    let (rows_per_second, source) = match throttle.get() {
        rate if rate < ASSUMED_ROWS_PER_SECOND => (rate, "throttle"),
        _ => (ASSUMED_ROWS_PER_SECOND, "assumed"),
    };
    let batches_time = ASSUMED_BATCH_TIME * u32::try_from(batches).unwrap_or(u32::MAX);
    let seconds = rows.div_ceil(u64::from(rows_per_second)) + batches_time.as_secs();
    Estimate { seconds, rows_per_second, source, batches }
}

pub fn plan_screen(plan: &PlanReport) -> String {
    let mut shards = output::table(["shard", "slots now", "after", "rows now", "after"]);
    let number = |value: String| output::plain(&value).set_alignment(Right);
    for shard in &plan.shards {
        shards.add_row([
            output::plain(&shard.shard),
            number(shard.slots_now.to_string()),
            number(shard.slots_after.to_string()),
            number(shard.rows_now.to_string()),
            number(shard.rows_after.to_string()),
        ]);
    }
    let mut parts = vec![shards.to_string()];
    if plan.moves.is_empty() {
        parts.extend(plan.notes.iter().map(|note| output::bullet(note)));
        parts.push(output::verdict_good("Nothing has to move."));
        return parts.join("\n");
    }
    let mut moves = output::table(["from", "to", "slots", "which", "rows"]);
    for one in &plan.moves {
        moves.add_row([
            output::plain(&one.from),
            output::plain(&one.to),
            number(one.count.to_string()),
            output::plain(&one.runs.to_string()),
            number(one.rows.to_string()),
        ]);
    }
    let Estimate { seconds, rows_per_second, source, batches } = &plan.estimate;
    let at = match *source {
        "throttle" => format!("at the {rows_per_second} rows/s of --throttle"),
        _ => format!("if {rows_per_second} rows/s are reached here, which is only assumed"),
    };
    parts.push(String::new());
    parts.push(moves.to_string());
    parts.push(format!(
        "{} slots with {} rows, in {batches} batches; about {seconds} s, {at}.",
        plan.slots, plan.rows
    ));
    parts.extend(plan.notes.iter().map(|note| output::bullet(note)));
    parts.join("\n")
}

/// The fields' names of `--output json` stay.
#[derive(Debug, Serialize)]
pub struct MoveReport {
    /// The exit code is 0 then, 130 when a signal stopped it, and 1 otherwise.
    pub is_done: bool,
    pub was_stopped: bool,
    pub settled: Vec<String>,
    pub plan: PlanReport,
    pub slots: usize,
    pub rows: u64,
    pub took_ms: u64,
    pub rows_per_second: u64,
    pub longest_pause_ms: u64,
    pub aborts: u32,
    pub not_moved: Vec<NotMoved>,
    pub error: Option<String>,
    pub next: String,
}

#[derive(Debug, Serialize)]
pub struct NotMoved {
    from: String,
    to: String,
    runs: SlotRuns,
    reason: String,
}

impl MoveReport {
    pub fn new(
        names: &[String],
        plan: PlanReport,
        settled: Vec<String>,
        outcome: Outcome,
        next: &str,
    ) -> Self {
        let not_moved: Vec<NotMoved> = outcome
            .given_up
            .into_iter()
            .map(|(batch, reason)| NotMoved {
                from: names[batch.from].clone(),
                to: names[batch.to].clone(),
                runs: batch.slots.into_iter().collect(),
                reason,
            })
            .collect();
        let took_ms = milliseconds(outcome.took);
        let is_done = outcome.slots == plan.slots;
        let next = if is_done { next } else { "Run the command again to go on where it stopped." };
        Self {
            is_done,
            was_stopped: outcome.was_stopped && !is_done,
            settled,
            slots: outcome.slots,
            rows: outcome.rows,
            took_ms,
            rows_per_second: outcome.rows * 1000 / took_ms.max(1),
            longest_pause_ms: milliseconds(outcome.pause_max),
            aborts: outcome.aborts,
            not_moved,
            error: outcome.failure,
            next: next.to_owned(),
            plan,
        }
    }
}

pub fn move_screen(report: &MoveReport) -> String {
    let mut parts: Vec<String> = report.settled.iter().map(|line| output::bullet(line)).collect();
    if report.plan.moves.is_empty() {
        parts.push(plan_screen(&report.plan));
        return parts.join("\n");
    }
    let MoveReport { slots, rows, took_ms, rows_per_second, longest_pause_ms, aborts, .. } = report;
    let figures = format!(
        "{slots} slots with {rows} rows in {}, {rows_per_second} rows/s; longest pause {longest_pause_ms} ms.",
        output::seconds(*took_ms)
    );
    parts.push(match (report.is_done, report.was_stopped) {
        (true, _) => output::verdict_good(&format!("Moved {figures}")),
        (false, true) => format!("Stopped, as asked. Moved so far: {figures}"),
        (false, false) => output::verdict_bad(&format!("Not all is moved. So far: {figures}")),
    });
    if *aborts > 0 {
        parts.push(output::bullet(&format!("{aborts} pauses were broken off, and their slots tried again")));
    }
    parts.extend(report.not_moved.iter().map(|one| {
        output::bullet(&format!("slots {} stay at {} and not {}: {}", one.runs, one.from, one.to, one.reason))
    }));
    parts.extend(report.error.iter().map(|error| output::bullet(error)));
    parts.push(report.next.clone());
    parts.join("\n")
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_says_what_it_goes_by() {
        for (rows, batches, throttle, expected) in [
            (0, 0, 100_000, (0, 50_000, "assumed")),
            (1_000_000, 50, 50_000, (25, 50_000, "assumed")),
            (1_000_000, 50, 10_000, (105, 10_000, "throttle")),
            (1_000_000, 50, 90_000, (25, 50_000, "assumed")),
        ] {
            let Estimate { seconds, rows_per_second, source, .. } =
                estimate(rows, batches, NonZeroU32::new(throttle).unwrap());
            assert_eq!((seconds, rows_per_second, source), expected);
        }
    }
}
