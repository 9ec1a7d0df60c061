//! `GET /transfers/{id}`: what became of a transfer. It reads the primary.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use picopay_shard_client::Read;

use crate::guarded::{Admitted, Guarded};
use crate::openapi::parts::{IdInPath, ReadHeaders, TransferLookupProblems};
use crate::parameters::{Parameters, PathParameters};
use crate::problem::Problem;
use crate::read_answer::read_answer;
use crate::read_request::reader;
use crate::request_id::RequestId;
use crate::transfer_body::{TransferBody, TransferLookupBody, TransferLookupSchema};

/// Look at a transfer
///
/// As it is at this moment.
#[utoipa::path(
    get, path = "/transfers/{id}", tag = "transfers",
    params(ReadHeaders, IdInPath),
    responses((status = 200, description = "The transfer.", body = TransferLookupSchema), TransferLookupProblems),
)]
pub async fn get_transfer(
    State(guarded): State<Guarded>,
    path: PathParameters,
    RawQuery(query): RawQuery,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Admitted { gateway, .. } = guarded.admit(&headers)?;
    let mut parameters = Parameters::read(query.as_deref(), &[]);
    let reader = reader(&headers, &request_id, &mut parameters);
    let id = parameters.id_in_path(&path);
    let id = parameters.finish(id)?;
    if !id.is_ours() {
        return Err(Problem::transfer_not_found());
    }
    let Read { found, source } = gateway.shards.read_transfer(id, reader).await?;
    let transfer = found.ok_or_else(|| Problem::transfer_not_found().with_source(source))?;
    let body = TransferLookupBody { transfer: TransferBody(&transfer) };
    Ok(read_answer(StatusCode::OK, &body, source))
}
