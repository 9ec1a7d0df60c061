//! `GET /transactions` and `GET /transactions/{id}`: a user's history.
//!
//! Refused operations are not shown: nobody knows their ids.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use picopay_shard_client::{Page, Read};
use picopay_shared::command::Kind;
use picopay_shared::query::HistoryQuery;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::cursor::Cursor;
use crate::guarded::{Admitted, Guarded};
use crate::openapi::parts::{HistoryProblems, IdInPath, LookupProblems, ReadHeaders};
use crate::page_limit::read_limit;
use crate::parameters::{self, Parameters, PathParameters};
use crate::problem::Problem;
use crate::read_answer::{page_answer, read_answer};
use crate::read_request::reader;
use crate::request_id::RequestId;
use crate::transaction_body::{KindSchema, LookupBody, LookupSchema, TransactionBody, TransactionSchema};
use picopay_gateway_config::rfc3339::read_unix_ms;

const HISTORY_PARAMETERS: [&str; 6] = ["user_id", "limit", "cursor", "kind", "from", "to"];

#[derive(Debug, Serialize)]
struct PageBody<'a> {
    data: Vec<TransactionBody<'a>>,
    next_cursor: Option<String>,
}

// The schema of `PageBody`.
/// A page of a user's history.
#[derive(Debug, ToSchema)]
#[schema(as = Page)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct PageSchema {
    /// Transactions, the newest first.
    data: Vec<TransactionSchema>,
    /// For the next page, with the same query; `null` at the end, and only there: a page may have fewer transactions than `limit`,
    /// even none, and go on.
    #[schema(required = true, example = "AQGaLzSweNiW-jQABTQAAAEBAgMEBQYHCA")]
    next_cursor: Option<String>,
}

// The query of a history, for the documentation.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
struct HistoryParameters {
    /// The user whose history is read.
    #[param(minimum = 1, maximum = 9_223_372_036_854_775_807_i64, example = 1)]
    user_id: i64,
    /// Transactions on the page at most; 20 unless asked.
    #[param(required = false, minimum = 1, maximum = 100, example = 20)]
    limit: u16,
    /// The `next_cursor` of the page before, word for word, with the same query.
    #[param(required = false)]
    cursor: String,
    /// Only transactions of this kind.
    #[param(required = false, value_type = KindSchema)]
    kind: Kind,
    /// Made at or after this time, RFC 3339.
    #[param(required = false, format = DateTime, example = "2026-11-22T00:00:00Z")]
    from: String,
    /// Made before this time, RFC 3339.
    #[param(required = false, format = DateTime, example = "2026-11-23T00:00:00Z")]
    to: String,
}

/// Read a user's history
///
/// Completed transactions, newest first. Transactions that are made while a client turns the pages shift nothing: no
/// page repeats one or leaves one out.
#[utoipa::path(
    get, path = "/transactions", tag = "transactions",
    params(ReadHeaders, HistoryParameters),
    responses((status = 200, description = "A page.", body = PageSchema), HistoryProblems),
)]
pub async fn get_transactions(
    State(guarded): State<Guarded>,
    RawQuery(query): RawQuery,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Admitted { gateway, .. } = guarded.admit(&headers)?;
    let mut parameters = Parameters::read(query.as_deref(), &HISTORY_PARAMETERS);
    let reader = reader(&headers, &request_id, &mut parameters);
    let query = read_history_query(&mut parameters);
    let query = parameters.finish(query)?;
    let Read { found, source } = gateway.shards.read_history(query.clone(), reader).await?;
    let Page { transactions, goes_on_before } =
        found.ok_or_else(|| Problem::user_not_found().with_source(source))?;
    let next_cursor = goes_on_before.map(|last| Cursor::of_history(&query).encode(last));
    let data = transactions.iter().map(TransactionBody::of_read).collect();
    Ok(page_answer(transactions.len(), &PageBody { data, next_cursor }, source))
}

/// Look up a transaction
#[utoipa::path(
    get, path = "/transactions/{id}", tag = "transactions",
    params(ReadHeaders, IdInPath),
    responses((status = 200, description = "The transaction.", body = LookupSchema), LookupProblems),
)]
pub async fn get_transaction(
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
        return Err(Problem::transaction_not_found());
    }
    let Read { found, source } = gateway.shards.read_transaction(id, reader).await?;
    let transaction = found.ok_or_else(|| Problem::transaction_not_found().with_source(source))?;
    let body = LookupBody { transaction: TransactionBody::of_read(&transaction) };
    Ok(read_answer(StatusCode::OK, &body, source))
}

fn read_history_query(parameters: &mut Parameters) -> Option<HistoryQuery> {
    let user_id = parameters.required("user_id", parameters::user_id);
    let limit = read_limit(parameters);
    let kind = parameters.optional("kind", parse_kind);
    let from_ms = parameters.optional("from", read_unix_ms);
    let to_ms = parameters.optional("to", read_unix_ms);
    let query = user_id.map(|user_id| HistoryQuery {
        user_id,
        limit,
        before: None,
        kind,
        from_ms,
        to_ms,
        takes_short_pages: true,
    });
    // Without a user nobody knows whose cursor it is; the missing user is reported anyway.
    let before = query.as_ref().and_then(|query| Cursor::of_history(query).read(parameters));
    query.map(|query| HistoryQuery { before, ..query })
}

fn parse_kind(word: &str) -> Result<Kind, String> {
    Kind::parse(word).ok_or_else(|| format!("must be one of {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

#[cfg(test)]
mod tests {
    use picopay_shared::id::TransactionId;

    use super::*;

    fn read_query(query: &str) -> Result<HistoryQuery, Problem> {
        let mut parameters = Parameters::read(Some(query), &HISTORY_PARAMETERS);
        let read = read_history_query(&mut parameters);
        parameters.finish(read)
    }

    #[test]
    fn a_query_is_read_with_all_it_says() {
        let query = read_query(
            "user_id=7&limit=100&kind=refund&from=2026-11-22T12:00:00Z&to=2026-11-22T14:00:00+01:00",
        )
        .unwrap();
        assert_eq!((query.user_id.get(), query.limit, query.kind), (7, 100, Some(Kind::Refund)));
        assert_eq!(query.from_ms, Some(1_795_348_800_000));
        assert_eq!(query.to_ms, Some(1_795_348_800_000 + 3_600_000));
        assert_eq!(read_query("user_id=7&kind=hold").unwrap().kind, Some(Kind::Hold));
        assert_eq!(read_query("user_id=7").unwrap().limit, 20);
    }

    #[test]
    fn wrong_parameters_are_refused() {
        for query in [
            "",
            "limit=20",
            "user_id=7&limit=0",
            "user_id=7&limit=101",
            "user_id=7&limit=+5",
            "user_id=7&limit=x",
            "user_id=7&limit=",
            "user_id=7&kind=hold,void",
            "user_id=7&kind=Charge",
            "user_id=7&from=yesterday",
            "user_id=7&from=2026-11-22",
            "user_id=7&to=2026-13-22T00:00:00Z",
            "user_id=7&cursor=x",
            "user_id=7&page=2",
            "user_id=7&user_id=8",
        ] {
            assert!(read_query(query).is_err(), "{query}");
        }
    }

    #[test]
    fn a_cursor_goes_with_its_own_query_only() {
        let query = read_query("user_id=7&kind=charge").unwrap();
        let id = TransactionId::first_at(1_000);
        let cursor = Cursor::of_history(&query).encode(id);
        let with = |query: &str| read_query(&format!("{query}&cursor={cursor}"));
        assert_eq!(with("user_id=7&kind=charge&limit=3").unwrap().before, Some(id));
        assert!(with("user_id=7").is_err());
        assert!(with("user_id=8&kind=charge").is_err());
    }
}
