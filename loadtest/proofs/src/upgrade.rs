//! The proof that a deploy loses nothing: a cluster of an earlier release under load becomes one of the working tree,
//! process by process, goes back, and forwards again.
//!
//! The order is that of docs/upgrades.md. Both releases serve the same users all the time. Clients ask the other gateway,
//! by the same key, when one does not answer. A request is failed when that did not help.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures_util::StreamExt as _;
use futures_util::stream;
use picopay_client::Exchange;
use picopay_loadtest::acks::AckFile;
use picopay_loadtest::run::Stop;
use picopay_loadtest::shard_map::ShardMap;
use picopay_loadtest::write::{KeySource, Wish, Write};
use picopay_shared::money::Currency;
use picopay_shared::slot::UserId;

use crate::account::{Asking, Entry};
use crate::broken;
use crate::chaos::RunFolder;
use crate::chaos::audit::{self, Audit};
use crate::chaos::client::{Attempt, Client};
use crate::chaos::clock::Clock;
use crate::chaos::errors::Errors;
use crate::chaos::ledger::Ledger;
use crate::chaos::summary::counts;
use crate::findings::{Finding, Findings, Promise};

mod clients;
use clients::{Clients, Failed, Known, USERS};

mod gateways;
use gateways::Gateways;

mod stand;
use stand::{GATEWAYS, NODES, Release, SHARDS, Stand};

mod summary;
use summary::Step;
pub use summary::UpgradeSummary;

/// Three times all nodes and gateways, and what is done in between.
const STEPS: usize = 3 * (SHARDS * NODES + GATEWAYS) + 10;

/// Of the time, for the checks at the end.
const END_SHARE: f64 = 0.2;

/// Clients meet each new state of the cluster at least for as long.
const CALM_MIN: Duration = Duration::from_millis(300);

const ASKED_AT_ONCE: usize = 32;

const LAST_TRIES: usize = 80;

const LAST_PAUSE: Duration = Duration::from_millis(250);

/// An older node that finds a finished schema has looked at it long before.
const REFUSES_WITHIN_TRIES: u32 = 100;

/// Six times as many as a client makes. A run that does not notice must end, too.
const GIVES_UP_WITHIN_TRIES: u32 = 240;

/// Mistakes that an operator could make, and a promise that is broken on purpose, to see that a run notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BrokenUpgrade {
    /// The nodes come before the schema that they need.
    NodesBeforeMigrate,
    /// All gateways are replaced at once.
    GatewaysAtOnce,
    /// No key is found taken: the constraint is gone.
    SkipKeyCheck,
}

impl BrokenUpgrade {
    pub fn name(self) -> &'static str {
        match self {
            Self::NodesBeforeMigrate => "nodes-before-migrate",
            Self::GatewaysAtOnce => "gateways-at-once",
            Self::SkipKeyCheck => "skip-key-check",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Upgrade {
    pub seed: u64,
    pub time: Duration,
    /// The folder of the earlier release's programs.
    pub from: PathBuf,
    pub commit: String,
    pub out: PathBuf,
    pub broken: Option<BrokenUpgrade>,
}

/// What goes on while releases are exchanged.
struct Deploy {
    stand: Stand,
    gateways: Arc<Gateways>,
    known: Arc<Known>,
    failed: Arc<Failed>,
    broken: Option<BrokenUpgrade>,
    stop: Stop,
    steps: Vec<Step>,
    migrations: usize,
    began: Instant,
    /// When the steps are to be over.
    planned: Duration,
}

impl Upgrade {
    /// Does it all.
    ///
    /// # Errors
    /// When something is missing on this machine, or a step of the deploy was not possible. Broken promises are in the
    /// summary.
    pub async fn run(&self, stop: &Stop) -> anyhow::Result<UpgradeSummary> {
        let folder = RunFolder::new(&self.out);
        folder.clear()?;
        let (clock, findings, errors) = (Clock::start(), Findings::default(), Arc::new(Errors::default()));
        let acks = AckFile::open(&folder.acks())?;
        let stand = Stand::start(&self.from).await?;
        let ledger = Ledger::new(acks.sinks().sink(), Currency::parse("USD")?, findings.clone(), clock);
        let ledger = Arc::new(ledger);
        let shards = Arc::new(ShardMap::even(u16::try_from(SHARDS)?));
        // One keeps its connections, the other makes a new one for each request: a drain ends both ways of calling.
        let [kept, new] = stand.gateway_urls();
        let key = stand.cluster.api_key();
        let client = |exchange: Exchange| Client {
            exchange,
            ledger: Arc::clone(&ledger),
            errors: Arc::clone(&errors),
            findings: findings.clone(),
            shards: Arc::clone(&shards),
            clock,
        };
        let clients = [client(Exchange::new(kept, key)?), client(Exchange::without_pool(new, key)?)];
        let gateways = Gateways::new(clients);
        let probes = gateways.probe();
        for id in 1..=USERS {
            ensure!(gateways.either().make_user(UserId::try_from(id)?).await, "user {id} cannot be made");
        }
        let known = Arc::new(Known::default());
        known.holds.store(gateways.know("/v1/holds").await?, Ordering::Relaxed);
        known.transfers.store(gateways.know("/v1/transfers").await?, Ordering::Relaxed);
        let old_wire = stand.wire(0, 0).await?;
        if self.broken == Some(BrokenUpgrade::SkipKeyCheck) {
            broken::skip_key_check(&stand.cluster).await?;
        }

        let running = Clients::start(&gateways, &known, self.seed);
        let mut deploy = Deploy {
            stand,
            gateways: Arc::clone(&gateways),
            known,
            failed: running.failed(),
            broken: self.broken,
            stop: stop.clone(),
            steps: Vec::new(),
            migrations: 0,
            began: Instant::now(),
            planned: self.time.mul_f64(1.0 - END_SHARE),
        };
        eprintln!("seed {}: {} becomes the working tree, and back", self.seed, self.commit);
        Step::show_head();
        let deployed = Box::pin(deploy.run(old_wire)).await;
        running.finish().await?;
        if deployed.is_err() {
            folder.keep_logs(&deploy.stand.cluster)?;
        }
        deployed.with_context(|| format!("all logs are in {}", self.out.join("logs").display()))?;

        let entries = deploy.resolve().await?;
        let acknowledged = u64::try_from(ledger.acknowledged())?;
        deploy.check(&entries, acknowledged, &folder, &findings).await?;
        drop(probes);
        folder.show_findings(&findings, &deploy.stand.cluster, clock)?;
        if let Some(first) = deploy.failed.first() {
            eprintln!("\nBROKEN failed: {first}");
        }

        let new_wire = deploy.stand.wire(0, 0).await?;
        let Deploy { stand, failed, steps, migrations, .. } = deploy;
        let count = |is_one: fn(&Entry) -> bool| entries.iter().filter(|entry| is_one(entry)).count();
        let refused = count(|entry| entry.told.as_ref().is_some_and(|told| told.status != 200));
        let summary = UpgradeSummary {
            seed: self.seed,
            from: self.commit.clone(),
            holds: findings.shown().is_empty() && failed.count() == 0 && acknowledged > 0,
            broken: self.broken.map(BrokenUpgrade::name),
            wires: [old_wire, new_wire],
            migrations,
            acknowledged,
            refused: u64::try_from(refused)?,
            failed: failed.count(),
            unknown: u64::try_from(count(|entry| entry.was_unknown))?,
            promises: counts(&findings),
            errors: errors.by_name(),
            steps,
            took_s: clock.now().as_secs(),
        };
        stand.cluster.stop().await;
        summary.show();
        folder.write_summary(&summary)?;
        Ok(summary)
    }
}

impl Deploy {
    /// The whole deploy: there, back, and there for good.
    async fn run(&mut self, old_wire: u16) -> anyhow::Result<()> {
        self.step("all of the old release", async |_| Ok(())).await?;
        if self.broken == Some(BrokenUpgrade::NodesBeforeMigrate) {
            return self.nodes_before_migrate().await;
        }
        self.step("picopay migrate", async |deploy| {
            deploy.migrations = deploy.stand.migrate(Release::New).await?;
            Ok(())
        })
        .await?;
        if self.broken == Some(BrokenUpgrade::GatewaysAtOnce) {
            return self.gateways_at_once().await;
        }
        self.crash(0, 0).await?;
        if self.broken == Some(BrokenUpgrade::SkipKeyCheck) {
            return Ok(());
        }
        for node in 0..NODES {
            for shard in 0..SHARDS {
                self.replace_node(shard, node, Release::New).await?;
            }
            if node == 0 {
                // Beside a new one, which has to take over all of its users.
                self.crash(1, 1).await?;
            }
        }
        self.replace_gateways(Release::New).await?;
        let new_wire = self.stand.wire(0, 0).await?;
        let is_newer = old_wire < new_wire;

        self.replace_gateways(Release::Old).await?;
        self.replace_nodes(Release::Old).await?;
        self.step("the old picopay migrate leaves the schema", async |deploy| {
            let applied = deploy.stand.migrate(Release::Old).await?;
            ensure!(applied == 0, "the old release's migrate applied {applied} migrations");
            Ok(())
        })
        .await?;
        self.crash(0, 1).await?;

        self.replace_nodes(Release::New).await?;
        self.replace_gateways(Release::New).await?;
        if is_newer && !self.known.transfers.load(Ordering::Relaxed) {
            self.step("what old programs cannot read is refused", Self::refuses_transfers).await?;
        }
        self.step("picopay migrate --finish", async |deploy| deploy.stand.finish().await).await?;
        self.known.holds.store(true, Ordering::Relaxed);
        self.known.transfers.store(true, Ordering::Relaxed);
        if is_newer {
            self.step("an old node serves no more", Self::refuses_old_node).await?;
        }
        self.step("all of the new release", async |_| Ok(())).await
    }

    async fn replace_nodes(&mut self, release: Release) -> anyhow::Result<()> {
        for node in 0..NODES {
            for shard in 0..SHARDS {
                self.replace_node(shard, node, release).await?;
            }
        }
        Ok(())
    }

    async fn replace_node(&mut self, shard: usize, node: usize, release: Release) -> anyhow::Result<()> {
        let what = format!("{} is {}", self.stand.node_name(shard, node), release.word());
        self.step(&what, async |deploy| deploy.stand.replace_node(shard, node, release).await).await
    }

    async fn replace_gateways(&mut self, release: Release) -> anyhow::Result<()> {
        for number in 0..GATEWAYS {
            let what = format!("gateway {} is {}", number + 1, release.word());
            self.step(&what, async |deploy| deploy.stand.replace_gateway(number, release).await).await?;
        }
        Ok(())
    }

    /// Kills an old node, which then meets the new schema at its start.
    async fn crash(&mut self, shard: usize, node: usize) -> anyhow::Result<()> {
        let what = format!("{}, old, crashed", self.stand.node_name(shard, node));
        self.step(&what, async |deploy| deploy.stand.crash_node(shard, node).await).await
    }

    /// Before `--finish` no program writes what an older one could not read.
    async fn refuses_transfers(&mut self) -> anyhow::Result<()> {
        let client = self.gateways.either();
        let body = r#"{"from_user_id":1,"to_user_id":2,"amount":"0.01","currency":"USD"}"#;
        let answer = client.exchange.post("/v1/transfers", None, body).await?;
        let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
        if (answer.status, code.as_str()) != (503, "shard-unavailable") {
            self.find(format!(
                "older programs are left, and a transfer was answered {} {}",
                answer.status,
                answer.text()
            ));
        }
        Ok(())
    }

    /// After `--finish` there is no way back.
    async fn refuses_old_node(&mut self) -> anyhow::Result<()> {
        let (shard, node) = (0, NODES - 1);
        self.stand.start_node_as(shard, node, Release::Old).await?;
        let mut reason = None;
        for _ in 0..REFUSES_WITHIN_TRIES {
            let status = self.stand.cluster.node_status(self.stand.cluster.shard(shard), node).await;
            let status = status.map_err(anyhow::Error::msg)?;
            if status.is_ready {
                self.find("an old node serves a schema that was finished".to_owned());
            }
            reason = status.not_ready_reason;
            if status.is_ready || reason.as_deref().is_some_and(|reason| reason.contains("newer")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        eprintln!("    it says: {}", reason.as_deref().unwrap_or("nothing"));
        self.stand.replace_node(shard, node, Release::New).await
    }

    /// The order is wrong, and a new node says so. The shard's other node is the old one, so users go on.
    async fn nodes_before_migrate(&mut self) -> anyhow::Result<()> {
        let name = self.stand.node_name(0, 0);
        self.step("a new node before the schema", async |deploy| {
            if let Err(error) = deploy.stand.replace_node(0, 0, Release::New).await {
                deploy.add(Promise::Recovered, format!("the order is wrong: {error:#}"));
                eprintln!("    refused: {error:#}");
            } else {
                eprintln!("    {name} serves: this release needs no other schema than the old one");
            }
            Ok(())
        })
        .await?;
        self.step("picopay migrate", async |deploy| {
            deploy.migrations = deploy.stand.migrate(Release::New).await?;
            deploy.stand.wait_until_ready().await.context("the cluster does not recover")
        })
        .await
    }

    /// No gateway is left to ask until somebody has given up.
    async fn gateways_at_once(&mut self) -> anyhow::Result<()> {
        self.step("all gateways at once", async |deploy| {
            let failed = Arc::clone(&deploy.failed);
            let somebody_gave_up = async || {
                for _ in 0..GIVES_UP_WITHIN_TRIES {
                    if failed.count() > 0 {
                        break;
                    }
                    tokio::time::sleep(LAST_PAUSE).await;
                }
            };
            deploy.stand.replace_gateways_at_once(somebody_gave_up).await
        })
        .await
    }

    /// Does something, lets clients meet what it left, and says what they saw.
    async fn step(
        &mut self,
        what: &str,
        does: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.stop.is_set() {
            bail!("stopped before the end");
        }
        let (before, began) = (self.seen(), Instant::now());
        does(self).await.with_context(|| what.to_owned())?;
        let took_ms = u64::try_from(began.elapsed().as_millis())?;
        let share = (self.steps.len() + 1).min(STEPS);
        let due = self.planned.mul_f64(f64::from(u32::try_from(share)?) / f64::from(u32::try_from(STEPS)?));
        tokio::time::sleep(due.saturating_sub(self.began.elapsed()).max(CALM_MIN)).await;
        let after = self.seen();
        let [acknowledged, asked_again, failed] = std::array::from_fn(|at| after[at] - before[at]);
        let step = Step { what: what.to_owned(), took_ms, acknowledged, asked_again, failed };
        step.show();
        self.steps.push(step);
        Ok(())
    }

    /// How much was acknowledged, asked again and failed until now.
    fn seen(&self) -> [u64; 3] {
        let client = self.gateways.either();
        let acknowledged = u64::try_from(client.ledger.acknowledged()).expect("fits 64 bits");
        [acknowledged, client.errors.by_name().values().sum(), self.failed.count()]
    }

    fn find(&self, text: String) {
        self.add(Promise::RightAnswers, text);
    }

    fn add(&self, promise: Promise, text: String) {
        let client = self.gateways.either();
        let at = Some(client.clock.now());
        client.findings.add(Finding { promise, text, at, words: Vec::new() });
    }

    /// Asks every key once more, with an empty cache, so that the databases answer what either release wrote.
    async fn resolve(&self) -> anyhow::Result<Vec<Entry>> {
        self.stand.wait_until_ready().await.context("the deploy is over and the cluster is not ready")?;
        self.move_money_once().await?;
        let redis = self.stand.cluster.redis();
        redis.kill().await?;
        redis.start().await?;
        let ledger = &self.gateways.either().ledger;
        let entries = ledger.entries();
        eprintln!(
            "{} keys are asked again, then every row, every history, and picopay verify",
            entries.len()
        );
        let ask = |entry: &Entry| {
            let write = entry.write;
            async move {
                for attempt in 0..LAST_TRIES {
                    let client = self.gateways.client(0, attempt);
                    if client.write(&write, Asking::InPeace).await == Attempt::Decided {
                        return;
                    }
                    tokio::time::sleep(LAST_PAUSE).await;
                }
            }
        };
        stream::iter(&entries).for_each_concurrent(ASKED_AT_ONCE, ask).await;
        Ok(ledger.entries())
    }

    /// What only the new release can do was done, if nobody did it yet.
    async fn move_money_once(&self) -> anyhow::Result<()> {
        if self.broken.is_some() {
            return Ok(());
        }
        // Clients are numbered from 1.
        let key = KeySource::new(0, 0).next_key();
        let [user, to] = [UserId::try_from(1)?, UserId::try_from(2)?];
        let write = Write { wish: Wish::Transfer { to }, user, minor_units: 1, key };
        for attempt in 0..LAST_TRIES {
            let client = self.gateways.client(0, attempt);
            if client.write(&write, Asking::InTrouble).await == Attempt::Decided {
                return Ok(());
            }
            tokio::time::sleep(LAST_PAUSE).await;
        }
        bail!("a transfer finds no answer, though no older program is left")
    }

    async fn check(
        &self,
        entries: &[Entry],
        acknowledged: u64,
        folder: &RunFolder,
        findings: &Findings,
    ) -> anyhow::Result<()> {
        let (cluster, client) = (&self.stand.cluster, self.gateways.either());
        audit::wait_for_replicas(cluster).await?;
        let audit = Audit::read(cluster, client.ledger.currency(), findings.clone()).await?;
        audit.compare(entries);
        audit.compare_histories(client).await?;
        audit.compare_times(cluster).await?;
        audit::verify(cluster, &folder.acks(), acknowledged, findings).await
    }
}
