//! `picopay slots`: who owns what, as ranges, and what is left of slots that moved away.

mod purge;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use comfy_table::CellAlignment::Right;
use picopay_mover::ownership::{self, Ownership, ShardSlots, SlotEntry};
use picopay_mover::slot_runs::SlotRuns;
use picopay_shared::slot::SLOT_COUNT;
use picopay_shared::slot_owner::{OwnerRow, SlotState};
use serde::Serialize;

use crate::cluster_file::ClusterArgs;
use crate::output::{self, OutputArgs};

/// Show who owns which slots.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SlotsArgs {
    #[command(subcommand)]
    command: Option<SlotsCommand>,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum SlotsCommand {
    /// Delete the rows of slots that moved away, in small batches
    Purge(purge::PurgeArgs),
}

/// What `slots` prints. With `--output json` these are the names of the fields; they stay.
#[derive(Debug, Serialize)]
struct SlotsReport {
    total: u16,
    owned_by_nobody: SlotRuns,
    owned_twice: SlotRuns,
    shards: Vec<OwnedLine>,
}

#[derive(Debug, Serialize)]
struct OwnedLine {
    shard: String,
    owned: usize,
    groups: Vec<Group>,
}

#[derive(Debug, Serialize)]
struct Group {
    state: SlotState,
    owner: String,
    count: usize,
    runs: SlotRuns,
    epoch_min: u64,
    epoch_max: u64,
    /// `picopay slots purge` removes them; null for owned slots.
    rows_left: Option<u64>,
}

pub async fn run(args: SlotsArgs) -> anyhow::Result<ExitCode> {
    if let Some(SlotsCommand::Purge(args)) = args.command {
        return purge::run(args).await;
    }
    let cluster = args.cluster.load()?;
    let ownership = Ownership::read(&cluster).await?;
    let (owned_by_nobody, owned_twice) = ownership.flaws();
    let mut shards = Vec::new();
    for (shard, slots) in cluster.shards.iter().zip(&ownership.shards) {
        let has_leftovers = slots.entries.iter().any(|row| row.has_leftovers);
        let counted = if has_leftovers { ownership::count_rows(shard).await? } else { Vec::new() };
        shards.push(line(slots, &counted));
    }
    let report = SlotsReport { total: SLOT_COUNT, owned_by_nobody, owned_twice, shards };
    args.output.print(&report, screen);
    let is_well = report.owned_by_nobody.is_empty() && report.owned_twice.is_empty();
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(shard: &ShardSlots, counted: &[u64]) -> OwnedLine {
    // Owned ones first, then in the order of the alphabet.
    let mut grouped: BTreeMap<(bool, &str, &str), Vec<&OwnerRow>> = BTreeMap::new();
    for SlotEntry { row, .. } in &shard.entries {
        grouped.entry((!row.is_owned(), row.state.as_str(), &row.owner)).or_default().push(row);
    }
    let group = |((_, _, owner), rows): ((bool, &str, &str), Vec<&OwnerRow>)| {
        let left = rows.iter().map(|row| counted.get(row.slot.index()).copied().unwrap_or(0)).sum();
        let state = rows[0].state;
        Group {
            state,
            owner: owner.to_owned(),
            count: rows.len(),
            runs: rows.iter().map(|row| row.slot.get()).collect(),
            epoch_min: rows.iter().map(|row| row.epoch).min().unwrap_or(0),
            epoch_max: rows.iter().map(|row| row.epoch).max().unwrap_or(0),
            rows_left: (state != SlotState::Owned).then_some(left),
        }
    };
    OwnedLine {
        shard: shard.name.clone(),
        owned: shard.entries.iter().filter(|entry| entry.row.is_owned()).count(),
        groups: grouped.into_iter().map(group).collect(),
    }
}

fn screen(report: &SlotsReport) -> String {
    let mut table = output::table(["shard", "slots", "state", "which", "epochs", "rows left"]);
    let number = |text: String| output::plain(&text).set_alignment(Right);
    for shard in &report.shards {
        if shard.owned == 0 {
            table.add_row([
                output::plain(&shard.shard),
                number("0".to_owned()),
                output::plain("owned"),
                output::plain("none"),
                output::plain(""),
                output::plain(""),
            ]);
        }
        for group in &shard.groups {
            let epochs = if group.epoch_min == group.epoch_max {
                group.epoch_min.to_string()
            } else {
                format!("{}–{}", group.epoch_min, group.epoch_max)
            };
            table.add_row([
                output::plain(&shard.shard),
                number(group.count.to_string()),
                output::plain(&state_text(group)),
                output::plain(&group.runs.in_full()),
                number(epochs),
                number(group.rows_left.map_or_else(String::new, |rows| rows.to_string())),
            ]);
        }
    }
    let mut parts = vec![table.to_string()];
    let left: u64 =
        report.shards.iter().flat_map(|shard| &shard.groups).filter_map(|group| group.rows_left).sum();
    if left > 0 {
        parts.push(output::bullet(&format!(
            "{left} rows are left of slots that moved away: `picopay slots purge` removes them"
        )));
    }
    if !report.owned_by_nobody.is_empty() {
        parts.push(output::verdict_bad(&format!(
            "Slots {} are owned by nobody: a move is under way, or `picopay rebalance` has one to settle.",
            report.owned_by_nobody
        )));
    }
    if !report.owned_twice.is_empty() {
        parts.push(output::verdict_bad(&format!(
            "Slots {} are owned by more than one shard: stop their nodes, then find out why.",
            report.owned_twice
        )));
    }
    if report.owned_by_nobody.is_empty() && report.owned_twice.is_empty() {
        parts.push(output::verdict_good(&format!("All {} slots are owned by one shard.", report.total)));
    }
    parts.join("\n")
}

fn state_text(group: &Group) -> String {
    match group.state {
        SlotState::Importing => format!("coming from {}", group.owner),
        SlotState::Released => format!("moved to {}", group.owner),
        SlotState::Aborted => "did not come".to_owned(),
        SlotState::Owned => "owned".to_owned(),
    }
}
