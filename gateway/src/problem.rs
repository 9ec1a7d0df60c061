//! Every error that a client reads: RFC 9457 problem details and public status codes.
//!
//! A [`Problem`] travels as a value until `front_door.rs` writes it, because only there the request's id is
//! known. Nothing internal leaks into it: no SQL, host, path or backtrace.

mod code;
mod field_error;
mod holds;
mod not_done;
mod not_ready;
mod ranges;

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use picopay_shared::command::{Kind, Refusal, Transaction};
use picopay_shared::hold::HoldStatus;
use picopay_shared::money::{Currency, Money};
use picopay_shared::query::Source;
use picopay_shared::slot::UserId;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

pub use self::code::Code;
pub use self::field_error::{FieldError, Place};
use crate::header_names::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, PICOPAY_SESSION};
use crate::source_headers::name_source;
use picopay_gateway_config::Scope;

pub const MEDIA_TYPE: &str = "application/problem+json";

/// Errors in one answer. A body of 64 KiB can hold ten thousand unknown fields; nobody corrects those one by
/// one.
pub const ERRORS_MAX: usize = 64;

/// What a client reads when its request failed. Boxed, because every `Result` holds one.
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    code: Code,
    detail: Cow<'static, str>,
    extension: Extension,
    retry_after: Option<Duration>,
    idempotency_key: Option<Uuid>,
    session: Option<HeaderValue>,
    source: Option<Source>,
    /// The request that was refused first, when the problem is a recorded answer.
    recorded_request_id: Option<String>,
    is_replayed: bool,
    closes_connection: bool,
    /// A 415 for a coding names the accepted one (RFC 9110, section 12.5.3).
    accepts_identity_only: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Extension {
    None,
    Errors(Vec<FieldError>),
    Balance { balance: Money, available: Option<Money>, required: Money },
    Differs(Vec<String>),
    Remaining(Money),
    HoldStatus(HoldStatus),
    User(UserId),
    Scope(Scope),
    Shard(String),
    Shards(serde_json::Value),
}

impl Problem {
    fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            code,
            detail: detail.into(),
            extension: Extension::None,
            retry_after: None,
            idempotency_key: None,
            session: None,
            source: None,
            recorded_request_id: None,
            is_replayed: false,
            closes_connection: false,
            accepts_identity_only: false,
        }))
    }

    fn with(mut self, extension: Extension) -> Self {
        self.0.extension = extension;
        self
    }

    fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    #[must_use]
    pub fn with_key(mut self, key: Uuid) -> Self {
        self.0.idempotency_key = Some(key);
        self
    }

    #[must_use]
    pub fn with_session_if_recorded(mut self, session: Option<&HeaderValue>) -> Self {
        if self.is_recorded() {
            self.0.session = session.cloned();
        }
        self
    }

    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.0.source = Some(source);
        self
    }

    pub fn invalid_request(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => Cow::Owned(only.detail.clone()),
            all => Cow::Owned(format!("{} things are wrong, see errors", all.len())),
        };
        Self::new(Code::InvalidRequest, detail).with(Extension::Errors(errors))
    }

    pub fn into_errors(self) -> Vec<FieldError> {
        match self.0.extension {
            Extension::Errors(errors) => errors,
            _ => Vec::new(),
        }
    }

    fn closing(mut self) -> Self {
        self.0.closes_connection = true;
        self
    }

    /// The header `Host` is not one host. The request may be meant for somebody else.
    pub fn host_invalid(error: FieldError) -> Self {
        Self::invalid_request(vec![error]).closing()
    }

    /// The body did not come in time. Later bytes would be read as the next request, so the connection ends.
    pub fn body_too_slow() -> Self {
        Self::new(Code::RequestTimeout, "the body did not arrive in time; nothing happened").closing()
    }

    pub fn uri_too_long() -> Self {
        Self::new(Code::UriTooLong, "a URL has at most 8 KiB (8192 bytes)")
    }

    pub fn headers_too_large() -> Self {
        Self::new(
            Code::HeadersTooLarge,
            "a request has at most 100 header lines, of 32 KiB (32768 bytes) together",
        )
    }

    pub fn not_implemented() -> Self {
        Self::new(
            Code::NotImplemented,
            "send the body as it is; the only Transfer-Encoding that is taken is chunked",
        )
        .closing()
    }

    pub fn invalid_idempotency_key(detail: &'static str) -> Self {
        Self::new(Code::InvalidIdempotencyKey, detail)
    }

    pub fn key_missing() -> Self {
        Self::new(Code::Unauthorized, "send the API key as X-API-Key or as Authorization: Bearer")
    }

    pub fn key_unknown() -> Self {
        Self::new(Code::Unauthorized, "the API key is not known")
    }

    pub fn key_expired() -> Self {
        Self::new(Code::Unauthorized, "the API key has expired")
    }

    pub fn scope_missing(needed: &[Scope]) -> Self {
        let words: Vec<String> = needed.iter().map(|scope| format!("{:?}", scope.as_str())).collect();
        let detail = format!("the API key lacks the scope {}", words.join(" or "));
        let problem = Self::new(Code::Forbidden, detail);
        match needed {
            [only] => problem.with(Extension::Scope(*only)),
            _ => problem,
        }
    }

    pub fn rate_limited(wait: Duration) -> Self {
        Self::new(Code::RateLimited, "the API key has used up its rate").retry_after(wait)
    }

    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "the path is not part of the API, see /docs")
    }

    pub fn method_not_allowed() -> Self {
        Self::new(Code::MethodNotAllowed, "the header Allow names the methods that this path takes")
    }

    pub fn too_large(size_max: usize) -> Self {
        Self::new(Code::TooLarge, format!("this body has at most {} KiB ({size_max} bytes)", size_max / 1024))
    }

    pub fn unsupported_media_type() -> Self {
        Self::new(
            Code::UnsupportedMediaType,
            "send the header Content-Type: application/json once, and the body as UTF-8",
        )
    }

    pub fn unsupported_encoding() -> Self {
        let mut problem = Self::new(
            Code::UnsupportedMediaType,
            "send the body as it is, without the header Content-Encoding",
        );
        problem.0.accepts_identity_only = true;
        problem
    }

    pub fn key_twice() -> Self {
        Self::new(Code::Unauthorized, "send the API key once: X-API-Key and Authorization have one line each")
    }

    pub fn user_not_found() -> Self {
        Self::new(Code::UserNotFound, "make the user with POST /users first")
    }

    /// One of the two users of a transfer.
    pub fn party_not_found(user_id: UserId) -> Self {
        Self::new(Code::UserNotFound, format!("there is no user {user_id}; nothing happened"))
            .with(Extension::User(user_id))
    }

    pub fn transfer_not_found() -> Self {
        Self::new(Code::TransferNotFound, "no transfer has this id")
    }

    pub fn transaction_not_found() -> Self {
        Self::new(Code::TransactionNotFound, "no completed transaction has this id")
    }

    pub fn key_reused(differs: Vec<String>) -> Self {
        let detail = format!(
            "the key was used before with another {}; a new request needs a new key",
            differs.join(", another ")
        );
        Self::new(Code::IdempotencyKeyReused, detail).with(Extension::Differs(differs))
    }

    pub fn internal() -> Self {
        Self::new(Code::Internal, "the request id finds this in the log")
    }

    /// A recorded refusal, all of it from the record, so that it reads the same each time.
    pub fn refused(
        record: &Transaction,
        refusal: Refusal,
        recorded_request_id: &str,
        is_replayed: bool,
    ) -> Self {
        let mut problem = match refusal {
            Refusal::InsufficientBalance => match record.hold_part.available {
                Some(available) => {
                    let what = match record.kind {
                        Kind::TransferOut => "transfer",
                        kind => kind.as_str(),
                    };
                    Self::too_little_available(record.balance_after, available, record.money, what)
                }
                None => Self::insufficient_balance(record.balance_after, record.money),
            },
            Refusal::RefundExceedsCharge { remaining } => Self::refund_exceeds_charge(remaining),
            Refusal::NotRefundable => Self::not_refundable(record.money.currency()),
            Refusal::CaptureExceedsHold { remaining } => Self::capture_exceeds_hold(remaining),
            Refusal::HoldNotOpen { status } => Self::hold_not_open(status),
            Refusal::TooManyHolds => Self::too_many_holds(),
        };
        problem.0.recorded_request_id = Some(recorded_request_id.to_owned());
        problem.0.is_replayed = is_replayed;
        problem
    }

    /// The form of a record from before there were holds, whose replay must read the same.
    fn insufficient_balance(balance: Money, required: Money) -> Self {
        let currency = required.currency();
        let detail = format!("the balance is {balance} {currency}, the charge {required} {currency}");
        let extension = Extension::Balance { balance, available: None, required };
        Self::new(Code::InsufficientBalance, detail).with(extension)
    }

    /// What is called `what` in it needs `required`.
    pub fn too_little_available(balance: Money, available: Money, required: Money, what: &str) -> Self {
        let currency = required.currency();
        let detail = format!("{available} {currency} is available, the {what} needs {required} {currency}");
        let extension = Extension::Balance { balance, available: Some(available), required };
        Self::new(Code::InsufficientBalance, detail).with(extension)
    }

    pub fn refund_exceeds_charge(remaining: Money) -> Self {
        let detail = format!("of this charge {remaining} {} can still be refunded", remaining.currency());
        Self::new(Code::RefundExceedsCharge, detail).with(Extension::Remaining(remaining))
    }

    pub fn not_refundable(currency: Currency) -> Self {
        Self::new(Code::NotRefundable, "only charges of which something remains can be refunded")
            .with(Extension::Remaining(Money::zero(currency)))
    }

    pub fn code(&self) -> Code {
        self.0.code
    }

    pub fn is_recorded(&self) -> bool {
        self.0.recorded_request_id.is_some()
    }

    pub fn is_replayed(&self) -> bool {
        self.0.is_replayed
    }

    pub fn into_response_to(self, request_id: &str, public_url: &str) -> Response {
        let status = self.code().status();
        let mut response = Response::new(Body::from(self.body(request_id, public_url)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if self.0.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(key) = self.0.idempotency_key {
            headers.insert(IDEMPOTENCY_KEY.clone(), key_header(key));
        }
        if let Some(session) = self.0.session {
            headers.insert(PICOPAY_SESSION.clone(), session);
        }
        if let Some(source) = self.0.source {
            name_source(headers, source);
        }
        if self.0.is_replayed {
            headers.insert(IDEMPOTENT_REPLAYED.clone(), HeaderValue::from_static("true"));
        }
        if self.0.closes_connection {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.0.accepts_identity_only {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        response
    }

    pub fn body(&self, request_id: &str, public_url: &str) -> Vec<u8> {
        serde_json::to_vec(&self.as_written(request_id, public_url))
            .expect("texts and numbers always serialize")
    }

    /// The problem as JSON, for an answer that has more than it.
    pub fn as_written<'a>(&'a self, request_id: &'a str, public_url: &'a str) -> impl Serialize + 'a {
        let instance_id = self.0.recorded_request_id.as_deref().unwrap_or(request_id);
        Written { parts: &self.0, instance_id, public_url }
    }
}

pub fn key_header(key: Uuid) -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    HeaderValue::from_str(key.hyphenated().encode_lower(&mut buffer)).expect("hexadecimal digits and hyphens")
}

/// `Retry-After` has whole seconds, and zero would mean at once.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0).max(u64::from(wait.as_secs() == 0))
}

/// The members in the order of RFC 9457, then `code` and the extensions.
struct Written<'a> {
    parts: &'a Parts,
    instance_id: &'a str,
    public_url: &'a str,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Parts { code, detail, extension, .. } = self.parts;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("{}/problems/{}", self.public_url, code.suffix()))?;
        map.serialize_entry("title", code.title())?;
        map.serialize_entry("status", &code.status().as_u16())?;
        map.serialize_entry("detail", detail)?;
        map.serialize_entry("instance", &format_args!("urn:request:{}", self.instance_id))?;
        map.serialize_entry("code", code.suffix())?;
        match extension {
            Extension::None => {}
            Extension::Errors(errors) => map.serialize_entry("errors", errors)?,
            Extension::Balance { balance, available, required } => {
                map.serialize_entry("balance", &format_args!("{balance}"))?;
                if let Some(available) = available {
                    map.serialize_entry("available", &format_args!("{available}"))?;
                }
                map.serialize_entry("required", &format_args!("{required}"))?;
                map.serialize_entry("currency", &required.currency())?;
            }
            Extension::Differs(differs) => map.serialize_entry("differs", differs)?,
            Extension::Remaining(remaining) => {
                map.serialize_entry("remaining", &format_args!("{remaining}"))?;
            }
            Extension::User(user_id) => map.serialize_entry("user_id", user_id)?,
            Extension::HoldStatus(status) => map.serialize_entry("hold_status", status.as_str())?,
            Extension::Scope(scope) => map.serialize_entry("scope", scope.as_str())?,
            Extension::Shard(shard) => map.serialize_entry("shard", shard)?,
            Extension::Shards(shards) => map.serialize_entry("shards", shards)?,
        }
        map.end()
    }
}

/// Leaves the problem in the response, where `front_door.rs` finds and writes it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.code().status();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use picopay_shard_client::{NotDone, ShardError};
    use picopay_shared::command::Status;
    use picopay_shared::hold::HoldPart;
    use picopay_shared::id::TransactionId;

    use super::*;

    fn body(problem: &Problem) -> String {
        String::from_utf8(problem.body("req-1", "https://pay.example")).unwrap()
    }

    fn usd(text: &str) -> Money {
        Money::parse(text, Currency::parse("USD").unwrap()).unwrap()
    }

    fn record(refusal: Refusal) -> Transaction {
        Transaction {
            id: TransactionId::from_uuid(Uuid::from_u128(1)),
            user_id: UserId::try_from(1).unwrap(),
            kind: Kind::Charge,
            status: Status::Refused { refusal, request_id: "first".into() },
            money: usd("50.00"),
            balance_after: usd("7.50"),
            idempotency_key: Some(Uuid::from_u128(2)),
            charge_id: None,
            reference: None,
            metadata: None,
            made_by: None,
            hold_part: HoldPart::default(),
            transfer: None,
        }
    }

    #[test]
    fn a_problem_reads_as_rfc_9457_says() {
        let errors = vec![
            FieldError::in_field("a/b~c", "unknown field"),
            FieldError::in_parameter("limit", "1 to 100"),
            FieldError::in_body("no JSON"),
        ];
        assert_eq!(
            body(&Problem::invalid_request(errors)),
            concat!(
                r#"{"type":"https://pay.example/problems/invalid-request","title":"The request is not valid","status":400,"#,
                r#""detail":"3 things are wrong, see errors","instance":"urn:request:req-1","code":"invalid-request","#,
                r#""errors":[{"detail":"unknown field","pointer":"/a~1b~0c"},{"detail":"1 to 100","parameter":"limit"},"#,
                r#"{"detail":"no JSON","pointer":""}]}"#
            )
        );
    }

    #[test]
    fn a_recorded_refusal_names_the_request_that_was_refused_first() {
        for (refusal, needles) in [
            (
                Refusal::InsufficientBalance,
                [r#""status":402"#, r#""balance":"7.50","required":"50.00","currency":"USD"}"#],
            ),
            (
                Refusal::RefundExceedsCharge { remaining: usd("3") },
                [r#""status":422"#, r#""remaining":"3.00"}"#],
            ),
            (Refusal::NotRefundable, [r#""status":422"#, r#""remaining":"0.00"}"#]),
            (
                Refusal::CaptureExceedsHold { remaining: usd("3") },
                [r#""code":"capture-exceeds-hold""#, r#""remaining":"3.00"}"#],
            ),
            (
                Refusal::HoldNotOpen { status: HoldStatus::Expired },
                [r#""status":422"#, r#""code":"hold-not-open","hold_status":"expired"}"#],
            ),
            (Refusal::TooManyHolds, [r#""status":422"#, r#""code":"too-many-holds"}"#]),
        ] {
            let record = record(refusal);
            let first = body(&Problem::refused(&record, refusal, "first", false));
            let again = body(&Problem::refused(&record, refusal, "first", true));
            assert_eq!(first, again);
            assert!(first.contains(r#""instance":"urn:request:first""#), "{first}");
            assert!(needles.iter().all(|needle| first.contains(needle)), "{first}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_available_unless_it_is_from_before_there_were_holds() {
        let mut record = record(Refusal::InsufficientBalance);
        let told =
            |record: &Transaction| body(&Problem::refused(record, Refusal::InsufficientBalance, "r", true));
        let old = told(&record);
        assert!(old.contains(r#""detail":"the balance is 7.50 USD, the charge 50.00 USD""#), "{old}");
        record.hold_part.available = Some(usd("2"));
        for (kind, word) in [(Kind::Charge, "charge"), (Kind::Hold, "hold")] {
            record.kind = kind;
            let new = told(&record);
            let end = r#""balance":"7.50","available":"2.00","required":"50.00","currency":"USD"}"#;
            assert!(new.contains(&format!("2.00 USD is available, the {word} needs 50.00 USD")), "{new}");
            assert!(new.ends_with(end), "{new}");
        }
    }

    #[test]
    fn retry_after_is_never_zero_and_never_too_early() {
        for (ms, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (9500, 10)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds, "{ms} ms");
        }
    }

    #[test]
    fn headers_say_what_a_client_needs_to_go_on() {
        let answer = |problem: Problem| problem.into_response_to("req-1", "http://x");
        let response = answer(Problem::key_missing());
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        let moving = ShardError::NotDone {
            why: NotDone::SlotMoving,
            shard: None,
            retry_after: Duration::from_millis(1500),
        };
        let response = answer(Problem::from(moving).with_key(Uuid::from_u128(1)));
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[&IDEMPOTENCY_KEY], "00000000-0000-0000-0000-000000000001");
        assert!(!response.headers().contains_key(&IDEMPOTENT_REPLAYED));
        for problem in [Problem::body_too_slow(), Problem::not_implemented()] {
            assert_eq!(answer(problem).headers()[header::CONNECTION], "close");
        }
        let coded = answer(Problem::unsupported_encoding());
        assert_eq!(coded.status(), 415);
        assert_eq!(coded.headers()[header::ACCEPT_ENCODING], "identity");
    }
}
