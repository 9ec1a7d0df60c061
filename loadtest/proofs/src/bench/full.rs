//! What only the long bench measures: how shards, data, Redis and connections change the cost of a charge, and how replicas
//! share reads.
//!
//! Variants of one question run at the same time and are loaded in turns.

use std::path::Path;

use anyhow::Context;
use picopay_local::ClusterSpec;
use serde::Serialize;

use super::cpu::Memory;
use super::figure::{median, rounded};
use super::heavy::{self, Heavy};
use super::history;
use super::mix::Mix;
use super::pace::Pace;
use super::saturation::{CONNECTIONS, closed_loop, measure};
use super::stand::{LoadFigures, Proof, Stand};
use picopay_loadtest::run::Stop;
use picopay_loadtest::tally::Errors;

/// Shards of the clusters whose costs are compared.
const SHARDS: [usize; 3] = [1, 2, 4];

/// In this order: the memory at 512 is read before there were ever more.
const CONNECTION_COUNTS: [usize; 4] = [16, 128, 512, 2_048];

/// Where the bar of the memory stands.
const CONNECTIONS_OF_MEMORY: usize = 512;

#[derive(Debug, Clone, Serialize)]
pub struct Full {
    /// 1, 2 and 4 shards.
    pub shards: Vec<Variant>,
    /// CPU time for a charge on 4 shards, divided by that on 1.
    pub four_shards_cost: f64,
    pub existing: Vec<Variant>,
    /// Charges a second with them, divided by those without.
    pub existing_share: f64,
    pub redis: Vec<Variant>,
    /// Charges a second with it, divided by those without.
    pub redis_share: f64,
    /// In plain text, and with TLS on every hop.
    pub tls: Vec<Variant>,
    /// Charges a second with it, divided by those without.
    pub tls_share: f64,
    /// With one and two replicas a shard; four of five requests read history.
    pub replicas: Vec<Variant>,
    pub replica_shares: Vec<f64>,
    pub heavy: Heavy,
    pub connections: Vec<Variant>,
    /// After 512 connections, and never more.
    pub memory_mib_512: Memory,
    pub errors: Errors,
    pub proofs: Vec<Proof>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Variant {
    pub name: String,
    pub per_second: f64,
    pub cpu_us_per_charge: f64,
    pub rounds: Vec<LoadFigures>,
}

impl Full {
    pub fn variants_mut(&mut self) -> impl Iterator<Item = &mut Variant> {
        let all = [
            &mut self.shards,
            &mut self.existing,
            &mut self.redis,
            &mut self.tls,
            &mut self.replicas,
            &mut self.connections,
        ];
        all.into_iter().flatten()
    }
}

pub struct FullBench<'a> {
    pub pace: &'a Pace,
    pub folder: &'a Path,
    pub stop: &'a Stop,
    pub errors: Errors,
    pub proofs: Vec<Proof>,
}

impl FullBench<'_> {
    pub async fn run(mut self) -> anyhow::Result<Full> {
        let shards = SHARDS.map(|shards| {
            (
                format!("{shards} shard{}", if shards == 1 { "" } else { "s" }),
                ClusterSpec::default().with_shards(shards),
            )
        });
        let mut stands = self.start_all(shards.into()).await?;
        let shards = self.compare(&mut stands).await?;
        self.end_all(stands).await?;

        let base = ClusterSpec::default;
        let variants =
            vec![("empty".to_owned(), base()), (format!("{} existing", self.pace.existing), base())];
        let mut stands = self.start_all(variants).await?;
        history::fill(&stands[1].1, self.pace.existing).await?;
        let existing = self.compare(&mut stands).await?;
        self.end_all(stands).await?;

        let variants =
            vec![("with Redis".to_owned(), base()), ("without Redis".to_owned(), base().without_redis())];
        let mut stands = self.start_all(variants).await?;
        let redis = self.compare(&mut stands).await?;
        self.end_all(stands).await?;

        let variants = vec![("in plain text".to_owned(), base()), ("over TLS".to_owned(), base().with_tls())];
        let mut stands = self.start_all(variants).await?;
        let tls = self.compare(&mut stands).await?;
        self.end_all(stands).await?;

        let variants = vec![
            ("one replica".to_owned(), base()),
            ("two replicas".to_owned(), base().with_more_replicas(1)),
        ];
        let mut stands = self.start_all(variants).await?;
        let before = transactions_of_replicas(&stands[1].1).await?;
        let replicas = self.compare_with(Mix::Reads, &mut stands).await?;
        let replica_shares = shares(&before, &transactions_of_replicas(&stands[1].1).await?);
        eprintln!("{:<20}{replica_shares:.2?} of the reads each", "two replicas");
        self.end_all(stands).await?;

        let mut stands = self.start_all(vec![("heavy".to_owned(), base())]).await?;
        let heavy = heavy::measure(&mut stands[0].1, self.pace, self.stop).await?;
        self.end_all(stands).await?;

        let mut stands = self.start_all(vec![("connections".to_owned(), base())]).await?;
        let (connections, memory_mib_512) = self.compare_connections(&mut stands[0].1).await?;
        self.end_all(stands).await?;

        let last = shards.len() - 1;
        Ok(Full {
            four_shards_cost: rounded(shards[last].cpu_us_per_charge / shards[0].cpu_us_per_charge),
            shards,
            existing_share: rounded(existing[1].per_second / existing[0].per_second),
            existing,
            redis_share: rounded(redis[0].per_second / redis[1].per_second),
            redis,
            tls_share: rounded(tls[1].per_second / tls[0].per_second),
            tls,
            replicas,
            replica_shares,
            heavy,
            connections,
            memory_mib_512,
            errors: self.errors,
            proofs: self.proofs,
        })
    }

    async fn start_all(&self, variants: Vec<(String, ClusterSpec)>) -> anyhow::Result<Vec<(String, Stand)>> {
        let mut stands = Vec::new();
        for (number, (name, spec)) in variants.into_iter().enumerate() {
            let acks = self.folder.join(format!("acks-{number}.jsonl"));
            let stand = Stand::start(spec, self.pace, &acks, self.stop).await;
            stands.push((name.clone(), stand.with_context(|| format!("the cluster \"{name}\""))?));
        }
        Ok(stands)
    }

    async fn compare(&self, stands: &mut [(String, Stand)]) -> anyhow::Result<Vec<Variant>> {
        self.compare_with(Mix::Uniform, stands).await
    }

    async fn compare_with(&self, mix: Mix, stands: &mut [(String, Stand)]) -> anyhow::Result<Vec<Variant>> {
        let mut rounds: Vec<Vec<LoadFigures>> = stands.iter().map(|_| Vec::new()).collect();
        for _ in 0..self.pace.full_rounds {
            for ((name, stand), rounds) in stands.iter_mut().zip(&mut rounds) {
                let figures =
                    closed_loop(stand, self.pace, mix, self.pace.full_s, CONNECTIONS, self.stop).await?;
                tell(name, &figures);
                rounds.push(figures);
            }
        }
        Ok(stands.iter().zip(rounds).map(|((name, _), rounds)| Variant::new(name, rounds)).collect())
    }

    async fn compare_connections(&self, stand: &mut Stand) -> anyhow::Result<(Vec<Variant>, Memory)> {
        let mut rounds: Vec<Vec<LoadFigures>> = CONNECTION_COUNTS.iter().map(|_| Vec::new()).collect();
        let mut memory = None;
        for _ in 0..self.pace.full_rounds {
            for (connections, rounds) in CONNECTION_COUNTS.into_iter().zip(&mut rounds) {
                let figures = measure(stand, self.pace, self.pace.full_s, connections, self.stop).await?;
                tell(&format!("{connections} connections"), &figures);
                rounds.push(figures);
                if connections == CONNECTIONS_OF_MEMORY && memory.is_none() {
                    memory = Some(stand.processes.peak_memory()?);
                }
            }
        }
        let variants = CONNECTION_COUNTS.into_iter().zip(rounds);
        let variants =
            variants.map(|(connections, rounds)| Variant::new(&format!("{connections} connections"), rounds));
        Ok((variants.collect(), memory.context("there was no round")?))
    }

    async fn end_all(&mut self, stands: Vec<(String, Stand)>) -> anyhow::Result<()> {
        for (name, stand) in stands {
            for (code, count) in stand.errors() {
                *self.errors.entry(code.clone()).or_default() += count;
            }
            self.proofs.push(stand.prove().await.with_context(|| format!("the cluster \"{name}\""))?);
        }
        Ok(())
    }
}

async fn transactions_of_replicas(stand: &Stand) -> anyhow::Result<Vec<i64>> {
    let shard = stand.cluster.shard(0);
    let databases =
        [shard.connect_replica_as_superuser().await?, shard.connect_more_replica_as_superuser(0).await?];
    let mut counts = Vec::new();
    for database in databases {
        let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        counts.push(database.query_one(sql, &[]).await?.get(0));
    }
    Ok(counts)
}

fn shares(before: &[i64], after: &[i64]) -> Vec<f64> {
    #[expect(clippy::cast_precision_loss, reason = "transactions of a minute")]
    let more: Vec<f64> = after.iter().zip(before).map(|(after, before)| (after - before) as f64).collect();
    let all: f64 = more.iter().sum::<f64>().max(1.0);
    more.into_iter().map(|one| rounded(one / all)).collect()
}

fn tell(name: &str, figures: &LoadFigures) {
    eprintln!("{name:<20}{:.0}/s, {:.1} µs of CPU each", figures.per_second, figures.cpu_us.total());
}

impl Variant {
    fn new(name: &str, rounds: Vec<LoadFigures>) -> Self {
        Self {
            name: name.to_owned(),
            per_second: median(rounds.iter().map(|figures| figures.per_second)),
            cpu_us_per_charge: median(rounds.iter().map(|figures| figures.cpu_us.total())),
            rounds,
        }
    }
}
