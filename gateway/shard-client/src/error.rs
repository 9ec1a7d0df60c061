//! Why a request has no answer from its shard, and when to come back.

use std::time::Duration;

use crate::ended::NotDone;

pub const SOON: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// Nothing happened: any retry is safe.
    #[error("nothing happened: {why:?}")]
    NotDone {
        why: NotDone,
        /// The shard that was asked last, or would have been; `None` when it is not known.
        shard: Option<String>,
        retry_after: Duration,
    },
    #[error("the outcome is unknown")]
    Unknown,
}
