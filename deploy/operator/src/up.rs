//! `picopay up`: a whole cluster on this machine, in the foreground, with a user to charge.
//!
//! `picopay-local` makes the cluster; this is what a person sees of it.

pub mod control;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Effects, Style};
use anyhow::Context as _;
use picopay_local::{ClusterSpec, Data, LocalCluster, SHARDS_MAX};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use uuid::Uuid;

use crate::demo;
use crate::output::print;

/// One is no sharding, and each more is two more PostgreSQL servers.
const SHARDS: usize = 2;

pub const DATA: &str = ".picopay";

const WATCH_INTERVAL: Duration = Duration::from_millis(200);

const SHOWN_LINES: usize = 15;

const BOLD: Style = Style::new().effects(Effects::BOLD);
const DIM: Style = Style::new().effects(Effects::DIMMED);
const RED: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);

/// What `picopay up` takes.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// How many shards, each with its own PostgreSQL primary and replica [default: as many as it has, 2 for a new one]
    #[arg(long, value_parser = parse_shards)]
    shards: Option<usize>,
    /// Where the cluster's data is kept between runs
    #[arg(long, value_name = "FOLDER", default_value = DATA)]
    data: PathBuf,
    /// Begin with empty databases, whatever is there
    #[arg(long)]
    fresh: bool,
    /// Where the gateway listens
    #[arg(long, value_name = "ADDRESS", env = "PICOPAY_GATEWAY__LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Everything over TLS, with an authority and certificates of its own
    #[arg(long)]
    tls: bool,
    /// Do not make the demo user
    #[arg(long)]
    no_demo: bool,
}

/// Runs a cluster until Ctrl-C or SIGTERM.
pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let mut stop = StopSignals::listen()?;
    let started = Instant::now();
    let spec = spec(&args);
    let shards = spec.shards;
    print(&format!("Starting {shards} {}: PostgreSQL, Redis, nodes, gateway …", plural(shards, "shard")));
    let cluster = tokio::select! {
        started = LocalCluster::start(spec) => started?,
        () = stop.wait() => {
            // What was started by then has just been dropped, and ended with that.
            print("Stopped before it was up.");
            return Ok(ExitCode::SUCCESS);
        }
    };
    if !args.no_demo {
        let ask = async |path: &str, key: Option<&str>, body: &Value| cluster.post(path, key, body).await;
        demo::make_users(ask).await.context("without the demo users: --no-demo")?;
    }
    // Without it the cluster runs as well; only `picopay failover` and its like do not reach it.
    let requests = control::listen(&args.data).inspect_err(|error| print(&format!("{error:#}"))).ok();
    print(&welcome(&cluster, &args, started.elapsed()));

    tokio::select! {
        () = watch(&cluster, &mut stop) => {}
        () = control::serve(requests, &cluster) => {}
    }
    print("\nStopping: gateway, nodes, PostgreSQL, Redis …");
    tokio::select! {
        () = cluster.stop() => print("Stopped. The data is kept for the next start."),
        () = stop.wait() => print("Stopped at once."),
    }
    Ok(ExitCode::SUCCESS)
}

fn spec(args: &UpArgs) -> ClusterSpec {
    // Shards may have joined and left since it was made.
    let kept = if args.fresh { None } else { LocalCluster::shards_kept_in(&args.data) };
    ClusterSpec {
        shards: args.shards.or(kept).unwrap_or(SHARDS),
        data: Data::Kept { folder: args.data.clone(), is_fresh: args.fresh },
        gateway_listen: Some(args.listen),
        has_tls: args.tls,
        ..ClusterSpec::default()
    }
}

/// Until a signal comes. A process that dies is reported, and the rest goes on.
async fn watch(cluster: &LocalCluster, stop: &mut StopSignals) {
    let mut reported = HashSet::new();
    loop {
        tokio::select! {
            () = stop.wait() => return,
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        for process in cluster.processes() {
            let Some(status) = process.died() else { continue };
            if reported.insert(process.name().to_owned()) {
                let (name, log) = (process.name(), process.log_tail(SHOWN_LINES));
                let file = process.log_file().display();
                print(&format!(
                    "\n{RED}{name} died ({status}).{RED:#} The rest goes on; Ctrl-C stops it. The end of {file}:\n{log}"
                ));
            }
        }
    }
}

fn welcome(cluster: &LocalCluster, args: &UpArgs, took: Duration) -> String {
    let (url, key) = (cluster.gateway_url(), cluster.api_key());
    let trust = cluster
        .authority_file()
        .map_or_else(String::new, |file| format!(" --cacert {}", shell_quoted(&file.to_string_lossy())));
    let mut text = String::new();
    let mut say = |line: &str| {
        let _ = writeln!(text, "{line}");
    };
    say(&format!("Ready in {:.1} s.\n", took.as_secs_f64()));
    say(&format!("  gateway   {BOLD}{url}{BOLD:#}   (the API to read and try: {url}/docs)"));
    say(&format!("  API key   {BOLD}{key}{BOLD:#}"));
    say(&format!("  status    {}", status_command(cluster, args)));
    if let Some(note) = cluster.note() {
        say(&format!("  note      {note}"));
    }
    if !args.no_demo {
        let header = format!("-H 'X-API-Key: {key}'");
        let once = Uuid::new_v4();
        say("\nUsers 1 and 2 were given 1000.00 USD each. Charge user 1 50.00 of it:\n");
        say(&format!(
            "  curl{trust} -iw '\\n' {url}/charge {header} \\\n    -H 'Content-Type: application/json' -H 'Idempotency-Key: {once}' \\\n    \
             -d '{{\"user_id\": 1, \"amount\": \"50.00\", \"currency\": \"USD\"}}'"
        ));
        say(
            "\nThe same line again gets the same answer, marked Idempotent-Replayed: true, and charges nothing.",
        );
        say("Send 30.00 to user 2:\n");
        say(&format!(
            "  curl{trust} -w '\\n' {url}/transfers {header} -H 'Content-Type: application/json' \\\n    \
             -d '{{\"from_user_id\": 1, \"to_user_id\": 2, \"amount\": \"30.00\", \"currency\": \"USD\"}}'"
        ));
        say("\nThe balance, and what happened to it:\n");
        say(&format!("  curl{trust} -w '\\n' {header} {url}/users/1/balance"));
        say(&format!("  curl{trust} -w '\\n' {header} '{url}/transactions?user_id=1'"));
    }
    let _ = write!(text, "\n{DIM}Ctrl-C stops all of it.{DIM:#}");
    text
}

fn status_command(cluster: &LocalCluster, args: &UpArgs) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("picopay"));
    let program = program.strip_prefix(&here).unwrap_or(&program);
    let mut command = format!("{} status", shell_quoted(&program.to_string_lossy()));
    if args.data != Path::new(DATA) {
        let file = cluster.cluster_file();
        let _ = write!(command, " --cluster {}", shell_quoted(&file.to_string_lossy()));
    }
    command
}

fn shell_quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@".contains(letter);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn parse_shards(text: &str) -> Result<usize, String> {
    let shards = text.parse().ok().filter(|shards| (1..=SHARDS_MAX).contains(shards));
    shards.ok_or_else(|| format!("a number from 1 to {SHARDS_MAX}"))
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl StopSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
