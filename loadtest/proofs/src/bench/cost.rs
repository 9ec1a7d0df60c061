//! What a charge costs and how long it takes, from one at a time to as many as there can be, beside pgbench at the same rate.
//!
//! The two take turns within seconds, so that both meet the same machine.

use std::fmt::Write as _;

use serde::Serialize;

use super::baseline::Baseline;
use super::baseline::rated::RatedRun;
use super::cpu::ByRole;
use super::figure::{median, rounded};
use super::latency;
use super::pace::Pace;
use super::stand::{LoadFigures, Stand};
use picopay_loadtest::run::Stop;

/// One rate in one round.
#[derive(Debug, Clone, Serialize)]
pub struct AtRate {
    pub rate_per_second: f64,
    pub pgbench: RatedRun,
    pub picopay: LoadFigures,
    /// CPU time of PicoPay's servers for a charge, divided by PostgreSQL's for one of pgbench.
    pub quotient: f64,
}

pub async fn measure(
    stand: &mut Stand,
    baseline: &mut Baseline,
    pace: &Pace,
    stop: &Stop,
) -> anyhow::Result<Vec<AtRate>> {
    let mut all = Vec::new();
    for rate_per_second in pace.rates_per_second.iter().copied() {
        let pgbench = baseline.run_at(stand, pace, rate_per_second).await?;
        let picopay = latency::measure_once(stand, pace, rate_per_second, pace.rated_s, stop).await?;
        let quotient = rounded(picopay.cpu_us.total() / pgbench.cpu_us.total());
        all.push(AtRate { rate_per_second, pgbench, picopay, quotient });
    }
    Ok(all)
}

/// One line of the table: the medians of all rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    pub name: String,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Of the round whose sum is the median.
    pub cpu_us: ByRole,
    pub cpu_us_total: f64,
    pub pgbench_us: Option<f64>,
    pub quotient: Option<f64>,
    pub charges_per_batch: f64,
    pub wal_bytes: f64,
}

impl Cost {
    pub fn of(name: String, loads: &[&LoadFigures]) -> Self {
        let of = |figure: fn(&LoadFigures) -> f64| median(loads.iter().map(|load| figure(load)));
        let cpu_us = middle(loads).cpu_us;
        Self {
            name,
            per_second: of(|load| load.per_second),
            p50_ms: of(|load| load.p50_ms),
            p99_ms: of(|load| load.p99_ms),
            cpu_us,
            cpu_us_total: rounded(cpu_us.total()),
            pgbench_us: None,
            quotient: None,
            charges_per_batch: of(|load| load.answers_per_batch),
            wal_bytes: of(|load| load.wal_bytes),
        }
    }

    /// Of the same rate in all rounds.
    pub fn beside_pgbench(rounds: &[&AtRate]) -> Self {
        let rate = rounds[0].rate_per_second;
        let loads: Vec<&LoadFigures> = rounds.iter().map(|round| &round.picopay).collect();
        Self {
            pgbench_us: Some(rounded(median(rounds.iter().map(|round| round.pgbench.cpu_us.total())))),
            quotient: Some(median(rounds.iter().map(|round| round.quotient))),
            ..Self::of(format!("{rate:.0}/s"), &loads)
        }
    }
}

/// The one of the median cost, so that its parts add up to its sum.
pub fn middle<'a>(loads: &[&'a LoadFigures]) -> &'a LoadFigures {
    let mut loads = loads.to_vec();
    loads.sort_by(|a, b| a.cpu_us.total().total_cmp(&b.cpu_us.total()));
    loads[loads.len() / 2]
}

pub fn table(costs: &[Cost]) -> String {
    let mut out = format!(
        "{:<20}{:>9}{:>8}{:>8}{:>9}{:>9}{:>9}{:>9}{:>7}{:>9}{:>9}{:>10}{:>7}{:>7}\n",
        "charges",
        "a second",
        "p50 ms",
        "p99 ms",
        "gateway",
        "node",
        "primary",
        "replica",
        "Redis",
        "µs each",
        "pgbench",
        "quotient",
        "batch",
        "WAL B"
    );
    for cost in costs {
        let maybe = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
        };
        let ByRole { gateway, node, primary, replica, redis } = cost.cpu_us;
        writeln!(
            out,
            "{:<20}{:>9.0}{:>8.1}{:>8.1}{gateway:>9.1}{node:>9.1}{primary:>9.1}{replica:>9.1}{redis:>7.1}{:>9.1}{:>9}{:>10}{:>7.1}{:>7.0}",
            cost.name,
            cost.per_second,
            cost.p50_ms,
            cost.p99_ms,
            cost.cpu_us_total,
            maybe(cost.pgbench_us, 0),
            maybe(cost.quotient, 2),
            cost.charges_per_batch,
            cost.wal_bytes
        )
        .expect("a String takes everything");
    }
    out
}
