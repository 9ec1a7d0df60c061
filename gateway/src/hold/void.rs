//! `POST /holds/{id}/void`: gives a hold back.

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use picopay_gateway_config::Scope;
use picopay_shared::command::Operation;
use utoipa::ToSchema;

use super::step::Step;
use crate::guarded::Guarded;
use crate::hold_body::HoldAnswerSchema;
use crate::openapi::parts::{IdInPath, VoidProblems, WriteHeaders};
use crate::parameters::PathParameters;
use crate::problem::Problem;
use crate::wish::Wish;
use crate::write_answer::Answered;

// The bodies are schemas for the documentation; `STEP` reads them.
/// Nothing: the path says which hold.
#[derive(Debug, ToSchema)]
#[schema(as = Void)]
#[serde(deny_unknown_fields)]
pub struct VoidBody {}

/// Which hold to give back.
#[derive(Debug, ToSchema)]
#[schema(as = VoidInBatch)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct VoidInBatchBody {
    #[schema(format = "uuid", example = "019a9f3a-7a6b-892e-9356-4ab70000c001")]
    hold_id: String,
}

const STEP: Step =
    Step { fields: &[], fields_in_batch: &["hold_id"], read: |hold_id, _| Operation::Void { hold_id } };

pub const VOID: Wish = Wish { word: "void", scopes: &[Scope::Charge], read: |body| STEP.read_in_batch(body) };

/// Void a hold
///
/// Gives all of it back: it is free again in the same moment.
#[utoipa::path(
    post, path = "/holds/{id}/void", tag = "holds",
    params(WriteHeaders, IdInPath),
    request_body(content = Option<VoidBody>),
    responses(
        (status = 200, description = "Given back, now or before.", body = HoldAnswerSchema),
        VoidProblems,
    ),
)]
pub async fn post_void(
    State(guarded): State<Guarded>,
    path: PathParameters,
    request: Request<Body>,
) -> Result<Answered, Problem> {
    STEP.run(&guarded, &path, request).await
}
