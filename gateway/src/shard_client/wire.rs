//! One HTTP request to one shard's nodes, and whether it can have arrived.
//!
//! The difference between *not sent* and *unanswered* is the difference between "nothing happened" and "maybe", so
//! it is drawn here, where the connection is known: only a connect that failed counts as not sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use picopay_shared::cluster::Shard;
use picopay_shared::command::WRITE_PATH;
use picopay_shared::config::Secret;
use picopay_shared::internal_secret::PREVIOUS_VALID_FOR;
use picopay_shared::node_status::STATUS_PATH;
use picopay_shared::query::{DEADLINE_HEADER, READ_PATH};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::config::ShardClientConfig;

/// How long a node that took no connection or did not answer comes last, so that not every request waits for it anew.
const AVOID_FOR: Duration = Duration::from_secs(1);

/// A node is told to answer a read so much earlier than nobody waits any more: the time that its answer may need to come
/// back, so that a late one is its own "not in time" and not a node that does not answer.
const WAY_BACK: Duration = Duration::from_millis(20);

/// Connections to all nodes.
pub type NodeConnections = Client<HttpConnector, Full<Bytes>>;

/// Kept-alive connections, opened as they are needed.
pub fn connections(config: &ShardClientConfig) -> NodeConnections {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(config.connect_timeout));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(config.node_idle_timeout)
        .build(connector)
}

/// What shows nodes that a request comes from a gateway of theirs.
#[derive(Debug)]
pub struct Bearers {
    newest: HeaderValue,
    /// For nodes that have not heard of a change yet, as long as such a node can be.
    previous: Option<(HeaderValue, Instant)>,
}

impl Bearers {
    /// With this secret.
    pub fn of(secret: &Secret) -> Self {
        let mut newest = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        newest.set_sensitive(true);
        Self { newest, previous: None }
    }

    /// After the secret became this one.
    #[must_use]
    pub fn changed_to(&self, secret: &Secret) -> Self {
        let previous = (self.newest.clone(), Instant::now() + PREVIOUS_VALID_FOR);
        Self { previous: Some(previous), ..Self::of(secret) }
    }

    fn previous(&self) -> Option<&HeaderValue> {
        self.previous.as_ref().filter(|(_, until)| Instant::now() < *until).map(|(bearer, _)| bearer)
    }
}

/// The nodes of one shard.
#[derive(Debug)]
pub struct Nodes {
    shard: String,
    connections: NodeConnections,
    bearers: Arc<ArcSwap<Bearers>>,
    all: Vec<Node>,
    started: Instant,
}

#[derive(Debug)]
struct Node {
    url: String,
    write: Uri,
    read: Uri,
    status: Uri,
    /// Milliseconds since `Nodes::started`.
    avoid_until_ms: AtomicU64,
}

/// What is asked of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// To write a batch.
    Write,
    /// To answer a query.
    Read,
    /// How it is.
    Status,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError {
    /// No node took a connection: nothing was sent.
    Unreachable,
    /// A node answered that it does not take this request: nothing happened.
    Rejected,
    /// It may have arrived, and no whole answer came.
    Unanswered,
}

impl Nodes {
    /// The nodes that `cluster.toml` names for a shard.
    pub fn new(shard: &Shard, bearers: Arc<ArcSwap<Bearers>>, connections: NodeConnections) -> Self {
        let uri = |url: &str, path: &str| {
            Uri::try_from(format!("{url}{path}"))
                .unwrap_or_else(|_| Uri::from_static("http://invalid.invalid/"))
        };
        let node = |url: &String| Node {
            url: url.clone(),
            write: uri(url, WRITE_PATH),
            read: uri(url, READ_PATH),
            status: uri(url, STATUS_PATH),
            avoid_until_ms: AtomicU64::new(0),
        };
        Self {
            shard: shard.name.clone(),
            connections,
            bearers,
            all: shard.nodes.iter().map(node).collect(),
            started: Instant::now(),
        }
    }

    /// Whether these are the nodes at these URLs, in this order.
    pub fn are(&self, urls: &[String]) -> bool {
        self.all.iter().map(|node| &node.url).eq(urls)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Asks the preferred node, or the next one that takes a connection. Nothing is sent twice: the next one is
    /// tried only while nothing was sent.
    pub async fn ask(
        &self,
        ask: Ask,
        preferred: usize,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        for position in self.order(preferred) {
            match self.ask_one(ask, position, body.clone(), deadline).await {
                Err(CallError::Unreachable) => {}
                answer => return answer,
            }
        }
        Err(CallError::Unreachable)
    }

    /// Asks this node and no other.
    pub async fn ask_one(
        &self,
        ask: Ask,
        position: usize,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let node = &self.all[position];
        let bearers = self.bearers.load_full();
        let mut answer = self.call(ask, node, body.clone(), deadline, &bearers.newest).await;
        // It did not look at the request, so that it can be sent again: it has not heard of the new secret yet.
        if let Ok((StatusCode::UNAUTHORIZED, _)) = &answer
            && let Some(previous) = bearers.previous()
        {
            answer = self.call(ask, node, body, deadline, previous).await;
        }
        match answer {
            Ok((StatusCode::OK, body)) => Ok(body),
            Ok((status, _)) => {
                warn!(shard = self.shard, node = node.url, ?ask, %status, "the node rejected the request");
                Err(rejection(status))
            }
            Err(error) => {
                self.avoid(node);
                Err(error)
            }
        }
    }

    async fn call(
        &self,
        ask: Ask,
        node: &Node,
        body: Bytes,
        deadline: Instant,
        bearer: &HeaderValue,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let mut request = request(ask, node, body, deadline);
        request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
        let call = async {
            let response = self.connections.request(request).await.map_err(|error| {
                let is_unsent = error.is_connect();
                self.log_failure(ask, node, &error);
                if is_unsent { CallError::Unreachable } else { CallError::Unanswered }
            })?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| {
                self.log_failure(ask, node, &error);
                CallError::Unanswered
            })?;
            Ok((status, body.to_bytes()))
        };
        timeout_at(deadline, call).await.unwrap_or_else(|_elapsed| {
            warn!(shard = self.shard, node = node.url, ?ask, "the node did not answer in time");
            Err(CallError::Unanswered)
        })
    }

    /// The preferred one first, then the others in turn; those that just failed last.
    fn order(&self, preferred: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.all.len();
        let now_ms = self.now_ms();
        let in_turn = |first: usize| (0..count).map(move |step| (first + step) % count);
        let is_avoided =
            |position: &usize| self.all[*position].avoid_until_ms.load(Ordering::Relaxed) > now_ms;
        let (last, mut order): (Vec<_>, Vec<_>) = in_turn(preferred).partition(is_avoided);
        order.extend(last);
        order.into_iter()
    }

    fn avoid(&self, node: &Node) {
        let until = self.now_ms() + u64::try_from(AVOID_FOR.as_millis()).expect("a second");
        node.avoid_until_ms.store(until, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn log_failure(&self, ask: Ask, node: &Node, error: &(dyn std::error::Error + 'static)) {
        let causes: Vec<String> =
            std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
        let causes = causes.join(": ");
        match ask {
            // Asked every second: the poll tells of the change, once.
            Ask::Status => tracing::debug!(shard = self.shard, node = node.url, causes, "no status"),
            Ask::Write | Ask::Read => {
                warn!(shard = self.shard, node = node.url, ?ask, causes, "the call to the node failed");
            }
        }
    }
}

fn request(ask: Ask, node: &Node, body: Bytes, deadline: Instant) -> Request<Full<Bytes>> {
    let (method, uri) = match ask {
        Ask::Write => (Method::POST, &node.write),
        Ask::Read => (Method::POST, &node.read),
        Ask::Status => (Method::GET, &node.status),
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    // A batch carries its own, and a status is always wanted at once.
    if ask == Ask::Read {
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(WAY_BACK);
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        request.headers_mut().insert(DEADLINE_HEADER, HeaderValue::from(left_ms));
    }
    request
}

/// A client error says that the node did not look at the request, as does 503. Any other status may come from the
/// middle of the work.
fn rejection(status: StatusCode) -> CallError {
    if status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE {
        CallError::Rejected
    } else {
        CallError::Unanswered
    }
}
