//! The answer to a write that its shard has decided.

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use picopay_shard_client::{Decision, Written, journey};
use picopay_shared::command::{Status, Transaction};
use uuid::Uuid;

use crate::header_names::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, PICOPAY_SESSION};
use crate::json_answer::json;
use crate::problem::{FieldError, Problem, key_header};
use crate::session;
use crate::user_body::UserBody;
use crate::write_body::WriteBody;

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

/// What a shard decided in the client's favour.
#[derive(Debug)]
pub enum Favour {
    User { is_new: bool },
    Booked { transaction: Box<Transaction>, is_replayed: bool },
}

/// # Errors
/// The problem for the client, when the shard decided against it.
pub fn favour_or_problem(decision: Decision) -> Result<Favour, Problem> {
    Ok(match decision {
        Decision::UserCreated => Favour::User { is_new: true },
        Decision::UserExisted => Favour::User { is_new: false },
        Decision::Decided { transaction, is_replayed } => {
            journey::note(|journey| journey.transaction = Some(transaction.id.as_uuid()));
            match refusal(&transaction, is_replayed) {
                Some(refused) => return Err(refused),
                None => Favour::Booked { transaction, is_replayed },
            }
        }
        Decision::KeyReused(differs) => return Err(Problem::key_reused(differs)),
        Decision::UserNotFound => return Err(Problem::user_not_found()),
        Decision::TransactionNotFound => return Err(Problem::transaction_not_found()),
        Decision::HoldNotFound => return Err(Problem::hold_not_found()),
        // `transfer.rs` sorts them out; no other route asks for one.
        Decision::Transferred { .. } | Decision::Credited(_) | Decision::TransferNotFound => {
            return Err(Problem::internal());
        }
        Decision::AmountInvalid(detail) => {
            return Err(Problem::invalid_request(vec![FieldError::in_field("amount", detail)]));
        }
    })
}

pub fn answer(written: Written, key: Uuid, user_id: Option<i64>) -> Result<Answered, Problem> {
    let session = written.session.map(session::to_header);
    let favour = favour_or_problem(written.decision)
        .map_err(|problem| problem.with_session_if_recorded(session.as_ref()))?;
    Ok(match favour {
        Favour::User { is_new } => {
            let user_id = user_id.ok_or_else(Problem::internal)?;
            let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
            answered(json(status, &UserBody { user_id }), key, session, false)
        }
        Favour::Booked { transaction, is_replayed } => {
            answered(json(StatusCode::OK, &WriteBody(&transaction)), key, session, is_replayed)
        }
    })
}

/// An answer with the headers of a write.
pub fn answered(
    mut response: Response,
    key: Uuid,
    session: Option<HeaderValue>,
    is_replayed: bool,
) -> Answered {
    let headers = response.headers_mut();
    headers.insert(IDEMPOTENCY_KEY.clone(), key_header(key));
    if let Some(session) = session {
        headers.insert(PICOPAY_SESSION.clone(), session);
    }
    if is_replayed {
        headers.insert(IDEMPOTENT_REPLAYED.clone(), HeaderValue::from_static("true"));
    }
    Answered { response, is_replayed }
}

fn refusal(record: &Transaction, is_replayed: bool) -> Option<Problem> {
    match &record.status {
        Status::Completed => None,
        Status::Refused { refusal, request_id } => {
            Some(Problem::refused(record, *refusal, request_id, is_replayed))
        }
    }
}
