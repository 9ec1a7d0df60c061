//! The proof that nothing is lost: a cluster under load is broken again and again, and in the end every promise is checked.
//!
//! A seed fixes what clients ask for and which fault strikes when, not how the machine interleaves them. The contract
//! survives the loss of any one part, so the next fault waits until users are served again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt as _;
use futures_util::stream;
use picopay_client::Exchange;
use picopay_local::{ClusterSpec, LocalCluster};
use picopay_shared::cluster::Durability;
use picopay_shared::money::Currency;

use crate::account::{Asking, Entry};
use crate::broken;
use crate::findings::{Finding, Findings, Promise};
use crate::grow::operator;
use picopay_loadtest::acks::AckFile;
use picopay_loadtest::run::Stop;
use picopay_loadtest::shard_map::ShardMap;
use picopay_loadtest::write::Write;

pub(crate) mod audit;
use audit::Audit;

pub(crate) mod client;
use client::{Attempt, Client};

pub(crate) mod clock;
use clock::Clock;

mod conditions;
pub use conditions::{Conditions, Servers};

mod crowd;
use crowd::Crowd;

pub(crate) mod errors;
use errors::{Cause, Errors};

mod fault;
use fault::{Fault, Scene, Schedule};

mod kind;
pub use kind::Kind;

pub(crate) mod ledger;
use ledger::Ledger;

mod loss;

mod probe;
use probe::Probe;

mod run_folder;
pub(crate) use run_folder::RunFolder;

mod stalls;

pub mod summary;
use summary::{ChaosSummary, Recovery};

mod what;

/// Shards of the cluster: one to break, and one that must not notice.
const SHARDS: usize = 2;

const END_SHARE: f64 = 0.25;

/// Longer than every timeout but the gateway's own (5 s).
const HOLD_MAX: Duration = Duration::from_secs(5);

/// A run of a minute and a half then sees nearly every kind.
const HOLDS_IN_A_RUN: u32 = 45;

const CALM_MAX: Duration = Duration::from_millis(2_500);

/// The longest expected wait is a breaker's (10 s) after a crash recovery. Beyond this something hangs.
const RECOVERY_MAX: Duration = Duration::from_mins(1);

const ASKED_AT_ONCE: usize = 32;

const LAST_TRIES: u32 = 80;

/// Promises that can be broken on purpose, to see that a run notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Broken {
    /// Answers leave before the write is safe: no commit waits for a standby, and a primary is lost.
    AnswerBeforeCommit,
    /// No key is found taken: the constraint is gone.
    SkipKeyCheck,
    /// A void gives nothing back: what it held stays held.
    ForgetRelease,
    /// No transfer is found credited: the constraint is gone.
    DoubleCredit,
}

impl Broken {
    pub fn name(self) -> &'static str {
        match self {
            Self::AnswerBeforeCommit => "answer-before-commit",
            Self::SkipKeyCheck => "skip-key-check",
            Self::ForgetRelease => "forget-release",
            Self::DoubleCredit => "double-credit",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Chaos {
    pub seed: u64,
    pub time: Duration,
    pub out: PathBuf,
    pub broken: Option<Broken>,
    pub faults: Vec<Kind>,
    pub nodes: Option<usize>,
    pub servers: Option<Servers>,
}

struct Arena {
    cluster: LocalCluster,
    client: Client,
    probe: Probe,
    seed: u64,
    struck: BTreeMap<String, u64>,
    recoveries: Vec<Duration>,
    waits: BTreeMap<String, Duration>,
}

impl Chaos {
    /// Does it all.
    ///
    /// # Errors
    /// When something is missing on this machine or a fault could not be brought about. Broken promises are in the summary.
    pub async fn run(&self, stop: &Stop) -> anyhow::Result<ChaosSummary> {
        let folder = RunFolder::new(&self.out);
        let acks_path = folder.acks();
        let conditions = Conditions::of(self.seed, self.nodes, self.servers);
        let kinds = self.kinds(&conditions)?;
        eprintln!("seed {}: {}", self.seed, conditions.words());
        folder.clear()?;
        let (clock, findings, errors) = (Clock::start(), Findings::default(), Arc::new(Errors::default()));
        let acks = AckFile::open(&acks_path)?;
        let cluster =
            LocalCluster::start(self.spec(&conditions)).await.context("no cluster on this machine")?;
        let ledger = Ledger::new(acks.sinks().sink(), Currency::parse("USD")?, findings.clone(), clock);
        let client = Client {
            exchange: Exchange::without_pool(&cluster.gateway_url(), cluster.api_key())?,
            ledger: Arc::new(ledger),
            errors: Arc::clone(&errors),
            findings: findings.clone(),
            shards: Arc::new(ShardMap::even(u16::try_from(SHARDS)?)),
            clock,
        };
        let mut arena = Arena::new(cluster, client, self.seed).await?;
        // A busy machine may take a while to start a cluster, which is no reason to break it less.
        let storm_ends = clock.now() + self.time.mul_f64(1.0 - END_SHARE);
        eprintln!("faults until {:.0} s, then the checks", storm_ends.as_secs_f64());

        let watch = stalls::Watch::start(Arc::clone(&errors), clock)?;
        match self.broken {
            Some(Broken::SkipKeyCheck) => broken::skip_key_check(&arena.cluster).await?,
            Some(Broken::ForgetRelease) => broken::forget_release(&arena.cluster).await?,
            Some(Broken::DoubleCredit) => broken::double_credit(&arena.cluster).await?,
            Some(Broken::AnswerBeforeCommit) | None => {}
        }
        let crowd = Crowd::start(&arena.client, self.seed, self.time);
        arena.storm(self.schedule(&kinds), storm_ends, stop).await?;
        if self.broken == Some(Broken::AnswerBeforeCommit) {
            broken::lose_primary(&arena.cluster, 0).await?;
        }
        crowd.finish().await?;
        drop(watch);

        let asked_again = arena.resolve().await?;
        let entries = arena.client.ledger.entries();
        let acknowledged = u64::try_from(arena.client.ledger.acknowledged())?;
        arena.check(&entries, &acks_path, acknowledged).await?;
        errors.judge(&findings);
        folder.show_findings(&findings, &arena.cluster, clock)?;

        let summary = ChaosSummary {
            seed: self.seed,
            holds: findings.shown().is_empty(),
            broken: self.broken.map(Broken::name),
            conditions,
            acknowledged,
            refused: count(&entries, |entry| entry.told.as_ref().is_some_and(|told| told.status != 200)),
            unknown: count(&entries, |entry| entry.was_unknown),
            unknown_resolved: count(&entries, |entry| entry.was_unknown && entry.told.is_some()),
            promises: summary::counts(&findings),
            faults: arena.struck,
            recovery_ms: Recovery::of(arena.recoveries),
            waits_ms: arena.waits.into_iter().map(|(kind, wait)| (kind, wait.as_millis())).collect(),
            errors: errors.by_name(),
            stalls: errors.stalls(),
            asked_again,
            took_s: clock.now().as_secs(),
        };
        arena.cluster.stop().await;
        folder.write_summary(&summary)?;
        Ok(summary)
    }

    fn kinds(&self, conditions: &Conditions) -> anyhow::Result<Vec<Kind>> {
        let chosen = if self.faults.is_empty() { &Kind::ALL[..] } else { &self.faults };
        let mut chosen = chosen.to_vec();
        if self.broken == Some(Broken::AnswerBeforeCommit) {
            // One loss is enough, and in the end: a node that knows what its database lacks serves nobody any more.
            chosen.retain(|kind| !kind.may_promote());
        }
        let (possible, impossible): (Vec<Kind>, Vec<Kind>) =
            chosen.into_iter().partition(|kind| kind.is_possible(conditions));
        if let Some(kind) = impossible.first().filter(|_| !self.faults.is_empty()) {
            bail!("{} strikes a shard of two nodes: --nodes 2", kind.name());
        }
        Ok(possible)
    }

    fn spec(&self, conditions: &Conditions) -> ClusterSpec {
        let spec = conditions.apply(ClusterSpec::default().with_shards(SHARDS).with_proxies());
        match self.broken {
            Some(Broken::AnswerBeforeCommit) => spec.with_durability(Durability::Local),
            Some(Broken::SkipKeyCheck | Broken::ForgetRelease | Broken::DoubleCredit) | None => spec,
        }
    }

    fn schedule(&self, kinds: &[Kind]) -> Schedule {
        let hold_max = HOLD_MAX.min(self.time / HOLDS_IN_A_RUN);
        let calm_max = CALM_MAX.mul_f64(hold_max.div_duration_f64(HOLD_MAX));
        Schedule::new(self.seed, SHARDS, kinds, hold_max, calm_max)
    }
}

impl Arena {
    async fn new(cluster: LocalCluster, client: Client, seed: u64) -> anyhow::Result<Self> {
        let probe = Probe::make(client.clone(), SHARDS, seed).await?;
        let (struck, waits) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { cluster, client, probe, seed, struck, recoveries: Vec::new(), waits })
    }

    async fn storm(&mut self, mut schedule: Schedule, until: Duration, stop: &Stop) -> anyhow::Result<()> {
        loop {
            let (calm, fault) = schedule.next_fault();
            tokio::time::sleep(calm).await;
            if stop.is_set() || self.client.clock.now() + fault.hold >= until {
                return Ok(());
            }
            self.suffer(fault).await?;
        }
    }

    async fn suffer(&mut self, fault: Fault) -> anyhow::Result<()> {
        let (clock, errors) = (self.client.clock, Arc::clone(&self.client.errors));
        let (cause, from) = (Cause::Fault(fault.kind, fault.shard), clock.now());
        let window = errors.open_window(cause, from);
        if let Some(felt) = fault.kind.felt_at_most() {
            errors.close_window(window, from + felt);
        }
        let mut healed = from;
        let Self { cluster, probe, seed, .. } = self;
        let mut scene = Scene { cluster, probe, seed: *seed, waited_during: None };
        fault.strike(&mut scene, || healed = clock.now()).await?;
        let waited_during = scene.waited_during;
        let recovered = self.probe.wait_until_all_are_served(RECOVERY_MAX).await;
        let now = clock.now();
        if fault.kind.felt_at_most().is_some() {
            // To heal may be felt too.
            let window = errors.open_window(cause, healed);
            errors.close_window(window, now);
        } else {
            errors.close_window(window, now);
        }
        let recovery = now.saturating_sub(healed);
        if recovered.is_none() {
            let text = format!("users are not served {} s after: {}", recovery.as_secs(), fault.words());
            let finding = Finding { promise: Promise::Recovered, text, at: Some(now), words: Vec::new() };
            self.client.findings.add(finding);
        }
        let wait = waited_during.unwrap_or(recovery);
        self.tell(fault, from, healed, wait);
        *self.struck.entry(fault.kind.name()).or_default() += 1;
        self.recoveries.push(recovery);
        let longest = self.waits.entry(fault.kind.name()).or_default();
        *longest = wait.max(*longest);
        Ok(())
    }

    fn tell(&self, fault: Fault, from: Duration, healed: Duration, wait: Duration) {
        let since = if fault.kind.felt_at_most().is_some() { "meanwhile" } else { "again" };
        eprintln!(
            "{:>5.1} s  {:<52} {:>4.1} s, served {since} after {:>5} ms; {} acknowledged",
            from.as_secs_f64(),
            fault.words(),
            healed.saturating_sub(from).as_secs_f64(),
            wait.as_millis(),
            self.client.ledger.acknowledged(),
        );
    }

    /// Asks every key once more, with an empty cache, so that the databases answer. Returns how many were asked.
    async fn resolve(&self) -> anyhow::Result<u64> {
        tokio::select! {
            ready = self.cluster.wait_until_ready() => ready.context("the cluster is healed and not ready")?,
            words = loss::wait_for_one(&self.cluster) => self.accept_loss(words).await?,
        }
        let redis = self.cluster.redis();
        redis.kill().await?;
        redis.start().await?;
        let entries = self.client.ledger.entries();
        let open = count(&entries, |entry| entry.told.is_none());
        eprintln!(
            "{:>5.1} s  {} keys are asked again, {open} of them had no answer",
            self.now_s(),
            entries.len()
        );
        let all = stream::iter(&entries);
        all.for_each_concurrent(ASKED_AT_ONCE, |entry| self.ask_again(&entry.write)).await;
        Ok(u64::try_from(entries.len())?)
    }

    /// The checks go on with what is there.
    async fn accept_loss(&self, text: String) -> anyhow::Result<()> {
        let at = Some(self.client.clock.now());
        self.client.findings.add(Finding { promise: Promise::NothingLost, text, at, words: Vec::new() });
        let file = self.cluster.cluster_file();
        for shard in self.cluster.shards() {
            let accept = ["shard", "accept-loss", shard.name(), "--reason", "a promise was broken"];
            operator::run(&file, &accept).await?;
        }
        self.cluster.wait_until_ready().await.context("the loss is accepted, and the cluster is not ready")
    }

    async fn ask_again(&self, write: &Write) {
        for _ in 0..LAST_TRIES {
            if self.client.write(write, Asking::InPeace).await == Attempt::Decided {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn check(&self, entries: &[Entry], acks: &Path, acknowledged: u64) -> anyhow::Result<()> {
        eprintln!("{:>5.1} s  every row, every history, and picopay verify", self.now_s());
        audit::wait_for_replicas(&self.cluster).await?;
        let (ledger, findings) = (&self.client.ledger, &self.client.findings);
        let audit = Audit::read(&self.cluster, ledger.currency(), findings.clone()).await?;
        audit.compare(entries);
        audit.compare_histories(&self.client).await?;
        audit.compare_times(&self.cluster).await?;
        audit::verify(&self.cluster, acks, acknowledged, findings).await
    }

    fn now_s(&self) -> f64 {
        self.client.clock.now().as_secs_f64()
    }
}

fn count(entries: &[Entry], is_one: impl Fn(&Entry) -> bool) -> u64 {
    u64::try_from(entries.iter().filter(|entry| is_one(entry)).count()).expect("fits 64 bits")
}
