//! What a bench found. `summary.json` has these names, which stay.

use serde::Serialize;
use serde_json::{Map, Value};

use super::bar::Bar;
use super::baseline::BaselineRun;
use super::cost::{AtRate, Cost};
use super::cpu::{ByRole, Memory};
use super::figure::rounded;
use super::front::Front;
use super::full::Full;
use super::saturation::Mixed;
use super::stand::{LoadFigures, Proof};
use picopay_loadtest::machine::Machine;
use picopay_loadtest::tally::Errors;

#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub ratio: f64,
    pub baseline_per_second: f64,
    pub saturation_per_second: f64,
    /// At saturation, of all servers.
    pub cpu_us_per_charge: CpuForOne,
    pub cpu_us_per_page: CpuForOne,
    pub cpu_us_per_balance: CpuForOne,
    /// What primaries wrote, at saturation.
    pub wal_bytes_per_charge: f64,
    /// Each rate beside pgbench, half of saturation, and saturation.
    pub costs: Vec<Cost>,
    pub front: Front,
    pub generator_us_per_charge: f64,
    /// At half of saturation: of the load whose p99 is the median.
    pub latency: Latency,
    pub hot_user: f64,
    pub retry_storm: f64,
    pub reads: f64,
    /// Charges a second with many in each request, of those that go alone; and of TigerBeetle's.
    pub batches: f64,
    pub batches_of_tigerbeetle: f64,
    /// The peak, after 512 connections were open.
    pub memory_mib: Memory,
    pub errors: u64,
    pub lost: u64,
    pub doubled: u64,
    pub failures: Vec<String>,
    pub warnings: Vec<String>,
    pub bars: Vec<Bar>,
    pub errors_by_name: Errors,
    pub proof: Proof,
    pub rounds: Vec<Round>,
    pub latency_loads: Vec<LoadFigures>,
    pub mixed: Vec<Mixed>,
    /// The uniform loads around them: one before the first, and one after each.
    pub uniform: Vec<LoadFigures>,
    /// Of the long bench only.
    pub full: Option<Full>,
    pub settings: Value,
    pub versions: Map<String, Value>,
    pub durability: Map<String, Value>,
    pub machine: Machine,
    /// When, as in RFC 3339.
    pub started_at: String,
    pub took_s: f64,
}

/// CPU time of all servers for one answer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CpuForOne {
    #[serde(flatten)]
    pub by_role: ByRole,
    pub total: f64,
}

impl CpuForOne {
    pub fn of(load: &LoadFigures) -> Self {
        Self { by_role: load.cpu_us, total: rounded(load.cpu_us.total()) }
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    pub rate_per_second: f64,
}

/// One round: the baseline, then PicoPay on the same servers.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    pub ratio: f64,
    pub baseline_per_second: f64,
    pub baseline: Vec<BaselineRun>,
    pub saturation: LoadFigures,
    pub rates: Vec<AtRate>,
    /// Nothing but pages of history, and nothing but balances.
    pub pages: LoadFigures,
    pub balances: LoadFigures,
}

impl Summary {
    /// Without what happened in each second: that is for the page only.
    #[must_use]
    pub fn without_seconds(&self) -> Self {
        let mut short = self.clone();
        for round in &mut short.rounds {
            round.baseline.iter_mut().for_each(|run| run.seconds.clear());
            for load in [&mut round.saturation, &mut round.pages, &mut round.balances] {
                load.seconds.clear();
            }
            for rate in &mut round.rates {
                rate.pgbench.seconds.clear();
                rate.picopay.seconds.clear();
            }
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
