//! The report for people: one line per shard, and below it what is wrong.

use std::collections::BTreeSet;

use comfy_table::Cell;

use super::report::{NodeLine, OwnedSlots, REPLICA_LAG_MS_MAX, ShardStatus, StatusReport};
use crate::output::{self, bytes, seconds};

pub fn screen(report: &StatusReport) -> String {
    let mut table = output::table(["shard", "slots", "primary", "replica lag", "nodes", "redis"]);
    for shard in &report.shards {
        table.add_row([
            output::plain(&shard.shard),
            slots_cell(shard.slots.as_ref()),
            match &shard.primary.version {
                Some(version) => output::good(&format!("up, {}", short_version(version))),
                None => output::bad("down"),
            },
            replica_cell(shard),
            nodes_cell(&shard.nodes),
            match &shard.redis {
                None => output::plain("none"),
                Some(redis) if redis.is_up => output::good("up"),
                Some(_) => output::bad("down"),
            },
        ]);
    }
    let slots = &report.slots;
    let mut parts = vec![
        table.to_string(),
        format!("{} of {} slots are owned by one shard.", slots.owned_once, slots.total),
    ];
    parts.extend(report.notes.iter().map(|note| output::bullet(note)));
    if report.is_well {
        parts.push(output::verdict_good("All is well."));
    } else {
        parts.push(output::verdict_bad("Not well:"));
        parts.extend(report.problems.iter().map(|problem| output::bullet(problem)));
    }
    parts.join("\n")
}

fn slots_cell(slots: Option<&OwnedSlots>) -> Cell {
    match slots {
        None => output::bad("unknown"),
        Some(slots) if slots.count == 0 => output::plain("none"),
        Some(slots) => output::plain(&format!("{} ({})", slots.count, slots.runs)),
    }
}

fn replica_cell(shard: &ShardStatus) -> Cell {
    let lines: Vec<String> = shard
        .replicas
        .iter()
        .map(|replica| match (replica.is_up, replica.is_in_recovery, replica.lag_ms, replica.lag_bytes) {
            (false, ..) => "down".to_owned(),
            (true, Some(false), ..) => "no replica".to_owned(),
            (true, _, Some(ms), Some(size)) => format!("{}, {}", seconds(ms), bytes(size)),
            (true, _, None, Some(size)) => bytes(size),
            (true, _, Some(ms), None) => seconds(ms),
            (true, _, None, None) => "up, lag unknown".to_owned(),
        })
        .collect();
    let is_well = shard.replicas.iter().all(|replica| {
        replica.is_up
            && replica.is_in_recovery == Some(true)
            && replica.lag_ms.is_none_or(|ms| ms <= REPLICA_LAG_MS_MAX)
    });
    let standbys = &shard.primary.standbys;
    let sync = standbys.iter().filter(|standby| standby.is_synchronous()).count();
    let sync_line = match sync {
        // The primary of a replica that was just lost has not noticed yet.
        _ if !shard.primary.is_up || shard.replicas.iter().any(|replica| !replica.is_up) => None,
        _ if !standbys.is_empty() && standbys.iter().all(|standby| standby.sync_state.is_none()) => None,
        0 if standbys.is_empty() => Some("not streaming".to_owned()),
        0 => Some("async".to_owned()),
        1 => Some("sync".to_owned()),
        many => Some(format!("{many} sync")),
    };
    let text = lines.into_iter().chain(sync_line).collect::<Vec<_>>().join(", ");
    let needs_sync = shard.durability == "replicated" && shard.primary.is_up;
    let lacks_sync =
        sync == 0 && (standbys.is_empty() || standbys.iter().any(|one| one.sync_state.is_some()));
    if is_well && !(needs_sync && lacks_sync) { output::good(&text) } else { output::bad(&text) }
}

fn nodes_cell(nodes: &[NodeLine]) -> Cell {
    let ready = nodes.iter().filter(|node| node.is_ready).count();
    let wires: BTreeSet<u16> = nodes.iter().filter_map(|node| node.wire).collect();
    let wires: Vec<String> = wires.iter().map(u16::to_string).collect();
    let text = match wires.join(" and ") {
        none if none.is_empty() => format!("{ready}/{} ready", nodes.len()),
        wires => format!("{ready}/{} ready, wire {wires}", nodes.len()),
    };
    if ready == nodes.len() { output::good(&text) } else { output::bad(&text) }
}

fn short_version(version: &str) -> &str {
    version.split_whitespace().next().unwrap_or(version)
}
