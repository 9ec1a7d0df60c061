//! When a request was meant to start, started, and ended.

/// One request that has ended, in nanoseconds since the run's own start.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub intended_ns: u64,
    pub sent_ns: u64,
    pub ended_ns: u64,
}
