//! How long users waited in each stage, from the intended start to the final success.

use std::time::Duration;

use serde::Serialize;

use picopay_loadtest::histogram::Latencies;
use picopay_loadtest::tally::{Errors, count_error};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    WarmUp,
    Before,
    Adding,
    Rebalancing,
    Draining,
    Purging,
    /// Nothing again, until the last request has its answer.
    After,
}

impl Stage {
    pub const ALL: [Self; 7] = [
        Self::WarmUp,
        Self::Before,
        Self::Adding,
        Self::Rebalancing,
        Self::Draining,
        Self::Purging,
        Self::After,
    ];

    pub fn index(self) -> usize {
        self as usize
    }

    pub const MOVING: [Self; 2] = [Self::Rebalancing, Self::Draining];
}

#[derive(Debug, Clone, Default)]
struct OfStage {
    latency: Latencies,
    errors: Errors,
    took: Duration,
}

#[derive(Debug, Clone, Default)]
pub struct Pauses {
    stages: [OfStage; Stage::ALL.len()],
    /// Requests that nobody may answer like that: they are findings too.
    given_up: u64,
    pub waiting: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct StageFigures {
    stage: Stage,
    seconds: f64,
    requests: u64,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
    errors: Errors,
}

impl Pauses {
    pub fn succeeded(&mut self, stage: usize, took_ns: u64) {
        self.stages[stage].latency.record_ns(took_ns);
    }

    pub fn failed(&mut self, stage: usize, code: &str) {
        count_error(&mut self.stages[stage].errors, code, 1);
    }

    pub fn given_up(&mut self) {
        self.given_up += 1;
    }

    pub fn without_success(&self) -> u64 {
        self.given_up
    }

    pub fn ended(&mut self, stage: Stage, took: Duration) {
        self.stages[stage.index()].took = took;
    }

    pub fn quantile_ms(&self, stages: &[Stage], quantile: f64) -> f64 {
        let mut all = Latencies::default();
        for stage in stages {
            all.add(&self.stages[stage.index()].latency);
        }
        all.quantile_ms(quantile)
    }

    pub fn figures(&self) -> Vec<StageFigures> {
        let figures = |stage: Stage| {
            let OfStage { latency, errors, took } = &self.stages[stage.index()];
            StageFigures {
                stage,
                seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
                requests: latency.count(),
                p50_ms: latency.quantile_ms(0.5),
                p99_ms: latency.quantile_ms(0.99),
                longest_ms: latency.quantile_ms(1.0),
                errors: errors.clone(),
            }
        };
        Stage::ALL.into_iter().map(figures).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stages_index_is_its_place_in_the_list() {
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage.index(), place);
        }
    }
}
