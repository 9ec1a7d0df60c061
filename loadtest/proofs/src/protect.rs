//! What the gateway protects: users of one shard from the trouble of another, and everybody from overload.
//!
//! The same load runs without a fault, with a frozen primary, and with a frozen node; then three times what the cluster can
//! do, and saturation again. The overload is done twice. On one machine the processors saturate first, so a second cluster
//! has slow databases and processors to spare. In the end `picopay verify` looks up every acknowledged write.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use picopay_local::{ClusterSpec, Process};
use serde::Serialize;

use crate::bench::cpu::Memory;
use crate::bench::figure::{median, rounded};
use crate::bench::mix::Mix;
use crate::bench::pace::Pace;
use crate::bench::stand::{Load, Stand};
use crate::bench::write_back;
use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::run::{Measured, Rhythm, Stop};
use picopay_loadtest::tally::Errors;

/// Two: one to be frozen and one to be protected.
const SHARDS: usize = 2;
const FROZEN: usize = 0;
const OTHER: usize = 1;
/// Of saturation. A cluster without room cannot protect anybody.
const CALM: f64 = 0.5;
/// More than a dead shard may hold (`queue_max` and a batch), so that its waiting users do not keep the others from
/// sending.
const CONNECTIONS: usize = 6_000;
const SATURATION_CONNECTIONS: usize = 512;
const OVERLOAD: f64 = 3.0;
/// More than both shards' queues take, below the gateway's `connections_max`.
const OVERLOAD_CONNECTIONS: usize = 9_500;
/// Some hundredths of a second of arrivals. More would measure the load test.
const WAITING_MAX: usize = 1_000;
/// Some 20 kB a connection, and what its requests hold.
const GATEWAY_MEMORY_MIB: f64 = 400.0;
/// Each COMMIT waits for so long, like the disk of another machine.
const COMMIT_DELAY_US: &str = "20000";
/// Some 5,000 charges a second then saturate the cluster.
const SLOW_BATCH_MAX: usize = 64;
const KNOWN_AFTER: u64 = 5;
/// A breaker looks every two seconds at the latest.
const BACK_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Protect {
    rounds: usize,
    duration: Duration,
    pace: Pace,
    /// Whether the kernel writes everything back before a load. It takes seconds where other tests write too.
    is_measured: bool,
}

#[derive(Debug, Serialize)]
pub struct ProtectSummary {
    pub bars: Vec<ProtectBar>,
    pub rounds: Vec<ProtectRound>,
}

#[derive(Debug, Serialize)]
pub struct ProtectBar {
    name: &'static str,
    measured: f64,
    limit: f64,
    pub is_kept: bool,
}

#[derive(Debug, Serialize)]
pub struct ProtectRound {
    saturation_per_second: f64,
    primary_frozen: Frozen,
    node_frozen: Frozen,
    overload: Overload,
    overload_of_processors: Overload,
    acknowledged: u64,
    lost: u64,
    doubled: u64,
}

#[derive(Debug, Serialize)]
struct Frozen {
    rate_share: f64,
    p99_share: f64,
    p99_ms_without: f64,
    p99_ms_with: f64,
    refused_within_ms: f64,
    errors: Errors,
}

#[derive(Debug, Serialize)]
struct Overload {
    saturation_per_second: f64,
    offered_per_second: f64,
    /// Good answers a second, divided by saturation before.
    accepted_share: f64,
    accepted_p99_ms: f64,
    refused_p50_ms: f64,
    refused_p99_ms: f64,
    errors: Errors,
    memory_mib: [Memory; 2],
    recovered_share: f64,
}

impl Protect {
    pub fn new(rounds: usize, seconds: u64) -> Self {
        let pace = Pace { saturation_s: seconds.min(Pace::default().saturation_s), ..Pace::default() };
        Self { rounds, duration: Duration::from_secs(seconds), pace, is_measured: true }
    }

    pub fn quick() -> Self {
        Self { rounds: 1, duration: Duration::from_secs(2), pace: Pace::quick(), is_measured: false }
    }

    pub async fn run(&self, stop: &Stop) -> anyhow::Result<ProtectSummary> {
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            let round = self.round(stop).await?;
            eprintln!("round {number}: {}", serde_json::to_string(&round)?);
            rounds.push(round);
        }
        Ok(ProtectSummary { bars: bars(&rounds), rounds })
    }

    async fn round(&self, stop: &Stop) -> anyhow::Result<ProtectRound> {
        let folder = tempfile::tempdir()?;
        let spec = ClusterSpec::default().with_shards(SHARDS);
        let stand = Stand::start(spec, &self.pace, &folder.path().join("acks.jsonl"), stop).await?;
        let saturation = self.saturation(&stand, stop).await?;
        let shard = stand.cluster.shard(FROZEN);
        let primary_frozen = self.freeze(&stand, &shard.primary(), saturation, stop).await?;
        let node_frozen = self.freeze(&stand, &shard.node(0), saturation, stop).await?;
        let overload_of_processors = self.overload(&stand, stop).await?;
        let proof = stand.prove().await?;
        let slow = ClusterSpec::default()
            .with_shards(SHARDS)
            .with_primary_setting("commit_delay", COMMIT_DELAY_US)
            // However few others there are.
            .with_primary_setting("commit_siblings", "0")
            .with_gateway_toml(&format!("[shard_client]\nbatch_max = {SLOW_BATCH_MAX}\n"));
        let stand = Stand::start(slow, &self.pace, &folder.path().join("slow.jsonl"), stop).await?;
        let overload = self.overload(&stand, stop).await?;
        let slow_proof = stand.prove().await?;
        Ok(ProtectRound {
            saturation_per_second: rounded(saturation),
            primary_frozen,
            node_frozen,
            overload,
            overload_of_processors,
            acknowledged: proof.acknowledged + slow_proof.acknowledged,
            lost: proof.lost + slow_proof.lost,
            doubled: proof.doubled + slow_proof.doubled,
        })
    }

    async fn saturation(&self, stand: &Stand, stop: &Stop) -> anyhow::Result<f64> {
        let load = self.load(Rhythm::Closed, SATURATION_CONNECTIONS);
        Ok(stand.count(&load, stop, |_| {}).await?.achieved_per_second())
    }

    /// Without the fault, from the first second of it on, and when it is long known. Each starts with nothing for the
    /// kernel to write back.
    async fn freeze(
        &self,
        stand: &Stand,
        part: &Process,
        saturation: f64,
        stop: &Stop,
    ) -> anyhow::Result<Frozen> {
        let load = self.load(open(saturation * CALM), CONNECTIONS);
        self.write_back().await?;
        let without = stand.count(&load, stop, |_| {}).await?;
        let last_of_warmup = load.warmup.as_secs().saturating_sub(1);
        self.write_back().await?;
        let with = stand
            .count(&load, stop, |second| {
                if second.index == last_of_warmup {
                    part.freeze();
                }
            })
            .await?;
        let known = Load { warmup: Duration::from_secs(KNOWN_AFTER), ..load };
        let known = stand.count(&known, stop, |_| {}).await?;
        part.thaw();
        wait_until_back(stand).await?;
        let (p99_without, p99_with) = (p99_of_other(&without), p99_of_other(&with));
        Ok(Frozen {
            rate_share: rounded(answers_of_other(&with) / answers_of_other(&without).max(1.0)),
            p99_share: rounded(p99_with / p99_without.max(f64::MIN_POSITIVE)),
            p99_ms_without: p99_without,
            p99_ms_with: p99_with,
            refused_within_ms: known.tally.error_latency.quantile_ms(1.0),
            errors: with.tally.errors.clone(),
        })
    }

    async fn overload(&self, stand: &Stand, stop: &Stop) -> anyhow::Result<Overload> {
        // Again, so that the machine's moods are the same ones.
        let before = self.saturation(stand, stop).await?;
        let memory_before = stand.processes.peak_memory()?;
        let load = self.load(open(before * OVERLOAD), OVERLOAD_CONNECTIONS);
        let measured = stand.count(&load, stop, |_| {}).await?;
        let memory_after = stand.processes.peak_memory()?;
        let after = self.saturation(stand, stop).await?;
        let tally = &measured.tally;
        Ok(Overload {
            saturation_per_second: rounded(before),
            offered_per_second: rounded(measured.offered_per_second()),
            accepted_share: rounded(measured.achieved_per_second() / before.max(1.0)),
            accepted_p99_ms: tally.latency().quantile_ms(0.99),
            refused_p50_ms: tally.error_latency.quantile_ms(0.5),
            refused_p99_ms: tally.error_latency.quantile_ms(0.99),
            errors: tally.errors.clone(),
            memory_mib: [memory_before, memory_after],
            recovered_share: rounded(after / before.max(1.0)),
        })
    }

    async fn write_back(&self) -> anyhow::Result<()> {
        if self.is_measured { write_back::all().await } else { Ok(()) }
    }

    fn load(&self, rhythm: Rhythm, connections: usize) -> Load {
        Load { mix: Mix::Uniform, rhythm, connections, warmup: self.pace.warmup(), duration: self.duration }
    }
}

fn open(rate_per_second: f64) -> Rhythm {
    Rhythm::Open { rate_per_second, spacing: Spacing::Poisson, waiting_max: WAITING_MAX }
}

#[expect(clippy::cast_precision_loss, reason = "a count of seconds of load")]
fn answers_of_other(measured: &Measured) -> f64 {
    measured.tally.latency_of_shard(OTHER).count() as f64 / measured.measured.as_secs_f64()
}

fn p99_of_other(measured: &Measured) -> f64 {
    measured.tally.latency_of_shard(OTHER).quantile_ms(0.99)
}

async fn wait_until_back(stand: &Stand) -> anyhow::Result<()> {
    let back = tokio::time::timeout(BACK_WAIT, stand.cluster.wait_until_ready()).await;
    back.context("the shard does not come back after it was thawed")??;
    Ok(())
}

fn bars(rounds: &[ProtectRound]) -> Vec<ProtectBar> {
    let of = |figure: fn(&ProtectRound) -> f64| median(rounds.iter().map(figure));
    let at_least = |name, measured, limit| ProtectBar { name, measured, limit, is_kept: measured >= limit };
    let at_most = |name, measured, limit| ProtectBar { name, measured, limit, is_kept: measured <= limit };
    vec![
        at_least("primary frozen: rate of the other shard", of(|round| round.primary_frozen.rate_share), 0.9),
        at_most("primary frozen: p99 of the other shard", of(|round| round.primary_frozen.p99_share), 1.5),
        at_most(
            "primary frozen: its users are refused within, ms",
            of(|round| round.primary_frozen.refused_within_ms),
            1_000.0,
        ),
        at_least("node frozen: rate of the other shard", of(|round| round.node_frozen.rate_share), 0.9),
        at_most("node frozen: p99 of the other shard", of(|round| round.node_frozen.p99_share), 1.5),
        at_most(
            "node frozen: its users are refused within, ms",
            of(|round| round.node_frozen.refused_within_ms),
            1_000.0,
        ),
        at_least("overload: accepted, of saturation", of(|round| round.overload.accepted_share), 0.9),
        at_most("overload: p99 of refusals, ms", of(|round| round.overload.refused_p99_ms), 1_000.0),
        at_least("overload: saturation afterwards", of(|round| round.overload.recovered_share), 0.9),
        at_least(
            "processors overloaded: accepted, of saturation",
            of(|round| round.overload_of_processors.accepted_share),
            0.9,
        ),
        at_most(
            "processors overloaded: p99 of refusals, ms",
            of(|round| round.overload_of_processors.refused_p99_ms),
            1_000.0,
        ),
        at_most(
            "processors overloaded: peak memory of the gateway, MiB",
            of(|round| round.overload_of_processors.memory_mib[1].gateway),
            GATEWAY_MEMORY_MIB,
        ),
        #[expect(clippy::cast_precision_loss, reason = "zero, or too many anyway")]
        at_most("lost or doubled", of(|round| (round.lost + round.doubled) as f64), 0.0),
    ]
}

impl fmt::Display for ProtectBar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, measured, limit, is_kept } = self;
        let word = if *is_kept { "kept" } else { "MISSED" };
        write!(formatter, "{name:<50}{measured:>10.2}  (limit {limit})  {word}")
    }
}
