//! `picopay-gateway`: configuration, logging, serve.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use picopay_gateway::state::GatewayState;
use picopay_gateway::{router, server, totals_metrics};
use picopay_gateway_config::{GatewayConfig, Keys};
use picopay_shared::cluster::Cluster;
use picopay_shared::reload::Reloads;
use picopay_shared::runtime::{self, Share};
use picopay_shared::{open_files, telemetry};
use tokio::signal::unix::{SignalKind, signal};
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
    telemetry::start();
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
    let stop = stop_on_signal()?;
    let gateway = GatewayState::start(cluster, config);
    let reloads = Reloads::watch(&arguments.cluster, Arc::clone(&gateway.in_force))?;
    let key_reloads = Reloads::watch(&arguments.config, Arc::clone(&gateway.keys_in_force))?;
    // Before the first request, so that none waits for the map. No shard needs to answer.
    gateway.shards.ask_all().await;
    info!(listen = gateway.config.listen, public_url = gateway.config.public_url, "serving");
    let take_over = async |cluster: &Cluster| {
        gateway.take_over(cluster).await;
        Ok(())
    };
    let replace_keys = async |Keys(keys): &Keys| {
        gateway.keys.replace(keys);
        Ok(())
    };
    tokio::select! {
        () = server::serve(listener, router(&gateway), &gateway.config.server, &gateway.metrics, stop) => {}
        never = totals_metrics::keep_reading(&gateway, gateway.config.totals.every) => match never {},
        never = reloads.follow(take_over, |reload| gateway.count_reload(reload)) => match never {},
        never = key_reloads.follow(replace_keys, |reload| gateway.count_reload(reload)) => match never {},
    }
    // Commands of clients that hung up are still under way.
    let _ = tokio::time::timeout(gateway.config.shard_client.request_timeout, gateway.shards.close()).await;
    info!("stopped");
    Ok(())
}

/// SIGTERM comes from supervisors, SIGINT from Ctrl-C.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    Ok(stop)
}
