//! The mark of a shard node on every answer that it makes itself: its process and its clock.
//!
//! The mark distinguishes the node's answers from a proxy's: a proxy's 503 says nothing of what the node did.
//! With the clock, a gateway can set a deadline in the node's own time, so that a delayed request is not
//! begun. Only moments of one process are compared, and nobody sets a clock by another.

use std::fmt;

/// The header of an answer with a [`NodeMoment`]: when the node wrote it. An answer without it is not the
/// node's.
pub const NODE_HEADER: &str = "picopay-node";

/// The header of a request with a [`NodeMoment`]: from then on nobody waits for the answer. Another process
/// ignores it and uses the relative time.
pub const DEADLINE_AT_HEADER: &str = "picopay-deadline-at";

/// A moment by the monotonic clock of one node process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeMoment {
    /// The process: a random number from its start.
    pub process: u64,
    /// Milliseconds since the process started.
    pub ms: u64,
}

impl NodeMoment {
    /// Parses the text of a header.
    pub fn parse(text: &str) -> Option<Self> {
        let (process, ms) = text.split_once('-')?;
        Some(Self { process: u64::from_str_radix(process, 16).ok()?, ms: ms.parse().ok()? })
    }
}

/// The text of a header.
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
