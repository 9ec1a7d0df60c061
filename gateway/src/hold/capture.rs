//! `POST /holds/{id}/capture`: charges a hold, wholly or in part.

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use picopay_gateway_config::Scope;
use picopay_shared::command::Operation;
use utoipa::ToSchema;

use super::step::Step;
use crate::currency_schema::AmountSchema;
use crate::fields;
use crate::guarded::Guarded;
use crate::openapi::parts::{CaptureProblems, IdInPath, WriteHeaders};
use crate::parameters::PathParameters;
use crate::problem::Problem;
use crate::transaction_body::WriteSchema;
use crate::wish::Wish;
use crate::write_answer::Answered;

// The bodies are schemas for the documentation; `STEP` reads them.
/// What to charge of a hold.
#[derive(Debug, ToSchema)]
#[schema(as = Capture)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct CaptureBody {
    /// How much, in the hold's currency. Left out: all of it.
    #[schema(nullable = false)]
    amount: Option<AmountSchema>,
}

/// Which hold to charge, and what of it.
#[derive(Debug, ToSchema)]
#[schema(as = CaptureInBatch)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct CaptureInBatchBody {
    #[schema(format = "uuid", example = "019a9f3a-7a6b-892e-9356-4ab70000c001")]
    hold_id: String,
    /// How much, in the hold's currency. Left out: all of it.
    #[schema(nullable = false)]
    amount: Option<AmountSchema>,
}

const STEP: Step = Step {
    fields: &["amount"],
    fields_in_batch: &["hold_id", "amount"],
    read: |hold_id, fields| Operation::Capture { hold_id, amount: fields.optional("amount", fields::amount) },
};

pub const CAPTURE: Wish =
    Wish { word: "capture", scopes: &[Scope::Charge], read: |body| STEP.read_in_batch(body) };

/// Capture a hold
///
/// Charges the amount or, without one, all of the hold, once. What is left of it is free again in the same moment. The
/// answer is that of a charge, and it can be refunded like one.
#[utoipa::path(
    post, path = "/holds/{id}/capture", tag = "holds",
    params(WriteHeaders, IdInPath),
    request_body(content = Option<CaptureBody>),
    responses(
        (status = 200, description = "Captured, now or before.", body = WriteSchema),
        CaptureProblems,
    ),
)]
pub async fn post_capture(
    State(guarded): State<Guarded>,
    path: PathParameters,
    request: Request<Body>,
) -> Result<Answered, Problem> {
    STEP.run(&guarded, &path, request).await
}
