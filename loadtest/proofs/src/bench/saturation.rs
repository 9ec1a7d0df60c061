//! Charges a second through the gateway, one for each HTTP request, in closed loops, and their cost.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::figure::rounded;
use super::mix::Mix;
use super::pace::Pace;
use super::stand::{Load, LoadFigures, Stand};
use picopay_loadtest::run::{Rhythm, Stop};

/// Fewer connections leave batches small, more only wait longer. As with pgbench, all are tried and the best one counts.
pub const CANDIDATES: [usize; 2] = [256, 512];

/// Connections of the loads that are compared with one another.
pub const CONNECTIONS: usize = 512;

/// Of the load of batches: some 2,000 charges are under way, which is a quarter of what two shards let wait.
pub const BATCH_CONNECTIONS: usize = 16;

#[derive(Debug, Clone, Serialize)]
pub struct Mixed {
    pub mix: Mix,
    /// Of the uniform loads around it: the machine's speed changes more slowly than that.
    pub share: f64,
    pub figures: LoadFigures,
}

pub async fn find(stand: &mut Stand, pace: &Pace, stop: &Stop) -> anyhow::Result<LoadFigures> {
    let mut best: Option<LoadFigures> = None;
    for connections in CANDIDATES {
        let figures = measure(stand, pace, pace.saturation_s, connections, stop).await?;
        eprintln!(
            "saturation  {connections} connections: {:.0}/s over HTTP, {:.1} µs of all servers' CPU each",
            figures.per_second,
            figures.cpu_us.total()
        );
        if best.as_ref().is_none_or(|best| best.per_second < figures.per_second) {
            best = Some(figures);
        }
    }
    best.context("no number of connections was tried")
}

pub async fn measure(
    stand: &mut Stand,
    pace: &Pace,
    seconds: u64,
    connections: usize,
    stop: &Stop,
) -> anyhow::Result<LoadFigures> {
    closed_loop(stand, pace, Mix::Uniform, seconds, connections, stop).await
}

/// Nothing but reads of one kind, for what one costs.
pub async fn measure_reads(
    stand: &mut Stand,
    pace: &Pace,
    mix: Mix,
    stop: &Stop,
) -> anyhow::Result<LoadFigures> {
    let figures = closed_loop(stand, pace, mix, pace.read_s, CONNECTIONS, stop).await?;
    eprintln!(
        "{:<12}{:.0}/s, {:.1} µs of all servers' CPU each",
        mix.name(),
        figures.per_second,
        figures.cpu_us.total()
    );
    Ok(figures)
}

/// The mixed loads, each between two uniform ones; and these.
pub async fn measure_mixed(
    stand: &mut Stand,
    pace: &Pace,
    stop: &Stop,
) -> anyhow::Result<(Vec<Mixed>, Vec<LoadFigures>)> {
    let mut uniform = vec![measure(stand, pace, pace.mixed_s, CONNECTIONS, stop).await?];
    let mut all = Vec::new();
    for mix in [Mix::HotUser, Mix::RetryStorm, Mix::Reads, Mix::Batches] {
        let connections = if mix == Mix::Batches { BATCH_CONNECTIONS } else { CONNECTIONS };
        let figures = closed_loop(stand, pace, mix, pace.mixed_s, connections, stop).await?;
        let next = measure(stand, pace, pace.mixed_s, CONNECTIONS, stop).await?;
        let (before, after) = (uniform[uniform.len() - 1].per_second, next.per_second);
        let share = rounded(figures.per_second / (f64::midpoint(before, after)).max(1.0));
        eprintln!(
            "{:<12}{:.0}/s, {share:.2} of uniform ({before:.0}/s and {after:.0}/s)",
            mix.name(),
            figures.per_second
        );
        all.push(Mixed { mix, share, figures });
        uniform.push(next);
    }
    Ok((all, uniform))
}

pub async fn closed_loop(
    stand: &mut Stand,
    pace: &Pace,
    mix: Mix,
    seconds: u64,
    connections: usize,
    stop: &Stop,
) -> anyhow::Result<LoadFigures> {
    let load = Load {
        mix,
        rhythm: Rhythm::Closed,
        connections,
        warmup: pace.warmup(),
        duration: Duration::from_secs(seconds),
    };
    stand.load(&load, stop).await
}
