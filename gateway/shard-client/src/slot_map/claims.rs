//! What shards claim of their own slots, and the table that follows from it. Pure.

use std::collections::HashMap;

use picopay_shared::node_status::OwnedRange;
use picopay_shared::slot::SLOT_COUNT;

use super::{OnTheWay, Owner};

pub type Table = Box<[Option<Owner>]>;

#[derive(Debug, Clone, Default)]
pub struct Claims {
    owned: Vec<OwnedRange>,
    importing: Vec<OwnedRange>,
}

impl Claims {
    pub fn new(owned: &[OwnedRange], importing: &[OwnedRange]) -> Self {
        Self { owned: owned.to_vec(), importing: importing.to_vec() }
    }

    pub fn are(&self, owned: &[OwnedRange], importing: &[OwnedRange]) -> bool {
        self.owned == owned && self.importing == importing
    }
}

/// Where two shards claim a slot, the higher epoch is newer. Epochs cannot be equal, because each change of
/// owner raises them. If they were, the first shard is asked, and its database decides.
pub fn build_table(claims: &[Claims]) -> Table {
    let mut table: Vec<Option<Owner>> = vec![None; usize::from(SLOT_COUNT)];
    for (place, own) in claims.iter().enumerate() {
        for (slot, epoch) in slots_of(&own.owned) {
            let entry = &mut table[slot];
            if entry.is_none_or(|known| known.epoch < epoch) {
                *entry = Some(Owner { place, epoch });
            }
        }
    }
    table.into_boxed_slice()
}

/// The table that follows from `claims`, without those that a *moved* answer has overtaken. Also updates
/// `on_the_way`. A slot with an owner leaves it. A slot enters it that lost its owner since `before`, or that
/// is only being imported.
pub fn draw(claims: &[Claims], before: &Table, on_the_way: &mut HashMap<usize, OnTheWay>) -> Table {
    let mut table = build_table(claims);
    for (slot, entry) in table.iter_mut().enumerate() {
        let least_epoch = on_the_way.get(&slot).map_or(0, |known| known.least_epoch);
        if entry.is_some_and(|owner| owner.epoch < least_epoch) {
            *entry = None;
        }
        match (&entry, before[slot]) {
            (Some(_), _) => {
                on_the_way.remove(&slot);
            }
            (None, Some(last)) => {
                on_the_way.entry(slot).or_insert_with(|| OnTheWay::new(Some(last)));
            }
            (None, None) => {}
        }
    }
    for (place, own) in claims.iter().enumerate() {
        for (slot, _) in slots_of(&own.importing).filter(|(slot, _)| table[*slot].is_none()) {
            on_the_way.entry(slot).or_insert_with(|| OnTheWay::new(None)).concerns(place);
        }
    }
    table
}

fn slots_of(ranges: &[OwnedRange]) -> impl Iterator<Item = (usize, u64)> {
    ranges.iter().flat_map(|range| {
        (range.first..=range.last.min(SLOT_COUNT - 1)).map(|slot| (usize::from(slot), range.epoch))
    })
}
