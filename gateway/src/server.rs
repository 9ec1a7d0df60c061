//! Connections from clients: how they are accepted, how slow they may be, and how they end.
//!
//! An accept loop of our own over hyper. The ready-made ones lack the limit on slow heads or the limit on
//! connections. hyper's own head timeout also runs on idle connections; here the two limits are separate.

mod door;
mod patient_io;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

pub use self::door::Door;
use self::patient_io::{PatientIo, Phase};
use crate::front_door::FrontDoor;
use crate::metrics::Open;
use picopay_gateway_config::ENV_PREFIX;

/// Without a free file descriptor, accepting fails at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Header lines that hyper parses: more than twice what `head.rs` allows, because hyper's own refusal has no
/// body. Its limits of a URL (64 KiB) and of a head (400 KiB) are as far away.
const HEADER_LINES_PARSED_MAX: usize = 256;

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {listen}: {source}\nSet another address with `listen` in gateway.toml or {ENV_PREFIX}LISTEN=address:port."
)]
pub struct BindError {
    listen: String,
    source: io::Error,
}

/// Binds the address.
///
/// # Errors
/// [`BindError`], which names the address and how to change it.
pub async fn bind(listen: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(listen).await.map_err(|source| BindError { listen: listen.to_owned(), source })
}

pub async fn serve(listener: TcpListener, door: &Door, front_door: FrontDoor, stop: CancellationToken) {
    let metrics = &door.gateway.metrics;
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let config = front_door.server_config();
        if connections.len() >= config.connections_max {
            metrics.connections_refused.inc();
            continue;
        }
        let connection = Connection { stream, peer, stop: stop.clone() };
        let open = Open::count(&metrics.clients.connections);
        let (front_door, door) = (front_door.clone().of_peer(peer), door.clone());
        connections.spawn(async move {
            let _open = open;
            connection.serve(front_door, &door).await;
        });
    }
    // Refuses new connections at once, rather than leaving them in the kernel's queue.
    drop(listener);
    connections.close();
    info!(open = connections.len(), "stopping: finishing what was accepted");
    if tokio::time::timeout(front_door.server_config().shutdown_timeout, connections.wait()).await.is_err() {
        warn!(open = connections.len(), "the time to finish is over");
    }
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(self, front_door: FrontDoor, door: &Door) {
        let Self { stream, peer, stop } = self;
        let config = front_door.server_config();
        let began = Instant::now();
        // Answers are small and complete: waiting for more to send would only add latency.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "the connection ended before it began");
            return;
        }
        let (stream, subject) = match door.open(stream, &stop).await {
            Ok(opened) => opened,
            Err(reason) => {
                door.gateway.metrics.handshakes.failed.inc();
                debug!(%peer, reason, "no TLS connection");
                return;
            }
        };
        let phase = Phase::default();
        let io =
            PatientIo::new(stream, phase.clone(), began, config.header_read_timeout, config.idle_timeout);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (mut front_door, phase) = (front_door.clone(), phase.clone());
            if let Some(subject) = &subject {
                door.gateway.keys.stand_in(subject, request.headers_mut());
            }
            async move {
                phase.begin_request();
                let answer = front_door.answer(request).await;
                phase.end_request();
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_headers(HEADER_LINES_PARSED_MAX)
            .serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // The client broke off, was too slow or spoke no HTTP.
            debug!(%peer, %error, "a connection ended early");
        }
    }
}
