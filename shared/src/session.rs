//! Read your writes: how far a shard's log was when it answered a write.
//!
//! The answer to a write carries a [`SessionToken`]. A read that sends it back is answered by a database that
//! has everything up to there. Only the client keeps it, so no gateway or node has to remember writes. It
//! stays valid through restarts and failovers.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// A position in the log of a shard's database.
///
/// Ordered by time: on a new timeline, everything of the old one that was not lost comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// Counts failovers, from 1. Positions of two timelines are in two different logs.
    pub timeline: u32,
    /// Bytes of log up to this position: Postgres' LSN.
    pub lsn: u64,
}

/// What a client sends back to see its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionToken {
    /// The hash of the name of the shard whose log `position` is in. It is shorter than most names.
    pub shard_hash: u64,
    /// The read must see everything up to here.
    pub position: LogPosition,
}

impl SessionToken {
    /// The token of a write that this shard answered.
    pub fn new(shard: &str, position: LogPosition) -> Self {
        Self { shard_hash: hash_shard(shard), position }
    }

    /// Whether it is this shard's. The position says nothing about another shard, so nothing after the slot
    /// has moved.
    pub fn is_of(&self, shard: &str) -> bool {
        self.shard_hash == hash_shard(shard)
    }
}

/// Fixed, like a slot's hash: clients keep tokens while gateways and nodes are replaced.
fn hash_shard(name: &str) -> u64 {
    XxHash3_64::oneshot(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_shard_and_stays_so_between_versions() {
        let token = SessionToken::new("shard-1", LogPosition { timeline: 1, lsn: 42 });
        assert!(token.is_of("shard-1"));
        assert!(!token.is_of("shard-2"));
        assert_eq!(token.shard_hash, 2_893_375_775_010_744_979);
    }

    #[test]
    fn what_a_new_timeline_has_comes_after_all_that_the_old_one_had() {
        let at = |timeline, lsn| LogPosition { timeline, lsn };
        assert!(at(1, 900) < at(1, 1000) && at(1, 1000) < at(2, 950));
        assert_eq!(None.max(Some(at(1, 1))), Some(at(1, 1)), "any position is more than none");
    }
}
