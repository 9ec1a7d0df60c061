//! `POST /topup`: cash in. A balance in a currency starts with its first top-up.

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use picopay_gateway_config::Scope;
use picopay_shared::command::Operation;

use crate::fields;
use crate::guarded::Guarded;
use crate::openapi::parts::{TopUpProblems, WriteHeaders};
use crate::payment::{TopUpBody, read_payment};
use crate::problem::Problem;
use crate::transaction_body::WriteSchema;
use crate::wish::Wish;
use crate::write_answer::Answered;
use crate::write_request;

pub const TOP_UP: Wish = Wish {
    word: "topup",
    scopes: &[Scope::TopUp],
    read: |body| read_payment(body, fields::active_currency).map(Operation::TopUp),
};

/// Top up a user's balance
///
/// Adds the amount to the user's balance in this currency, exactly once for each idempotency key.
#[utoipa::path(
    post, path = "/topup", tag = "money",
    params(WriteHeaders),
    request_body(content = TopUpBody),
    responses(
        (status = 200, description = "Topped up, now or before.", body = WriteSchema),
        TopUpProblems,
    ),
)]
pub async fn post_topup(State(guarded): State<Guarded>, request: Request<Body>) -> Result<Answered, Problem> {
    write_request::run(&guarded, request, TOP_UP.read).await
}
