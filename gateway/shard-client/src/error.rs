//! Why a request has no answer from its shard.

use std::time::Duration;

/// When to come back after a refusal that passes soon.
pub const SOON: Duration = Duration::from_secs(1);

/// Why a request has no answer from its shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// Nothing happened: the shard cannot be reached, or its database cannot.
    #[error("the shard is not available")]
    Unavailable {
        /// Which, when it is known.
        shard: Option<String>,
        /// When to come back.
        retry_after: Duration,
    },
    /// Nothing happened: too much is waiting.
    #[error("too much is waiting for the shard")]
    Overloaded {
        /// Which.
        shard: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// Nothing happened: nobody owns the slot at the moment.
    #[error("the slot is moving")]
    SlotMoving {
        /// The last shard that was asked.
        shard: Option<String>,
        /// When to come back.
        retry_after: Duration,
    },
    /// Maybe done. The same key resolves it.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
    /// A bug. Nothing was written.
    #[error("the shard node has a bug")]
    Internal,
}
