//! How much of everything a run has.

use std::time::Duration;

use crate::bench::pace::Pace;

#[derive(Debug, Clone)]
pub struct Scale {
    pub pace: Pace,
    pub transactions: u64,
    /// As servers that run for long have them.
    pub new_wal_files: usize,
    pub warmup: Duration,
    /// As long as slots move, so that both meet as many slow moments of the machine. Later p99s are compared with its p99.
    pub before: Duration,
    /// However fast the machine is for a moment.
    pub rate_max: f64,
    /// As the command takes it. Nobody waits for a purge; its cost to users is in the summary.
    pub purge_per_second: &'static str,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            // 40 files of 16 MB are what a shard writes until it is purged: making them is not what is measured.
            pace: Pace { users: 200_000, wal_files: 40, saturation_s: 6, ..Pace::default() },
            transactions: 2_000_000,
            // 1 GB: what two thirds of all rows come to until there is a checkpoint, and the charges meanwhile.
            new_wal_files: 64,
            warmup: Duration::from_secs(4),
            before: Duration::from_secs(35),
            rate_max: f64::INFINITY,
            purge_per_second: "40000",
        }
    }
}

impl Scale {
    /// A little of everything: to see that it works, not to measure.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            pace: Pace { saturation_s: 1, ..Pace::quick() },
            transactions: 20_000,
            new_wal_files: 1,
            warmup: Duration::from_secs(1),
            before: Duration::from_secs(3),
            // A machine that runs a dozen other tests does this too.
            rate_max: 60.0,
            purge_per_second: "40000",
        }
    }
}
