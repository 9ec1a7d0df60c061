//! `POST /charge`: money for a service.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use picopay_shared::command::Operation;

use crate::fields;
use crate::gateway::Gateway;
use crate::openapi::{PaymentProblems, WriteHeaders};
use crate::payment::{ChargeBody, read_payment};
use crate::problem::Problem;
use crate::transaction_body::WriteSchema;
use crate::write_request::{self, Answered};
use picopay_gateway_config::Scope;

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
    State(gateway): State<Arc<Gateway>>,
    request: Request<Body>,
) -> Result<Answered, Problem> {
    let count = gateway.metrics.charges.begin();
    let answer = write_request::run(&gateway, request, &[Scope::Charge], |body| {
        read_payment(body, fields::currency).map(Operation::Charge)
    })
    .await;
    count.end(&answer);
    answer
}
