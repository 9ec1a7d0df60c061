//! `POST /sums`: what many users did together, added up over all shards.

use std::collections::HashSet;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use picopay_shared::aggregate::{Sum, SumsQuery};
use picopay_shared::command::Kind;
use picopay_shared::money::{Currency, MoneySum};
use picopay_shared::slot::UserId;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::content_headers;
use crate::fields::{self, Fields};
use crate::guarded::{Admitted, Guarded};
use crate::json_answer::json;
use crate::openapi::parts::{ReadHeaders, SumsProblems};
use crate::parameters::Parameters;
use crate::problem::{FieldError, Problem};
use crate::read_request::reader;
use crate::request_body::{OPERATION_MAX, check_length, read_body};
use crate::request_id::RequestId;
use crate::shard_sources::ShardSourceBody;
use crate::transaction_body::serialize_display;
use picopay_gateway_config::rfc3339::read_unix_ms;

/// Users of one request: a shard reads a few rows of each in some milliseconds.
const USERS_MAX: usize = 1_000;

// The body is a schema for the documentation; `read_query` reads it.
/// Whose transactions are added up, and which.
#[derive(Debug, ToSchema)]
#[schema(as = SumsQuery)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct SumsQueryBody {
    /// One that is named twice counts once, one that does not exist adds nothing.
    #[schema(min_items = 1, max_items = 1000, example = json!([1, 2]))]
    user_ids: Vec<i64>,
    /// Only transactions of this kind; it must be one that moves money.
    #[schema(nullable = false, example = "charge")]
    kind: Option<MovingKindSchema>,
    /// Made at or after this time, RFC 3339.
    #[schema(nullable = false, format = DateTime, example = "2026-11-01T00:00:00Z")]
    from: Option<String>,
    /// Made before this time, RFC 3339.
    #[schema(nullable = false, format = DateTime, example = "2026-12-01T00:00:00Z")]
    to: Option<String>,
}

/// A kind of transaction that moves money.
#[derive(Debug, ToSchema)]
#[schema(as = MovingKind, rename_all = "snake_case")]
pub enum MovingKindSchema {
    Topup,
    Charge,
    Refund,
    TransferOut,
    TransferIn,
    TransferBack,
}

/// Sums by currency and kind, with where they came from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sums)]
pub struct SumsBody {
    /// One for each currency and kind of which there are transactions.
    sums: Vec<SumBody>,
    /// One for each shard.
    shards: Vec<ShardSourceBody>,
}

/// Transactions of one kind in one currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sum)]
pub struct SumBody {
    #[schema(value_type = String, example = "USD")]
    currency: Currency,
    #[schema(value_type = MovingKindSchema, example = "charge")]
    kind: &'static str,
    /// How many transactions there are.
    #[schema(minimum = 1, example = 2)]
    count: u64,
    /// What they add up to, at the currency's scale.
    #[serde(serialize_with = "serialize_display")]
    #[schema(value_type = String, example = "100.00")]
    amount: MoneySum,
}

/// Add up transactions of many users
///
/// Completed transactions of the kinds that move money, by currency and kind, over all shards. From replicas where they are
/// fresh enough. Each user counts once, also while users move between shards. There is no sum without all shards: when one
/// does not answer, this is a 503 that names it.
#[utoipa::path(
    post, path = "/sums", tag = "transactions",
    params(ReadHeaders),
    request_body(content = SumsQueryBody),
    responses((status = 200, description = "The sums.", body = SumsBody), SumsProblems),
)]
pub async fn post_sums(State(guarded): State<Guarded>, request: Request<Body>) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let Admitted { gateway, .. } = guarded.admit(&parts.headers)?;
    content_headers::check(&parts.headers)?;
    check_length(&parts.headers, OPERATION_MAX)?;
    let body = read_body(body, OPERATION_MAX, gateway.config.server.body_read_timeout).await?;
    let request_id: &RequestId = parts.extensions.get().expect("the front door names every request");
    let mut parameters = Parameters::read(parts.uri.query(), &[]);
    let reader = reader(&parts.headers, request_id, &mut parameters);
    let query = parameters.finish_with_body(read_query(&body))?;
    let gathered = gateway.shards.read_sums(query, reader).await?;
    let sums = gathered.figures.sums.into_iter().map(SumBody::of).collect();
    let shards = gathered.shards.into_iter().map(ShardSourceBody::from).collect();
    Ok(json(StatusCode::OK, &SumsBody { sums, shards }))
}

impl SumBody {
    fn of(Sum { kind, count, amount }: Sum) -> Self {
        Self { currency: amount.currency(), kind: kind.as_str(), count, amount }
    }
}

fn read_query(body: &[u8]) -> Result<SumsQuery, Problem> {
    let mut fields = Fields::read(body, &["user_ids", "kind", "from", "to"])?;
    let mut wrong = Vec::new();
    let user_ids = fields.required("user_ids", |raw| read_user_ids(raw, &mut wrong));
    let kind = fields.optional("kind", read_kind);
    let from_ms = fields.optional("from", |raw| read_unix_ms(&fields::string(raw)?));
    let to_ms = fields.optional("to", |raw| read_unix_ms(&fields::string(raw)?));
    for (place, detail) in wrong {
        let error = FieldError::in_field(&place.to_string(), detail);
        fields.add_below("/user_ids", Problem::invalid_request(vec![error]));
    }
    fields.finish(user_ids.map(|user_ids| SumsQuery { user_ids, kind, from_ms, to_ms }))
}

/// Each user once. What is wrong with single ones goes to `wrong`, with its place.
fn read_user_ids(raw: &str, wrong: &mut Vec<(usize, String)>) -> Result<Vec<UserId>, String> {
    let ids: Vec<&RawValue> =
        serde_json::from_str(raw).map_err(|_| "must be a list of user_ids".to_owned())?;
    if !(1..=USERS_MAX).contains(&ids.len()) {
        return Err(format!("names {} users; it takes 1 to {USERS_MAX}", ids.len()));
    }
    let mut seen = HashSet::with_capacity(ids.len());
    let mut users = Vec::with_capacity(ids.len());
    for (place, id) in ids.iter().enumerate() {
        match fields::user_id(id.get()) {
            Ok(user) if seen.insert(user) => users.push(user),
            Ok(_twice) => {}
            Err(detail) => wrong.push((place, detail)),
        }
    }
    Ok(users)
}

fn read_kind(raw: &str) -> Result<Kind, String> {
    let kind = Kind::parse(&fields::string(raw)?).filter(|kind| kind.moves_money());
    kind.ok_or_else(|| {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.moves_money());
        let words: Vec<&str> = kinds.map(Kind::as_str).collect();
        format!("must be one of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_with_all_it_says_and_each_user_once() {
        let body = br#"{"user_ids":[3,1,3],"kind":"refund","from":"2026-11-22T12:00:00Z","to":"2026-11-22T14:00:00+01:00"}"#;
        let query = read_query(body).unwrap();
        assert_eq!(query.user_ids.iter().map(|user| user.get()).collect::<Vec<_>>(), [3, 1]);
        assert_eq!((query.kind, query.from_ms), (Some(Kind::Refund), Some(1_795_348_800_000)));
        assert_eq!(query.to_ms, Some(1_795_348_800_000 + 3_600_000));
        let of = |count: usize| format!(r#"{{"user_ids":[{}]}}"#, vec!["1"; count].join(","));
        assert!(read_query(of(1_000).as_bytes()).is_ok());
        for wrong in [of(0), of(1_001)] {
            let told = read_query(wrong.as_bytes()).unwrap_err().body("r", "");
            assert!(String::from_utf8(told).unwrap().contains(r#""pointer":"/user_ids""#));
        }
    }

    #[test]
    fn what_is_wrong_is_named_where_it_is() {
        for (body, pointers) in [
            ("{}", vec!["/user_ids"]),
            (r#"{"user_ids":1}"#, vec!["/user_ids"]),
            (r#"{"user_ids":null}"#, vec!["/user_ids"]),
            (r#"{"user_ids":[1,"2",0,1.0]}"#, vec!["/user_ids/1", "/user_ids/2", "/user_ids/3"]),
            (r#"{"user_ids":[1],"kind":"hold"}"#, vec!["/kind"]),
            (r#"{"user_ids":[1],"kind":null}"#, vec!["/kind"]),
            (r#"{"user_ids":[1],"from":1,"to":"now"}"#, vec!["/from", "/to"]),
            (r#"{"user_ids":[1],"user_ids":[2]}"#, vec!["/user_ids"]),
            (r#"{"user_ids":[1],"currency":"USD"}"#, vec!["/currency"]),
        ] {
            let told = read_query(body.as_bytes()).unwrap_err().body("r", "");
            let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
            let told: Vec<&str> = (told["errors"].as_array().unwrap().iter())
                .map(|error| error["pointer"].as_str().unwrap())
                .collect();
            assert_eq!(told, pointers, "{body}");
        }
    }
}
