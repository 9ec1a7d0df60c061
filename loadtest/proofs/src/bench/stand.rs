//! A cluster on the test stand: started, filled with users, loaded, and in the end proven.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use picopay_local::{ClusterSpec, LocalCluster};
use picopay_shared::cluster::Cluster;
use picopay_shared::money::Money;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Client;

use super::cpu::{ByRole, CpuTimes, Processes};
use super::figure::rounded;
use super::mix::Mix;
use super::pace::Pace;
use super::wal_files;
use super::write_back;
use crate::verify;
use picopay_loadtest::acks::{AckFile, AckSinks};
use picopay_loadtest::cluster_view;
use picopay_loadtest::http_client::target::Target;
use picopay_loadtest::population;
use picopay_loadtest::report::Surroundings;
use picopay_loadtest::run::{self, Measured, Plan, Rhythm, Stop};
use picopay_loadtest::scenario::{Scenario, ScenarioTraffic};
use picopay_loadtest::shard_map::ShardMap;
use picopay_loadtest::tally::{Errors, Second, count_error};

/// More than the hottest user is ever charged.
const FUND: &str = "1000000";

/// One thread sends; it does three times what the whole cluster answers.
const THREADS: u32 = 1;

/// As the load test's default: the gateway reports an unknown outcome earlier.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Stand {
    pub cluster: LocalCluster,
    pub processes: Processes,
    pub around: Surroundings,
    target: Target,
    users: u64,
    shards: Arc<ShardMap>,
    acks: AckFile,
    acks_path: PathBuf,
    primaries: Vec<Client>,
    errors: Errors,
    began: Instant,
}

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub mix: Mix,
    pub rhythm: Rhythm,
    pub connections: usize,
    /// What is not measured at the beginning; whole seconds.
    pub warmup: Duration,
    /// What is; whole seconds.
    pub duration: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct LoadFigures {
    pub connections: usize,
    /// Good answers a second.
    pub per_second: f64,
    /// Of the good answers, from their intended start.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    pub cpu_us: ByRole,
    pub generator_us: f64,
    pub machine: MachineShares,
    /// Bytes of WAL that the primaries wrote for one good answer.
    pub wal_bytes: f64,
    /// When all requests are charges, the size of a batch.
    pub answers_per_batch: f64,
    pub errors: Errors,
    /// When it began, since the cluster was there.
    pub began_s: f64,
    /// Good answers in each second, the warm-up's too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seconds: Vec<u64>,
    pub warmup_s: u64,
}

/// As shares of all cores.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MachineShares {
    pub servers: f64,
    pub generator: f64,
    /// Everything else: the kernel's own threads, and whoever disturbs.
    pub others: f64,
    pub idle: f64,
    pub stolen: f64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Proof {
    pub acknowledged: u64,
    pub lost: u64,
    pub doubled: u64,
    pub is_proven: bool,
    pub wrong: Vec<String>,
    pub took_s: f64,
}

impl Stand {
    pub async fn start(spec: ClusterSpec, pace: &Pace, acks: &Path, stop: &Stop) -> anyhow::Result<Self> {
        let cluster =
            LocalCluster::start(wal_files::keep(spec)).await.context("no cluster on this machine")?;
        let began = Instant::now();
        let target = Target::trusting(
            &cluster.gateway_url(),
            Some(cluster.api_key()),
            cluster.authority_file().as_deref(),
        )?;
        let (shards, around) = cluster_view::read(&Cluster::load(&cluster.cluster_file())?).await?;
        let mut primaries = Vec::new();
        for position in 0..cluster.shards().len() {
            primaries.push(cluster.connect_as_superuser(position).await?);
        }
        if acks.exists() {
            std::fs::remove_file(acks).with_context(|| format!("{} cannot be removed", acks.display()))?;
        }
        let stand = Self {
            processes: Processes::of(&cluster)?,
            cluster,
            around,
            target,
            users: pace.users,
            shards: Arc::new(shards),
            acks: AckFile::open(acks)?,
            acks_path: acks.to_owned(),
            primaries,
            errors: Errors::new(),
            began,
        };
        let scenario = Scenario::new(Mix::Uniform.scenario(stand.users))?;
        let fund = Money::parse(FUND, scenario.currency())?;
        population::prepare(&stand.target, &scenario, fund, Some(&stand.acks), stop).await?;
        ensure!(!stop.is_set(), "stopped");
        wal_files::make(&stand.cluster, pace.wal_files).await?;
        stand.settle().await?;
        Ok(stand)
    }

    /// PostgreSQL updates its statistics now, and not during a measurement.
    pub async fn settle(&self) -> anyhow::Result<()> {
        for primary in &self.primaries {
            primary.batch_execute("VACUUM ANALYZE").await?;
        }
        wal_files::recycle(&self.cluster).await?;
        write_back::all().await
    }

    pub fn primaries(&self) -> &[Client] {
        &self.primaries
    }

    /// For how long the cluster has been there, in seconds.
    pub fn age_s(&self) -> f64 {
        rounded(self.began.elapsed().as_secs_f64())
    }

    /// Fails when it was stopped or a promise of the contract was broken, since no figure means anything then.
    pub async fn load(&mut self, load: &Load, stop: &Stop) -> anyhow::Result<LoadFigures> {
        let scenario = Scenario::new(load.mix.scenario(self.users))?;
        let plan = self.plan(&scenario, load);
        let traffic = self.traffic(&scenario);
        let began_s = self.age_s();
        let written_before = self.written().await?;
        let mut window = CpuWindow::new(&self.processes, load)?;
        let measured = run::run(&plan, stop, traffic, |second| window.look(second.index)).await?;
        let spent = window.spent()?;
        let written = self.written().await? - written_before;
        refuse_unusable(&measured)?;
        let figures = figures(&measured, &plan, spent, written, began_s);
        for (code, count) in &figures.errors {
            count_error(&mut self.errors, code, *count);
        }
        Ok(figures)
    }

    /// For loads of which a part is meant to fail.
    pub async fn count(
        &self,
        load: &Load,
        stop: &Stop,
        on_second: impl FnMut(&Second),
    ) -> anyhow::Result<Measured> {
        let scenario = Scenario::new(load.mix.scenario(self.users))?;
        let plan = self.plan(&scenario, load);
        let measured = run::run(&plan, stop, self.traffic(&scenario), on_second).await?;
        refuse_unusable(&measured)?;
        Ok(measured)
    }

    fn plan(&self, scenario: &Scenario, load: &Load) -> Plan {
        Plan {
            target: self.target.clone(),
            rhythm: load.rhythm,
            connections: load.connections,
            threads: THREADS,
            warmup: load.warmup,
            duration: load.duration,
            request_timeout: REQUEST_TIMEOUT,
            seed: scenario.args().seed,
            shards: Arc::clone(&self.shards),
        }
    }

    fn traffic(&self, scenario: &Scenario) -> impl Fn(u32) -> ScenarioTraffic + Clone + Send + use<> {
        let (scenario, target, sinks) = (scenario.clone(), self.target.clone(), self.acks.sinks());
        move |worker| ScenarioTraffic::new(&scenario, &target, worker, Some(AckSinks::sink(&sinks)))
    }

    async fn written(&self) -> anyhow::Result<Written> {
        let mut sum = Written::default();
        for primary in &self.primaries {
            let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
            sum.wal_bytes += primary.query_one(sql, &[]).await?.try_get::<_, i64>(0)?;
        }
        let metrics = self.cluster.get("/metrics").await.context("the gateway does not give its metrics")?;
        for line in metrics.body.lines().filter(|line| line.starts_with("picopay_gateway_batch_size_count{"))
        {
            let count = line.rsplit(' ').next().unwrap_or_default();
            sum.batches += count.parse::<i64>().with_context(|| format!("no count: {line}"))?;
        }
        Ok(sum)
    }

    pub fn acks(&self) -> AckSinks {
        self.acks.sinks()
    }

    pub fn plan_of_charges(&self) -> Plan {
        Plan {
            target: self.target.clone(),
            rhythm: Rhythm::Closed,
            connections: 1,
            threads: THREADS,
            warmup: Duration::ZERO,
            duration: Duration::ZERO,
            request_timeout: REQUEST_TIMEOUT,
            seed: 1,
            shards: Arc::clone(&self.shards),
        }
    }

    pub fn errors(&self) -> &Errors {
        &self.errors
    }

    /// Proves the books and every acknowledgement, and ends the cluster. The acknowledgements' file stays if something is
    /// wrong.
    pub async fn prove(self) -> anyhow::Result<Proof> {
        let acknowledged = self.acks.finish()?;
        let started = Instant::now();
        let report = verify::run(&self.cluster.cluster_file(), &self.acks_path).await?;
        let mut proof = Proof::read(&report).context("the report of picopay verify makes no sense")?;
        proof.took_s = rounded(started.elapsed().as_secs_f64());
        ensure!(
            proof.acknowledged == acknowledged,
            "{acknowledged} acknowledgements were recorded, and verify looked at {}",
            proof.acknowledged
        );
        if proof.is_proven {
            std::fs::remove_file(&self.acks_path)?;
        }
        self.cluster.stop().await;
        Ok(proof)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Written {
    wal_bytes: i64,
    batches: i64,
}

impl std::ops::Sub for Written {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { wal_bytes: self.wal_bytes - before.wal_bytes, batches: self.batches - before.batches }
    }
}

fn refuse_unusable(measured: &Measured) -> anyhow::Result<()> {
    ensure!(!measured.was_stopped, "stopped");
    if let Some(broken) = measured.tally.broken_shown.first() {
        bail!("the gateway broke a promise ({:?}): {}", broken.promise, broken.detail);
    }
    Ok(())
}

/// CPU times at the beginning and the end of the measured part of a load.
struct CpuWindow<'a> {
    processes: &'a Processes,
    warmup_s: u64,
    end_s: u64,
    begin: anyhow::Result<CpuTimes>,
    end: Option<anyhow::Result<CpuTimes>>,
}

impl<'a> CpuWindow<'a> {
    fn new(processes: &'a Processes, load: &Load) -> anyhow::Result<Self> {
        let (warmup_s, end_s) = (load.warmup.as_secs(), (load.warmup + load.duration).as_secs());
        Ok(Self { processes, warmup_s, end_s, begin: Ok(processes.cpu_times()?), end: None })
    }

    /// A second has just ended.
    fn look(&mut self, index: u64) {
        if index + 1 == self.warmup_s {
            self.begin = self.processes.cpu_times();
        } else if index + 1 == self.end_s {
            self.end = Some(self.processes.cpu_times());
        }
    }

    fn spent(self) -> anyhow::Result<CpuTimes> {
        // Stopped early, or nothing happened in the last second.
        let end = self.end.unwrap_or_else(|| self.processes.cpu_times())?;
        Ok(end - self.begin?)
    }
}

fn figures(measured: &Measured, plan: &Plan, spent: CpuTimes, written: Written, began_s: f64) -> LoadFigures {
    let end_s = (plan.warmup + plan.duration).as_secs();
    // Behind its end only the last answers come.
    let seconds: Vec<_> = measured.seconds.iter().filter(|second| second.index < end_s).collect();
    let warmup_s = plan.warmup.as_secs();
    let answers: u64 =
        seconds.iter().filter(|second| second.index >= warmup_s).map(|second| second.achieved).sum();
    let answers_in_all: u64 = measured.seconds.iter().map(|second| second.achieved).sum();
    let micros = |seconds: f64| rounded(seconds * 1e6 / (answers.max(1) as f64));
    let all = (spent.machine + spent.idle + spent.stolen).max(1e-9);
    let share = |seconds: f64| rounded(seconds / all);
    let machine = MachineShares {
        servers: share(spent.servers.total()),
        generator: share(spent.generator),
        others: share((spent.machine - spent.servers.total() - spent.generator).max(0.0)),
        idle: share(spent.idle),
        stolen: share(spent.stolen),
    };
    let mut errors = measured.tally.errors.clone();
    if measured.tally.dropped > 0 {
        count_error(&mut errors, "dropped arrivals", measured.tally.dropped);
    }
    let latency = measured.tally.latency();
    LoadFigures {
        connections: plan.connections,
        per_second: rounded(measured.achieved_per_second()),
        p50_ms: latency.quantile_ms(0.5),
        p99_ms: latency.quantile_ms(0.99),
        p999_ms: latency.quantile_ms(0.999),
        max_ms: latency.quantile_ms(1.0),
        cpu_us: spent.servers.map(micros),
        generator_us: micros(spent.generator),
        machine,
        wal_bytes: rounded(written.wal_bytes as f64 / (answers_in_all.max(1) as f64)),
        answers_per_batch: rounded(answers_in_all as f64 / (written.batches.max(1) as f64)),
        errors,
        began_s,
        seconds: seconds.iter().map(|second| second.achieved).collect(),
        warmup_s,
    }
}

impl Proof {
    fn read(report: &Value) -> Option<Self> {
        let mut proof = Self {
            acknowledged: report.pointer("/acks/acknowledged")?.as_u64()?,
            is_proven: report.get("is_proven")?.as_bool()?,
            ..Self::default()
        };
        for check in report.get("checks")?.as_array()? {
            let (name, wrong) = (check.get("check")?.as_str()?, check.get("wrong")?.as_u64()?);
            match name {
                "acks" => proof.lost = wrong,
                "key" => proof.doubled = wrong,
                _ => {}
            }
            if wrong > 0 {
                let first = check.pointer("/rows/0").map(ToString::to_string).unwrap_or_default();
                proof.wrong.push(format!("{wrong} rows: not {} ({first})", check.get("promise")?.as_str()?));
            }
        }
        Some(proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_and_a_doubled_charge_are_read_out_of_what_verify_says() {
        let json =
            br#"{"is_proven": false, "acks": {"file": "x", "acknowledged": 7, "is_torn": false}, "checks": [
            {"check": "balance", "promise": "every balance is right", "wrong": 0, "rows": []},
            {"check": "key", "promise": "one key, one transaction", "wrong": 2, "rows": [{"user_id": 1}]},
            {"check": "acks", "promise": "all is there", "wrong": 1, "rows": []}]}"#;
        let proof = Proof::read(&serde_json::from_slice(json).unwrap()).unwrap();
        assert_eq!((proof.acknowledged, proof.lost, proof.doubled, proof.is_proven), (7, 1, 2, false));
        assert_eq!(proof.wrong[0], r#"2 rows: not one key, one transaction ({"user_id":1})"#);
        assert!(Proof::read(&Value::Null).is_none());
    }
}
