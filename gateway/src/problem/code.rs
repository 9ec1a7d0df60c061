//! The kinds of problem as one table: status, suffix, title, and the text of its page.

use axum::http::StatusCode;

/// The kinds of problem, by their suffix in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    InvalidRequest,
    InvalidIdempotencyKey,
    Unauthorized,
    InsufficientBalance,
    Forbidden,
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
    IdempotencyKeyReused,
    RefundExceedsCharge,
    NotRefundable,
    CaptureExceedsHold,
    HoldNotOpen,
    TooManyHolds,
    RangeTooLarge,
    RateLimited,
    HeadersTooLarge,
    Internal,
    NotImplemented,
    ShardUnavailable,
    Overloaded,
    SlotMoving,
    ShuttingDown,
    OutcomeUnknown,
}

impl Code {
    pub const ALL: [Self; 31] = [
        Self::InvalidRequest,
        Self::InvalidIdempotencyKey,
        Self::Unauthorized,
        Self::InsufficientBalance,
        Self::Forbidden,
        Self::UserNotFound,
        Self::TransactionNotFound,
        Self::HoldNotFound,
        Self::TransferNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::TooLarge,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::IdempotencyKeyReused,
        Self::RefundExceedsCharge,
        Self::NotRefundable,
        Self::CaptureExceedsHold,
        Self::HoldNotOpen,
        Self::TooManyHolds,
        Self::RangeTooLarge,
        Self::RateLimited,
        Self::HeadersTooLarge,
        Self::Internal,
        Self::NotImplemented,
        Self::ShardUnavailable,
        Self::Overloaded,
        Self::SlotMoving,
        Self::ShuttingDown,
        Self::OutcomeUnknown,
    ];

    pub fn suffix(self) -> &'static str {
        self.facts().1
    }

    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.facts().0).expect("the table below holds statuses only")
    }

    pub fn title(self) -> &'static str {
        self.facts().2
    }

    /// Its meaning and what to do, for its page.
    pub fn meaning(self) -> &'static str {
        self.facts().3
    }

    pub fn parse(suffix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.suffix() == suffix)
    }

    #[rustfmt::skip] // One line per problem, so that the table reads as one.
    fn facts(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Self::InvalidRequest => (400, "invalid-request", "The request is not valid", "Something in the request does not follow the API. `errors` names every place and says what would be right. Nothing was recorded under the idempotency key."),
            Self::InvalidIdempotencyKey => (400, "invalid-idempotency-key", "The idempotency key is not valid", "The header Idempotency-Key, or the idempotency_key of an operation in a batch, is not one UUID, or it is the nil UUID. Send one UUID with hyphens, bare or in double quotes, or leave it out."),
            Self::Unauthorized => (401, "unauthorized", "An API key is needed", "Send a valid API key as X-API-Key or as Authorization: Bearer, once."),
            Self::InsufficientBalance => (402, "insufficient-balance", "The balance is too low", "What is available to the user in this currency (`available`: the balance less what open holds reserve) is less than the charge, the hold or the transfer. The refusal is recorded: the same key gets the same answer for ever. After a top-up, try again with a new key."),
            Self::Forbidden => (403, "forbidden", "The API key may not do this", "The API key is known but lacks the scope that this call needs. Use another key, or have the scope added."),
            Self::UserNotFound => (404, "user-not-found", "There is no such user", "Make the user with POST /users first. Of a transfer, `user_id` says which of the two it is. Nothing was recorded under the idempotency key."),
            Self::TransactionNotFound => (404, "transaction-not-found", "There is no such transaction", "No completed transaction has this id."),
            Self::HoldNotFound => (404, "hold-not-found", "There is no such hold", "No hold has this id. Nothing was recorded under the idempotency key."),
            Self::TransferNotFound => (404, "transfer-not-found", "There is no such transfer", "No transfer has this id."),
            Self::NotFound => (404, "not-found", "There is nothing here", "The path is not part of the API. /docs lists all that is."),
            Self::MethodNotAllowed => (405, "method-not-allowed", "The path does not take this method", "The header Allow names the methods that it takes."),
            Self::RequestTimeout => (408, "request-timeout", "The body did not arrive in time", "The head of the request came and its body did not. Nothing happened. The connection ends: retry with the same idempotency key on a new one."),
            Self::TooLarge => (413, "too-large", "The body is too large", "A body has at most 64 KiB, that of a batch at most 1 MiB. Send a batch in parts."),
            Self::UriTooLong => (414, "uri-too-long", "The URL is too long", "A URL has at most 8 KiB."),
            Self::UnsupportedMediaType => (415, "unsupported-media-type", "The body must be JSON", "Send the header Content-Type: application/json once, with no charset but UTF-8, and the body as it is: without Content-Encoding, or with identity."),
            Self::IdempotencyKeyReused => (422, "idempotency-key-reused", "The idempotency key was used for another request", "The key was used before with other values; `differs` names them. Nothing happened now. A new request needs a new key."),
            Self::RefundExceedsCharge => (422, "refund-exceeds-charge", "The refund is more than what remains of the charge", "Together with earlier refunds this would give back more than was charged. `remaining` says how much still can be. The refusal is recorded: another attempt needs a new key."),
            Self::NotRefundable => (422, "not-refundable", "The transaction cannot be refunded", "Only charges can be refunded, and only while something remains of them. The refusal is recorded under the key."),
            Self::CaptureExceedsHold => (422, "capture-exceeds-hold", "The capture is more than the hold", "A hold can be captured up to its amount, which `remaining` says. The refusal is recorded: another attempt needs a new key."),
            Self::HoldNotOpen => (422, "hold-not-open", "The hold is not open any more", "It was captured or voided before, or its time has run out: `hold_status` says which. The refusal is recorded under the key."),
            Self::TooManyHolds => (422, "too-many-holds", "The user has too many open holds", "A user has at most 1,000 open holds. Capture or void some, or let them expire. The refusal is recorded: another attempt needs a new key."),
            Self::RangeTooLarge => (422, "range-too-large", "There is too much to look at", "One request looks at a million transactions on a shard at most, and for a balance at a time at some of its history. Ask for a shorter time or for fewer users, and add the answers up."),
            Self::RateLimited => (429, "rate-limited", "Too many requests", "The API key has used up its rate. Wait as long as Retry-After says; nothing happened."),
            Self::HeadersTooLarge => (431, "headers-too-large", "The headers are too large", "A request has at most 100 header lines, and they have at most 32 KiB together."),
            Self::Internal => (500, "internal", "Something is wrong on our side", "A bug. The request id finds it in the log. Retrying with the same idempotency key is safe."),
            Self::NotImplemented => (501, "not-implemented", "The transfer coding is not supported", "Send the body as it is. The only Transfer-Encoding that is taken is chunked, alone."),
            Self::ShardUnavailable => (503, "shard-unavailable", "The user's shard cannot be reached", "Nothing happened. Retry with the same idempotency key after Retry-After seconds. Users of other shards are not affected."),
            Self::Overloaded => (503, "overloaded", "Too much is waiting", "Nothing happened. Retry with the same idempotency key after Retry-After seconds, and slow down if you can."),
            Self::SlotMoving => (503, "slot-moving", "The user is moving to another shard", "Nothing happened. Most moves are waited for and not noticed; this one takes longer, or too many wait: retry with the same idempotency key after Retry-After seconds."),
            Self::ShuttingDown => (503, "shutting-down", "The gateway is shutting down", "This gateway was told to end: it serves on for a moment and then stops. Send what comes next to another one, with the same idempotency key where something is tried again."),
            Self::OutcomeUnknown => (504, "outcome-unknown", "It is not known whether this was done", "The answer was lost. It was done once or not at all: retry with the same idempotency key to find out, never with a new one."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_suffix_and_stands_once() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.suffix()), Some(code));
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
        assert_eq!(Code::parse("no-such-problem"), None);
    }
}
