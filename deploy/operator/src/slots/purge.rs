//! `picopay slots purge`: deletes the rows that moves have left behind, a few at a time.
//!
//! They stay until then, so that a move can be looked at. Only rows of a slot that another shard owns now, at the epoch
//! of the move or a later one, are deleted: each was compared with its copy, and the shard that has the copy has just
//! answered.

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use picopay_mover::ownership::{self, Ownership};
use picopay_mover::slot_runs::SlotRuns;
use picopay_mover::{Limits, Mover, Watcher};
use picopay_postgres::pace::time_for;
use picopay_shared::cluster::Shard;
use picopay_shared::config::human_duration;
use picopay_shared::slot_owner::SlotState;
use serde::Serialize;
use tokio::time::sleep;

use crate::cluster_file::{ClusterArgs, find_shard};
use crate::output::{self, OutputArgs};

/// Longer than any read of the old owner takes, and than a replica that is read from is behind.
const OLDER_THAN: &str = "5m";

/// Rows a second: less than half of a move's pace, since nobody waits for a deletion.
const THROTTLE: &str = "15000";

/// Delete the rows of slots that moved away.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Only those of this shard, as the cluster's file names it
    #[arg(long, value_name = "NAME")]
    shard: Option<String>,
    /// Only of slots that moved away longer ago than this
    #[arg(long, value_name = "TIME", default_value = OLDER_THAN, value_parser = older_than)]
    older_than: Duration,
    /// Delete no more than this many rows a second
    #[arg(long, value_name = "ROWS", default_value = THROTTLE)]
    throttle: NonZeroU32,
}

fn older_than(text: &str) -> Result<Duration, String> {
    human_duration::parse(text).ok_or_else(|| "write for example 0s, 10m or 24h".to_owned())
}

/// The fields' names of `--output json` stay.
#[derive(Debug, Serialize)]
struct PurgeReport {
    purged: Vec<Purged>,
    kept: Vec<Kept>,
}

#[derive(Debug, Serialize)]
struct Purged {
    shard: String,
    count: usize,
    runs: SlotRuns,
    rows: u64,
}

#[derive(Debug, Serialize)]
struct Kept {
    shard: String,
    runs: SlotRuns,
    reason: &'static str,
}

const YOUNG: &str = "it is too soon after the move (--older-than)";
const COMING: &str =
    "they are on their way in: a move is under way, or `picopay rebalance` has one to settle";
const ORPHANED: &str =
    "no other shard owns them at that epoch or a later one, so these may be the only rows there are";

#[derive(Debug, Default)]
struct Chosen {
    purge: Vec<u16>,
    kept: Vec<(&'static str, Vec<u16>)>,
}

pub async fn run(args: PurgeArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.load()?;
    if let Some(name) = &args.shard {
        find_shard(&cluster, name)?;
    }
    // Every shard is asked, also with --shard: whoever is said to own the slots has to say so itself.
    let ownership = Ownership::read(&cluster).await?;
    ownership.refuse_strangers()?;
    // It moves nothing here, so that no pause needs a budget.
    let mover = Mover::new(&cluster, Limits { pause_budget: Duration::ZERO, rows_per_second: None });
    let mut report = PurgeReport { purged: Vec::new(), kept: Vec::new() };
    let is_meant = |name: &str| args.shard.as_ref().is_none_or(|wanted| wanted == name);
    for position in (0..ownership.shards.len()).filter(|one| is_meant(&ownership.shards[*one].name)) {
        let chosen = choose(&ownership, position, args.older_than);
        let name = &ownership.shards[position].name;
        if !chosen.purge.is_empty() {
            let rows = purge(&mover, &cluster.shards[position], &chosen.purge, args.throttle).await?;
            let runs = chosen.purge.iter().copied().collect();
            report.purged.push(Purged { shard: name.clone(), count: chosen.purge.len(), runs, rows });
        }
        let kept = chosen.kept.into_iter();
        report.kept.extend(kept.map(|(reason, slots)| Kept {
            shard: name.clone(),
            runs: slots.into_iter().collect(),
            reason,
        }));
    }
    args.output.print(&report, screen);
    let is_worrying = report.kept.iter().any(|kept| kept.reason == ORPHANED);
    Ok(if is_worrying { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn purge(mover: &Mover, shard: &Shard, slots: &[u16], throttle: NonZeroU32) -> anyhow::Result<u64> {
    let counted = ownership::count_rows(shard).await?;
    let rows_of = |slots: &[u16]| slots.iter().map(|slot| counted[usize::from(*slot)]).sum::<u64>();
    let progress = PurgeProgress::new(&shard.name, rows_of(slots));
    let mut deleted = 0;
    let mut left = slots;
    while !left.is_empty() {
        // As many slots as have a second's rows, and one at least.
        let second = u64::from(throttle.get());
        let count = (1..left.len()).find(|count| rows_of(&left[..=*count]) > second).unwrap_or(left.len());
        let (chunk, rest) = left.split_at(count);
        let started = Instant::now();
        let rows = mover.purge(&shard.name, chunk, &progress).await?;
        deleted += rows;
        left = rest;
        sleep(time_for(rows, throttle).saturating_sub(started.elapsed())).await;
    }
    progress.bar.finish_and_clear();
    Ok(deleted)
}

struct PurgeProgress {
    bar: ProgressBar,
}

impl PurgeProgress {
    fn new(shard: &str, rows: u64) -> Self {
        let style = "{msg}: {bar:32} {human_pos} of {human_len} rows deleted, {eta} left";
        let bar = ProgressBar::new(rows).with_message(shard.to_owned());
        bar.set_style(ProgressStyle::with_template(style).expect("a template that indicatif reads"));
        Self { bar }
    }
}

impl Watcher for PurgeProgress {
    fn rows(&self, rows: u64) {
        self.bar.inc(rows);
    }
}

fn choose(ownership: &Ownership, position: usize, older_than: Duration) -> Chosen {
    let mut chosen = Chosen::default();
    for entry in ownership.shards[position].entries.iter().filter(|entry| entry.has_leftovers) {
        let (row, slot) = (&entry.row, entry.row.slot.get());
        let is_aborted = row.state == SlotState::Aborted;
        let is_elsewhere = ownership
            .owners_of(slot)
            .iter()
            .any(|(owner, epoch)| *owner != position && (*epoch >= row.epoch || is_aborted));
        let is_young = u64::try_from(entry.age_s).unwrap_or(0) < older_than.as_secs();
        let reason = match row.state {
            SlotState::Importing => COMING,
            _ if !is_elsewhere => ORPHANED,
            _ if is_young => YOUNG,
            _ => {
                chosen.purge.push(slot);
                continue;
            }
        };
        match chosen.kept.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, slots)) => slots.push(slot),
            None => chosen.kept.push((reason, vec![slot])),
        }
    }
    chosen
}

fn screen(report: &PurgeReport) -> String {
    let mut parts = Vec::new();
    for Purged { shard, count, runs, rows } in &report.purged {
        parts.push(format!("{shard}: deleted {rows} rows of {count} slots that moved away ({runs})."));
    }
    for Kept { shard, runs, reason } in &report.kept {
        parts.push(output::bullet(&format!("{shard}: rows of slots {runs} stay: {reason}")));
    }
    parts.push(match (report.purged.is_empty(), report.kept.is_empty()) {
        (true, true) => output::verdict_good("Nothing is left of slots that moved away."),
        (false, true) => output::verdict_good("Now nothing is left of slots that moved away."),
        (_, false) => output::verdict_bad("Some rows are left of slots that moved away."),
    });
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use picopay_mover::ownership::{ShardSlots, SlotEntry};
    use picopay_shared::slot::Slot;
    use picopay_shared::slot_owner::OwnerRow;

    use super::SlotState::{Aborted, Importing, Owned, Released};
    use super::*;

    fn entry(slot: u16, state: SlotState, epoch: u64) -> SlotEntry {
        let row = OwnerRow { slot: Slot::new(slot).unwrap(), state, owner: "b".to_owned(), epoch };
        SlotEntry { row, age_s: 400, has_leftovers: state_has_leftovers(slot) }
    }

    fn state_has_leftovers(slot: u16) -> bool {
        slot != 9
    }

    #[test]
    fn only_rows_whose_slot_is_owned_elsewhere_since_are_deleted() {
        let shard = |name: &str, entries| ShardSlots {
            name: name.to_owned(),
            identity: None,
            degraded_since: None,
            entries,
        };
        let mut young = entry(6, Released, 2);
        young.age_s = 10;
        let left = vec![
            entry(1, Released, 2),
            entry(2, Released, 3),
            entry(3, Released, 5),
            entry(4, Importing, 2),
            entry(5, Aborted, 3),
            young,
            entry(9, Released, 2),
        ];
        let owned = |slot, epoch| SlotEntry { has_leftovers: false, ..entry(slot, Owned, epoch) };
        let b =
            vec![owned(1, 2), owned(2, 7), owned(3, 4), owned(4, 1), owned(5, 1), owned(6, 2), owned(9, 2)];
        let ownership = Ownership { shards: vec![shard("a", left), shard("b", b)] };
        let chosen = choose(&ownership, 0, Duration::from_mins(5));
        assert_eq!(chosen.purge, [1, 2, 5]);
        assert_eq!(chosen.kept, [(ORPHANED, vec![3]), (COMING, vec![4]), (YOUNG, vec![6])]);
    }
}
