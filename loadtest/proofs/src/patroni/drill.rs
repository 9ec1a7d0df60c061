//! The drill: charges all the time, and a primary that dies several times. Either the agent alone dies, and its PostgreSQL
//! lives on as a primary, or both die.
//!
//! A gap lasts from the last charge acknowledged on the old timeline to the first on the new one. Between two kills the
//! dead member comes back, by `pg_rewind` or a new copy, and streams.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use picopay_loadtest::acks::AckFile;
use picopay_local::PatroniShard;
use serde::Serialize;

use super::proof::{self, DrillProof};
use crate::charges::Charges;

/// With `ttl` 10: the time to live, an election, a promotion, and a standby that follows the new primary.
const GAP_BAR: Duration = Duration::from_secs(15);
/// Load before each kill, so that it meets charges on their way.
const BEFORE_KILL: Duration = Duration::from_secs(3);
/// Of some 300 a second; fewer may be stragglers of the old primary.
const RESUMED: usize = 100;
/// A gap that does not end is not measured for longer.
const GAP_MAX: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Victim {
    /// Patroni's agent. Its lease runs out, and somebody else is promoted while its PostgreSQL still takes writes.
    AgentAlone,
    /// Agent and PostgreSQL, at the same moment.
    Machine,
}

impl Victim {
    /// The agent first: its primary lives on as the first host of the node's connection string.
    fn of(number: usize) -> Self {
        if number.is_multiple_of(2) { Self::Machine } else { Self::AgentAlone }
    }

    fn words(self) -> &'static str {
        match self {
            Self::AgentAlone => "its agent alone",
            Self::Machine => "agent and server",
        }
    }
}

#[derive(Debug, Serialize)]
struct Kill {
    victim: Victim,
    gap_ms: u128,
    rejoined_ms: u128,
}

#[derive(Debug, Serialize)]
struct DrillSummary {
    postgres: String,
    members: usize,
    kills: usize,
    victims: Vec<Kill>,
    gaps_ms: Vec<u128>,
    gap_median_ms: u128,
    gap_max_ms: u128,
    gap_bar_ms: u128,
    rejoined_ms: Vec<u128>,
    timelines: [i32; 2],
    tried_again: u64,
    of_them_unknown: u64,
    strong_reads: u64,
    stale_reads: u64,
    #[serde(flatten)]
    proof: DrillProof,
}

pub async fn run(shard: PatroniShard, kills: usize, only: Option<Victim>) -> anyhow::Result<bool> {
    ensure!(kills > 0, "a drill kills at least once");
    let outside = tempfile::tempdir()?;
    let acks_file = outside.path().join("acks.jsonl");
    let acks = AckFile::open(&acks_file)?;
    let charges = Charges::start(&shard.gateway_url(), shard.api_key(), &acks, 1).await?;
    let first_timeline = shard.timeline().await?;
    let (mut gaps, mut rejoined, mut victims) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=kills {
        tokio::time::sleep(BEFORE_KILL).await;
        let victim = only.unwrap_or(Victim::of(number));
        let doing = || format!("kill {number}, {}", victim.words());
        let (gap, back) = kill_once(&shard, &charges, victim).await.with_context(doing)?;
        eprintln!(
            "kill {number}, {}: no charge was acknowledged for {:.2} s; the old primary streamed again {:.1} s after its start",
            victim.words(),
            gap.as_secs_f64(),
            back.as_secs_f64()
        );
        gaps.push(gap);
        rejoined.push(back);
        victims.push(Kill { victim, gap_ms: gap.as_millis(), rejoined_ms: back.as_millis() });
    }
    let (strong_reads, stale_reads) = charges.strong_reads();
    let (tried_again, of_them_unknown) = charges.repeated();
    charges.end().await?;
    let acknowledged = acks.finish()?;
    let proof = proof::prove(&shard, &acks_file, acknowledged).await?;
    let timelines = [first_timeline, shard.timeline().await?];
    gaps.sort_unstable();
    let gap_max = gaps[gaps.len() - 1];
    let summary = DrillSummary {
        postgres: shard.postgres_version().to_owned(),
        members: shard.members().len(),
        kills,
        victims,
        gap_median_ms: gaps[gaps.len() / 2].as_millis(),
        gap_max_ms: gap_max.as_millis(),
        gap_bar_ms: GAP_BAR.as_millis(),
        gaps_ms: gaps.iter().map(Duration::as_millis).collect(),
        rejoined_ms: rejoined.iter().map(Duration::as_millis).collect(),
        timelines,
        tried_again,
        of_them_unknown,
        strong_reads,
        stale_reads,
        proof,
    };
    shard.stop().await;
    println!("{}", serde_json::to_string(&summary)?);
    let is_read_right = summary.strong_reads > 0 && summary.stale_reads == 0;
    Ok(summary.proof.is_proven && is_read_right && gap_max <= GAP_BAR)
}

async fn kill_once(
    shard: &PatroniShard,
    charges: &Charges,
    victim: Victim,
) -> anyhow::Result<(Duration, Duration)> {
    let old = shard.leader().await.context("there is no primary")?;
    let timeline = shard.timeline().await?;
    let killed = Instant::now();
    match victim {
        Victim::AgentAlone => shard.members()[old].kill_agent().await?,
        Victim::Machine => shard.members()[old].kill().await?,
    }
    let new = shard.next_leader(Some(old)).await?;
    let elected = Instant::now();
    eprintln!(
        "{} lost {}; {} is the primary after {:.2} s",
        shard.members()[old].name(),
        victim.words(),
        shard.members()[new].name(),
        (elected - killed).as_secs_f64()
    );
    while charges.acknowledged_since(elected) < RESUMED {
        ensure!(killed.elapsed() < GAP_MAX, "charges do not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gap = charges.gap_after(killed, |_| true);
    ensure!(shard.timeline().await? > timeline, "the new primary writes the old one's timeline");
    // Whatever of it is left: an operator ends an unmanaged server before he starts its agent again.
    shard.members()[old].kill().await?;
    let booted = Instant::now();
    shard.members()[old].start().await?;
    shard.wait_until_replicated().await?;
    Ok((gap, booted.elapsed()))
}
