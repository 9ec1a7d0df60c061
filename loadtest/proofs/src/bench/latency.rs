//! How long a charge takes when the cluster is half busy, or at any other rate. The loop is open, so that a stall counts for
//! all who came during it.

use std::time::Duration;

use super::mix::Mix;
use super::pace::Pace;
use super::stand::{Load, LoadFigures, Stand};
use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::run::{Rhythm, Stop};

/// Enough that an open loop does not become a closed one, and as many as the memory's bar speaks of.
pub const CONNECTIONS: usize = 512;

/// At half of saturation. Several times: one measurement may meet a busy disk.
pub async fn measure(
    stand: &mut Stand,
    pace: &Pace,
    rate_per_second: f64,
    stop: &Stop,
) -> anyhow::Result<Vec<LoadFigures>> {
    let mut loads = Vec::new();
    for _ in 0..pace.rounds {
        loads.push(measure_once(stand, pace, rate_per_second, pace.latency_s, stop).await?);
    }
    Ok(loads)
}

/// The one whose p99 is the median.
pub fn middle(loads: &[LoadFigures]) -> &LoadFigures {
    let mut loads: Vec<_> = loads.iter().collect();
    loads.sort_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms));
    loads[loads.len() / 2]
}

pub async fn measure_once(
    stand: &mut Stand,
    pace: &Pace,
    rate_per_second: f64,
    seconds: u64,
    stop: &Stop,
) -> anyhow::Result<LoadFigures> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "one second of arrivals")]
    let waiting_max = rate_per_second.ceil() as usize;
    let load = Load {
        mix: Mix::Uniform,
        rhythm: Rhythm::Open { rate_per_second, spacing: Spacing::Poisson, waiting_max },
        connections: CONNECTIONS,
        warmup: pace.warmup(),
        duration: Duration::from_secs(seconds),
    };
    let figures = stand.load(&load, stop).await?;
    eprintln!(
        "latency     at {rate_per_second:.0}/s: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, {:.0} µs of all servers' CPU each",
        figures.p50_ms,
        figures.p99_ms,
        figures.p999_ms,
        figures.cpu_us.total()
    );
    Ok(figures)
}
