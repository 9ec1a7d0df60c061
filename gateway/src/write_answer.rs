//! The answer to a write that its shard has decided.

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use picopay_shard_client::{Decision, Written};
use picopay_shared::command::{Status, Transaction};
use uuid::Uuid;

use crate::header_names::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, PICOPAY_SESSION};
use crate::json_answer::json;
use crate::problem::{FieldError, Problem, key_header};
use crate::session;
use crate::transaction_body::WriteBody;
use crate::user_body::UserBody;

#[derive(Debug)]
pub struct Answered {
    pub response: Response,
    pub is_replayed: bool,
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        self.response
    }
}

pub fn answer(written: Written, key: Uuid, user_id: Option<i64>) -> Result<Answered, Problem> {
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
        Decision::TransactionNotFound | Decision::HoldNotFound => {
            return Err(Problem::transaction_not_found());
        }
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
