//! `GET /transactions` and `GET /transactions/{id}`: what was done.
//!
//! Refused operations are not here: nobody was ever told their ids.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use picopay_shared::command::Kind;
use picopay_shared::id::TransactionId;
use picopay_shared::query::{Found, HistoryQuery, Query};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Scope;
use crate::cursor;
use crate::fields::{NO_UUID, hyphenated_uuid};
use crate::gateway::Gateway;
use crate::openapi::{HistoryProblems, LookupProblems, ReadHeaders};
use crate::parameters::{self, Parameters, PathParameters};
use crate::problem::Problem;
use crate::read_answer::read_answer;
use crate::session;
use crate::transaction_body::{LookupBody, LookupSchema, TransactionBody, TransactionSchema};

/// Transactions on a page, when the client does not say.
const LIMIT_DEFAULT: u16 = 20;
/// Most that a page has: what a replica reads in a few milliseconds.
const LIMIT_MAX: u16 = 100;

/// What the query of a history may have.
const HISTORY_PARAMETERS: [&str; 6] = ["user_id", "limit", "cursor", "kind", "from", "to"];

/// A page of history.
#[derive(Debug, Serialize)]
struct PageBody<'a> {
    data: Vec<TransactionBody<'a>>,
    next_cursor: Option<String>,
}

/// `PageBody` for the documentation.
#[derive(Debug, ToSchema)]
#[schema(as = Page)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct PageSchema {
    /// Newest first.
    data: Vec<TransactionSchema>,
    /// For the next page, with the same query; `null` at the end.
    #[schema(example = "AQGaLzSweNiW-jQABTQAAAEBAgMEBQYHCA")]
    next_cursor: Option<String>,
}

/// Read a user's history
///
/// Completed transactions, newest first. Transactions that are made while a client turns the pages shift nothing: no
/// page repeats one or leaves one out.
#[utoipa::path(
    get, path = "/transactions", tag = "transactions",
    params(
        ReadHeaders,
        ("user_id" = i64, Query, minimum = 1, example = 1),
        ("limit" = Option<u16>, Query, description = "Transactions on the page.", minimum = 1, maximum = 100, example = 20),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before, with the same query."),
        ("kind" = Option<String>, Query, description = "Only `topup`, `charge` or `refund`."),
        ("from" = Option<String>, Query, description = "Made at or after this time, RFC 3339.", example = "2026-11-22T00:00:00Z"),
        ("to" = Option<String>, Query, description = "Made before this time, RFC 3339."),
    ),
    responses((status = 200, description = "A page.", body = PageSchema), HistoryProblems),
)]
pub async fn get_transactions(
    State(gateway): State<Arc<Gateway>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    gateway.keys.admit(&headers, Scope::Read)?;
    let mut parameters = Parameters::read(query.as_deref(), &HISTORY_PARAMETERS);
    let session = session::read(&headers, &mut parameters);
    let query = read_history_query(&mut parameters);
    let query = parameters.finish(query)?;
    let (found, source) = gateway.shards.read(Query::History(query.clone()), session).await?;
    let (transactions, has_more) = match found {
        Found::History { transactions, has_more } => (transactions, has_more),
        Found::UserNotFound => return Err(Problem::user_not_found().with_source(source)),
        Found::Balances(_)
        | Found::Transaction(_)
        | Found::TransactionNotFound
        | Found::Moved(_)
        | Found::Unavailable { .. } => return Err(Problem::internal()),
    };
    let last = if has_more { transactions.last() } else { None };
    let next_cursor = last.map(|last| cursor::encode(last.id, &query));
    let data = transactions.iter().map(TransactionBody).collect();
    Ok(read_answer(StatusCode::OK, &PageBody { data, next_cursor }, source))
}

/// Look up a transaction
#[utoipa::path(
    get, path = "/transactions/{id}", tag = "transactions",
    params(ReadHeaders, ("id" = String, Path, format = "uuid", example = "019a9f3a-7a6b-892e-9356-4ab70000c001")),
    responses((status = 200, description = "The transaction.", body = LookupSchema), LookupProblems),
)]
pub async fn get_transaction(
    State(gateway): State<Arc<Gateway>>,
    path: PathParameters,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    gateway.keys.admit(&headers, Scope::Read)?;
    let mut parameters = Parameters::read(query.as_deref(), &[]);
    let session = session::read(&headers, &mut parameters);
    let id = parameters
        .in_path("id", path.get("id"), |text| hyphenated_uuid(text).ok_or_else(|| NO_UUID.to_owned()));
    let id = TransactionId::from_uuid(parameters.finish(id)?);
    let (found, source) = gateway.shards.read(Query::Lookup { id }, session).await?;
    match found {
        Found::Transaction(transaction) => {
            let body = LookupBody { transaction: TransactionBody(&transaction) };
            Ok(read_answer(StatusCode::OK, &body, source))
        }
        Found::TransactionNotFound => Err(Problem::transaction_not_found().with_source(source)),
        Found::Balances(_)
        | Found::History { .. }
        | Found::UserNotFound
        | Found::Moved(_)
        | Found::Unavailable { .. } => Err(Problem::internal()),
    }
}

fn read_history_query(parameters: &mut Parameters) -> Option<HistoryQuery> {
    let user_id = parameters.required("user_id", parameters::user_id);
    let limit = parameters.optional("limit", parse_limit).unwrap_or(LIMIT_DEFAULT);
    let kind = parameters
        .optional("kind", |word| Kind::parse(word).ok_or("must be topup, charge or refund".to_owned()));
    let from_ms = parameters.optional("from", parse_time);
    let to_ms = parameters.optional("to", parse_time);
    let query = user_id.map(|user_id| HistoryQuery { user_id, limit, before: None, kind, from_ms, to_ms });
    // Without a user there is no telling whose cursor it is; the missing user is told anyway.
    let before = query.as_ref().and_then(|query| {
        parameters.optional("cursor", |text| {
            cursor::decode(text, query).ok_or_else(|| cursor::NOT_USABLE.to_owned())
        })
    });
    query.map(|query| HistoryQuery { before, ..query })
}

fn parse_limit(text: &str) -> Result<u16, String> {
    let is_plain = !text.starts_with('+');
    let limit = text.parse().ok().filter(|limit| is_plain && (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("must be an integer from 1 to {LIMIT_MAX}"))
}

/// RFC 3339, as Unix milliseconds, rounded up: transactions carry whole milliseconds, so that nothing is at or after
/// 12.0005 but what is at or after 12.001.
fn parse_time(text: &str) -> Result<i64, String> {
    let example = || "must be an RFC 3339 time, for example 2026-11-22T12:00:00Z".to_owned();
    // A form decodes the + of an offset as a space, and most clients forget to encode it.
    let text = text.replace(' ', "+");
    let time: Timestamp = if is_rfc_3339(&text) { text.parse().ok() } else { None }.ok_or_else(example)?;
    let ms = time.as_millisecond();
    let has_rest = time.subsec_nanosecond() % 1_000_000 > 0;
    Ok(ms + i64::from(has_rest))
}

/// The shape alone; `jiff` takes more than RFC 3339 has, and checks the values.
fn is_rfc_3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit_at = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let has_date = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18].into_iter().all(digit_at)
        && bytes.get(4) == Some(&b'-')
        && bytes.get(7) == Some(&b'-')
        && matches!(bytes.get(10), Some(b'T' | b't'))
        && bytes.get(13) == Some(&b':')
        && bytes.get(16) == Some(&b':');
    let Some(end) = text.get(19..).filter(|_| has_date) else { return false };
    let end = match end.strip_prefix('.') {
        None => end,
        Some(fraction) => {
            let rest = fraction.trim_start_matches(|letter: char| letter.is_ascii_digit());
            if rest.len() == fraction.len() {
                return false;
            }
            rest
        }
    };
    let is_offset = |end: &str| {
        let bytes = end.as_bytes();
        bytes.len() == 6
            && matches!(bytes[0], b'+' | b'-')
            && bytes[3] == b':'
            && [1, 2, 4, 5].into_iter().all(|at: usize| bytes[at].is_ascii_digit())
    };
    matches!(end, "Z" | "z") || is_offset(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_query(query: &str) -> Result<HistoryQuery, Problem> {
        let mut parameters = Parameters::read(Some(query), &HISTORY_PARAMETERS);
        let read = read_history_query(&mut parameters);
        parameters.finish(read)
    }

    #[test]
    fn a_query_is_read_with_all_it_says() {
        let query = read_query(
            "user_id=7&limit=100&kind=refund&from=2026-11-22T12:00:00Z&to=2026-11-22T14:00:00%2B01:00",
        )
        .unwrap();
        assert_eq!((query.user_id.get(), query.limit, query.kind), (7, 100, Some(Kind::Refund)));
        assert_eq!(query.from_ms, Some(1_795_348_800_000));
        assert_eq!(query.to_ms, Some(1_795_348_800_000 + 3_600_000));
        assert_eq!(read_query("user_id=7").unwrap().limit, LIMIT_DEFAULT);
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
            "user_id=7&kind=hold",
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
        let cursor = cursor::encode(id, &query);
        let with = |query: &str| read_query(&format!("{query}&cursor={cursor}"));
        assert_eq!(with("user_id=7&kind=charge&limit=3").unwrap().before, Some(id));
        assert!(with("user_id=7").is_err());
        assert!(with("user_id=8&kind=charge").is_err());
    }

    #[test]
    fn times_are_rfc_3339_and_round_up_to_what_a_transaction_can_have() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.001Z", 1),
            ("1970-01-01T00:00:00.0011Z", 2),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01T01:00:00 01:00", 0),
            ("1970-01-01t00:00:01z", 1000),
        ] {
            assert_eq!(parse_time(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "0",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00Z[UTC]",
            "1970-01-01T00:00:00+0100",
            "1970-02-30T00:00:00Z",
            "-01970-01-01T00:00:00Z",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
