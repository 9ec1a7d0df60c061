//! How an attempt failed: what a client saw instead of an answer.

use std::time::Duration;

/// The gateway's deadline for a shard's call (2 s), and some for a busy machine. Until then requests from before may still
/// fail.
pub const AFTERMATH: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Problem { status: u16, code: String },
    Lost(String),
}

impl What {
    pub fn leaves_outcome_unknown(&self) -> bool {
        match self {
            Self::Problem { status, .. } => *status == 504,
            Self::Lost(_) => true,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Problem { code, .. } => code,
            Self::Lost(_) => "no answer",
        }
    }
}
