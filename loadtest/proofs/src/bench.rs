//! The bench: on a fresh cluster, PicoPay against what PostgreSQL does one charge at a time.
//!
//! Clients and all servers share one machine. What is compared is measured in turns, since the speed of a machine changes.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use anyhow::{Context, ensure};
use nix::unistd::User;
use picopay_local::{ClusterSpec, database_user, programs};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use picopay_loadtest::machine::Machine;
use picopay_loadtest::page;
use picopay_loadtest::run::Stop;
use picopay_loadtest::tally::{Errors, count_error};

pub mod pace;
use pace::Pace;

pub(crate) mod stand;
use stand::{LoadFigures, Stand};

pub(crate) mod history;

pub(crate) mod wal_files;

pub(crate) mod write_back;

pub mod mix;
use mix::Mix;

mod baseline;
use baseline::Baseline;

mod saturation;

mod latency;

pub mod cost;
use cost::Cost;

mod front;

pub(crate) mod cpu;

mod full;
mod heavy;
use full::{Full, FullBench};

pub mod figure;
use figure::{median, rounded};

pub mod summary;
use summary::{CpuForOne, Latency, Round, Summary};

pub mod bar;

mod bars;

/// Shards of the bench's cluster.
const SHARDS: usize = 2;

#[derive(Debug, Clone)]
pub struct Bench {
    pub pace: Pace,
    pub is_full: bool,
    pub out: PathBuf,
    pub notes: Vec<(String, String)>,
}

impl Bench {
    /// Fails when something is missing on this machine. Lost or doubled writes and counted errors are in the summary
    /// instead.
    pub async fn run(&self, stop: &Stop) -> anyhow::Result<Summary> {
        let (started, began) = (SystemTime::now(), Instant::now());
        fs::create_dir_all(&self.out).with_context(|| format!("{} cannot be made", self.out.display()))?;
        let pace = &self.pace;
        let sockets = sockets()?;
        let spec = ClusterSpec::default()
            .with_shards(SHARDS)
            .with_primary_setting("unix_socket_directories", &sockets.path().to_string_lossy());
        let mut stand = Stand::start(spec, pace, &self.out.join("acks.jsonl"), stop).await?;
        let readers = mix::READERS.min(pace.users);
        let filled = history::fill_users(&stand, i64::try_from(readers)?, i64::try_from(mix::PAGE)?).await?;
        ensure!(filled == readers * mix::PAGE, "{readers} users have {filled} charges, and not a page each");
        let mut baseline = Baseline::prepare(&stand, sockets.path()).await?;

        let rounds = self.alternate(&mut stand, &mut baseline, stop).await?;
        let saturation_per_second = median(rounds.iter().map(|round| round.saturation.per_second));
        let rate_per_second = (saturation_per_second / 2.0).round();
        let latency_loads = latency::measure(&mut stand, pace, rate_per_second, stop).await?;
        let latency = latency::middle(&latency_loads);
        let memory_mib = stand.processes.peak_memory()?;
        let front = front::measure(&stand, pace, stop).await?;
        let (mixed, uniform) = saturation::measure_mixed(&mut stand, pace, stop).await?;
        baseline.check().await?;

        let mut errors_by_name = stand.errors().clone();
        let (versions, durability) = self.surroundings(&stand)?;
        eprintln!("verify      looks up every acknowledged write");
        let proof = stand.prove().await?;
        let full = if self.is_full { Some(self.full(stop, &mut errors_by_name).await?) } else { None };

        let share = |wanted: Mix| {
            mixed.iter().find(|mixed| mixed.mix == wanted).map(|mixed| mixed.share).expect("all are measured")
        };
        let batches_per_second = mixed
            .iter()
            .find(|mixed| mixed.mix == Mix::Batches)
            .map_or(0.0, |mixed| mixed.figures.per_second);
        let of_middle = middle_of(&rounds, |round| &round.saturation);
        let wal_bytes_per_charge = median(rounds.iter().map(|round| round.saturation.wal_bytes));
        let proofs = || std::iter::once(&proof).chain(full.iter().flat_map(|full| &full.proofs));
        let mut summary = Summary {
            ratio: median(rounds.iter().map(|round| round.ratio)),
            baseline_per_second: median(rounds.iter().map(|round| round.baseline_per_second)),
            saturation_per_second,
            cpu_us_per_charge: CpuForOne::of(of_middle),
            cpu_us_per_page: CpuForOne::of(middle_of(&rounds, |round| &round.pages)),
            cpu_us_per_balance: CpuForOne::of(middle_of(&rounds, |round| &round.balances)),
            wal_bytes_per_charge,
            generator_us_per_charge: of_middle.generator_us,
            costs: costs(&rounds, &latency_loads),
            front,
            latency: Latency {
                p50_ms: latency.p50_ms,
                p99_ms: latency.p99_ms,
                p999_ms: latency.p999_ms,
                max_ms: latency.max_ms,
                rate_per_second,
            },
            hot_user: share(Mix::HotUser),
            retry_storm: share(Mix::RetryStorm),
            reads: share(Mix::Reads),
            batches: share(Mix::Batches),
            batches_of_tigerbeetle: rounded(batches_per_second / mix::TIGERBEETLE_PER_SECOND),
            memory_mib,
            errors: errors_by_name.values().sum(),
            lost: proofs().map(|proof| proof.lost).sum(),
            doubled: proofs().map(|proof| proof.doubled).sum(),
            failures: Vec::new(),
            warnings: Vec::new(),
            bars: Vec::new(),
            settings: self.settings(),
            versions,
            durability,
            machine: Machine::read(),
            started_at: jiff::Timestamp::try_from(started).map(|at| at.to_string()).unwrap_or_default(),
            took_s: rounded(began.elapsed().as_secs_f64()),
            errors_by_name,
            rounds,
            latency_loads,
            mixed,
            uniform,
            proof,
            full,
        };
        summary.failures = failures(&summary);
        summary.warnings = warnings(&summary);
        summary.bars = bars::bars(&summary);
        Ok(summary)
    }

    pub fn write(&self, summary: &Summary) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(&summary.without_seconds())? + "\n";
        for (name, text) in
            [("summary.json", json), ("report.html", page::fill(&serde_json::to_string(summary)?))]
        {
            let path = self.out.join(name);
            fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }

    async fn alternate(
        &self,
        stand: &mut Stand,
        baseline: &mut Baseline,
        stop: &Stop,
    ) -> anyhow::Result<Vec<Round>> {
        let mut rounds = Vec::new();
        for round in 1..=self.pace.rounds {
            eprintln!("round {round} of {}", self.pace.rounds);
            let runs = baseline.run_round(stand, &self.pace).await?;
            ensure!(!stop.is_set(), "stopped");
            let saturation = saturation::find(stand, &self.pace, stop).await?;
            let best = runs.iter().map(|run| run.per_second).fold(0.0, f64::max);
            let ratio = rounded(saturation.per_second / best.max(1.0));
            eprintln!("ratio       {ratio:.2} times the best baseline");
            let rates = cost::measure(stand, baseline, &self.pace, stop).await?;
            let pages = saturation::measure_reads(stand, &self.pace, Mix::Pages, stop).await?;
            let balances = saturation::measure_reads(stand, &self.pace, Mix::Balances, stop).await?;
            rounds.push(Round {
                ratio,
                baseline_per_second: best,
                baseline: runs,
                saturation,
                rates,
                pages,
                balances,
            });
        }
        Ok(rounds)
    }

    async fn full(&self, stop: &Stop, errors: &mut Errors) -> anyhow::Result<Full> {
        let bench = FullBench {
            pace: &self.pace,
            folder: &self.out,
            stop,
            errors: Errors::new(),
            proofs: Vec::new(),
        };
        let full = bench.run().await?;
        for (code, count) in &full.errors {
            count_error(errors, code, *count);
        }
        Ok(full)
    }

    fn settings(&self) -> Value {
        json!({
            "shards": SHARDS,
            "nodes_per_shard": ClusterSpec::default().nodes_per_shard,
            "redis": true,
            "saturation_connections": saturation::CANDIDATES,
            "mixed_connections": saturation::CONNECTIONS,
            "batch_connections": saturation::BATCH_CONNECTIONS,
            "batch": mix::BATCH,
            "latency_connections": latency::CONNECTIONS,
            "baseline_clients": baseline::CLIENTS,
            "pace": self.pace,
            "full": self.is_full,
        })
    }

    fn surroundings(&self, stand: &Stand) -> anyhow::Result<(Map<String, Value>, Map<String, Value>)> {
        let mut versions = stand.around.versions.clone();
        versions.insert("picopay".to_owned(), env!("CARGO_PKG_VERSION").into());
        versions.insert("pgbench".to_owned(), programs::find_postgres()?.version.into());
        let build = if cfg!(debug_assertions) { "debug: these figures mean nothing" } else { "release" };
        versions.insert("build".to_owned(), build.into());
        for (name, value) in &self.notes {
            versions.insert(name.clone(), value.clone().into());
        }
        Ok((versions, stand.around.durability.clone()))
    }
}

fn failures(summary: &Summary) -> Vec<String> {
    let mut failures = Vec::new();
    for (count, what) in [
        (summary.errors, "errors"),
        (summary.lost, "acknowledged writes are lost"),
        (summary.doubled, "keys have more than one transaction"),
    ] {
        if count > 0 {
            failures.push(format!("{count} {what}"));
        }
    }
    for proof in std::iter::once(&summary.proof).chain(summary.full.iter().flat_map(|full| &full.proofs)) {
        failures.extend(proof.wrong.iter().map(|wrong| format!("picopay verify: {wrong}")));
    }
    failures
}

/// If others use more of the machine, the figures are theirs too.
const OTHERS_MAX: f64 = 0.1;

fn warnings(summary: &Summary) -> Vec<String> {
    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push("this is a debug build, and so is the cluster beside it".to_owned());
    }
    let most = |of: fn(&stand::MachineShares) -> f64| {
        summary.rounds.iter().map(|round| of(&round.saturation.machine)).fold(0.0, f64::max)
    };
    for (share, what) in [
        (most(|shares| shares.others), "was busy with other programs for"),
        (most(|shares| shares.stolen), "was denied its cores by its host for"),
    ] {
        if share > OTHERS_MAX {
            warnings.push(format!("the machine {what} {:.0} % of the time of a round", share * 100.0));
        }
    }
    warnings
}

fn middle_of(rounds: &[Round], load: impl Fn(&Round) -> &LoadFigures) -> &LoadFigures {
    let loads: Vec<&LoadFigures> = rounds.iter().map(load).collect();
    cost::middle(&loads)
}

fn costs(rounds: &[Round], latency_loads: &[LoadFigures]) -> Vec<Cost> {
    let count = rounds.first().map_or(0, |round| round.rates.len());
    let at_rates = (0..count).map(|number| {
        let of_rate: Vec<_> = rounds.iter().map(|round| &round.rates[number]).collect();
        Cost::beside_pgbench(&of_rate)
    });
    let half: Vec<&LoadFigures> = latency_loads.iter().collect();
    let all: Vec<&LoadFigures> = rounds.iter().map(|round| &round.saturation).collect();
    at_rates
        .chain([Cost::of("half of saturation".to_owned(), &half), Cost::of("saturation".to_owned(), &all)])
        .collect()
}

/// A folder for the primaries' Unix sockets, whose path must be short.
fn sockets() -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("picopay-bench-").tempdir()?;
    if let Some(database_user) = database_user::find()? {
        let user = User::from_name(&database_user.name)?.context("the user of PostgreSQL is gone")?;
        chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok(folder)
}
