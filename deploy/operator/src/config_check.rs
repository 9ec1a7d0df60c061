//! Whether the configuration files are right, each and all together.
//!
//! It reads files only: `picopay status` tells whether what they name answers. With `--against-running` it asks gateways
//! and nodes what they go by, and compares it with the file.

mod against_running;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use picopay_gateway_config::GatewayConfig;
use picopay_postgres::{addresses_of, databases_of};
use picopay_shard_node_config::{NodeConfig, redis_client};
use picopay_shared::cluster::{Cluster, Durability, Shard};
use picopay_shared::config::ConfigError;
use picopay_tls::{Authorities, Caller};
use serde::Serialize;
use uuid::Uuid;

use self::against_running::RunningLine;
use crate::cluster_file::ClusterArgs;
use crate::output::{self, OutputArgs};

/// What can be done with configuration files.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check cluster.toml, and the gateway.toml and node.toml files given or found beside it
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// A gateway's file; may be given several times [default: *gateway*.toml beside the cluster's file]
    #[arg(long, value_name = "FILE")]
    gateway: Vec<PathBuf>,
    /// A node's file; may be given several times [default: *node*.toml beside the cluster's file]
    #[arg(long, value_name = "FILE")]
    node: Vec<PathBuf>,
    /// Also say whether all gateways and nodes that run have taken the file, and which entry differs. Exit code 3 when one does
    #[arg(long)]
    against_running: bool,
    /// A running gateway, at its admin address where it has one; may be given several times [default: what the gateways'
    /// files say, else http://127.0.0.1:8080]
    #[arg(long, value_name = "URL", requires = "against_running")]
    gateway_url: Vec<String>,
    /// For gateways with https: the file with the authority that signed their certificates [default: ca_file of
    /// cluster.toml, else the system's]
    #[arg(long, value_name = "FILE", requires = "against_running")]
    cacert: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The fields' names of `--output json` stay.
#[derive(Debug, Serialize)]
struct CheckReport {
    /// Whether there is no problem. The exit code is 1 when there is one.
    is_good: bool,
    /// Then the exit code is 3, unless it is 1. Left out when nothing was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_change: Option<bool>,
    cluster_file: PathBuf,
    cluster_id: Option<Uuid>,
    shards: Vec<ShardLine>,
    gateways: Vec<GatewayLine>,
    nodes: Vec<NodeFileLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<Vec<RunningLine>>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShardLine {
    shard: String,
    durability: &'static str,
    primary: Vec<String>,
    replicas: Vec<String>,
    nodes: Vec<String>,
    redis: Option<String>,
}

#[derive(Debug, Serialize)]
struct GatewayLine {
    file: PathBuf,
    listen: String,
    public_url: String,
    /// Where it tells its configuration.
    asked_at: String,
    keys: Vec<KeyLine>,
}

#[derive(Debug, Serialize)]
struct KeyLine {
    name: String,
    scopes: Vec<&'static str>,
    rate_per_second: Option<u32>,
}

#[derive(Debug, Serialize)]
struct NodeFileLine {
    file: PathBuf,
    shard: String,
    listen: String,
}

/// Not 2, which is a wrong command line's.
const WOULD_CHANGE: u8 = 3;

/// Where a gateway is looked for when no file says it: its own default.
const GATEWAY_URL: &str = "http://127.0.0.1:8080";

pub async fn run(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    let ConfigCommand::Check(args) = command;
    let cluster_file = args.cluster.path()?;
    let folder = match cluster_file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let given_or_found = |given: Vec<PathBuf>, word: &str| {
        if given.is_empty() { files_beside(folder, word) } else { given }
    };
    let gateways = given_or_found(args.gateway, "gateway");
    let nodes = given_or_found(args.node, "node");
    let (mut report, cluster) = check(cluster_file, &gateways, &nodes);
    if let Some(cluster) = cluster.filter(|_| args.against_running) {
        let urls = if args.gateway_url.is_empty() { gateway_urls(&report) } else { args.gateway_url };
        let caller = gateway_caller(&cluster, args.cacert.as_deref())?;
        let running = against_running::compare(&cluster, &urls, caller.as_ref()).await;
        report.problems.extend(running.iter().filter_map(RunningLine::problem));
        report.is_good = report.problems.is_empty();
        report.would_change = Some(running.iter().any(RunningLine::would_change));
        report.running = Some(running);
    }
    args.output.print(&report, screen);
    Ok(match (report.is_good, report.would_change) {
        (false, _) => ExitCode::FAILURE,
        (true, Some(true)) => ExitCode::from(WOULD_CHANGE),
        (true, Some(false) | None) => ExitCode::SUCCESS,
    })
}

fn gateway_urls(report: &CheckReport) -> Vec<String> {
    if report.gateways.is_empty() {
        return vec![GATEWAY_URL.to_owned()];
    }
    report.gateways.iter().map(|gateway| gateway.asked_at.clone()).collect()
}

/// Where a gateway tells its configuration: at its admin address, which is without TLS, else where it listens.
fn asked_at(gateway: &GatewayConfig) -> String {
    let (scheme, listen) = match (&gateway.admin, &gateway.tls) {
        (Some(admin), _) => ("http", &admin.listen),
        (None, Some(_)) => ("https", &gateway.listen),
        (None, None) => ("http", &gateway.listen),
    };
    // Who listens everywhere listens here too.
    let here = [("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")];
    let found = here.iter().find_map(|(all, own)| Some(format!("{own}{}", listen.strip_prefix(all)?)));
    format!("{scheme}://{}", found.as_ref().unwrap_or(listen))
}

/// Gateways ask nobody for a certificate, so none is shown: it may be of an authority that they do not know.
fn gateway_caller(cluster: &Cluster, cacert: Option<&Path>) -> anyhow::Result<Option<Caller>> {
    let authorities = match (cacert, &cluster.caller) {
        (Some(file), _) => Some(Authorities::read(file).context("--cacert")?),
        (None, Some(caller)) => Some(caller.authorities.clone()),
        (None, None) => Authorities::of_system().ok(),
    };
    Ok(authorities.map(|authorities| Caller { authorities, identity: None }))
}

/// Where the gateways whose files are in this folder show their metrics, seen from this machine; without any, where a gateway
/// listens by default.
pub fn metrics_urls(folder: &Path) -> Vec<String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let files = files_beside(folder, "gateway");
    let urls: Vec<String> = files
        .iter()
        .filter_map(|file| GatewayConfig::load(file).ok())
        .map(|gateway| metrics_url(&gateway))
        .collect();
    if urls.is_empty() { vec![GATEWAY_URL.to_owned()] } else { urls }
}

fn metrics_url(gateway: &GatewayConfig) -> String {
    let (scheme, listen) = match (&gateway.admin, &gateway.tls) {
        (Some(admin), _) => ("http", &admin.listen),
        (None, Some(_)) => ("https", &gateway.listen),
        (None, None) => ("http", &gateway.listen),
    };
    // Listening on all addresses, it is here as well.
    let here = match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
        _ => listen.clone(),
    };
    format!("{scheme}://{here}")
}

fn files_beside(folder: &Path, word: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_wanted = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.contains(word) && path.extension().is_some_and(|extension| extension == "toml")
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_wanted).collect();
    files.sort();
    files
}

fn check(cluster_file: PathBuf, gateways: &[PathBuf], nodes: &[PathBuf]) -> (CheckReport, Option<Cluster>) {
    let mut problems = Vec::new();
    let cluster = keep(Cluster::load(&cluster_file), &mut problems);
    let mut report = CheckReport {
        is_good: false,
        would_change: None,
        running: None,
        cluster_id: cluster.as_ref().and_then(Cluster::cluster_id),
        shards: cluster.iter().flat_map(|cluster| &cluster.shards).map(shard_line).collect(),
        cluster_file,
        gateways: Vec::new(),
        nodes: Vec::new(),
        problems,
    };
    if let Some(cluster) = &cluster {
        check_addresses(&report.cluster_file, cluster, &mut report.problems);
    }
    for file in gateways {
        if let Some(gateway) = keep(GatewayConfig::load(file), &mut report.problems) {
            report.gateways.push(gateway_line(file, &gateway));
        }
    }
    for file in nodes {
        let Some(node) = keep(NodeConfig::load(file), &mut report.problems) else { continue };
        if let Some(cluster) = &cluster
            && cluster.shard(&node.shard).is_none()
        {
            report.problems.push(format!(
                "{}: shard: {} has no shard {:?}",
                file.display(),
                report.cluster_file.display(),
                node.shard
            ));
        }
        report.nodes.push(NodeFileLine {
            file: file.clone(),
            shard: node.shard,
            listen: node.listen.to_string(),
        });
    }
    report.is_good = report.problems.is_empty();
    (report, cluster)
}

fn keep<T>(loaded: Result<T, ConfigError>, problems: &mut Vec<String>) -> Option<T> {
    loaded.map_err(|error| problems.extend(error.to_string().lines().map(str::to_owned))).ok()
}

/// No two entries may lead to one database. Primary and replica of a shard may name the same servers, if both name several:
/// then each takes the one that has its role.
fn check_addresses(file: &Path, cluster: &Cluster, problems: &mut Vec<String>) {
    let mut seen: HashMap<String, Entry> = HashMap::new();
    for (position, shard) in cluster.shards.iter().enumerate() {
        let place = |key: &str| format!("{}: shards[{position}] ({}): {key}", file.display(), shard.name);
        let strings = std::iter::once(("primary".to_owned(), &shard.primary)).chain(
            shard.replicas.iter().enumerate().map(|(number, string)| (format!("replicas[{number}]"), string)),
        );
        for (key, string) in strings {
            let databases = match databases_of(string) {
                Ok(databases) => databases,
                Err(reason) => {
                    problems.push(format!("{}: {reason}", place(&key)));
                    continue;
                }
            };
            let entry = Entry { place: place(&key), shard: position, names_several: databases.len() > 1 };
            for database in databases {
                if let Some(other) = seen.insert(database.clone(), entry.clone())
                    && !entry.may_share_with(&other)
                {
                    problems.push(format!("{}: leads to {database}, as does {}", entry.place, other.place));
                }
            }
        }
        if let Err(error) = redis_client(shard) {
            problems.push(format!("{}: {error}", place("redis")));
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    place: String,
    shard: usize,
    names_several: bool,
}

impl Entry {
    fn may_share_with(&self, other: &Self) -> bool {
        self == other || (self.shard == other.shard && self.names_several && other.names_several)
    }
}

fn shard_line(shard: &Shard) -> ShardLine {
    let addresses = |string: &String| addresses_of(string).unwrap_or_default();
    ShardLine {
        shard: shard.name.clone(),
        durability: match shard.durability {
            Durability::Replicated => "replicated",
            Durability::Local => "local",
        },
        primary: addresses(&shard.primary),
        replicas: shard.replicas.iter().flat_map(addresses).collect(),
        nodes: shard.nodes.clone(),
        redis: redis_client(shard)
            .ok()
            .flatten()
            .map(|client| client.get_connection_info().addr().to_string()),
    }
}

fn gateway_line(file: &Path, gateway: &GatewayConfig) -> GatewayLine {
    let key = |key: &picopay_gateway_config::ApiKey| KeyLine {
        name: key.name.to_string(),
        scopes: key.scopes.iter().map(|scope| scope.as_str()).collect(),
        rate_per_second: key.rate.map(|rate| rate.per_second.get()),
    };
    GatewayLine {
        file: file.to_owned(),
        listen: gateway.listen.clone(),
        public_url: gateway.public_url.clone(),
        asked_at: asked_at(gateway),
        keys: gateway.keys.iter().map(key).collect(),
    }
}

fn screen(report: &CheckReport) -> String {
    let file = report.cluster_file.display();
    let mut parts = vec![match report.cluster_id {
        Some(id) => format!("{file}: cluster {id}"),
        None if report.shards.is_empty() => format!("{file}:"),
        None => format!(
            "{file}: it has no cluster_id, so databases of another cluster may pass; `picopay init` prints the line"
        ),
    }];
    if !report.shards.is_empty() {
        let mut shards = output::table(["shard", "durability", "part", "address"]);
        for shard in &report.shards {
            let (names, addresses): (Vec<&str>, Vec<&str>) = parts_of(shard).into_iter().unzip();
            shards.add_row([&shard.shard, shard.durability, &names.join("\n"), &addresses.join("\n")]);
        }
        parts.push(shards.to_string());
    }
    for gateway in &report.gateways {
        let (file, listen, url) = (gateway.file.display(), &gateway.listen, &gateway.public_url);
        parts.push(format!("{file}: listens on {listen}, is called {url}"));
        let mut keys = output::table(["key", "scopes", "requests"]);
        for key in &gateway.keys {
            let rate = key.rate_per_second.map_or("any number".to_owned(), |rate| format!("{rate} a second"));
            keys.add_row([key.name.clone(), key.scopes.join(", "), rate]);
        }
        parts.push(keys.to_string());
    }
    let node =
        |node: &NodeFileLine| format!("{}: serves {} on {}", node.file.display(), node.shard, node.listen);
    parts.extend(report.nodes.iter().map(node));
    parts.extend(report.running.iter().map(|running| against_running::screen(running)));
    if report.is_good && report.would_change == Some(true) {
        parts.push(output::verdict_good(
            "All good, but not everybody has taken the file: see what differs above.",
        ));
    } else if report.is_good && report.would_change == Some(false) {
        parts.push(output::verdict_good("All good. Everybody has taken the file."));
    } else if report.is_good {
        parts.push(output::verdict_good(match (report.gateways.len(), report.nodes.len()) {
            (0, 0) => "All good. No file of a gateway or a node was given, or found beside it.",
            (0, _) => "All good. No gateway's file was given, or found beside it.",
            (_, 0) => "All good. No node's file was given, or found beside it.",
            _ => "All good.",
        }));
    } else {
        parts.push(output::verdict_bad("To mend:"));
        parts.extend(report.problems.iter().map(|problem| output::bullet(problem)));
    }
    parts.join("\n")
}

fn parts_of(shard: &ShardLine) -> Vec<(&'static str, &str)> {
    fn named<'a>(
        name: &'static str,
        addresses: &'a [String],
    ) -> impl Iterator<Item = (&'static str, &'a str)> {
        addresses.iter().map(move |address| (name, address.as_str()))
    }
    named("primary", &shard.primary)
        .chain(named("replica", &shard.replicas))
        .chain(named("node", &shard.nodes))
        .chain(shard.redis.as_deref().map(|address| ("redis", address)))
        .collect()
}
