//! `GET /holds` and `GET /holds/{id}`: what is reserved, and what became of it. Both read the primary.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use picopay_shard_client::{HoldsPage, Read};
use picopay_shared::hold::HoldStatus;
use picopay_shared::query::HoldsQuery;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::cursor::Cursor;
use crate::guarded::{Admitted, Guarded};
use crate::hold_body::{
    HoldAnswerBody, HoldAnswerSchema, HoldBody, HoldSchema, HoldStatusSchema, parse_status,
};
use crate::openapi::parts::{HoldLookupProblems, HoldsProblems, IdInPath, ReadHeaders};
use crate::page_limit::read_limit;
use crate::parameters::{self, Parameters, PathParameters};
use crate::problem::Problem;
use crate::read_answer::{page_answer, read_answer};
use crate::read_request::reader;
use crate::request_id::RequestId;

#[derive(Debug, Serialize)]
struct HoldsBody<'a> {
    data: Vec<HoldBody<'a>>,
    next_cursor: Option<String>,
}

// The schema of `HoldsBody`.
/// A page of a user's holds.
#[derive(Debug, ToSchema)]
#[schema(as = Holds)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct HoldsSchema {
    /// Holds, the newest first.
    data: Vec<HoldSchema>,
    /// For the next page, with the same query; `null` at the end, and only there: a page may have fewer holds than `limit`,
    /// even none, and go on.
    #[schema(required = true, example = "AQGaLzSweNiW-jQABTQAAAEBAgMEBQYHCA")]
    next_cursor: Option<String>,
}

// The query of a list of holds, for the documentation.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
struct HoldsParameters {
    /// The user whose holds are read.
    #[param(minimum = 1, maximum = 9_223_372_036_854_775_807_i64, example = 1)]
    user_id: i64,
    /// Only holds with this status now.
    #[param(required = false, value_type = HoldStatusSchema)]
    status: HoldStatus,
    /// Holds on the page at most; 20 unless asked.
    #[param(required = false, minimum = 1, maximum = 100, example = 20)]
    limit: u16,
    /// The `next_cursor` of the page before, word for word, with the same query.
    #[param(required = false)]
    cursor: String,
}

/// List a user's holds
///
/// Newest first, in any state unless asked, as they are at this moment.
#[utoipa::path(
    get, path = "/holds", tag = "holds",
    params(ReadHeaders, HoldsParameters),
    responses((status = 200, description = "A page.", body = HoldsSchema), HoldsProblems),
)]
pub async fn get_holds(
    State(guarded): State<Guarded>,
    RawQuery(query): RawQuery,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Admitted { gateway, .. } = guarded.admit(&headers)?;
    let mut parameters = Parameters::read(query.as_deref(), &["user_id", "status", "limit", "cursor"]);
    let reader = reader(&headers, &request_id, &mut parameters);
    let query = read_query(&mut parameters);
    let query = parameters.finish(query)?;
    let Read { found, source } = gateway.shards.read_holds(query.clone(), reader).await?;
    let HoldsPage { holds, goes_on_before } =
        found.ok_or_else(|| Problem::user_not_found().with_source(source))?;
    let next_cursor = goes_on_before.map(|last| Cursor::of_holds(&query).encode(last));
    let data = holds.iter().map(HoldBody).collect();
    Ok(page_answer(holds.len(), &HoldsBody { data, next_cursor }, source))
}

/// Look at a hold
///
/// As it is at this moment.
#[utoipa::path(
    get, path = "/holds/{id}", tag = "holds",
    params(ReadHeaders, IdInPath),
    responses((status = 200, description = "The hold.", body = HoldAnswerSchema), HoldLookupProblems),
)]
pub async fn get_hold(
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
        return Err(Problem::hold_not_found());
    }
    let Read { found, source } = gateway.shards.read_hold(id, reader).await?;
    let (hold, available) = found.ok_or_else(|| Problem::hold_not_found().with_source(source))?;
    let body = HoldAnswerBody { hold: HoldBody(&hold), available };
    Ok(read_answer(StatusCode::OK, &body, source))
}

fn read_query(parameters: &mut Parameters) -> Option<HoldsQuery> {
    let user_id = parameters.required("user_id", parameters::user_id);
    let status = parameters.optional("status", parse_status);
    let limit = read_limit(parameters);
    let query = user_id.map(|user_id| HoldsQuery { user_id, limit, before: None, status });
    // Without a user nobody knows whose cursor it is; the missing user is reported anyway.
    let before = query.as_ref().and_then(|query| Cursor::of_holds(query).read(parameters));
    query.map(|query| HoldsQuery { before, ..query })
}

#[cfg(test)]
mod tests {
    use picopay_shared::id::TransactionId;

    use super::*;

    fn read(query: &str) -> Result<HoldsQuery, Problem> {
        let mut parameters = Parameters::read(Some(query), &["user_id", "status", "limit", "cursor"]);
        let read = read_query(&mut parameters);
        parameters.finish(read)
    }

    #[test]
    fn a_query_is_read_with_all_it_says_and_a_cursor_goes_with_its_own_only() {
        let query = read("user_id=7&status=voided&limit=100").unwrap();
        assert_eq!((query.user_id.get(), query.status, query.limit), (7, Some(HoldStatus::Voided), 100));
        assert_eq!(read("user_id=7").unwrap(), HoldsQuery { status: None, limit: 20, ..query.clone() });
        for wrong in
            ["", "user_id=7&status=Open", "user_id=7&status=", "user_id=7&limit=0", "user_id=7&kind=hold"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let id = TransactionId::first_at(1_000);
        let cursor = Cursor::of_holds(&query).encode(id);
        let with = |query: &str| read(&format!("{query}&cursor={cursor}"));
        assert_eq!(with("user_id=7&status=voided&limit=3").unwrap().before, Some(id));
        assert!(with("user_id=7").is_err() && with("user_id=8&status=voided").is_err());
    }
}
