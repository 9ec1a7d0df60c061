//! The shards of a cluster that runs, each at a place of its own.
//!
//! A shard may join and leave while others are looked at, killed and failed over. So a place is filled once and never
//! emptied: whoever holds a shard may go on holding it, and a position means the same shard for the life of the cluster.

use std::sync::OnceLock;

use crate::LocalError;
use crate::shard::LocalShard;

/// More shards than this do not fit on one machine: each is two PostgreSQL servers and a node.
pub const SHARDS_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Places(Vec<OnceLock<LocalShard>>);

impl Places {
    pub(crate) fn of(shards: Vec<LocalShard>) -> Self {
        let filled = shards.into_iter().map(OnceLock::from);
        Self(filled.chain(std::iter::repeat_with(OnceLock::new)).take(SHARDS_MAX).collect())
    }

    pub(crate) fn at(&self, position: usize) -> &LocalShard {
        self.0.get(position).and_then(OnceLock::get).expect("a shard has this position")
    }

    pub(crate) fn members(&self) -> Vec<&LocalShard> {
        self.0.iter().filter_map(OnceLock::get).filter(|shard| !shard.has_left()).collect()
    }

    pub(crate) fn add(&self, shard: LocalShard) -> Result<&LocalShard, LocalError> {
        let mut shard = Some(shard);
        for place in &self.0 {
            let here = place.get_or_init(|| shard.take().expect("it is placed once"));
            if shard.is_none() {
                return Ok(here);
            }
        }
        Err(too_many())
    }
}

pub(crate) fn too_many() -> LocalError {
    LocalError::Unfit(format!("one machine has room for {SHARDS_MAX} shards"))
}
