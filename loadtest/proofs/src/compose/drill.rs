//! The drill: a cluster by Compose, charges all the time, and each container in turn killed, paused and cut off.
//!
//! The bars are ARCHITECTURE's table of failures. Users of the other shard, and everybody while Redis is gone, notice
//! nothing. Users of a struck shard get 503 until it is healed, and then go on by themselves.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use picopay_client::Client;
use picopay_loadtest::acks::AckFile;
use picopay_shared::slot::{SLOT_COUNT, UserId};
use serde::Serialize;
use tokio::time::sleep;

use super::finish::Proof;
use super::project::{DEMO_KEY, Project, docker};
use super::strike::{Kind, Strike};
use super::{begin, failover, finish, hardening, health};
use crate::charges::Charges;

/// After the demo users 1 and 2.
const FIRST_USER: i64 = 101;
/// README's promise, once the images are built.
pub const START_MAX: Duration = Duration::from_mins(2);
/// A batch under way is answered after 2 s, and the breaker opens within 4 s.
const SETTLES: Duration = Duration::from_secs(5);
const HELD: Duration = Duration::from_secs(3);
const BETWEEN: Duration = Duration::from_secs(1);
/// Charges of a shard after which it goes on.
const RESUMED: usize = 20;
const RESUME_MAX: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);

const SERVICES: [&str; 8] =
    ["gateway", "redis", "shard-1-node", "shard-1-a", "shard-1-b", "shard-2-node", "shard-2-a", "shard-2-b"];

#[derive(Debug, Clone, Copy)]
pub struct DrillPlan {
    /// Each container once, and not in each of the three ways.
    pub is_short: bool,
    /// With Patroni; then a primary is killed, and nothing else.
    pub is_ha: bool,
    /// In a short drill it chooses what happens to whom.
    pub seed: usize,
}

#[derive(Debug, Serialize)]
pub struct DrillSummary {
    pub started_s: f64,
    pub strikes: usize,
    pub gaps_ms: Vec<u128>,
    pub tried_again: u64,
    pub of_them_unknown: u64,
    pub strong_reads: u64,
    pub stale_reads: u64,
    #[serde(flatten)]
    pub proof: Proof,
}

pub async fn run(source: &Path, tag: &str, plan: DrillPlan) -> anyhow::Result<DrillSummary> {
    let files: &[&str] = if plan.is_ha { &["compose.yaml", "compose.ha.yaml"] } else { &["compose.yaml"] };
    let mut project = Project::copy_of(source, files, tag)?;
    let started = Instant::now();
    project.up(&[]).await.context("docker compose up --wait")?;
    let start = started.elapsed();
    eprintln!("the cluster was up after {:.1} s", start.as_secs_f64());
    ensure!(start <= START_MAX, "it took longer than {} s", START_MAX.as_secs());
    hardening::check(&project).await?;
    begin::charge_as_readme(&Client::new(&project.url(), DEMO_KEY)?).await.context("README's charge")?;
    if !plan.is_ha {
        health::freeze_and_thaw(&project).await.context("health checks")?;
        begin::down_and_up(&project).await?;
    }

    let outside = project.path("acks");
    std::fs::create_dir(&outside)?;
    let acks_file = outside.join("acks.jsonl");
    let acks = AckFile::open(&acks_file)?;
    let charges = Charges::start(&project.url(), DEMO_KEY, &acks, FIRST_USER).await?;
    let (mut strikes, mut gaps) = (0, Vec::new());
    if plan.is_ha {
        for _ in 0..if plan.is_short { 1 } else { 3 } {
            sleep(SETTLES).await;
            let gap = failover::kill_primary(&project, &charges, |user| shard_of(user) == 1).await?;
            gaps.push(gap.as_millis());
        }
    } else {
        for strike in strikes_of(plan) {
            strike_once(&project, &charges, &strike).await.with_context(|| strike.to_string())?;
            strikes += 1;
        }
        lose_standby(&project, &charges).await?;
        if !plan.is_short {
            add_shard(&mut project).await.context("adding a shard")?;
        }
    }
    let (tried_again, of_them_unknown) = charges.repeated();
    let (strong_reads, stale_reads) = charges.strong_reads();
    ensure!(
        strong_reads > 0 && stale_reads == 0,
        "{stale_reads} of {strong_reads} strong balances were stale"
    );
    let balances = charges.end().await?;
    let acknowledged = acks.finish()?;
    let proof = finish::prove(&project, &acks_file, acknowledged, &balances).await?;
    project.remove().await?;
    Ok(DrillSummary {
        started_s: start.as_secs_f64(),
        strikes,
        gaps_ms: gaps,
        tried_again,
        of_them_unknown,
        strong_reads,
        stale_reads,
        proof,
    })
}

fn strikes_of(plan: DrillPlan) -> Vec<Strike> {
    let mut strikes = Vec::new();
    for (position, service) in SERVICES.into_iter().enumerate() {
        if plan.is_short {
            strikes.push(Strike { service, kind: Kind::ALL[(position + plan.seed) % Kind::ALL.len()] });
        } else {
            strikes.extend(Kind::ALL.map(|kind| Strike { service, kind }));
        }
    }
    strikes
}

/// `init` deals the slots of two shards in halves.
fn shard_of(user: i64) -> usize {
    let user = UserId::try_from(user).expect("users are positive");
    if user.slot().get() < SLOT_COUNT / 2 { 1 } else { 2 }
}

fn is_affected(service: &str, user: i64) -> bool {
    match service {
        "gateway" => true,
        "redis" => false,
        other => other.starts_with(&format!("shard-{}-", shard_of(user))),
    }
}

async fn strike_once(project: &Project, charges: &Charges, strike: &Strike) -> anyhow::Result<()> {
    sleep(BETWEEN).await;
    let (affected, spared) =
        (|user| is_affected(strike.service, user), |user| !is_affected(strike.service, user));
    let has = |whose: &dyn Fn(i64) -> bool| charges.users().any(whose);
    let began = Instant::now();
    let struck = strike.begin(project).await?;
    sleep(SETTLES).await;
    let settled = Instant::now();
    sleep(HELD).await;
    let until = Instant::now();
    if has(&affected) {
        let came = charges.acknowledged_between(settled, until, affected);
        ensure!(came == 0, "{came} charges were acknowledged meanwhile");
        let asked = charges.failures_since(settled).into_iter().filter(|failure| affected(failure.user));
        let (mut answered, mut unknown) = (0, Vec::new());
        for failure in asked.filter(|failure| failure.at < until) {
            answered += 1;
            if failure.is_unknown && strike.service != "gateway" {
                unknown.push(failure.text);
            }
        }
        ensure!(
            unknown.is_empty(),
            "{} outcomes were unknown long after; the first: {}",
            unknown.len(),
            unknown[0]
        );
        // A gateway that is paused answers nobody.
        ensure!(answered > 0 || strike.service == "gateway", "nobody was told that the shard is gone");
    }
    if has(&spared) {
        ensure!(charges.acknowledged_between(settled, until, spared) > 0, "others stand still too");
    }
    struck.heal().await?;
    let healed = Instant::now();
    wait_until_all_go_on(charges, healed).await?;
    let noticed = charges.failures_since(began).into_iter().find(|failure| spared(failure.user));
    if let Some(failure) = noticed {
        anyhow::bail!("user {}, who should notice nothing: {}", failure.user, failure.text);
    }
    eprintln!("{strike}: all go on {:.1} s after it is back", healed.elapsed().as_secs_f64());
    Ok(())
}

async fn wait_until_all_go_on(charges: &Charges, since: Instant) -> anyhow::Result<()> {
    for shard in [1, 2] {
        while charges.acknowledged_between(since, Instant::now(), |user| shard_of(user) == shard) < RESUMED {
            ensure!(since.elapsed() < RESUME_MAX, "charges of shard {shard} do not go on");
            sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// Its data are gone with its volume, and it is copied anew.
async fn lose_standby(project: &Project, charges: &Charges) -> anyhow::Result<()> {
    project.compose(&["rm", "--stop", "--force", "shard-1-b"]).await?;
    docker(&["volume", "rm", &project.volume_of("shard-1-b")]).await?;
    project.up(&["shard-1-b"]).await.context("a standby that lost its volume")?;
    let back = Instant::now();
    wait_until_all_go_on(charges, back).await.context("a standby that lost its volume")?;
    eprintln!("shard-1-b lost its volume, was copied anew, and all go on");
    Ok(())
}

/// The five steps of `deploy/compose/README.md`, while charges go on.
async fn add_shard(project: &mut Project) -> anyhow::Result<()> {
    project.add_file("compose.shard-3.yaml");
    project.up(&["shard-3-a", "shard-3-b"]).await?;
    let entry = std::fs::read_to_string(project.path("shard-3.toml"))?;
    let file = project.path("config/cluster.toml");
    std::fs::write(&file, std::fs::read_to_string(&file)? + &entry)?;
    project.operator(&["shard", "add", "shard-3"]).await?;
    project.up(&["shard-3-node"]).await?;
    project.operator(&["rebalance"]).await?;
    let slots = project.operator(&["slots", "--output", "json"]).await?;
    ensure!(slots.contains("shard-3"), "shard-3 owns nothing: {slots}");
    eprintln!("shard-3 joined, and has its share of the slots");
    Ok(())
}
