//! The HTTP interface of a node, for gateways and operators only.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use picopay_shared::aggregate::{AGGREGATE_PATH, AggregateRequest};
use picopay_shared::command::{WRITE_BATCH_MAX, WRITE_PATH, WriteBatch};
use picopay_shared::node_status::STATUS_PATH;
use picopay_shared::query::{Answer, DEADLINE_HEADER, Found, READ_PATH, ReadRequest};
use picopay_shared::read_batch::{READ_BATCH_MAX, READ_BATCH_PATH, reads_from_wire};
use picopay_shared::running_config::CONFIG_PATH;
use tokio::time::timeout;

use crate::answers::{Answers, OCTETS, not_in_time};
use crate::node::Node;
use crate::older_callers;
use crate::own_clock::{self, Arrival, OwnClock};

/// The largest batch in bytes: each command may carry 4 KiB of metadata and some more.
const BODY_MAX: usize = WRITE_BATCH_MAX * 8 * 1024;

/// The longest wait for a read, whatever a caller says: twice a gateway's default.
const READ_MAX: Duration = Duration::from_secs(4);

/// The same for sums and totals, which read up to a million rows and all balances. An operator of many
/// balances lets his gateways wait longer than usual.
const AGGREGATE_MAX: Duration = Duration::from_mins(1);

pub fn router(node: Arc<Node>) -> Router {
    let marks = (OwnClock::start(), node.ending().clone());
    let internal = Router::new()
        .route(WRITE_PATH, post(write))
        .route(READ_PATH, post(read))
        .route(READ_BATCH_PATH, post(read_batch))
        .route(AGGREGATE_PATH, post(aggregate))
        .route(STATUS_PATH, get(status))
        .route(CONFIG_PATH, get(config))
        .layer(middleware::from_fn_with_state(node.older_callers(), older_callers::note))
        .layer(middleware::from_fn_with_state(Arc::clone(&node), require_secret))
        .layer(DefaultBodyLimit::max(BODY_MAX));
    Router::new()
        .route("/health", get(|| async { "alive\n" }))
        .route("/metrics", get(metrics))
        .merge(internal)
        .with_state(node)
        // Outermost, so that refusals of any kind are marked too.
        .layer(middleware::from_fn_with_state(marks, own_clock::mark))
}

async fn require_secret(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if node.secret().accepts(given) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn write(
    State(node): State<Arc<Node>>,
    Extension(arrival): Extension<Arrival>,
    body: Bytes,
) -> Response {
    match WriteBatch::from_wire(&body) {
        Ok(mut batch) if batch.attempts.len() <= WRITE_BATCH_MAX => {
            let left = arrival.time_left(Duration::from_millis(u64::from(batch.deadline_ms)));
            batch.deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
            // A task of its own: a gateway that hangs up cancels nothing that was begun.
            let done = tokio::spawn(async move { node.service().writer().write(batch).await }).await;
            match done {
                Ok(reply) => octets(reply.to_wire()),
                Err(_panicked) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
        Ok(batch) => refuse(&format!("{} commands are more than {WRITE_BATCH_MAX}", batch.attempts.len())),
        Err(error) => refuse(&format!("no write batch: {error}")),
    }
}

async fn read(
    State(node): State<Arc<Node>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match ReadRequest::from_wire(&body) {
        Ok(request) => {
            let left = arrival.time_left(longest(&headers).min(READ_MAX));
            if left.is_zero() {
                return octets(not_in_time().to_wire());
            }
            // A task of its own, as above. The deadline does not cut it off in the middle of a statement,
            // with a connection that the next read would wait behind. It has its own limits.
            let answering = tokio::spawn(async move { node.service().reader().answer(&request).await });
            match timeout(left, answering).await {
                Ok(Ok(answer)) => octets(of_one_read(answer).to_wire()),
                Ok(Err(_panicked)) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                Err(_late) => octets(not_in_time().to_wire()),
            }
        }
        Err(error) => refuse(&format!("no read request: {error}")),
    }
}

/// Who asks for one read is of a release that knows no rows that cannot be read.
fn of_one_read(Answer { found, source }: Answer) -> Answer {
    let found = match found {
        Found::Corrupt { reason } => Found::Unavailable { reason },
        found => found,
    };
    Answer { found, source }
}

async fn read_batch(
    State(node): State<Arc<Node>>,
    Extension(arrival): Extension<Arrival>,
    body: Bytes,
) -> Response {
    match reads_from_wire(&body) {
        Ok(reads) if (1..=READ_BATCH_MAX).contains(&reads.len()) => {
            let (left_ms, requests): (Vec<u32>, Vec<ReadRequest>) = reads.into_iter().unzip();
            let left = left_ms.into_iter().map(|ms| READ_MAX.min(Duration::from_millis(u64::from(ms))));
            let (answers, told) = Answers::until(left.map(|left| arrival.ends_after(left)));
            // A task of its own, as above.
            tokio::spawn(async move {
                node.service().reader().answer_all(&requests, &|answers| drop(told.send(answers))).await;
            });
            answers.into_response().await
        }
        Ok(reads) => refuse(&format!("{} reads are not 1 to {READ_BATCH_MAX}", reads.len())),
        Err(error) => refuse(&format!("no batch of reads: {error}")),
    }
}

async fn aggregate(
    State(node): State<Arc<Node>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match AggregateRequest::from_wire(&body) {
        Ok(request) => {
            let ends = arrival.ends_after(longest(&headers).min(AGGREGATE_MAX));
            // No task of its own: nobody needs the answer once the gateway hangs up, and the database is told
            // to stop.
            octets(node.service().reader().aggregate(&request, ends).await.to_wire())
        }
        Err(error) => refuse(&format!("no request for sums or totals: {error}")),
    }
}

fn longest(headers: &HeaderMap) -> Duration {
    let given = headers.get(DEADLINE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    given.map_or(READ_MAX, Duration::from_millis)
}

async fn status(State(node): State<Arc<Node>>) -> Response {
    axum::Json(node.status().await).into_response()
}

async fn config(State(node): State<Arc<Node>>) -> Response {
    axum::Json(node.running_config()).into_response()
}

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let text_format = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (text_format, node.render_metrics()).into_response()
}

fn octets(bytes: Vec<u8>) -> Response {
    (OCTETS, bytes).into_response()
}

fn refuse(reason: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response()
}
