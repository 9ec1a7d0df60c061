//! The console as a server: its address, its life, its end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use picopay_shard_client::{ShardClient, ShardClientConfig};
use picopay_shared::cluster::Cluster;
use picopay_shared::config::ConfigError;
use picopay_shared::reload::{InForce, Reloads};
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::reports::{Reports, Settings};
use crate::routes::{self, Shown};
use crate::traffic::Traffic;
use crate::watch;

/// A browser on the same machine sends its question at once.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Nothing but a read can be under way.
const END_WITHIN: Duration = Duration::from_millis(500);

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// It would be open to other machines.
    #[error(
        "the console has no login, so it listens on this machine's own addresses only, and not on {0}: use 127.0.0.1:{port}; \
         from another machine reach it with `ssh -L {port}:127.0.0.1:{port} HOST`", port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// Somebody else listens there, for example.
    #[error("cannot listen on {listen}: name a free address with --listen")]
    Listen {
        /// The address that was asked for.
        listen: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// The cluster's file is wrong.
    #[error("the cluster's file cannot be used: mend it, or name another with --cluster")]
    File(#[from] ConfigError),
    /// The system gave no signals, threads or sockets.
    #[error("the console failed")]
    Failed(#[from] std::io::Error),
}

/// A console that listens, and waits to be run.
pub struct Console {
    listener: tokio::net::TcpListener,
    address: SocketAddr,
    settings: Settings,
    cluster: Cluster,
}

impl Console {
    /// Reads the cluster's file and binds the address. No part of the cluster needs to be up.
    ///
    /// # Errors
    /// [`ConsoleError`], each with what to do.
    pub fn open(settings: Settings) -> Result<Self, ConsoleError> {
        let listen = settings.listen;
        if !listen.ip().is_loopback() {
            return Err(ConsoleError::NotLoopback(listen));
        }
        let cluster = Cluster::load(&settings.cluster_file)?;
        let failed = |source| ConsoleError::Listen { listen, source };
        let listener = std::net::TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(Self { address: listener.local_addr()?, listener, settings, cluster })
    }

    /// Where the page is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Serves the page until `stop` is cancelled.
    ///
    /// # Errors
    /// [`ConsoleError::Failed`], when the system gives no more.
    pub async fn run<R: Reports>(self, reports: R, stop: CancellationToken) -> Result<(), ConsoleError> {
        let Self { listener, settings, cluster, .. } = self;
        let file = settings.cluster_file.as_path();
        let board = Arc::new(Board::default());
        let traffic = Arc::new(Mutex::new(Traffic::default()));
        let shards = ShardClient::start(&cluster, &ShardClientConfig::default(), &Registry::new());
        board.post("cluster", &watch::cluster_news(&cluster, file));
        let in_force = Arc::new(InForce::new(cluster));
        let reloads = Reloads::watch(file, Arc::clone(&in_force))?;
        let take_over = async |cluster: &Cluster| take_over(&shards, &board, cluster, file).await;
        let closing = stop.child_token();
        let shown = Shown {
            board: Arc::clone(&board),
            traffic: Arc::clone(&traffic),
            shards: Arc::clone(&shards),
            closing,
        };
        let handle: Handle<SocketAddr> = Handle::new();
        let mut server = Server::<SocketAddr>::from_listener(listener).handle(handle.clone());
        server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
        let mut serving = std::pin::pin!(server.serve(routes::router(shown).into_make_service()));
        tokio::select! {
            ended = &mut serving => return Ok(ended?),
            never = reloads.follow(take_over, |_| {}) => match never {},
            never = watch::slots(&board, &in_force) => match never {},
            never = watch::status(&board, &in_force, &reports) => match never {},
            never = watch::transfers(&board, &in_force, &reports) => match never {},
            never = watch::verify(&board, &settings.verify_report) => match never {},
            never = watch::traffic(&board, &in_force, &reports, &settings.gateways, &traffic) => match never {},
            () = stop.cancelled() => {}
        }
        handle.graceful_shutdown(Some(END_WITHIN));
        serving.await?;
        shards.close().await;
        Ok(())
    }
}

async fn take_over(
    shards: &Arc<ShardClient>,
    board: &Board,
    cluster: &Cluster,
    file: &Path,
) -> Result<(), String> {
    shards.show(&cluster.internal_secret);
    shards.take_over(cluster).await;
    board.post("cluster", &watch::cluster_news(cluster, file));
    Ok(())
}
