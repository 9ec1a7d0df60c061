//! Everything that a bench found, as `summary.json` has it. The names of its fields stay: bars and graphs are made of them.

use serde::Serialize;
use serde_json::{Map, Value};

use super::bar::Bar;
use super::baseline::BaselineRun;
use super::cpu::{ByRole, Memory};
use super::full::Full;
use super::saturation::Mixed;
use super::stand::{LoadFigures, Proof};
use picopay_loadtest::machine::Machine;
use picopay_loadtest::tally::Errors;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The median of the rounds' ratios.
    pub ratio: f64,
    /// The median of the rounds' best.
    pub baseline_per_second: f64,
    /// The median of the rounds.
    pub saturation_per_second: f64,
    /// At saturation, of the round in the middle.
    pub cpu_us_per_charge: CpuPerCharge,
    /// CPU time of the load test itself for one charge, of the same round.
    pub generator_us_per_charge: f64,
    /// At half of saturation: of the load whose p99 is the median.
    pub latency: Latency,
    /// Share of uniform saturation.
    pub hot_user: f64,
    /// Share of uniform saturation.
    pub retry_storm: f64,
    /// Share of uniform saturation.
    pub reads: f64,
    /// The peak, after 512 connections were open.
    pub memory_mib: Memory,
    /// Answers that were no success, lost connections, dropped arrivals.
    pub errors: u64,
    /// Acknowledged writes that are not in the ledger.
    pub lost: u64,
    /// Keys with two transactions.
    pub doubled: u64,
    /// Why the bench fails, whatever the figures.
    pub failures: Vec<String>,
    /// Why the figures may be worse than PicoPay is.
    pub warnings: Vec<String>,
    /// Figures against their bars.
    pub bars: Vec<Bar>,
    /// Errors by name.
    pub errors_by_name: Errors,
    /// What `picopay verify` said.
    pub proof: Proof,
    /// Baseline and saturation, alternating.
    pub rounds: Vec<Round>,
    /// The loads at half of saturation.
    pub latency_loads: Vec<LoadFigures>,
    /// The mixed loads.
    pub mixed: Vec<Mixed>,
    /// The uniform loads around them: one before the first, and one after each.
    pub uniform: Vec<LoadFigures>,
    /// Of the long bench only.
    pub full: Option<Full>,
    /// How it was measured.
    pub settings: Value,
    /// What ran.
    pub versions: Map<String, Value>,
    /// What an acknowledged write had survived.
    pub durability: Map<String, Value>,
    /// Where.
    pub machine: Machine,
    /// When, as in RFC 3339.
    pub started_at: String,
    /// How long.
    pub took_s: f64,
}

/// CPU time in microseconds for one charge.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CpuPerCharge {
    /// Of each kind of server.
    #[serde(flatten)]
    pub by_role: ByRole,
    /// Together.
    pub total: f64,
}

/// From the intended start.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    /// Arrivals a second.
    pub rate_per_second: f64,
}

/// One round: PostgreSQL one charge at a time, then PicoPay on the same servers.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Saturation, divided by the best baseline.
    pub ratio: f64,
    /// The best of the runs below.
    pub baseline_per_second: f64,
    /// Every configuration of pgbench.
    pub baseline: Vec<BaselineRun>,
    /// Right after it.
    pub saturation: LoadFigures,
}

impl Summary {
    /// Without what happened in each second: that is for the page only.
    #[must_use]
    pub fn without_seconds(&self) -> Self {
        let mut short = self.clone();
        for round in &mut short.rounds {
            round.baseline.iter_mut().for_each(|run| run.seconds.clear());
            round.saturation.seconds.clear();
        }
        short.latency_loads.iter_mut().for_each(|load| load.seconds.clear());
        short.mixed.iter_mut().for_each(|mixed| mixed.figures.seconds.clear());
        short.uniform.iter_mut().for_each(|load| load.seconds.clear());
        for variant in short.full.iter_mut().flat_map(Full::variants_mut) {
            variant.rounds.iter_mut().for_each(|load| load.seconds.clear());
        }
        short
    }
}
