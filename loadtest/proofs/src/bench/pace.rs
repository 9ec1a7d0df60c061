//! How long everything takes, and how often it is done.

use std::time::Duration;

use serde::Serialize;

/// The default fits a whole bench into seven minutes. Shorter phases would show single checkpoints.
#[derive(Debug, Clone, Serialize)]
pub struct Pace {
    /// Their rows fit into the caches of two small servers, as a busy ledger's working set should.
    pub users: u64,
    /// Files of 16 MB that each server has beforehand: more than a shard writes in a whole bench.
    pub wal_files: usize,
    /// The median of three rounds forgives one bad neighbour.
    pub rounds: usize,
    /// Before pgbench is measured, in seconds: connections, plans, pages.
    pub baseline_warmup_s: u64,
    /// Seconds for each of the four configurations of a round.
    pub baseline_s: u64,
    /// Before each load through the gateway is measured, in whole seconds.
    pub warmup_s: u64,
    pub saturation_s: u64,
    /// Charges a second, from where nearly every batch has one charge to where it has a dozen.
    pub rates_per_second: Vec<f64>,
    /// At each of them: ten thousand charges and more, but at the lowest.
    pub rated_s: u64,
    /// The same of pgbench, which needs no p99.
    pub rated_baseline_s: u64,
    /// For pages of history alone, and balances alone: only their cost counts.
    pub read_s: u64,
    /// For each of the two echoes.
    pub echo_s: u64,
    /// Long enough for some dozen requests above p99.9.
    pub latency_s: u64,
    pub mixed_s: u64,
    pub full_rounds: usize,
    pub full_s: u64,
    pub existing: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            users: 100_000,
            wal_files: 64,
            rounds: 3,
            baseline_warmup_s: 1,
            baseline_s: 4,
            warmup_s: 2,
            saturation_s: 6,
            rates_per_second: vec![500.0, 1_500.0, 3_000.0, 6_000.0],
            rated_s: 5,
            rated_baseline_s: 3,
            read_s: 3,
            echo_s: 3,
            latency_s: 6,
            mixed_s: 4,
            full_rounds: 3,
            full_s: 10,
            existing: 5_000_000,
        }
    }
}

impl Pace {
    /// Everything once and briefly: to see that it works, not to measure.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            users: 2_000,
            wal_files: 2,
            rounds: 1,
            baseline_warmup_s: 1,
            // pgbench does not always tell of its last second.
            baseline_s: 2,
            warmup_s: 1,
            saturation_s: 2,
            // What a machine that runs a dozen other tests can do.
            rates_per_second: vec![20.0, 40.0, 60.0, 80.0],
            rated_s: 1,
            rated_baseline_s: 1,
            read_s: 1,
            echo_s: 1,
            latency_s: 2,
            mixed_s: 1,
            full_rounds: 1,
            full_s: 1,
            existing: 20_000,
        }
    }

    pub fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup_s)
    }
}
