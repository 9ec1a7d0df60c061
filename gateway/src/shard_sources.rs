//! Where the parts of an answer over all shards came from.

use picopay_shard_client::{AggregateError, ShardSource};
use picopay_shared::query::Source;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;

/// One shard's part in an answer over all shards.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ShardSource)]
pub struct ShardSourceBody {
    #[schema(example = "shard-1")]
    shard: String,
    /// The database that answered.
    source: &'static str,
    /// How far the replica was behind, in milliseconds; 0 from the primary.
    #[schema(minimum = 0, example = 0)]
    lag_ms: u32,
}

impl From<ShardSource> for ShardSourceBody {
    fn from(ShardSource { shard, source }: ShardSource) -> Self {
        match source {
            Source::Primary => Self { shard, source: "primary", lag_ms: 0 },
            Source::Replica { lag_ms } => Self { shard, source: "replica", lag_ms },
        }
    }
}

impl From<AggregateError> for Problem {
    fn from(error: AggregateError) -> Self {
        match error {
            AggregateError::Shard(error) => error.into(),
            AggregateError::RangeTooLarge => Self::range_too_large(),
        }
    }
}
