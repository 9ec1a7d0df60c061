//! `picopay console`: a page that shows what the cluster is doing, for whoever works on this machine.
//!
//! The page and its server are in `deploy/console`; here it is given what the other commands know.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use picopay_console::{Console, Reports, Settings};
use picopay_shared::cluster::Cluster;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cluster_file::ClusterArgs;
use crate::config_check::metrics_urls;
use crate::output::print;
use crate::probe::{self, Asker};
use crate::{status, transfers};

/// Beside the cluster's file.
const VERIFY_REPORT: &str = "verify.json";

/// As many pending transfers of each shard as `picopay transfers` lists.
const TRANSFERS_LISTED: u32 = 50;

/// Where the page is served, and where it looks.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Where the page is served: a loopback address, since the page has no login
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// A gateway whose charges are shown, at its admin address if it has one; may be given several times [default: where the
    /// gateways' files beside the cluster's file say, else http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    gateway_url: Vec<String>,
    /// What `picopay verify --report FILE` writes [default: verify.json beside the cluster's file]
    #[arg(long, value_name = "FILE", env = "PICOPAY_VERIFY_REPORT", hide_env_values = true)]
    verify_report: Option<PathBuf>,
}

pub async fn run(args: ConsoleArgs) -> anyhow::Result<ExitCode> {
    let cluster_file = args.cluster.path()?;
    let folder = cluster_file.parent().unwrap_or(Path::new("")).to_owned();
    let gateways = if args.gateway_url.is_empty() { metrics_urls(&folder) } else { args.gateway_url };
    let settings = Settings {
        listen: args.listen,
        gateways: gateways.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
        verify_report: args.verify_report.unwrap_or_else(|| folder.join(VERIFY_REPORT)),
        cluster_file,
    };
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let console = Console::open(settings)?;
    print(&format!("The console is at {} for this machine alone. Ctrl-C ends it.", console.url()));
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopping.cancel();
    });
    console.run(Commands::default(), stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// The commands whose answers the page shows.
#[derive(Default)]
struct Commands {
    /// With the cluster that it is for: its connections stay open.
    asker: Mutex<Option<(Arc<Cluster>, Arc<Asker>)>>,
}

impl Commands {
    fn asker(&self, cluster: &Arc<Cluster>) -> Arc<Asker> {
        let mut kept = self.asker.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, asker)) if Arc::ptr_eq(of, cluster) => Arc::clone(asker),
            _ => {
                let asker = Arc::new(Asker::new(cluster));
                *kept = Some((Arc::clone(cluster), Arc::clone(&asker)));
                asker
            }
        }
    }
}

impl Reports for Commands {
    async fn status(&self, cluster: &Arc<Cluster>) -> Value {
        to_json(&status::read(cluster).await)
    }

    async fn transfers(&self, cluster: &Arc<Cluster>) -> Result<Value, String> {
        let report = transfers::read(cluster, TRANSFERS_LISTED).await;
        report.map(|report| to_json(&report)).map_err(|error| crate::chain_of(&error))
    }

    async fn metrics(&self, cluster: &Arc<Cluster>, url: &str) -> Result<String, String> {
        probe::metrics(&self.asker(cluster), url).await
    }
}

fn to_json(report: &impl serde::Serialize) -> Value {
    serde_json::to_value(report).expect("reports are plain structs with text keys")
}
