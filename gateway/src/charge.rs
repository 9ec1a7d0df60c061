//! `POST /charge`: money for a service.

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use picopay_gateway_config::Scope;
use picopay_shared::command::Operation;

use crate::fields;
use crate::guarded::Guarded;
use crate::metrics::ChargeEnd;
use crate::openapi::parts::{PaymentProblems, WriteHeaders};
use crate::payment::{ChargeBody, read_payment};
use crate::problem::{Code, Problem};
use crate::transaction_body::WriteSchema;
use crate::wish::Wish;
use crate::write_answer::Answered;
use crate::write_request;

pub const CHARGE: Wish = Wish {
    word: "charge",
    scopes: &[Scope::Charge],
    read: |body| read_payment(body, fields::currency).map(Operation::Charge),
};

/// Charge a user
///
/// Takes the amount from the user's balance in this currency, exactly once for each idempotency key. The same request with
/// the same key gets the first answer again, a refusal (402) too; a new attempt takes a new key.
#[utoipa::path(
    post, path = "/charge", tag = "money",
    params(WriteHeaders),
    request_body(content = ChargeBody),
    responses(
        (status = 200, description = "Charged, now or before.", body = WriteSchema),
        PaymentProblems,
    ),
)]
pub async fn post_charge(
    State(guarded): State<Guarded>,
    request: Request<Body>,
) -> Result<Answered, Problem> {
    let count = guarded.charges().begin();
    let answer = write_request::run(&guarded, request, CHARGE.read).await;
    count.end(end_of(answer.as_ref().map(|answered| answered.is_replayed)));
    answer
}

/// How a charge ended: booked now or (`true`) before, or not.
pub fn end_of(answer: Result<bool, &Problem>) -> ChargeEnd {
    match answer {
        Ok(true) => ChargeEnd::Replayed,
        Ok(false) => ChargeEnd::Success,
        Err(problem) if problem.is_replayed() => ChargeEnd::Replayed,
        Err(problem) if problem.code() == Code::InsufficientBalance => ChargeEnd::InsufficientBalance,
        Err(problem) => ChargeEnd::Problem(problem.code()),
    }
}
