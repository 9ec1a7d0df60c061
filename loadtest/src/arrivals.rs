//! When requests are meant to start.
//!
//! In an open loop the schedule does not depend on the gateway, and latency counts from the intended start, so a stall
//! shows. In a closed loop each connection sends after its last answer. That finds saturation but hides stalls.

use serde::Serialize;

use crate::random::Random;

const NANOS_PER_SECOND: f64 = 1e9;

/// How the arrivals of an open loop are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// One every 1/rate seconds, exactly.
    #[default]
    Constant,
    /// Independent of each other, as from many clients: exponential gaps with mean 1/rate.
    Poisson,
}

/// In nanoseconds since the run's start.
///
/// Workers share the rate. Constant arrivals are dealt out in turn; Poisson arrivals are drawn apart, which together is
/// Poisson again.
#[derive(Debug, Clone)]
pub struct Schedule {
    spacing: Spacing,
    gap_ns: f64,
    /// Of constant arrivals. A product does not drift as a sum of rounded gaps would.
    count: u64,
    first_ns: f64,
    next_ns: f64,
    random: Random,
}

impl Schedule {
    pub fn new(spacing: Spacing, rate_per_second: f64, worker: u32, workers: u32, seed: u64) -> Self {
        assert!(rate_per_second > 0.0 && worker < workers, "a rate above 0, split among the workers");
        let gap_ns = NANOS_PER_SECOND * f64::from(workers) / rate_per_second;
        let first_ns = NANOS_PER_SECOND * f64::from(worker) / rate_per_second;
        // Even streams; the odd ones belong to the traffic.
        let mut schedule = Self {
            spacing,
            gap_ns,
            count: 0,
            first_ns,
            next_ns: first_ns,
            random: Random::new(seed, u64::from(worker) * 2),
        };
        if spacing == Spacing::Poisson {
            schedule.next_ns = schedule.exponential_gap();
        }
        schedule
    }

    pub fn next_ns(&self) -> u64 {
        whole(self.next_ns)
    }

    pub fn advance(&mut self) {
        self.count += 1;
        self.next_ns = match self.spacing {
            Spacing::Constant => self.first_ns + self.count as f64 * self.gap_ns,
            Spacing::Poisson => self.next_ns + self.exponential_gap(),
        };
    }

    fn exponential_gap(&mut self) -> f64 {
        // 1 − unit is never 0, whose logarithm there is none.
        -(1.0 - self.random.unit()).ln() * self.gap_ns
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "nanoseconds, not negative, and centuries from the end"
)]
fn whole(nanos: f64) -> u64 {
    nanos as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn starts(spacing: Spacing, rate: f64, workers: u32, until_ns: u64, seed: u64) -> Vec<u64> {
        let mut starts = Vec::new();
        for worker in 0..workers {
            let mut schedule = Schedule::new(spacing, rate, worker, workers, seed);
            while schedule.next_ns() < until_ns {
                starts.push(schedule.next_ns());
                schedule.advance();
            }
        }
        starts.sort_unstable();
        starts
    }

    proptest! {
        #[test]
        fn constant_arrivals_are_evenly_spaced_however_many_workers_share_them(
            rate in 1.0_f64..50_000.0, workers in 1_u32..9, seed: u64,
        ) {
            let starts = starts(Spacing::Constant, rate, workers, 2_000_000_000, seed);
            prop_assert!((starts.len() as f64 - 2.0 * rate).abs() <= 1.0, "{} of {}", starts.len(), 2.0 * rate);
            let gap = 1e9 / rate;
            for (position, start) in starts.iter().enumerate() {
                prop_assert!((*start as f64 - position as f64 * gap).abs() < 2.0);
            }
        }

        #[test]
        fn poisson_arrivals_have_the_rate_as_their_mean(rate in 500.0_f64..20_000.0, workers in 1_u32..5, seed: u64) {
            let count = starts(Spacing::Poisson, rate, workers, 4_000_000_000, seed).len() as f64;
            // Six standard deviations of a Poisson count: one false alarm in 500 million.
            prop_assert!((count - 4.0 * rate).abs() < 6.0 * (4.0 * rate).sqrt(), "{count} of {}", 4.0 * rate);
        }
    }

    #[test]
    fn poisson_gaps_vary_as_an_exponential_does() {
        let starts = starts(Spacing::Poisson, 10_000.0, 2, 10_000_000_000, 11);
        let gaps: Vec<f64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let variation = variance.sqrt() / mean;
        assert!((0.98..1.02).contains(&variation), "an exponential's is 1: {variation}");
    }

    #[test]
    fn a_seed_repeats_its_schedule_and_another_does_not() {
        let run = |seed| starts(Spacing::Poisson, 1_000.0, 2, 1_000_000_000, seed);
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
