//! `picopay-loadtest run`: from flags to a plan, from what was measured to a report and an exit code.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use picopay_loadtest::acks::{AckFile, AckSinks};
use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::cluster_view;
use picopay_loadtest::command_line::{Failure, GatewayArgs, parse_note, usage};
use picopay_loadtest::http_client::caller::Caller;
use picopay_loadtest::http_client::target::Target;
use picopay_loadtest::live::Live;
use picopay_loadtest::population;
use picopay_loadtest::report::{Report, Surroundings};
use picopay_loadtest::run::{self, Plan, Rhythm, Stop};
use picopay_loadtest::scenario::{Scenario, ScenarioArgs, ScenarioTraffic};
use picopay_loadtest::shard_map::ShardMap;
use picopay_local::{ClusterSpec, LocalCluster};
use picopay_shared::cluster::Cluster;
use picopay_shared::money::Money;
use serde_json::{Value, json};

use super::flags::{parse_seconds, rhythm};

/// An open loop must not become a closed one for want of connections.
const CONNECTIONS_OPEN: usize = 512;
/// More only queue in the gateway.
const CONNECTIONS_CLOSED: usize = 64;
/// The most descriptors that Linux gives a process without being asked twice.
const CONNECTIONS_MAX: usize = 100_000;
const THREADS_MAX: u32 = 256;

/// The flags of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    gateway: GatewayArgs,

    /// Start a cluster on this machine for the run, with empty databases, and load that.
    #[arg(long, conflicts_with_all = ["url", "api_key", "cluster"], help_heading = "Gateway")]
    local: bool,
    /// Shards of the cluster of --local.
    #[arg(long, default_value_t = 2, requires = "local", value_parser = clap::value_parser!(u16).range(1..=16), value_name = "N", help_heading = "Gateway")]
    local_shards: u16,
    /// The cluster's cluster.toml: its databases are asked for slots and durability, for the report only.
    #[arg(long, value_name = "FILE", help_heading = "Gateway")]
    cluster: Option<PathBuf>,

    /// Arrivals a second, on a schedule (open loop). Without it each connection sends as soon as it was answered (closed loop).
    #[arg(long, value_name = "PER_SECOND", help_heading = "Load")]
    rate: Option<f64>,
    /// How arrivals are spaced.
    #[arg(long, value_enum, default_value_t, requires = "rate", help_heading = "Load")]
    arrivals: Spacing,
    /// Connections: how many in a closed loop [default: 64], at most how many in an open one [default: 512].
    #[arg(long, value_name = "N", help_heading = "Load")]
    connections: Option<usize>,
    /// Arrivals that may wait for a free connection [default: one second of them]. What comes on top is dropped and reported.
    #[arg(long, value_name = "N", requires = "rate", help_heading = "Load")]
    waiting_max: Option<usize>,
    /// How long to measure.
    #[arg(long, default_value = "30", value_parser = parse_seconds, value_name = "SECONDS", help_heading = "Load")]
    duration: Duration,
    /// How long to load before measuring.
    #[arg(long, default_value = "5", value_parser = parse_seconds, value_name = "SECONDS", help_heading = "Load")]
    warmup: Duration,
    /// Give a request up after this long.
    #[arg(long, default_value = "15", value_parser = parse_seconds, value_name = "SECONDS", help_heading = "Load")]
    timeout: Duration,
    /// How many threads send requests.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Load")]
    threads: u32,

    #[command(flatten)]
    scenario: ScenarioArgs,
    /// What each user is topped up by before the load.
    #[arg(long, default_value = "1000000", value_name = "AMOUNT")]
    fund: String,
    /// The users are there already and have money.
    #[arg(long)]
    skip_funding: bool,

    /// Append every acknowledged write to this file, for picopay verify --acks.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    acks: Option<PathBuf>,
    /// Write report.html and report.json into this folder.
    #[arg(long, value_name = "FOLDER", help_heading = "Results")]
    report: Option<PathBuf>,
    /// Exit with 1 also when there was an error, or an arrival was dropped.
    #[arg(long, help_heading = "Results")]
    fail_on_errors: bool,
    /// Something to have in the report, for example --note commit=abc1234. Can be given several times.
    #[arg(long = "note", value_name = "NAME=VALUE", value_parser = parse_note, help_heading = "Results")]
    notes: Vec<(String, String)>,
}

pub async fn run(args: RunArgs, stop: &Stop) -> Result<(), Failure> {
    let load = Load::new(args)?;
    if !load.args.local {
        let cluster = match &load.args.cluster {
            Some(file) => Some(Cluster::load(file).map_err(|error| usage(anyhow!("--cluster: {error}")))?),
            None => None,
        };
        let target = load.args.gateway.target()?;
        return load.run(&target, cluster.as_ref(), stop).await;
    }
    eprintln!("starting {} shards, each with a primary and a synchronous replica", load.args.local_shards);
    let spec = ClusterSpec::default().with_shards(usize::from(load.args.local_shards));
    let local = LocalCluster::start(spec).await.context("no cluster on this machine")?;
    let done = load.run_on(&local, stop).await;
    local.stop().await;
    done
}

struct Load {
    args: RunArgs,
    scenario: Scenario,
    fund: Money,
    rhythm: Rhythm,
    connections: usize,
}

impl Load {
    fn new(args: RunArgs) -> Result<Self, Failure> {
        let scenario = Scenario::new(args.scenario.clone()).map_err(usage)?;
        let fund = Money::parse(&args.fund, scenario.currency());
        let fund = fund.map_err(|error| usage(anyhow!("--fund {}: {error}", args.fund)))?;
        let rhythm = rhythm(args.rate, args.arrivals, args.waiting_max).map_err(usage)?;
        let connections = args.connections().map_err(usage)?;
        Ok(Self { args, scenario, fund, rhythm, connections })
    }

    async fn run_on(&self, local: &LocalCluster, stop: &Stop) -> Result<(), Failure> {
        let target =
            Target::trusting(&local.gateway_url(), Some(local.api_key()), local.authority_file().as_deref())?;
        let cluster = Cluster::load(&local.cluster_file()).context("the local cluster")?;
        self.run(&target, Some(&cluster), stop).await
    }

    async fn run(&self, target: &Target, cluster: Option<&Cluster>, stop: &Stop) -> Result<(), Failure> {
        let Self { args, scenario, fund, rhythm, connections } = self;
        run::check_gateway(target)?;
        let (shards, around) = look_around(target, cluster, &args.notes).await;
        let acks = args.acks.as_deref().map(AckFile::open).transpose()?;

        if !args.skip_funding {
            population::prepare(target, scenario, *fund, acks.as_ref(), stop).await?;
        } else if Caller::new(target.clone()).get(&format!("/v1/users/{}/balance", scenario.user(0)))?.status
            == 404
        {
            return Err(anyhow!(
                "user {} is not there; leave --skip-funding out, and the users are made",
                scenario.user(0)
            )
            .into());
        }
        if stop.is_set() {
            return Err(anyhow!("stopped before the load began").into());
        }

        let plan = Plan {
            target: target.clone(),
            rhythm: *rhythm,
            connections: *connections,
            threads: args.threads,
            warmup: args.warmup,
            duration: args.duration,
            request_timeout: args.timeout,
            seed: args.scenario.seed,
            shards: Arc::new(shards),
        };
        let mut live = Live::new(plan.warmup, plan.duration);
        let sinks = acks.as_ref().map(AckFile::sinks);
        let traffic = {
            let (scenario, target) = (scenario.clone(), target.clone());
            move |worker| ScenarioTraffic::new(&scenario, &target, worker, sinks.as_ref().map(AckSinks::sink))
        };
        let measured = run::run(&plan, stop, traffic, |second| live.show(second)).await?;
        live.finish();

        let acknowledged = acks.map(AckFile::finish).transpose();
        let lines = acknowledged.as_ref().ok().copied().flatten();
        let report = Report::new(&plan, &measured, args.settings(&plan, scenario), lines, around);
        println!("{}", report.summary().trim_end());
        if let Some(folder) = &args.report {
            report.write(folder)?;
            println!("report      {}", folder.join("report.html").display());
        }
        acknowledged?;
        let errors: u64 = report.errors.values().sum();
        if !report.failures.is_empty() {
            return Err(anyhow!("{}", report.failures.join("; ")).into());
        }
        if args.fail_on_errors && errors + report.dropped > 0 {
            return Err(anyhow!(
                "{errors} errors and {} dropped arrivals, with --fail-on-errors",
                report.dropped
            )
            .into());
        }
        Ok(())
    }
}

impl RunArgs {
    fn connections(&self) -> anyhow::Result<usize> {
        let default = if self.rate.is_some() { CONNECTIONS_OPEN } else { CONNECTIONS_CLOSED };
        let connections = self.connections.unwrap_or(default);
        if !(1..=CONNECTIONS_MAX).contains(&connections) {
            return Err(anyhow!("--connections {connections}: from 1 to {CONNECTIONS_MAX}"));
        }
        if !(1..=THREADS_MAX).contains(&self.threads) {
            return Err(anyhow!("--threads {}: from 1 to {THREADS_MAX}", self.threads));
        }
        if self.duration.is_zero() || self.timeout.is_zero() {
            return Err(anyhow!("--duration and --timeout must be longer than nothing"));
        }
        Ok(connections)
    }

    /// Every flag, as it was or as it was meant; never the key.
    fn settings(&self, plan: &Plan, scenario: &Scenario) -> Value {
        json!({
            "url": plan.target.url(),
            "local": self.local,
            "rhythm": plan.rhythm,
            "connections": plan.connections,
            "threads": plan.threads,
            "warmup_s": plan.warmup.as_secs_f64(),
            "duration_s": plan.duration.as_secs_f64(),
            "timeout_s": plan.request_timeout.as_secs_f64(),
            "traffic": scenario.args(),
            "fund": self.fund,
            "skip_funding": self.skip_funding,
            "acks": self.acks,
            "run": format!("{:016x}", scenario.run()),
        })
    }
}

/// For the report only, so nothing here ends the run.
async fn look_around(
    target: &Target,
    cluster: Option<&Cluster>,
    notes: &[(String, String)],
) -> (ShardMap, Surroundings) {
    let (shards, mut around) = match cluster {
        Some(cluster) => cluster_view::read(cluster).await.unwrap_or_else(|error| {
            eprintln!("warning: {error:#}; the report does without");
            (ShardMap::even(1), Surroundings::default())
        }),
        None => (shards_by_name(target), Surroundings::default()),
    };
    if let Some(version) = gateway_version(target) {
        around.versions.insert("gateway".to_owned(), version.into());
    }
    for (name, value) in notes {
        around.durability.insert(name.clone(), value.clone().into());
    }
    (shards, around)
}

/// As `picopay init` dealt the slots out.
fn shards_by_name(target: &Target) -> ShardMap {
    let names = || {
        let ready = Caller::new(target.clone()).get("/readyz").ok()?.json()?;
        let shards = ready.get("shards")?.as_array()?;
        shards.iter().map(|shard| Some(shard.get("shard")?.as_str()?.to_owned())).collect::<Option<Vec<_>>>()
    };
    match names().filter(|names| !names.is_empty()) {
        Some(names) => ShardMap::dealt_evenly(&names),
        None => ShardMap::even(1),
    }
}

fn gateway_version(target: &Target) -> Option<String> {
    let description = Caller::new(target.clone()).get("/openapi.json").ok()?.json()?;
    Some(description.pointer("/info/version")?.as_str()?.to_owned())
}
