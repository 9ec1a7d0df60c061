//! One HTTP request to one shard node, and how it ended.
//!
//! *Not sent*, *rejected* and *unanswered* make the difference between "nothing happened" and "maybe".
//! Nothing was sent while no connection has taken the body. A refusal counts only with the node's own mark: a
//! proxy between does not know what the node did.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use picopay_shared::aggregate::AGGREGATE_PATH;
use picopay_shared::command::WRITE_PATH;
use picopay_shared::config::Secret;
use picopay_shared::internal_secret::PREVIOUS_VALID_FOR;
use picopay_shared::node_mark::{DEADLINE_AT_HEADER, NODE_HEADER, NodeMoment};
use picopay_shared::node_status::{STATUS_PATH, WIRE_HEADER, WIRE_VERSION};
use picopay_shared::query::{DEADLINE_HEADER, READ_PATH};
use picopay_shared::read_batch::READ_BATCH_PATH;
use picopay_tls::{Caller, Connector};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::config::ShardClientConfig;
use crate::ended::{Ended, NotDone};
use crate::node_clock::NodeClock;
use crate::ticket::Ticket;

/// A read's deadline in the node is this much earlier than ours, so that its "not in time" still reaches us.
const WAY_BACK: Duration = Duration::from_millis(20);

/// How many milliseconds a node has for a read.
pub fn left_ms(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(WAY_BACK);
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
}

#[derive(Debug, Clone)]
pub struct Wire {
    connections: Client<Connector, Watched>,
    connector: Connector,
    bearers: Arc<ArcSwap<Bearers>>,
}

#[derive(Debug)]
pub struct Target {
    pub url: String,
    write: Uri,
    read: Uri,
    read_batch: Uri,
    aggregate: Uri,
    status: Uri,
    /// Why it gave no status last; empty when it gave one.
    no_status: Mutex<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Write,
    Read,
    ReadBatch,
    Aggregate,
    Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError {
    Unreachable,
    /// The node answered that it does not take this request: nothing happened.
    Rejected,
    /// It may have arrived, and no whole answer of the node came.
    Unanswered,
    /// The same, of a batch of reads for which another one counts already.
    UnansweredToo,
}

impl<T> From<CallError> for Ended<T> {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable | CallError::Rejected => Self::NotDone(NotDone::Unavailable),
            CallError::Unanswered | CallError::UnansweredToo => Self::Unknown,
        }
    }
}

#[derive(Debug)]
struct Bearers {
    newest: HeaderValue,
    /// For nodes that do not know the new secret yet, until they must.
    previous: Option<(HeaderValue, Instant)>,
}

impl Bearers {
    fn of(secret: &Secret) -> Self {
        let mut newest = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        newest.set_sensitive(true);
        Self { newest, previous: None }
    }

    fn changed_to(&self, secret: &Secret) -> Self {
        let previous = (self.newest.clone(), Instant::now() + PREVIOUS_VALID_FOR);
        Self { previous: Some(previous), ..Self::of(secret) }
    }

    fn previous(&self) -> Option<&HeaderValue> {
        self.previous.as_ref().filter(|(_, until)| Instant::now() < *until).map(|(bearer, _)| bearer)
    }
}

impl Target {
    pub fn new(url: &str) -> Self {
        let uri = |path: &str| {
            Uri::try_from(format!("{url}{path}"))
                .unwrap_or_else(|_| Uri::from_static("http://invalid.invalid/"))
        };
        Self {
            url: url.to_owned(),
            write: uri(WRITE_PATH),
            read: uri(READ_PATH),
            read_batch: uri(READ_BATCH_PATH),
            aggregate: uri(AGGREGATE_PATH),
            status: uri(STATUS_PATH),
            no_status: Mutex::default(),
        }
    }

    /// Returns whether that is new.
    fn note_status(&self, causes: &str) -> bool {
        let mut known = self.no_status.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *known != causes;
        if is_new {
            causes.clone_into(&mut known);
        }
        is_new
    }
}

impl Wire {
    /// `caller` is what it shows and demands where a node's URL says `https`.
    pub fn new(config: &ShardClientConfig, secret: &Secret, caller: Option<&Caller>) -> Self {
        let connector = Connector::to_nodes(caller, config.connect_timeout)
            .expect("certificates that could be read can be used");
        let connections = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.node_idle_timeout)
            .build(connector.clone());
        Self { connections, connector, bearers: Arc::new(ArcSwap::from_pointee(Bearers::of(secret))) }
    }

    /// Shows this secret from now on. Nodes that do not know it yet are shown the previous one for a while.
    pub fn show(&self, secret: &Secret) {
        self.bearers.store(Arc::new(self.bearers.load().changed_to(secret)));
    }

    /// Shows and demands this from the next connection on.
    pub fn call_as(&self, caller: Option<&Caller>) {
        if let Err(fault) = self.connector.replace(caller) {
            warn!(%fault, "the certificates for calls to nodes stay as they were");
        }
    }

    /// Sends one request, and returns the body of the node's own 200.
    pub async fn call(
        &self,
        ask: Ask,
        node: (&Target, &NodeClock),
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let mut pieces: Vec<Bytes> = Vec::new();
        self.call_and_take(ask, node, body, deadline, &mut |piece| pieces.push(piece)).await?;
        Ok(if pieces.len() == 1 { pieces.remove(0) } else { pieces.concat().into() })
    }

    /// Sends one request, and hands over the body of the node's own 200 as it arrives.
    pub async fn call_and_take(
        &self,
        ask: Ask,
        (target, clock): (&Target, &NodeClock),
        body: Bytes,
        deadline: Instant,
        take: &mut (dyn FnMut(Bytes) + Send),
    ) -> Result<(), CallError> {
        let bearers = self.bearers.load_full();
        let node = (target, clock);
        let mut status = self.send(ask, node, body.clone(), deadline, &bearers.newest, take).await;
        // The node did not look at the request and does not know the new secret yet, so it can be sent again.
        if status == Ok(StatusCode::UNAUTHORIZED)
            && let Some(previous) = bearers.previous()
        {
            status = self.send(ask, node, body, deadline, previous, take).await;
        }
        match status? {
            StatusCode::OK => Ok(()),
            status => {
                warn!(node = target.url, ?ask, %status, "the node rejected the request");
                Err(rejection(status))
            }
        }
    }

    async fn send(
        &self,
        ask: Ask,
        (target, clock): (&Target, &NodeClock),
        body: Bytes,
        deadline: Instant,
        bearer: &HeaderValue,
        take: &mut (dyn FnMut(Bytes) + Send),
    ) -> Result<StatusCode, CallError> {
        let ticket = Arc::new(Ticket::default());
        let body = Watched { bytes: Full::new(body), ticket: Arc::clone(&ticket), is_taken: false };
        let mut request = request(ask, target, clock, body, deadline);
        request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
        let call = async {
            let response = self.connections.request(request).await.map_err(|error| causes_of(&error))?;
            let (parts, mut body) = response.into_parts();
            let Some(moment) = mark_of(&parts.headers) else {
                return Err(format!("something on the way answered {}, and not the node", parts.status));
            };
            clock.note(moment, Instant::now());
            // Read to its end whatever it says, so that the connection can be used again.
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| causes_of(&error))?;
                if parts.status == StatusCode::OK
                    && let Ok(piece) = frame.into_data()
                {
                    take(piece);
                }
            }
            Ok(parts.status)
        };
        let ended = timeout_at(deadline, call).await;
        let causes = match ended.unwrap_or_else(|_elapsed| Err("not in time".to_owned())) {
            Ok(answer) => {
                if ask == Ask::Status {
                    target.note_status("");
                }
                return Ok(answer);
            }
            Err(causes) => causes,
        };
        match ask {
            // Asked every second: said once.
            Ask::Status => {
                if target.note_status(&causes) {
                    warn!(node = target.url, causes, "the node gives no status");
                }
            }
            Ask::Write | Ask::Read | Ask::ReadBatch | Ask::Aggregate => {
                warn!(node = target.url, ?ask, causes, "the node did not answer");
            }
        }
        // From now on no connection takes it, or one already has.
        Err(if ticket.give_up() { CallError::Unreachable } else { CallError::Unanswered })
    }
}

/// A request's body that knows whether a connection has begun to take it. A head alone is no request, because
/// the node waits for the body.
#[derive(Debug)]
struct Watched {
    bytes: Full<Bytes>,
    ticket: Arc<Ticket>,
    is_taken: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("nobody waits any more")]
struct GivenUp;

impl Body for Watched {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        if !self.is_taken && !self.ticket.send() {
            return Poll::Ready(Some(Err(GivenUp)));
        }
        self.is_taken = true;
        Pin::new(&mut self.bytes).poll_frame(context).map_err(|never| match never {})
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}

fn request(
    ask: Ask,
    target: &Target,
    clock: &NodeClock,
    body: Watched,
    deadline: Instant,
) -> Request<Watched> {
    let (method, uri) = match ask {
        Ask::Write => (Method::POST, &target.write),
        Ask::Read => (Method::POST, &target.read),
        Ask::ReadBatch => (Method::POST, &target.read_batch),
        Ask::Aggregate => (Method::POST, &target.aggregate),
        Ask::Status => (Method::GET, &target.status),
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    request.headers_mut().insert(WIRE_HEADER, HeaderValue::from(WIRE_VERSION));
    // A batch carries its own, and a status is always wanted at once.
    if matches!(ask, Ask::Read | Ask::Aggregate) {
        request.headers_mut().insert(DEADLINE_HEADER, HeaderValue::from(left_ms(deadline)));
    }
    // Those count from the arrival. This one is in the node's own time, however long the network takes.
    if ask != Ask::Status
        && let Some(moment) = clock.at(deadline)
    {
        let moment = HeaderValue::try_from(moment.to_string()).expect("digits and a dash");
        request.headers_mut().insert(DEADLINE_AT_HEADER, moment);
    }
    request
}

fn mark_of(headers: &HeaderMap) -> Option<NodeMoment> {
    NodeMoment::parse(headers.get(NODE_HEADER)?.to_str().ok()?)
}

fn causes_of(error: &(dyn std::error::Error + 'static)) -> String {
    let causes: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    causes.join(": ")
}

/// A client error means that the node did not look at the request, as does 503. Any other status may come
/// from the middle of the work.
fn rejection(status: StatusCode) -> CallError {
    if status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE {
        CallError::Rejected
    } else {
        CallError::Unanswered
    }
}
