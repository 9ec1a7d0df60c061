//! `picopay-gateway`: configuration, logging, serve.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use picopay_gateway::server::Door;
use picopay_gateway::state::GatewayState;
use picopay_gateway::{admin, router, server, totals_metrics};
use picopay_gateway_config::{Changeable, GatewayConfig};
use picopay_shared::cluster::Cluster;
use picopay_shared::ending::{EndSignals, Ending, Stage};
use picopay_shared::reload::Reloads;
use picopay_shared::runtime::{self, Share};
use picopay_shared::{open_files, supervisor, telemetry};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// mimalloc is made for many small, short-lived allocations on a few threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The HTTP gateway of PicoPay.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where the shards are.
    #[arg(long, default_value = "cluster.toml")]
    cluster: PathBuf,
    /// How this gateway runs. PICOPAY_GATEWAY__… in the environment goes over it.
    #[arg(long, default_value = "gateway.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let _log = telemetry::start();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For the person who started it, not for the log.
            eprintln!("picopay-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let cluster = Cluster::load(&arguments.cluster)?;
    let config = GatewayConfig::load(&arguments.config)?;
    open_files::allow_many();
    runtime::start(config.worker_threads, Share::All)?.block_on(run(arguments, &cluster, config))
}

async fn run(arguments: &Arguments, cluster: &Cluster, config: GatewayConfig) -> anyhow::Result<()> {
    let listener = server::bind(&config.listen).await?;
    let signals = EndSignals::listen()?;
    let gateway = GatewayState::start(cluster, config);
    let drain = {
        let gateway = Arc::clone(&gateway);
        move || gateway.live().drain
    };
    tokio::spawn(gateway.ending.clone().follow(signals, drain));
    let stop = stop_when_drained(gateway.ending.clone());
    let reloads = Reloads::watch(&arguments.cluster, Arc::clone(&gateway.in_force))?;
    let file_reloads = Reloads::watch(&arguments.config, Arc::clone(&gateway.file_in_force))?;
    let door = Door::new(&gateway)?;
    let admin = match &gateway.config.admin {
        Some(admin) => Some(server::bind(&admin.listen).await?),
        None => None,
    };
    // Before the first request, so that none waits for the map. No shard needs to answer.
    gateway.shards.ask_all().await;
    tokio::spawn(supervisor::keep_informed(gateway.ending.clone()));
    info!(listen = gateway.config.listen, public_url = gateway.config.public_url, "serving");
    let take_over = async |cluster: &Cluster| {
        gateway.take_over(cluster).await;
        Ok(())
    };
    let take_over_file =
        async |changed: &Changeable| gateway.take_over_file(changed, || door.take_over(changed.tls.as_ref()));
    if let Some(listener) = admin {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { admin::serve(listener, &gateway).await });
    }
    tokio::select! {
        () = gateway.ending.reached(Stage::Now) => return Ok(()),
        () = server::serve(listener, &door, router(&gateway), stop) => {}
        never = totals_metrics::keep_reading(&gateway, gateway.config.totals.every) => match never {},
        never = reloads.follow(take_over, |reload| gateway.count_reload(reload)) => match never {},
        never = file_reloads.follow(take_over_file, |reload| gateway.count_reload(reload)) => match never {},
    }
    // Commands of clients that hung up are still under way.
    let closing = tokio::time::timeout(gateway.config.shard_client.request_timeout, gateway.shards.close());
    tokio::select! {
        () = gateway.ending.reached(Stage::Now) => return Ok(()),
        _ = closing => {}
    }
    info!("stopped");
    Ok(())
}

fn stop_when_drained(ending: Ending) -> CancellationToken {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        ending.reached(Stage::Finishing).await;
        stopping.cancel();
    });
    stop
}
