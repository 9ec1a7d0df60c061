//! How an attempt failed: what a client saw instead of an answer.

use std::time::Duration;

/// After users are served again, what was on its way through the gateway may still come to a bad end: its own deadline
/// for a shard's call (2 s) and some for a busy machine.
pub const AFTERMATH: Duration = Duration::from_secs(3);

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The gateway said so.
    Problem {
        /// 503 or 504.
        status: u16,
        /// The contract's suffix.
        code: String,
    },
    /// No answer came, for this reason.
    Lost(String),
}

impl What {
    /// Whether the write may have been done.
    pub fn leaves_outcome_unknown(&self) -> bool {
        match self {
            Self::Problem { status, .. } => *status == 504,
            Self::Lost(_) => true,
        }
    }

    /// Its name in a summary.
    pub fn name(&self) -> &str {
        match self {
            Self::Problem { code, .. } => code,
            Self::Lost(_) => "no answer",
        }
    }
}
