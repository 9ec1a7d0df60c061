//! Errors of the gateway, as RFC 9457 problems: `application/problem+json`.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::amount::Amount;
use crate::answer::HoldStatus;
use crate::exchange::Answer;

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status, for example 402.
    pub status: u16,
    /// The kind of problem, with its own fields.
    pub code: Code,
    /// What is wrong, for people.
    pub detail: String,
    /// The id of the request in the gateway's log.
    pub request_id: Option<String>,
    /// How long to wait before another attempt is useful.
    pub retry_after: Option<Duration>,
}

/// Every problem of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the contract's own names")]
pub enum Code {
    InvalidRequest {
        errors: Vec<FieldError>,
    },
    InvalidIdempotencyKey,
    Unauthorized,
    Forbidden,
    InsufficientBalance {
        balance: Amount,
        /// What was not held; `None` of refusals from before there were holds.
        available: Option<Amount>,
        required: Amount,
        currency: String,
    },
    UserNotFound,
    TransactionNotFound,
    HoldNotFound,
    TransferNotFound,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    TooLarge,
    UriTooLong,
    UnsupportedMediaType,
    HeadersTooLarge,
    IdempotencyKeyReused {
        differs: Vec<String>,
    },
    RefundExceedsCharge {
        remaining: Amount,
    },
    NotRefundable,
    CaptureExceedsHold {
        remaining: Amount,
    },
    HoldNotOpen {
        status: HoldStatus,
    },
    TooManyHolds,
    RangeTooLarge,
    RateLimited,
    ShardUnavailable {
        shard: Option<String>,
    },
    Overloaded,
    SlotMoving,
    ShuttingDown,
    OutcomeUnknown,
    Internal,
    /// A problem that this version does not know, or an answer that is no problem document; then the code is
    /// empty.
    Other {
        code: String,
    },
}

/// One error in a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FieldError {
    /// What is wrong with it.
    pub detail: String,
    /// Its place in the body, as a JSON pointer.
    pub pointer: Option<String>,
    /// The parameter of the path or the query.
    pub parameter: Option<String>,
    /// The name of the header.
    pub header: Option<String>,
}

/// What a failed request means for the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The gateway's final answer.
    Decided,
    /// Nothing happened, and it may be tried again.
    NothingHappened,
    /// It may have happened. The same key tells.
    Unknown,
    /// It may have happened, and asking again is useless: a bug.
    Broken,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    code: String,
    detail: String,
    errors: Vec<FieldError>,
    balance: Option<Amount>,
    available: Option<Amount>,
    required: Option<Amount>,
    currency: Option<String>,
    differs: Vec<String>,
    remaining: Option<Amount>,
    hold_status: Option<HoldStatus>,
    shard: Option<String>,
}

impl Problem {
    /// Reads it from an answer that is no success. An answer that is no problem document has no code.
    pub fn read(answer: &Answer) -> Self {
        let retry_after = answer.header("retry-after").and_then(|text| text.parse().ok());
        let request_id = answer.header("x-request-id");
        Self::of(answer.status, &answer.body, request_id, retry_after.map(Duration::from_secs))
    }

    pub(crate) fn of(
        status: u16,
        body: &[u8],
        request_id: Option<&str>,
        retry_after: Option<Duration>,
    ) -> Self {
        let document: Document = serde_json::from_slice(body).unwrap_or_default();
        let detail = document.detail.clone();
        let request_id = request_id.map(str::to_owned);
        Self { status, code: document.into_code(), detail, request_id, retry_after }
    }

    pub(crate) fn meaning(&self) -> Meaning {
        match (&self.code, self.status) {
            // 408: the request did not arrive whole. 429 and 503: the contract says that nothing happened.
            (_, 408 | 429 | 503) => Meaning::NothingHappened,
            // A gateway's own 504, or that of a proxy before it.
            (_, 502 | 504) => Meaning::Unknown,
            (_, 500..) => Meaning::Broken,
            _ => Meaning::Decided,
        }
    }
}

impl Document {
    fn into_code(self) -> Code {
        match (self.code.as_str(), self.balance, self.required, self.currency, self.remaining) {
            ("insufficient-balance", Some(balance), Some(required), Some(currency), _) => {
                Code::InsufficientBalance { balance, available: self.available, required, currency }
            }
            ("refund-exceeds-charge", _, _, _, Some(remaining)) => Code::RefundExceedsCharge { remaining },
            ("capture-exceeds-hold", _, _, _, Some(remaining)) => Code::CaptureExceedsHold { remaining },
            ("hold-not-open", ..) => {
                Code::HoldNotOpen { status: self.hold_status.unwrap_or(HoldStatus::Other) }
            }
            ("hold-not-found", ..) => Code::HoldNotFound,
            ("transfer-not-found", ..) => Code::TransferNotFound,
            ("too-many-holds", ..) => Code::TooManyHolds,
            ("range-too-large", ..) => Code::RangeTooLarge,
            ("invalid-request", ..) => Code::InvalidRequest { errors: self.errors },
            ("invalid-idempotency-key", ..) => Code::InvalidIdempotencyKey,
            ("unauthorized", ..) => Code::Unauthorized,
            ("forbidden", ..) => Code::Forbidden,
            ("user-not-found", ..) => Code::UserNotFound,
            ("transaction-not-found", ..) => Code::TransactionNotFound,
            ("not-found", ..) => Code::NotFound,
            ("method-not-allowed", ..) => Code::MethodNotAllowed,
            ("request-timeout", ..) => Code::RequestTimeout,
            ("too-large", ..) => Code::TooLarge,
            ("uri-too-long", ..) => Code::UriTooLong,
            ("unsupported-media-type", ..) => Code::UnsupportedMediaType,
            ("headers-too-large", ..) => Code::HeadersTooLarge,
            ("idempotency-key-reused", ..) => Code::IdempotencyKeyReused { differs: self.differs },
            ("not-refundable", ..) => Code::NotRefundable,
            ("rate-limited", ..) => Code::RateLimited,
            ("shard-unavailable", ..) => Code::ShardUnavailable { shard: self.shard },
            ("overloaded", ..) => Code::Overloaded,
            ("slot-moving", ..) => Code::SlotMoving,
            ("shutting-down", ..) => Code::ShuttingDown,
            ("outcome-unknown", ..) => Code::OutcomeUnknown,
            ("internal", ..) => Code::Internal,
            _ => Code::Other { code: self.code },
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, code, detail, request_id, .. } = self;
        write!(formatter, "{status} {code:?}")?;
        if !detail.is_empty() {
            write!(formatter, ": {detail}")?;
        }
        match request_id {
            Some(id) => write!(formatter, " (request {id})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, body: &str) -> Problem {
        Problem::read(&Answer::of_test(status, &[("retry-after", "2"), ("x-request-id", "r-1")], body))
    }

    #[test]
    fn a_problem_is_read_with_what_is_special_about_it() {
        let found = problem(
            402,
            r#"{"code":"insufficient-balance","detail":"no","balance":"70.00","available":"60.00","required":"99.00","currency":"USD"}"#,
        );
        let amount = |text: &str| Amount::try_from(text).unwrap();
        assert_eq!(
            found.code,
            Code::InsufficientBalance {
                balance: amount("70.00"),
                available: Some(amount("60.00")),
                required: amount("99.00"),
                currency: "USD".into()
            }
        );
        assert_eq!(
            (found.retry_after, found.request_id.as_deref()),
            (Some(Duration::from_secs(2)), Some("r-1"))
        );
        let reused = problem(422, r#"{"code":"idempotency-key-reused","differs":["amount"]}"#);
        assert_eq!(reused.code, Code::IdempotencyKeyReused { differs: vec!["amount".into()] });
        // A proxy's own page, or a later version's code.
        assert_eq!(problem(502, "<html>").code, Code::Other { code: String::new() });
        assert_eq!(
            problem(422, r#"{"code":"hold-not-open","hold_status":"voided"}"#).code,
            Code::HoldNotOpen { status: HoldStatus::Voided }
        );
        assert_eq!(
            problem(422, r#"{"code":"of-a-later-release"}"#).code,
            Code::Other { code: "of-a-later-release".into() }
        );
    }

    #[test]
    fn what_a_status_means_for_the_wish() {
        for (status, code, meaning) in [
            (402, "insufficient-balance", Meaning::Decided),
            (400, "invalid-request", Meaning::Decided),
            (408, "request-timeout", Meaning::NothingHappened),
            (429, "rate-limited", Meaning::NothingHappened),
            (503, "slot-moving", Meaning::NothingHappened),
            (504, "outcome-unknown", Meaning::Unknown),
            (502, "", Meaning::Unknown),
            (500, "internal", Meaning::Broken),
        ] {
            assert_eq!(
                problem(status, &format!(r#"{{"code":"{code}"}}"#)).meaning(),
                meaning,
                "{status} {code}"
            );
        }
    }
}
