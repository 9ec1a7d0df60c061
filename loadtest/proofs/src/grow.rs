//! The proof that a cluster grows under its users. A shard joins and takes its share of the slots, and another one is
//! emptied, while clients go on. They may see slower answers, and nothing else.
//!
//! Slots are moved by the operator's own command, as a process. In the end every key is compared with the clients' account,
//! every row counted, and `picopay verify` run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use picopay_local::ClusterSpec;
use picopay_shared::money::Currency;
use picopay_shared::slot::{SLOT_COUNT, UserId};

use crate::account::{Account, Keeps};
use crate::bench::figure::rounded;
use crate::bench::history;
use crate::bench::stand::Stand;
use crate::bench::{wal_files, write_back};
use crate::broken;
use crate::chaos::audit::wait_for_replicas;
use crate::findings::{Findings, Promise};
use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::run::{self, Plan, Rhythm, Stop};
use picopay_loadtest::write::Wish;

mod again;

mod books;
use books::Books;

mod clients;
use clients::{Charge, Clients, Shared, lock};

mod load;
use load::GrowLoad;

pub mod operator;
use operator::Moved;

mod owners;
use owners::Owners;

mod pauses;
use pauses::{Pauses, Stage};

mod reads;

mod rows;
use rows::Rows;

pub mod scale;
use scale::Scale;

pub mod summary;
use summary::GrowSummary;

const SHARDS: usize = 2;
const EMPTIED: &str = "shard-1";

const BUFFERS: &str = "1GB";

/// Of saturation. An operator adds a shard before there is no room.
const OFFERED: f64 = 1.0 / 3.0;

/// Far more than are in use, so that no arrival waits for one.
const CONNECTIONS: usize = 512;

/// An arrival that waits counts; none is left out.
const WAITING_MAX: usize = 1_000_000;

const OLD_CHARGES: i64 = 10_000;

/// After the load, until requests that failed just then have tried again.
const CALM: Duration = Duration::from_secs(3);

/// Promises that can be broken on purpose, to see that a run notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BrokenMove {
    /// A shard goes on writing what it gave up: releases are undone.
    SkipFence,
}

impl BrokenMove {
    /// As the flag has it.
    fn name(self) -> &'static str {
        match self {
            Self::SkipFence => "skip-fence",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Grow {
    pub seed: u64,
    pub scale: Scale,
    pub out: PathBuf,
    pub broken: Option<BrokenMove>,
}

#[derive(Default)]
struct Grown {
    moved: [Moved; 2],
    slots: BTreeMap<String, usize>,
    off_share: f64,
    needless_moves: usize,
}

impl Grow {
    /// Does it all.
    ///
    /// # Errors
    /// When something is missing on this machine, or a command fails. Bars that were missed are in the summary.
    pub async fn run(&self, stop: &Stop) -> anyhow::Result<GrowSummary> {
        let began = Instant::now();
        let acks_path = self.out.join("acks.jsonl");
        fs::create_dir_all(&self.out).with_context(|| format!("{} cannot be made", self.out.display()))?;
        let stand = self.start(&acks_path, stop).await?;
        let charges_each = history::fill(&stand, self.scale.transactions).await?;
        let before = Rows::count(&stand.cluster).await?;
        let findings = Findings::default();
        let shared = self.shared(&stand, &findings, charges_each)?;
        let old_charges = read_old_charges(&stand).await?;
        let saturation = self.saturation(&stand, &shared, &old_charges, stop).await?;
        let rate = (saturation * OFFERED).min(self.scale.rate_max);
        tell(
            began,
            &format!(
                "seed {}: {} users, {} transactions; {saturation:.0} requests/s saturate it, {rate:.0}/s are offered",
                self.seed, before.users, before.transactions
            ),
        );

        let plan = self.plan(&stand, rate);
        let mut load = GrowLoad::start(plan.clone(), shared.clone(), self.scale.pace.users, old_charges);
        let grown = self.grow(&stand, &mut load, &shared, began, stop);
        let grown = tokio::select! { grown = grown => grown, Err(error) = write_back::keep_up(&stand.cluster) => Err(error) };
        load.enter(Stage::After);
        tokio::time::sleep(CALM).await;
        let (dropped, waiting) = load.finish().await?;
        ensure!(!stop.is_set(), "stopped");
        let did_grow = grown.is_ok();
        let grown = grown.unwrap_or_else(|error| {
            // A mover refuses what does not add up. What became of the users' money is looked at all the same.
            eprintln!("\nBROKEN: the cluster did not grow: {error:#}");
            Grown::default()
        });

        // What is answered now is what the databases know.
        let redis = stand.cluster.redis();
        redis.kill().await?;
        redis.start().await?;
        let (asked_again, unresolved) = again::ask(&plan, &shared, stop).await?;
        wait_for_replicas(&stand.cluster).await?;
        let rows = Rows::count(&stand.cluster).await?;
        tell(began, &format!("{asked_again} keys were asked again; every row, and picopay verify"));
        let pauses = lock(&shared.pauses).clone();
        let (acknowledged, refused, unknown, decided) = count(&lock(&shared.books));
        drop(shared);
        let proof = stand.prove().await?;

        let expected = before.transactions + decided;
        let stages = &Stage::ALL[Stage::Adding.index()..];
        let p99_before = pauses.quantile_ms(&[Stage::Before], 0.99);
        let p99_moving = pauses.quantile_ms(&Stage::MOVING, 0.99);
        let rows_moved = grown.moved.iter().map(|moved| moved.rows).sum::<u64>();
        let moving_s =
            (grown.moved.iter().map(|moved| moved.took_ms as f64).sum::<f64>() / 1_000.0).max(0.001);
        let mut summary = GrowSummary {
            seed: self.seed,
            holds: false,
            missed: Vec::new(),
            broken: self.broken.map(BrokenMove::name),
            // Two looks that know nothing of each other: rows by their number, and each by its key.
            lost: proof.lost.max((expected - rows.transactions).max(0).unsigned_abs()),
            doubled: proof.doubled.max((rows.transactions - expected).max(0).unsigned_abs()),
            unequal_replays: findings.count(Promise::EqualReplays),
            failed_for_good: unresolved + pauses.without_success() + dropped + u64::try_from(waiting)?,
            incomplete_reads: findings.count(Promise::SameHistory),
            longest_pause_ms: pauses.quantile_ms(stages, 1.0),
            p99_before_ms: p99_before,
            p99_moving_ms: p99_moving,
            rows_moved,
            moving_s: rounded(moving_s),
            rows_moved_per_second: rounded(rows_moved as f64 / moving_s.max(f64::MIN_POSITIVE)),
            longest_handover_ms: grown.moved.iter().map(|moved| moved.longest_pause_ms).max().unwrap_or(0),
            aborts: grown.moved.iter().map(|moved| moved.aborts).sum(),
            did_grow,
            slots: grown.slots,
            slots_off_share: rounded(grown.off_share),
            needless_moves: grown.needless_moves,
            rows_out_of_place: rows.out_of_place.unsigned_abs(),
            is_verified: proof.is_proven,
            verify_found: proof.wrong,
            users: before.users.unsigned_abs(),
            transactions: before.transactions.unsigned_abs(),
            saturation_per_second: rounded(saturation),
            rate_per_second: rounded(rate),
            acknowledged,
            refused,
            unknown,
            asked_again,
            stages: pauses.figures(),
            took_s: began.elapsed().as_secs(),
        };
        summary.judge();
        for finding in findings.shown() {
            eprintln!("\nBROKEN {}: {}", finding.promise.name(), finding.text);
        }
        for found in &summary.verify_found {
            eprintln!("\nBROKEN: picopay verify: {found}");
        }
        let path = self.out.join("summary.json");
        fs::write(&path, serde_json::to_string_pretty(&summary)? + "\n")
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(summary)
    }

    async fn start(&self, acks_path: &Path, stop: &Stop) -> anyhow::Result<Stand> {
        let stand = Stand::start(Self::spec(), &self.scale.pace, acks_path, stop).await?;
        match self.broken {
            Some(BrokenMove::SkipFence) => broken::skip_fence(&stand.cluster).await?,
            None => {}
        }
        Ok(stand)
    }

    async fn grow(
        &self,
        stand: &Stand,
        load: &mut GrowLoad,
        shared: &Shared,
        began: Instant,
        stop: &Stop,
    ) -> anyhow::Result<Grown> {
        let (cluster, file) = (&stand.cluster, stand.cluster.cluster_file());
        self.rest(self.scale.warmup, stop).await?;
        load.enter(Stage::Before);
        self.rest(self.scale.before, stop).await?;
        let dealt = Owners::read(cluster).await?;
        let p99 = |stages: &[Stage]| lock(&shared.pauses).quantile_ms(stages, 0.99);
        tell(began, &format!("before: p99 {:.1} ms", p99(&[Stage::Before])));

        load.enter(Stage::Adding);
        let added = cluster.add_shard().await?;
        wal_files::make_of(added, self.scale.new_wal_files).await?;
        // A hundred megabytes of new servers, which the kernel would write half a minute later: in the middle of a move.
        write_back::all().await?;
        let added = added.name().to_owned();
        let all: Vec<String> = cluster.shards().iter().map(|shard| shard.name().to_owned()).collect();
        tell(began, &format!("{added} is a member, and owns no slot"));
        ensure!(!stop.is_set(), "stopped");

        load.enter(Stage::Rebalancing);
        let rebalanced = operator::moves(&file, &["rebalance"]).await?;
        let fair = Owners::read(cluster).await?;
        tell(began, &moved_line("rebalance", &rebalanced, p99(&[Stage::Rebalancing])));
        ensure!(!stop.is_set(), "stopped");

        load.enter(Stage::Draining);
        let drained = operator::moves(&file, &["shard", "drain", EMPTIED]).await?;
        let last = Owners::read(cluster).await?;
        ensure!(!last.counts().contains_key(EMPTIED), "{EMPTIED} was drained, and owns slots");
        tell(began, &moved_line("drain", &drained, p99(&[Stage::Draining])));

        load.enter(Stage::Purging);
        let purge = ["slots", "purge", "--older-than", "0s", "--throttle", self.scale.purge_per_second];
        operator::run(&file, &purge).await?;
        tell(began, &format!("purge: p99 {:.1} ms", p99(&[Stage::Purging])));

        let (floor, all_slots) = (usize::from(SLOT_COUNT) / all.len(), usize::from(SLOT_COUNT));
        let share = all.iter().map(|shard| (shard.clone(), (floor, floor + 1))).collect();
        let rest = |shard: &String| (0, if shard == EMPTIED { 0 } else { all_slots });
        let emptied = all.iter().map(|shard| (shard.clone(), rest(shard))).collect();
        Ok(Grown {
            moved: [rebalanced, drained],
            slots: fair.counts(),
            off_share: fair.off_fair_share(all.len()),
            needless_moves: fair.moved_needlessly(&dealt, &share) + last.moved_needlessly(&fair, &emptied),
        })
    }

    async fn rest(&self, time: Duration, stop: &Stop) -> anyhow::Result<()> {
        tokio::time::sleep(time).await;
        ensure!(!stop.is_set(), "stopped");
        Ok(())
    }

    fn spec() -> ClusterSpec {
        ClusterSpec::default()
            .with_shards(SHARDS)
            .with_primary_setting("shared_buffers", BUFFERS)
            .with_replica_setting("shared_buffers", BUFFERS)
    }

    /// Briefly, since it only decides how much is offered.
    async fn saturation(
        &self,
        stand: &Stand,
        shared: &Shared,
        old_charges: &[Charge],
        stop: &Stop,
    ) -> anyhow::Result<f64> {
        let pace = &self.scale.pace;
        // Other clients than later ones, with other keys.
        let seed = !self.seed;
        let plan = Plan {
            rhythm: Rhythm::Closed,
            connections: CONNECTIONS,
            warmup: pace.warmup(),
            duration: Duration::from_secs(pace.saturation_s),
            seed,
            ..stand.plan_of_charges()
        };
        let (target, shared, users) = (plan.target.clone(), shared.clone(), pace.users);
        let old_charges = old_charges.to_vec();
        let clients = move |_| Clients::new(&target, shared.clone(), users, old_charges.clone(), seed);
        Ok(run::run(&plan, stop, clients, |_| {}).await?.achieved_per_second())
    }

    fn shared(&self, stand: &Stand, findings: &Findings, charges_each: u64) -> anyhow::Result<Shared> {
        // A top-up comes before the charges.
        let listed = u32::try_from(charges_each + 1)?;
        let users = usize::try_from(self.scale.pace.users)?;
        let (usd, acks) = (Currency::parse("USD")?, stand.acks().sink());
        let books = Books::new(users, listed, Account::new(Keeps::Digests, usd, acks, findings.clone()));
        Ok(Shared {
            books: Arc::new(Mutex::new(books)),
            pauses: Arc::new(Mutex::new(Pauses::default())),
            stage: Arc::new(AtomicUsize::new(Stage::WarmUp.index())),
            old_keys: Arc::new(AtomicUsize::new(0)),
        })
    }

    fn plan(&self, stand: &Stand, rate_per_second: f64) -> Plan {
        let rhythm = Rhythm::Open { rate_per_second, spacing: Spacing::Poisson, waiting_max: WAITING_MAX };
        Plan {
            rhythm,
            connections: CONNECTIONS,
            warmup: Duration::ZERO,
            // It ends when everything has moved; this is only not for ever.
            duration: Duration::from_hours(24),
            seed: self.seed,
            ..stand.plan_of_charges()
        }
    }
}

async fn read_old_charges(stand: &Stand) -> anyhow::Result<Vec<Charge>> {
    let mut charges = Vec::new();
    for shard in stand.cluster.shards() {
        let database = shard.connect_primary().await?;
        let sql = include_str!("grow/sql/old_charges.sql");
        for row in database.query(sql, &[&OLD_CHARGES]).await.context("old charges cannot be read")? {
            let (user, id, minor_units): (i64, String, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let id = id.as_bytes().try_into().context("an id is a UUID")?;
            charges.push(Charge {
                user: UserId::try_from(user)?,
                id,
                minor_units: minor_units.unsigned_abs(),
            });
        }
    }
    Ok(charges)
}

/// Acknowledged, refused, unknown at some time; and how many rows that makes.
fn count(books: &Books) -> (u64, u64, u64, i64) {
    let (mut acknowledged, mut refused, mut unknown, mut transferred) = (0, 0, 0, 0);
    for entry in &books.account.entries {
        match entry.told.as_ref().map(|told| told.status) {
            Some(200) => {
                acknowledged += 1;
                // Each has a transaction of its recipient, too.
                transferred += u64::from(matches!(entry.write.wish, Wish::Transfer { .. }));
            }
            Some(_) => refused += 1,
            None => {}
        }
        unknown += u64::from(entry.was_unknown);
    }
    (
        acknowledged,
        refused,
        unknown,
        i64::try_from(acknowledged + refused + transferred).expect("fits 63 bits"),
    )
}

fn moved_line(what: &str, moved: &Moved, p99_ms: f64) -> String {
    let Moved { slots, rows, took_ms, longest_pause_ms, aborts, .. } = moved;
    let per_second = *rows as f64 * 1_000.0 / (*took_ms as f64).max(1.0);
    format!(
        "{what}: {slots} slots, {rows} rows in {:.1} s ({per_second:.0}/s), slots without an owner for {longest_pause_ms} ms \
         at most, {aborts} tried again; p99 {p99_ms:.1} ms",
        *took_ms as f64 / 1_000.0
    )
}

fn tell(began: Instant, line: &str) {
    eprintln!("{:>5.1} s  {line}", began.elapsed().as_secs_f64());
}
