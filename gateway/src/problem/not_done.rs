//! What a client reads when its shard has not decided.

use picopay_shard_client::{NotDone, ShardError};

use super::{Code, Extension, Problem};

impl From<ShardError> for Problem {
    fn from(error: ShardError) -> Self {
        let (why, shard, retry_after) = match error {
            ShardError::NotDone { why, shard, retry_after } => (why, shard, retry_after),
            ShardError::Unknown => {
                return Self::new(
                    Code::OutcomeUnknown,
                    "it was done once or not at all; retry with the same key, never with a new one",
                );
            }
        };
        // Exhaustive, no `_` arm: a new reason forces a decision here.
        let (code, detail) = match why {
            NotDone::Unavailable | NotDone::BreakerOpen => (
                Code::ShardUnavailable,
                "the user's shard cannot be reached; nothing happened, retry with the same key",
            ),
            NotDone::Overloaded => (
                Code::Overloaded,
                "too much is waiting for the user's shard; nothing happened, retry with the same key",
            ),
            NotDone::SlotMoving => (
                Code::SlotMoving,
                "the user is moving to another shard; nothing happened, retry with the same key",
            ),
            NotDone::Internal => return Self::internal(),
        };
        let shard = shard.map_or(Extension::None, Extension::Shard);
        Self::new(code, detail).with(shard).retry_after(retry_after)
    }
}
