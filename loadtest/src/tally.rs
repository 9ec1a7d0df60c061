//! What one worker counted: latencies, errors, arrivals. Tallies of several workers add up exactly.

use std::collections::BTreeMap;
use std::time::Duration;

use picopay_shared::slot::Slot;
use serde::Serialize;

use crate::histogram::Latencies;
use crate::shard_map::ShardMap;
use crate::timing::Timing;
use crate::traffic::{Broken, Kind, Verdict};

pub type Errors = BTreeMap<String, u64>;

const BROKEN_SHOWN_MAX: usize = 5;

#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Latency from the intended start, of what went well, by kind and shard.
    cells: Vec<Option<Box<Latencies>>>,
    pub error_latency: Latencies,
    /// From sending to the answer, of what went well: what a closed loop would have called latency.
    pub service: Latencies,
    /// From the intended start until this program had a look at its schedule.
    pub lag: Latencies,
    pub errors: Errors,
    pub shard_errors: Vec<u64>,
    pub offered: u64,
    pub achieved: u64,
    /// Arrivals given up because too many were waiting already.
    pub dropped: u64,
    pub waited: u64,
    pub broken: [u64; 3],
    pub broken_shown: Vec<Broken>,
    pub malformed: Option<String>,
    pub sent: u64,
    pub slept_ns: u64,
    pub cpu_ns: u64,
    pub wall_ns: u64,
}

impl Tally {
    pub fn count(&mut self, verdict: &Verdict, timing: Timing, shards: &ShardMap) {
        let latency_ns = timing.ended_ns.saturating_sub(timing.intended_ns);
        match &verdict.result {
            Ok(()) => {
                self.cell(verdict.kind, verdict.slot, shards).record_ns(latency_ns);
                self.service.record_ns(timing.ended_ns.saturating_sub(timing.sent_ns));
            }
            Err(code) => {
                self.error_latency.record_ns(latency_ns);
                count_error(&mut self.errors, code, 1);
                self.shard_errors.resize(shards.len(), 0);
                self.shard_errors[shards.index_of(verdict.slot)] += 1;
            }
        }
    }

    pub fn count_broken(&mut self, broken: Broken) {
        self.broken[broken.promise as usize] += 1;
        if self.broken_shown.len() < BROKEN_SHOWN_MAX {
            self.broken_shown.push(broken);
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.cells.resize(self.cells.len().max(other.cells.len()), None);
        for (cell, more) in self.cells.iter_mut().zip(&other.cells) {
            if let Some(more) = more {
                cell.get_or_insert_default().add(more);
            }
        }
        self.error_latency.add(&other.error_latency);
        self.service.add(&other.service);
        self.lag.add(&other.lag);
        other.errors.iter().for_each(|(code, count)| count_error(&mut self.errors, code, *count));
        self.shard_errors.resize(self.shard_errors.len().max(other.shard_errors.len()), 0);
        self.shard_errors.iter_mut().zip(&other.shard_errors).for_each(|(sum, more)| *sum += more);
        self.offered += other.offered;
        self.achieved += other.achieved;
        self.dropped += other.dropped;
        self.waited += other.waited;
        self.broken.iter_mut().zip(&other.broken).for_each(|(sum, more)| *sum += more);
        let room = BROKEN_SHOWN_MAX.saturating_sub(self.broken_shown.len());
        self.broken_shown.extend(other.broken_shown.iter().take(room).cloned());
        self.malformed = self.malformed.take().or_else(|| other.malformed.clone());
        self.sent += other.sent;
        self.slept_ns += other.slept_ns;
        self.cpu_ns += other.cpu_ns;
        self.wall_ns = self.wall_ns.max(other.wall_ns);
    }

    pub fn latency(&self) -> Latencies {
        self.merged(|_, _| true)
    }

    pub fn latency_of_kind(&self, kind: Kind) -> Latencies {
        self.merged(|of, _| of == kind.index())
    }

    pub fn latency_of_shard(&self, shard: usize) -> Latencies {
        self.merged(|_, of| of == shard)
    }

    fn merged(&self, is_wanted: impl Fn(usize, usize) -> bool) -> Latencies {
        let kinds = Kind::ALL.len();
        let mut all = Latencies::default();
        for (place, cell) in self.cells.iter().enumerate() {
            if let Some(cell) = cell
                && is_wanted(place % kinds, place / kinds)
            {
                all.add(cell);
            }
        }
        all
    }

    fn cell(&mut self, kind: Kind, slot: Slot, shards: &ShardMap) -> &mut Latencies {
        let kinds = Kind::ALL.len();
        if self.cells.is_empty() {
            self.cells.resize(kinds * shards.len(), None);
        }
        self.cells[shards.index_of(slot) * kinds + kind.index()].get_or_insert_default()
    }
}

#[derive(Debug, Clone, Default)]
pub struct Second {
    pub index: u64,
    pub offered: u64,
    pub achieved: u64,
    pub dropped: u64,
    pub waiting: u64,
    pub in_flight: u64,
    pub errors: Errors,
    pub latency: Latencies,
}

impl Second {
    pub fn is_empty(&self) -> bool {
        self.offered + self.achieved + self.dropped == 0 && self.errors.is_empty()
    }

    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.achieved += other.achieved;
        self.dropped += other.dropped;
        self.waiting += other.waiting;
        self.in_flight += other.in_flight;
        other.errors.iter().for_each(|(code, count)| count_error(&mut self.errors, code, *count));
        self.latency.add(&other.latency);
    }

    pub fn figures(&self, warmup: Duration, duration: Duration) -> SecondFigures {
        let begins = Duration::from_secs(self.index);
        let phase = if begins < warmup {
            Phase::WarmUp
        } else if begins < warmup + duration {
            Phase::Measured
        } else {
            Phase::Drain
        };
        SecondFigures {
            second: self.index + 1,
            phase,
            offered: self.offered,
            achieved: self.achieved,
            dropped: self.dropped,
            waiting: self.waiting,
            in_flight: self.in_flight,
            errors: self.errors.clone(),
            p50_ms: self.latency.quantile_ms(0.5),
            p90_ms: self.latency.quantile_ms(0.9),
            p99_ms: self.latency.quantile_ms(0.99),
            p999_ms: self.latency.quantile_ms(0.999),
            max_ms: self.latency.quantile_ms(1.0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    WarmUp,
    Measured,
    /// Nothing becomes due any more; the last answers come.
    Drain,
}

/// One second, as a report keeps it. The latencies are of what was answered in it, 0 when nothing was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecondFigures {
    pub second: u64,
    pub phase: Phase,
    pub offered: u64,
    pub achieved: u64,
    pub dropped: u64,
    pub waiting: u64,
    pub in_flight: u64,
    pub errors: Errors,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

pub fn count_error(errors: &mut Errors, code: &str, count: u64) {
    // Looked up first: nearly always it is there, and `entry` would need a String of its own each time.
    match errors.get_mut(code) {
        Some(sum) => *sum += count,
        None => drop(errors.insert(code.to_owned(), count)),
    }
}

#[cfg(test)]
mod tests {
    use picopay_shared::slot::UserId;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Each case adds up dozens of histograms; without optimisation that takes its time.
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn tallies_of_workers_add_up_to_the_tally_of_all(
            requests in prop::collection::vec((1_i64..1_000, 0_usize..10, 0_u64..100_000_000, any::<bool>()), 0..100),
            workers in 1_usize..5,
        ) {
            let shards = ShardMap::even(3);
            let mut parts = vec![Tally::default(); workers];
            let mut whole = Tally::default();
            for (place, (user, kind, ended_ns, is_good)) in requests.into_iter().enumerate() {
                let verdict = Verdict {
                    kind: Kind::ALL[kind],
                    slot: UserId::try_from(user).unwrap().slot(),
                    result: if is_good { Ok(()) } else { Err("overloaded".into()) },
                    broken: None,
                    pause: None,
                    rest: Vec::new(),
                };
                let timing = Timing { intended_ns: 0, sent_ns: ended_ns / 2, ended_ns };
                parts[place % workers].count(&verdict, timing, &shards);
                whole.count(&verdict, timing, &shards);
            }
            let mut merged = Tally::default();
            for part in &parts {
                merged.add(part);
            }
            prop_assert_eq!(merged.latency(), whole.latency());
            prop_assert_eq!(&merged.errors, &whole.errors);
            prop_assert_eq!(&merged.shard_errors, &whole.shard_errors);
            for kind in Kind::ALL {
                prop_assert_eq!(merged.latency_of_kind(kind), whole.latency_of_kind(kind));
            }
            let of_shards: u64 = (0..3).map(|shard| merged.latency_of_shard(shard).count()).sum();
            prop_assert_eq!(of_shards, whole.latency().count());
        }
    }
}
