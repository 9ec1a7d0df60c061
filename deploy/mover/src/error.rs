//! Why slots could not be moved, in words for the operator.

use picopay_postgres::DbError;

/// Why a move did not begin, or why nobody knows how it ended.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("there is no shard {0:?} in the cluster's file")]
    NoShard(String),
    #[error("another mover is at work on {0}: let it end, or end it, then run this again")]
    Busy(String),
    /// The shard must not take part.
    #[error("{shard} can be no part of a move: {reason}")]
    Unfit { shard: String, reason: String },
    #[error("slot {slot} is not owned by {shard}: {found}")]
    NotOwned { slot: i16, shard: String, found: String },
    /// The rows of two shards do not go together. No mover leaves them so.
    #[error(
        "slot {slot}: {found}. No move leaves this behind: a database has lost state. Nothing was changed"
    )]
    StateLost { slot: i16, found: String },
    /// The shards could not be brought back to one owner.
    #[error(
        "a move of slots from {from} to {to} was broken off ({cause}), and the shards do not answer, so some slots may \
         be owned by nobody. Bring both up, then run `picopay rebalance` or this again: it settles them first"
    )]
    Unsettled { from: String, to: String, cause: String },
}
