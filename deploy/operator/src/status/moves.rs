//! What the slots say: whether each has one owner, what moves, and what moves have left behind.

use std::collections::BTreeMap;

use picopay_mover::slot_runs::SlotRuns;
use picopay_shared::cluster::Shard;
use picopay_shared::slot::SLOT_COUNT;
use picopay_shared::slot_owner::SlotState;

use super::remarks::Remarks;
use super::report::{OtherSlots, SlotSummary};
use crate::probe::{OtherSlot, ShardProbe};

pub fn group(others: &[OtherSlot]) -> Vec<OtherSlots> {
    let mut grouped: BTreeMap<(&str, &str), Vec<&OtherSlot>> = BTreeMap::new();
    for other in others {
        grouped.entry((other.state.as_str(), &other.owner)).or_default().push(other);
    }
    let group = |((_, owner), slots): ((&str, &str), Vec<&OtherSlot>)| OtherSlots {
        state: slots[0].state,
        owner: owner.to_owned(),
        runs: slots.iter().map(|other| other.slot).collect(),
        with_rows: slots.iter().filter(|other| other.has_rows).map(|other| other.slot).collect(),
    };
    grouped.into_iter().map(group).collect()
}

pub fn summarise_slots(shards: &[Shard], probes: &[ShardProbe], remarks: &mut Remarks) -> SlotSummary {
    let mut owners: Vec<usize> = vec![0; usize::from(SLOT_COUNT)];
    let (mut silent, mut is_moving, mut is_mover_at_work) = (Vec::new(), false, false);
    for (shard, probe) in shards.iter().zip(probes) {
        let Some((ledger, _)) = probe.known_ledger() else {
            silent.push(shard.name.as_str());
            continue;
        };
        for slot in &ledger.owned {
            if let Some(owners) = owners.get_mut(usize::from(*slot)) {
                *owners += 1;
            }
        }
        is_mover_at_work |= ledger.is_mover_at_work;
        is_moving |= ledger.others.iter().any(|other| other.state != SlotState::Aborted);
    }
    let slots_with = |wanted: fn(usize) -> bool| -> SlotRuns {
        (0..SLOT_COUNT).filter(|slot| wanted(owners[usize::from(*slot)])).collect()
    };
    let (owned_by_nobody, owned_twice) = (slots_with(|owners| owners == 0), slots_with(|owners| owners > 1));
    if !owned_by_nobody.is_empty() {
        let (count, them) = (owned_by_nobody.count(), &owned_by_nobody);
        if is_mover_at_work && silent.is_empty() {
            remarks.notes.push(format!(
                "{count} slots ({them}) are between two shards at this moment: a mover is at work"
            ));
        } else {
            let perhaps = match (silent.is_empty(), is_moving) {
                (false, _) => format!("; {} may own them but cannot say", silent.join(", ")),
                (true, true) => "; was a move interrupted? `picopay rebalance` settles it".to_owned(),
                (true, false) => String::new(),
            };
            remarks
                .problems
                .push(format!("{count} slots are owned by no shard that answers ({them}){perhaps}"));
        }
    }
    if !owned_twice.is_empty() {
        remarks.problems.push(format!(
            "{} slots are owned by more than one shard ({owned_twice}): stop their nodes, then find out why",
            owned_twice.count()
        ));
    }
    note_others(shards, probes, is_mover_at_work, remarks);
    SlotSummary {
        total: SLOT_COUNT,
        owned_once: usize::from(SLOT_COUNT) - owned_by_nobody.count() - owned_twice.count(),
        owned_by_nobody,
        owned_twice,
    }
}

fn note_others(shards: &[Shard], probes: &[ShardProbe], is_mover_at_work: bool, remarks: &mut Remarks) {
    for (shard, probe) in shards.iter().zip(probes) {
        let name = &shard.name;
        let others = probe.known_ledger().map(|(ledger, _)| group(&ledger.others)).unwrap_or_default();
        for other in &others {
            let OtherSlots { state, owner, runs, with_rows } = other;
            let count = runs.count();
            match (state, is_mover_at_work) {
                (SlotState::Importing, true) => {
                    remarks.notes.push(format!("{count} slots ({runs}) are moving from {owner} to {name}"));
                }
                (SlotState::Importing, false) => remarks.notes.push(format!(
                    "a move of {count} slots ({runs}) from {owner} to {name} was interrupted: `picopay rebalance` settles it"
                )),
                _ => {
                    if !with_rows.is_empty() {
                        remarks.notes.push(format!(
                            "{name} has rows of {} slots that are not its own any more ({with_rows}): \
                             `picopay slots purge` removes them",
                            with_rows.count()
                        ));
                    }
                }
            }
        }
    }
}
