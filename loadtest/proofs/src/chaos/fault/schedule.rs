//! Which fault strikes when: the same for the same seed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chaos::kind::Kind;
use picopay_loadtest::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub shard: usize,
    pub hold: Duration,
    /// Some kinds have two forms, which take turns.
    pub times_before: u32,
}

impl Fault {
    pub fn words(self) -> String {
        let end = if self.ends_in_a_loss() { ", primary lost" } else { "" };
        if self.kind.is_of_a_shard() {
            format!("{}{end} (shard-{})", self.kind.words(), self.shard + 1)
        } else {
            self.kind.words().to_owned()
        }
    }

    pub fn ends_in_a_loss(self) -> bool {
        self.kind.may_end_in_a_loss() && self.times_before.is_multiple_of(2)
    }
}

#[derive(Debug)]
pub struct Schedule {
    random: Random,
    shards: usize,
    kinds: Vec<Kind>,
    struck: BTreeMap<Kind, u32>,
    left: Vec<Kind>,
    hold_max: Duration,
    calm_max: Duration,
}

impl Schedule {
    /// No fault lasts longer than `hold_max` unless its kind needs to, and no calm longer than `calm_max`.
    pub fn new(seed: u64, shards: usize, kinds: &[Kind], hold_max: Duration, calm_max: Duration) -> Self {
        assert!(!kinds.is_empty(), "a schedule has something to choose from");
        // Clients draw from the streams above.
        let random = Random::new(seed, 0);
        let (kinds, struck, left) = (kinds.to_vec(), BTreeMap::new(), Vec::new());
        Self { random, shards, kinds, struck, left, hold_max, calm_max }
    }

    pub fn next_fault(&mut self) -> (Duration, Fault) {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
        }
        let place = self.below(self.left.len());
        let kind = self.left.swap_remove(place);
        let shard = self.below(self.shards);
        let hold_min = kind.hold_min();
        let hold = hold_min + self.hold_max.saturating_sub(hold_min).mul_f64(self.random.unit());
        let calm = self.calm_max.mul_f64(self.random.unit());
        let times_before = self.struck.entry(kind).or_default();
        let fault = Fault { kind, shard, hold, times_before: *times_before };
        *times_before += 1;
        (calm, fault)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("fits 64 bits");
        usize::try_from(self.random.below(end)).expect("below a length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_faults_and_every_kind_strikes_before_any_strikes_twice() {
        let faults = |seed| {
            let (hold, calm) = (Duration::from_secs(5), Duration::from_secs(1));
            let mut schedule = Schedule::new(seed, 2, &Kind::ALL, hold, calm);
            (0..Kind::ALL.len() * 2).map(|_| schedule.next_fault()).collect::<Vec<_>>()
        };
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
        for (round, faults) in (0..).zip(faults(3).chunks(Kind::ALL.len())) {
            let mut kinds: Vec<Kind> = faults.iter().map(|(_, fault)| fault.kind).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, Kind::ALL);
            for (_, fault) in faults {
                assert!(fault.shard < 2 && fault.hold >= fault.kind.hold_min());
                assert_eq!(fault.times_before, round);
            }
        }
    }

    #[test]
    fn only_the_chosen_kinds_strike_and_a_loss_follows_every_other_time() {
        let kinds = [Kind::StandbyNamesEmptied];
        let mut schedule = Schedule::new(1, 2, &kinds, Duration::from_secs(5), Duration::from_secs(1));
        for ends_in_a_loss in [true, false, true] {
            let (_, fault) = schedule.next_fault();
            assert_eq!((fault.kind, fault.ends_in_a_loss()), (kinds[0], ends_in_a_loss));
        }
    }
}
