//! Which shard a slot is in, as far as a report wants to know. The load itself never asks: gateways route.

use picopay_shared::node_status::OwnedRange;
use picopay_shared::slot::{SLOT_COUNT, Slot};

#[derive(Debug, Clone)]
pub struct ShardMap {
    names: Vec<String>,
    shard_of: Vec<u16>,
}

impl ShardMap {
    /// Ranges of equal size, named by their slots: how `picopay init` deals them out to this many shards.
    pub fn even(shards: u16) -> Self {
        assert!((1..=SLOT_COUNT).contains(&shards), "from one shard to one per slot");
        let first_of = |shard: u16| u32::from(shard) * u32::from(SLOT_COUNT) / u32::from(shards);
        let names = (0..shards)
            .map(|shard| format!("slots {}–{}", first_of(shard), first_of(shard + 1) - 1))
            .collect();
        let shard_of = (0..SLOT_COUNT).map(|slot| {
            let shard = (0..shards).rfind(|shard| first_of(*shard) <= u32::from(slot));
            shard.expect("the first range starts at 0")
        });
        Self { names, shard_of: shard_of.collect() }
    }

    /// Shards in the order of `cluster.toml`, with the slots that `picopay init` dealt out to them: right until one is moved.
    pub fn dealt_evenly(names: &[String]) -> Self {
        let shards = u16::try_from(names.len()).expect("fewer shards than slots");
        let even = Self::even(shards);
        let both = names.iter().zip(&even.names);
        let names = both.map(|(name, slots)| format!("{name} (dealt {slots})")).collect();
        Self { names, ..even }
    }

    /// What the shards themselves say they own. Slots that nobody owns are a group of their own.
    pub fn owned(shards: &[(String, Vec<OwnedRange>)]) -> Self {
        let mut names: Vec<String> = shards.iter().map(|(name, _)| name.clone()).collect();
        let nobody = u16::try_from(names.len()).expect("fewer shards than slots");
        let mut shard_of = vec![nobody; usize::from(SLOT_COUNT)];
        for (shard, (_, ranges)) in (0..).zip(shards) {
            for range in ranges {
                let last = range.last.min(SLOT_COUNT - 1);
                (range.first..=last).for_each(|slot| shard_of[usize::from(slot)] = shard);
            }
        }
        if shard_of.contains(&nobody) {
            names.push("(nobody's)".to_owned());
        }
        Self { names, shard_of }
    }

    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn index_of(&self, slot: Slot) -> usize {
        usize::from(self.shard_of[slot.index()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_in_one_of_the_even_ranges() {
        for shards in [1, 2, 3, 7, SLOT_COUNT] {
            let map = ShardMap::even(shards);
            let mut sizes = vec![0_u32; map.len()];
            (0..SLOT_COUNT).for_each(|slot| sizes[map.index_of(Slot::new(slot).unwrap())] += 1);
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(most - least <= 1, "{shards}: {sizes:?}");
        }
        assert_eq!(ShardMap::even(2).names(), ["slots 0–2047", "slots 2048–4095"]);
    }

    #[test]
    fn slots_that_nobody_owns_are_shown_as_such() {
        let range = |first, last| OwnedRange { first, last, epoch: 1 };
        let map = ShardMap::owned(&[("a".into(), vec![range(0, 9)]), ("b".into(), vec![range(20, 4095)])]);
        assert_eq!(map.names(), ["a", "b", "(nobody's)"]);
        let of = |slot| map.index_of(Slot::new(slot).unwrap());
        assert_eq!((of(9), of(10), of(4095)), (0, 2, 1));
    }
}
