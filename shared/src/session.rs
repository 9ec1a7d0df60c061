//! Read your writes: how far a shard's log had come when it answered a write.
//!
//! The answer to a write carries a [`SessionToken`], and a read that sends it back is answered by a database that has
//! everything up to there. Nobody keeps it but the client: no gateway or node has to remember who wrote what, and it
//! stays right for as long as the client keeps it, through restarts and failovers.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// A place in the log of a shard's database.
///
/// In the order of time: on a new timeline everything of the old one that was not lost comes before the new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// Counts failovers: positions of two timelines are in two different logs. From 1.
    pub timeline: u32,
    /// Bytes of log up to this place: Postgres' LSN.
    pub lsn: u64,
}

/// What a client sends back to see its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionToken {
    /// The hash of the name of the shard in whose log `position` is. A name may be long; the hash keeps a token short.
    pub shard_hash: u64,
    /// Everything up to here must be seen.
    pub position: LogPosition,
}

impl SessionToken {
    /// The token of a write that this shard answered.
    pub fn new(shard: &str, position: LogPosition) -> Self {
        Self { shard_hash: hash_shard(shard), position }
    }

    /// Whether it is this shard's. The position says nothing about any other: after a slot has moved, nothing about where
    /// its users are now.
    pub fn is_of(&self, shard: &str) -> bool {
        self.shard_hash == hash_shard(shard)
    }
}

/// Fixed, like a slot's hash: clients hold tokens while gateways and nodes are replaced.
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
        assert_eq!(token.shard_hash, 0);
    }

    #[test]
    fn what_a_new_timeline_has_comes_after_all_that_the_old_one_had() {
        let at = |timeline, lsn| LogPosition { timeline, lsn };
        assert!(at(1, 900) < at(1, 1000) && at(1, 1000) < at(2, 950));
        assert_eq!(None.max(Some(at(1, 1))), Some(at(1, 1)), "any position is more than none");
    }
}
