//! Why a gateway should get no requests now.

use std::time::Duration;

use super::{Code, Extension, Problem};

impl Problem {
    pub fn not_ready(shards: serde_json::Value) -> Self {
        Self::new(Code::ShardUnavailable, "no shard can serve")
            .with(Extension::Shards(shards))
            .retry_after(Duration::from_secs(1))
    }

    pub fn shutting_down() -> Self {
        Self::new(Code::ShuttingDown, "this gateway was told to end; ask another one")
            .retry_after(Duration::from_secs(1))
    }
}
