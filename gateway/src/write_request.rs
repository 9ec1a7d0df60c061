//! The story that every write shares: admit the caller, take the key, read the body, have the shard decide, answer.
//!
//! What is checked first is what costs least; a request that fails at one step has used nothing of the next.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};
use picopay_shared::command::{Command, Operation, Status, Transaction};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::content_headers;
use crate::fields::hyphenated_uuid;
use crate::guarded::{Admitted, Guarded};
use crate::header_names::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, PICOPAY_SESSION};
use crate::json_answer::json;
use crate::parameters::Parameters;
use crate::problem::{FieldError, Problem, key_header};
use crate::request_id::RequestId;
use crate::request_origin;
use crate::session;
use crate::transaction_body::WriteBody;
use picopay_shard_client::{Decision, Written};

/// Largest body (contract, "Errors"). Metadata has at most 4 KiB and the other fields a few hundred bytes; the rest is
/// room for white space.
const BODY_MAX: usize = 64 * 1024;

/// A write that was done, now or before.
#[derive(Debug)]
pub struct Answered {
    /// For the client.
    pub response: Response,
    /// Whether this answer was given before.
    pub is_replayed: bool,
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        self.response
    }
}

/// Takes a write from its headers to its answer, for whom the route lets in. `read_operation` reads the body.
///
/// # Errors
/// What the client reads instead. From the moment the key is known, it is told with every problem.
pub async fn run(
    guarded: &Guarded,
    request: Request<Body>,
    read_operation: impl FnOnce(&[u8]) -> Result<Operation, Problem>,
) -> Result<Answered, Problem> {
    let (parts, body) = request.into_parts();
    let Admitted { gateway, made_by } = guarded.admit(&parts.headers)?;
    content_headers::check(&parts.headers)?;
    check_length(&parts.headers)?;
    let (key, is_client_key) = read_key(&parts.headers)?;
    let decide = async {
        let body = read_body(body, gateway.config.server.body_read_timeout).await?;
        // A write takes no parameters; one that is sent all the same was meant to change what happens.
        let parameters = Parameters::read(parts.uri.query(), &[]);
        let operation = parameters.finish_with_body(read_operation(&body))?;
        let request_id: &RequestId = parts.extensions.get().expect("the front door names every request");
        let command = Command {
            fingerprint: operation.fingerprint(),
            operation,
            idempotency_key: key,
            is_client_key,
            origin: request_origin::of(&parts.headers, request_id),
            made_by: Some(made_by),
        };
        let user_id = match &command.operation {
            Operation::CreateUser { user_id } => Some(user_id.get()),
            Operation::TopUp(_) | Operation::Charge(_) | Operation::Refund { .. } => None,
        };
        answer(gateway.shards.write(command).await?, key, user_id)
    };
    decide.await.map_err(|problem| problem.with_key(key))
}

/// A user, by the client's own id.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = User)]
#[serde(deny_unknown_fields)]
pub struct UserBody {
    /// The user.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64, example = 1)]
    pub user_id: i64,
}

fn answer(written: Written, key: Uuid, user_id: Option<i64>) -> Result<Answered, Problem> {
    let session = written.session.map(session::to_header);
    let user =
        |status| user_id.map(|user_id| json(status, &UserBody { user_id })).ok_or_else(Problem::internal);
    let (mut response, is_replayed) = match written.decision {
        Decision::UserCreated => (user(StatusCode::CREATED)?, false),
        Decision::UserExisted => (user(StatusCode::OK)?, false),
        Decision::Decided { transaction, is_replayed } => {
            if let Some(refused) = refusal(&transaction, is_replayed) {
                return Err(refused.with_session(session));
            }
            (json(StatusCode::OK, &WriteBody::new(&transaction)), is_replayed)
        }
        Decision::KeyReused(differs) => return Err(Problem::key_reused(differs)),
        Decision::UserNotFound => return Err(Problem::user_not_found()),
        Decision::TransactionNotFound => return Err(Problem::transaction_not_found()),
        Decision::AmountInvalid(detail) => {
            return Err(Problem::invalid_request(vec![FieldError::in_field("amount", detail)]));
        }
    };
    let headers = response.headers_mut();
    headers.insert(IDEMPOTENCY_KEY.clone(), key_header(key));
    if let Some(session) = session {
        headers.insert(PICOPAY_SESSION.clone(), session);
    }
    if is_replayed {
        headers.insert(IDEMPOTENT_REPLAYED.clone(), HeaderValue::from_static("true"));
    }
    Ok(Answered { response, is_replayed })
}

fn refusal(record: &Transaction, is_replayed: bool) -> Option<Problem> {
    match &record.status {
        Status::Completed => None,
        Status::Refused { refusal, request_id } => {
            Some(Problem::refused(record, *refusal, request_id, is_replayed))
        }
    }
}

/// Refuses a body that says itself that it is too large.
fn check_length(headers: &HeaderMap) -> Result<(), Problem> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let is_too_large =
        length.is_some_and(|length| length > u64::try_from(BODY_MAX).expect("64 KiB fits 64 bits"));
    if is_too_large { Err(Problem::too_large()) } else { Ok(()) }
}

/// Reads the whole body. Almost always it came together with the head: then there is no timer, which would make every
/// future around this one larger.
async fn read_body(mut body: Body, limit: Duration) -> Result<Bytes, Problem> {
    match look_at_body(&mut body).await {
        Some(Some(Ok(frame))) if body.is_end_stream() => {
            let data = frame.into_data().unwrap_or_default();
            if data.len() > BODY_MAX { Err(Problem::too_large()) } else { Ok(data) }
        }
        Some(None) => Ok(Bytes::new()),
        Some(Some(frame)) => Box::pin(read_slow_body(Some(frame), body, limit)).await,
        None => Box::pin(read_slow_body(None, body, limit)).await,
    }
}

type BodyFrame = Result<Frame<Bytes>, axum::Error>;

/// The next frame (or the end) if it came with the head; `None` when it would have to be waited for. hyper hands it
/// over only after the first look, so there are three.
async fn look_at_body(body: &mut Body) -> Option<Option<BodyFrame>> {
    let mut looks = 0;
    poll_fn(|context| match Pin::new(&mut *body).poll_frame(context) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending if looks < 2 => {
            looks += 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn read_slow_body(
    mut begun: Option<BodyFrame>,
    mut body: Body,
    limit: Duration,
) -> Result<Bytes, Problem> {
    let deadline = Instant::now() + limit;
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    loop {
        let next = match begun.take() {
            Some(frame) => Some(frame),
            None => match timeout_at(deadline, body.frame()).await {
                Ok(next) => next,
                Err(_elapsed) => return Err(Problem::body_too_slow()),
            },
        };
        let frame = match next {
            Some(Ok(frame)) => frame,
            None => break,
            // The client broke off; nobody reads this.
            Some(Err(_)) => {
                return Err(Problem::invalid_request(vec![FieldError::in_body("the body broke off")]));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len() + rest.as_ref().map_or(0, BytesMut::len);
        if length + data.len() > BODY_MAX {
            return Err(Problem::too_large());
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.get_or_insert_default().extend_from_slice(&data);
        }
    }
    Ok(match rest {
        None => first,
        Some(rest) => [first, rest.freeze()].concat().into(),
    })
}

/// The client's key, or one made here for the gateway's own retries.
fn read_key(headers: &HeaderMap) -> Result<(Uuid, bool), Problem> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok((uuid::Builder::from_random_bytes(rand::random()).into_uuid(), false)),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(Problem::invalid_idempotency_key("the header is sent twice")),
    };
    let text = value.to_str().unwrap_or_default();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let key = hyphenated_uuid(bare).ok_or_else(|| {
        Problem::invalid_idempotency_key(
            "send one UUID with hyphens, bare or in double quotes, or leave the header out",
        )
    })?;
    if key.is_nil() {
        // What a program sends that forgot to make one. Its second order would be taken for a retry of the first.
        return Err(Problem::invalid_idempotency_key("the nil UUID stands for no operation; make a new one"));
    }
    Ok((key, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_one_uuid_bare_or_in_quotes() {
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        for value in [uuid, &format!("\"{uuid}\""), &uuid.to_uppercase()] {
            let (key, is_client_key) = read_key(&headers("idempotency-key", &[value])).unwrap();
            assert_eq!((key.to_string().as_str(), is_client_key), (uuid, true), "{value}");
        }
        for values in [
            vec![""],
            vec!["x"],
            vec!["\""],
            vec![&uuid[1..]],
            vec!["550e8400e29b41d4a716446655440000"],
            vec!["'550e8400-e29b-41d4-a716-446655440000'"],
            vec!["\"550e8400-e29b-41d4-a716-446655440000"],
            vec![uuid, uuid],
            vec!["00000000-0000-0000-0000-000000000000"],
            vec!["\"00000000-0000-0000-0000-000000000000\""],
        ] {
            assert!(read_key(&headers("idempotency-key", &values)).is_err(), "{values:?}");
        }
        let made = || read_key(&HeaderMap::new()).unwrap();
        assert!(made().0 != made().0 && !made().1);
        assert_eq!(made().0.get_version_num(), 4);
    }

    #[tokio::test]
    async fn a_body_is_read_whole_and_never_past_its_limit() {
        let soon = Duration::from_secs(5);
        let in_pieces = |pieces: Vec<usize>| {
            let pieces = pieces.into_iter().map(|length| Ok::<_, std::io::Error>(vec![b'x'; length]));
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        for pieces in [vec![], vec![10], vec![1, 2, 3], vec![BODY_MAX], vec![BODY_MAX - 1, 1]] {
            let length: usize = pieces.iter().sum();
            assert_eq!(read_body(in_pieces(pieces), soon).await.unwrap().len(), length);
        }
        for pieces in [vec![BODY_MAX + 1], vec![BODY_MAX, 1], vec![40_000; 250]] {
            let problem = read_body(in_pieces(pieces), soon).await.unwrap_err();
            assert_eq!(problem.code(), crate::problem::Code::TooLarge);
        }
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let problem = read_body(never, Duration::from_millis(5)).await.unwrap_err();
        assert_eq!(problem.code(), crate::problem::Code::RequestTimeout);
    }
}
