//! The parts of an operation's documentation: its request headers and its problems.
//!
//! Handlers name these, and the specification names the handlers. So this file uses neither.

use std::collections::BTreeMap;
use std::time::Duration;

use picopay_gateway_config::Scope;
use picopay_shard_client::{NotDone, ShardError};
use picopay_shared::hold::HoldStatus;
use picopay_shared::money::{Currency, Money};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Header, HeaderBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, ToSchema};

use crate::hold_body::HoldStatusSchema;
use crate::problem::{Code, FieldError, MEDIA_TYPE, Problem};
use crate::request_body::OPERATION_MAX;

/// An id like those that the gateway makes, for examples.
const EXAMPLE_REQUEST_ID: &str = "0b9f6a3e-6a0f-4c8e-9f55-1d2b3c4d5e6f";

/// The headers of a write.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct WriteHeaders {
    /// A UUID that stands for this operation: retry with the same one. Without it the gateway makes one and returns it.
    /// Bare or in double quotes, not the nil UUID.
    // A pattern without `format = "uuid"`, of which generated clients make an object that no header accepts.
    // No look-ahead either: UUIDs have versions from 1 on, and the nil UUID has version 0.
    #[param(
        rename = "Idempotency-Key",
        pattern = r#"^([0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[1-9A-Fa-f][0-9A-Fa-f]{3}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}|"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[1-9A-Fa-f][0-9A-Fa-f]{3}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}")$"#,
        nullable = false,
        example = "550e8400-e29b-41d4-a716-446655440000"
    )]
    idempotency_key: Option<String>,
    /// Finds the request in logs: 1 to 128 of `A–Z a–z 0–9 . _ ~ : -`. Made by the gateway when it is left out or anything else.
    #[param(rename = "X-Request-Id", nullable = false)]
    x_request_id: Option<String>,
    /// W3C trace context, passed on.
    #[param(nullable = false)]
    traceparent: Option<String>,
}

/// The headers of a read.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct ReadHeaders {
    /// The `PicoPay-Session` of the answer to a write, word for word: the answer shows that write, whichever database it
    /// comes from. Send the one of the last write to this user; it does not expire. Without it a history, a lookup or an
    /// eventual balance may be some seconds old.
    #[param(
        rename = "PicoPay-Session",
        pattern = "^A[Q-Za-f][A-Za-z0-9_-]{26}$",
        nullable = false,
        example = "ASgnVfAHPGqTAAAAAwAAAAFrN01I"
    )]
    picopay_session: Option<String>,
    /// Finds the request in logs: 1 to 128 of `A–Z a–z 0–9 . _ ~ : -`. Made by the gateway when it is left out or anything else.
    #[param(rename = "X-Request-Id", nullable = false)]
    x_request_id: Option<String>,
    /// W3C trace context, passed on.
    #[param(nullable = false)]
    traceparent: Option<String>,
}

/// The path of what has an id.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct IdInPath {
    #[param(format = "uuid", example = "019a9f3a-7a6b-892e-9356-4ab70000c001")]
    id: String,
}

/// An RFC 9457 problem.
#[derive(Debug, ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct ProblemSchema {
    /// A page that says what it means.
    #[schema(format = "uri")]
    r#type: String,
    /// The same for every problem of this type.
    title: String,
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// `urn:request:` and the id of the request; in a replayed refusal, of the request that was refused first.
    instance: String,
    /// The last part of `type`.
    code: String,
    /// Of `invalid-request`: everything that is wrong.
    #[schema(nullable = false)]
    errors: Option<Vec<FieldError>>,
    /// Of `insufficient-balance`: what the user had.
    #[schema(nullable = false)]
    balance: Option<String>,
    /// Of `insufficient-balance`: what of it no open hold reserved. Refusals from before there were holds have none.
    #[schema(nullable = false)]
    available: Option<String>,
    /// Of `insufficient-balance`: what the charge, the hold or the transfer needed.
    #[schema(nullable = false)]
    required: Option<String>,
    /// Of `insufficient-balance`: the currency of both.
    #[schema(nullable = false)]
    currency: Option<String>,
    /// Of `idempotency-key-reused`: the fields that differ.
    #[schema(nullable = false)]
    differs: Option<Vec<String>>,
    /// Of a refused refund or capture: how much it could be.
    #[schema(nullable = false)]
    remaining: Option<String>,
    /// Of `hold-not-open`: what became of the hold.
    #[schema(nullable = false)]
    hold_status: Option<HoldStatusSchema>,
    /// Of `user-not-found`, for a transfer: which of its users.
    #[schema(nullable = false)]
    user_id: Option<i64>,
    /// Of `forbidden`: the scope that the key lacks.
    #[schema(nullable = false)]
    scope: Option<String>,
    /// Of 503: the shard concerned, when it is known.
    #[schema(nullable = false)]
    shard: Option<String>,
}

macro_rules! problem_sets {
    ($($(#[$doc:meta])* $name:ident = $($code:ident)+;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
                problem_responses(&[$(Code::$code),+])
            }
        }
    )+};
}

problem_sets! {
    PaymentProblems = InvalidRequest InvalidIdempotencyKey Unauthorized InsufficientBalance Forbidden UserNotFound
        RequestTimeout TooLarge UnsupportedMediaType IdempotencyKeyReused RateLimited Internal ShardUnavailable Overloaded SlotMoving OutcomeUnknown;
    TopUpProblems = InvalidRequest InvalidIdempotencyKey Unauthorized Forbidden UserNotFound
        RequestTimeout TooLarge UnsupportedMediaType IdempotencyKeyReused RateLimited Internal ShardUnavailable Overloaded SlotMoving OutcomeUnknown;
    RefundProblems = InvalidRequest InvalidIdempotencyKey Unauthorized Forbidden TransactionNotFound
        RequestTimeout TooLarge UnsupportedMediaType IdempotencyKeyReused RefundExceedsCharge NotRefundable RateLimited Internal ShardUnavailable
        Overloaded SlotMoving OutcomeUnknown;
    HoldProblems = InvalidRequest InvalidIdempotencyKey Unauthorized InsufficientBalance Forbidden UserNotFound
        RequestTimeout TooLarge UnsupportedMediaType IdempotencyKeyReused TooManyHolds RateLimited Internal ShardUnavailable Overloaded SlotMoving
        OutcomeUnknown;
    CaptureProblems = InvalidRequest InvalidIdempotencyKey Unauthorized Forbidden HoldNotFound
        RequestTimeout TooLarge UnsupportedMediaType IdempotencyKeyReused CaptureExceedsHold HoldNotOpen RateLimited Internal ShardUnavailable
        Overloaded SlotMoving OutcomeUnknown;
    VoidProblems = InvalidRequest InvalidIdempotencyKey Unauthorized Forbidden HoldNotFound
        RequestTimeout TooLarge UnsupportedMediaType IdempotencyKeyReused HoldNotOpen RateLimited Internal ShardUnavailable Overloaded SlotMoving
        OutcomeUnknown;
    HoldsProblems = InvalidRequest Unauthorized Forbidden UserNotFound RateLimited Internal ShardUnavailable Overloaded SlotMoving;
    HoldLookupProblems = InvalidRequest Unauthorized Forbidden HoldNotFound RateLimited Internal ShardUnavailable Overloaded SlotMoving;
    TransferLookupProblems = InvalidRequest Unauthorized Forbidden TransferNotFound RateLimited Internal ShardUnavailable Overloaded SlotMoving;
    BatchProblems = InvalidRequest InvalidIdempotencyKey Unauthorized RequestTimeout TooLarge UnsupportedMediaType Internal;
    CreateUserProblems = InvalidRequest InvalidIdempotencyKey Unauthorized Forbidden RequestTimeout TooLarge UnsupportedMediaType
        RateLimited Internal ShardUnavailable Overloaded SlotMoving OutcomeUnknown;
    BalanceProblems = InvalidRequest Unauthorized Forbidden UserNotFound RangeTooLarge RateLimited Internal ShardUnavailable Overloaded SlotMoving;
    HistoryProblems = InvalidRequest Unauthorized Forbidden UserNotFound RateLimited Internal ShardUnavailable Overloaded SlotMoving;
    LookupProblems = InvalidRequest Unauthorized Forbidden TransactionNotFound RateLimited Internal ShardUnavailable Overloaded
        SlotMoving;
    SumsProblems = InvalidRequest Unauthorized Forbidden RequestTimeout TooLarge UnsupportedMediaType RangeTooLarge RateLimited Internal
        ShardUnavailable Overloaded SlotMoving;
    TotalsProblems = InvalidRequest Unauthorized Forbidden RateLimited Internal ShardUnavailable Overloaded SlotMoving;
    NotReadyProblems = InvalidRequest ShardUnavailable ShuttingDown;
    OpenProblems = InvalidRequest;
}

/// Problems that any request may get.
const OF_EVERY_HEAD: [Code; 3] = [Code::UriTooLong, Code::HeadersTooLarge, Code::NotImplemented];

/// One response per status, with an example for each code.
fn problem_responses(codes: &[Code]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let mut by_status: BTreeMap<String, Vec<Code>> = BTreeMap::new();
    for code in codes.iter().chain(&OF_EVERY_HEAD) {
        by_status.entry(code.status().as_u16().to_string()).or_default().push(*code);
    }
    let respond = |(status, codes): (String, Vec<Code>)| {
        let mut content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
        let mut description = Vec::new();
        for code in codes {
            description.push(format!("`{}`: {}", code.suffix(), code.meaning()));
            let example = ExampleBuilder::new().summary(code.title()).value(Some(example(code)));
            content = content.examples_from_iter([(code.suffix(), RefOr::T(example.build()))]);
        }
        let mut response =
            ResponseBuilder::new().description(description.join("\n\n")).content(MEDIA_TYPE, content.build());
        if matches!(status.as_str(), "429" | "503") {
            response = response.header("Retry-After", header_of(Type::Integer, "Whole seconds to wait."));
        }
        if status == "401" {
            response = response.header("WWW-Authenticate", header_of(Type::String, "`Bearer`."));
        }
        (status, RefOr::T(response.build()))
    };
    by_status.into_iter().map(respond).collect()
}

/// An example, written by the same code as a real problem.
fn example(code: Code) -> serde_json::Value {
    let usd = |text| Money::parse(text, Currency::parse("USD").expect("in ISO 4217")).expect("an amount");
    let soon = Duration::from_secs(1);
    let shard = Some("shard-1".to_owned());
    let not_done = |why| ShardError::NotDone { why, shard, retry_after: soon };
    let problem = match code {
        Code::InvalidRequest => Problem::invalid_request(vec![
            FieldError::in_field("amount", "USD takes at most 2 decimals"),
            FieldError::in_field(
                "note",
                "unknown field; there are user_id, amount, currency, reference, metadata",
            ),
        ]),
        Code::InvalidIdempotencyKey => Problem::invalid_idempotency_key("the header is sent twice"),
        Code::Unauthorized => Problem::key_missing(),
        Code::Forbidden => Problem::scope_missing(&[Scope::Charge]),
        Code::InsufficientBalance => {
            Problem::too_little_available(usd("7.50"), usd("5.00"), usd("50.00"), "charge")
        }
        Code::UserNotFound => Problem::user_not_found(),
        Code::TransactionNotFound => Problem::transaction_not_found(),
        Code::TransferNotFound => Problem::transfer_not_found(),
        Code::NotFound => Problem::not_found(),
        Code::MethodNotAllowed => Problem::method_not_allowed(),
        Code::RequestTimeout => Problem::body_too_slow(),
        Code::TooLarge => Problem::too_large(OPERATION_MAX),
        Code::UriTooLong => Problem::uri_too_long(),
        Code::UnsupportedMediaType => Problem::unsupported_media_type(),
        Code::IdempotencyKeyReused => Problem::key_reused(vec!["amount".to_owned()]),
        Code::RefundExceedsCharge => Problem::refund_exceeds_charge(usd("3.00")),
        Code::HoldNotFound => Problem::hold_not_found(),
        Code::CaptureExceedsHold => Problem::capture_exceeds_hold(usd("30.00")),
        Code::HoldNotOpen => Problem::hold_not_open(HoldStatus::Captured),
        Code::TooManyHolds => Problem::too_many_holds(),
        Code::RangeTooLarge => Problem::range_too_large(),
        Code::NotRefundable => Problem::not_refundable(usd("1").currency()),
        Code::RateLimited => Problem::rate_limited(soon),
        Code::HeadersTooLarge => Problem::headers_too_large(),
        Code::Internal => Problem::internal(),
        Code::NotImplemented => Problem::not_implemented(),
        Code::ShardUnavailable => not_done(NotDone::Unavailable).into(),
        Code::Overloaded => not_done(NotDone::Overloaded).into(),
        Code::SlotMoving => not_done(NotDone::SlotMoving).into(),
        Code::ShuttingDown => Problem::shutting_down(),
        Code::OutcomeUnknown => ShardError::Unknown.into(),
    };
    serde_json::from_slice(&problem.body(EXAMPLE_REQUEST_ID, "")).expect("a problem is JSON")
}

pub fn header_of(kind: Type, description: &str) -> Header {
    let schema: Object = ObjectBuilder::new().schema_type(kind).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}
