//! What is told of each request: its counter, and its line in the log if the file asks for one.
//!
//! A line has no body, no amount and nothing of a header but what has a form of its own: ids, the idempotency key, the
//! name of the API key. It is written when the record is dropped, so also when the client hung up.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, Request};
use axum::response::Response;
use picopay_gateway_config::{AccessLines, AccessLogConfig};
use picopay_shard_client::journey::{self, Journey};
use tracing::info;

use crate::header_names::{IDEMPOTENT_REPLAYED, PICOPAY_SOURCE};
use crate::metrics::{RequestEnd, RequestMetrics};
use crate::problem::{Code, Problem};
use crate::request_id::RequestId;
use crate::request_origin::trace_id;
use crate::route_name::RouteName;

/// The target of access lines, so that `PICOPAY_LOG=picopay_access=off` silences them too.
const TARGET: &str = "picopay_access";

#[derive(Debug)]
pub struct RequestRecord<'a> {
    metrics: &'a RequestMetrics,
    route: RouteName,
    end: RequestEnd,
    line: Option<Box<Line>>,
}

#[derive(Debug)]
struct Line {
    config: AccessLogConfig,
    began: Instant,
    journey: Arc<Mutex<Journey>>,
    request_id: RequestId,
    trace_id: Option<String>,
    method: &'static str,
    peer: Option<SocketAddr>,
    outcome: &'static str,
    source: Option<&'static str>,
}

impl<'a> RequestRecord<'a> {
    /// `route`: of the plain path.
    pub fn begin<B>(
        metrics: &'a RequestMetrics,
        config: AccessLogConfig,
        route: RouteName,
        request: &Request<B>,
        (id, peer): (&RequestId, Option<SocketAddr>),
    ) -> Self {
        let line = (config.lines != AccessLines::Off).then(|| {
            Box::new(Line {
                config,
                began: Instant::now(),
                journey: Arc::default(),
                request_id: id.clone(),
                trace_id: trace_id(request.headers()),
                method: name_of(request.method()),
                peer,
                outcome: "hung-up",
                source: None,
            })
        });
        Self { metrics, route, end: RequestEnd::HungUp, line }
    }

    /// Serves the request, and keeps what is noted meanwhile.
    pub async fn keep(&self, serving: impl Future<Output = Response>) -> Response {
        match &self.line {
            // Boxed, so that the future does not grow where there is no line.
            Some(line) => Box::pin(journey::record(Arc::clone(&line.journey), serving)).await,
            None => serving.await,
        }
    }

    /// The request has its answer, from a problem or not. The problem may still have to be written.
    pub fn answered(&mut self, response: &Response, problem: Option<&Problem>) {
        self.end = match problem {
            Some(problem) => RequestEnd::Problem(problem.code()),
            None => RequestEnd::Answered(response.status().as_u16()),
        };
        if let Some(line) = &mut self.line {
            line.outcome = outcome_of(response, problem);
        }
    }

    /// The answer is written, with the headers of its problem too.
    pub fn written(&mut self, response: &Response) {
        if let Some(line) = &mut self.line {
            let source = response.headers().get(&PICOPAY_SOURCE);
            line.source = match source.map(HeaderValue::as_bytes) {
                Some(b"primary") => Some("primary"),
                Some(b"replica") => Some("replica"),
                _ => None,
            };
        }
    }
}

impl Drop for RequestRecord<'_> {
    fn drop(&mut self) {
        self.metrics.count(self.route, self.end);
        if let Some(line) = &self.line
            && line.is_wanted(self.end)
        {
            line.write(self.route, self.end);
        }
    }
}

impl Line {
    fn is_wanted(&self, end: RequestEnd) -> bool {
        let is_success = matches!(end, RequestEnd::Answered(_));
        match self.config.lines {
            AccessLines::Off => false,
            AccessLines::Errors => !is_success,
            AccessLines::All => !is_success || is_chosen(self.config.one_success_in.get()),
        }
    }

    fn write(&self, route: RouteName, end: RequestEnd) {
        let journey = self.journey.lock().unwrap_or_else(PoisonError::into_inner);
        let (status, code) = match end {
            RequestEnd::Answered(status) => (Some(status), None),
            RequestEnd::Problem(code) => (Some(code.status().as_u16()), Some(code.suffix())),
            RequestEnd::HungUp => (None, None),
        };
        info!(
            target: TARGET,
            request_id = self.request_id.as_str(),
            trace_id = self.trace_id.as_deref(),
            key = journey.key_name.as_deref(),
            method = self.method,
            route = route.as_str(),
            status,
            code,
            operation = route.operation().filter(|_| self.method == "POST"),
            outcome = self.outcome,
            shard = journey.shard.as_deref(),
            slot = journey.slot.map(picopay_shared::slot::Slot::get),
            idempotency_key = journey.idempotency_key.map(display),
            transaction = journey.transaction.map(display),
            queue_ms = journey.queue.map(ms),
            commit_ms = journey.commit.map(ms),
            duration_ms = ms(self.began.elapsed()),
            batch_size = journey.batch_size,
            retries = journey.retries,
            source = self.source,
            peer = self.peer.map(display),
            "request"
        );
    }
}

fn is_chosen(one_in: u32) -> bool {
    one_in == 1 || rand::random::<u32>().is_multiple_of(one_in)
}

/// In milliseconds, to the microsecond.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A client may call its method anything.
fn name_of(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

fn outcome_of(response: &Response, problem: Option<&Problem>) -> &'static str {
    match problem {
        _ if response.headers().contains_key(&IDEMPOTENT_REPLAYED) => "replayed",
        None => "done",
        Some(problem) if problem.is_replayed() => "replayed",
        Some(problem) if problem.is_recorded() => "refused",
        Some(problem) if problem.code() == Code::OutcomeUnknown => "unknown",
        Some(_) => "not-done",
    }
}
