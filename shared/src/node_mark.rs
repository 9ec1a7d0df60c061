//! What a shard node writes on every answer that it makes itself: which process it is, and what its clock says.
//!
//! The mark tells the node's own words from what was made on the way: a proxy's 503 says nothing of what the node did.
//! The clock lets a gateway say until when it waits in the node's own time, so that a request that was long on its way
//! is not begun. Only moments of one process are compared, and nobody sets a clock by another.

use std::fmt;

/// The header of an answer that has a [`NodeMoment`]: when the node wrote it. What lacks it is not the node's.
pub const NODE_HEADER: &str = "picopay-node";

/// The header of a request that has a [`NodeMoment`]: from then on nobody waits for the answer. A process that it is not
/// meant for goes by the relative time alone.
pub const DEADLINE_AT_HEADER: &str = "picopay-deadline-at";

/// A moment by the monotonic clock of one node process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeMoment {
    /// Which process: a number that it made up when it started.
    pub process: u64,
    /// Milliseconds since it started.
    pub ms: u64,
}

impl NodeMoment {
    /// The moment that this text names.
    pub fn parse(text: &str) -> Option<Self> {
        let (process, ms) = text.split_once('-')?;
        Some(Self { process: u64::from_str_radix(process, 16).ok()?, ms: ms.parse().ok()? })
    }
}

/// As it stands in a header.
impl fmt::Display for NodeMoment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}-{}", self.process, self.ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_it_was_written_and_nothing_else_is_one() {
        for moment in [NodeMoment { process: 7, ms: 0 }, NodeMoment { process: u64::MAX, ms: u64::MAX }] {
            assert_eq!(NodeMoment::parse(&moment.to_string()), Some(moment));
        }
        for text in ["", "-", "7", "7-", "-7", "g-7", "7-8-9", "7--8", "10000000000000000-1"] {
            assert_eq!(NodeMoment::parse(text), None, "{text}");
        }
    }
}
