//! A node as a process: its command line, its configuration, its server, its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use axum_server::{Handle, Server};
use clap::Parser;
use picopay_shard_node_config::{NodeConfig, OwnTls};
use picopay_shared::cluster::Cluster;
use picopay_shared::ending::{EndSignals, Stage};
use picopay_shared::reload::{InForce, Reloads};
use picopay_shared::runtime::{self, Share};
use picopay_shared::{open_files, supervisor, telemetry};

use crate::clock;
use crate::front::Acceptor;
use crate::node::Node;
use crate::routes;

/// The charge service of one shard.
#[derive(Parser)]
#[command(name = "picopay-node", version)]
struct Arguments {
    /// The shards, as every component reads them.
    #[arg(long, default_value = "cluster.toml")]
    cluster: PathBuf,
    /// How this node runs.
    #[arg(long, default_value = "node.toml")]
    config: PathBuf,
}

pub fn run() -> ExitCode {
    let _log = telemetry::start_with(clock::now_text);
    open_files::allow_many();
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let cluster = Cluster::load(&arguments.cluster)?;
    let config = NodeConfig::load(&arguments.config)?;
    clock::set_offset(config.testing.clock_offset_seconds);
    runtime::start(config.worker_threads, Share::Half)?.block_on(serve(arguments, &cluster, &config))
}

async fn serve(arguments: &Arguments, cluster: &Cluster, config: &NodeConfig) -> anyhow::Result<()> {
    let tls = OwnTls::read(config, &arguments.config)?;
    let acceptor = Acceptor::new(tls.0.as_ref())?;
    let own_in_force = Arc::new(InForce::new(tls));
    let node = Node::start(cluster, config, Arc::clone(&own_in_force))?;
    let own_reloads = Reloads::watch(&arguments.config, own_in_force)?;
    let reloads = Reloads::watch(&arguments.cluster, Arc::clone(node.in_force()))?;
    let listener = listen(config.listen)?;
    tokio::spawn(supervisor::keep_informed(node.ending().clone()));
    tracing::info!(shard = config.shard, listen = %config.listen, "serving");
    let handle: Handle<SocketAddr> = Handle::new();
    let (ending, drain) = (node.ending(), config.drain);
    tokio::spawn(ending.clone().follow(EndSignals::listen()?, move || drain));
    let server = Server::<SocketAddr>::from_listener(listener)
        .acceptor(acceptor.clone())
        .handle(handle.clone())
        .serve(routes::router(Arc::clone(&node)).into_make_service());
    let server = tokio::spawn(server);
    let take_over = async |cluster: &Cluster| node.take_over(cluster).await;
    let take_own = async |OwnTls(tls): &OwnTls| acceptor.take_over(tls.as_ref());
    tokio::select! {
        wrong = node.wrong_database() => return Err(wrong.into()),
        never = reloads.follow(take_over, |reload| node.count_reload(reload)) => match never {},
        never = own_reloads.follow(take_own, |reload| node.count_reload(reload)) => match never {},
        () = ending.reached(Stage::Finishing) => {}
    }
    tracing::info!("stopping: finishing what was accepted");
    handle.graceful_shutdown(Some(config.shutdown_timeout));
    tokio::select! {
        () = ending.reached(Stage::Now) => Ok(()),
        ended = server => ended?.context("the server failed"),
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!(
            "cannot listen on {address}: set `listen` in node.toml or PICOPAY_NODE__LISTEN to a free address"
        )
    })?;
    listener.set_nonblocking(true)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}
