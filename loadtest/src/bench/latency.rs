//! How long a charge takes when the cluster is half busy: an open loop, so that a stall counts for all who came during it.

use std::time::Duration;

use super::mix::Mix;
use super::pace::Pace;
use super::stand::{Load, LoadFigures, Stand};
use crate::arrivals::Spacing;
use crate::run::{Rhythm, Stop};

/// An open loop must not become a closed one for want of connections. Also as many as the memory's bar speaks of.
pub const CONNECTIONS: usize = 512;

/// Poisson arrivals at this rate.
pub async fn measure(
    stand: &mut Stand,
    pace: &Pace,
    rate_per_second: f64,
    stop: &Stop,
) -> anyhow::Result<LoadFigures> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "one second of arrivals")]
    let waiting_max = rate_per_second.ceil() as usize;
    let load = Load {
        mix: Mix::Uniform,
        rhythm: Rhythm::Open { rate_per_second, spacing: Spacing::Poisson, waiting_max },
        connections: CONNECTIONS,
        warmup: pace.warmup(),
        duration: Duration::from_secs(pace.latency_s),
    };
    stand.load(&load, stop).await
}
