//! Why a request failed, by what its caller can do.

use uuid::Uuid;

use crate::problem::Problem;

/// Why a request failed, or has an unknown outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The gateway's final answer: the same key gets it again.
    #[error("refused: {0}")]
    Refused(Box<Problem>),
    /// Nothing happened, and the client stopped trying. It may be tried again, under any key.
    #[error("not done, after {attempts} attempts; the last: {last}")]
    NotDone {
        /// How the last attempt ended.
        last: String,
        /// How many attempts there were.
        attempts: u32,
    },
    /// It may have happened, and the client stopped trying, or there is a bug. Only the same key tells.
    #[error("it is not known whether it happened, after {attempts} attempts; the last: {last}")]
    Unknown {
        /// The key to ask again with; `None` for a read.
        key: Option<Uuid>,
        /// How the last attempt ended.
        last: String,
        /// How many attempts there were.
        attempts: u32,
    },
    /// The gateway answered with success, but the body is not in the contract.
    #[error("the answer cannot be read")]
    Unreadable {
        /// The key of the write; `None` for a read.
        key: Option<Uuid>,
        /// What was wrong with the body.
        #[source]
        cause: serde_json::Error,
    },
}

impl Error {
    /// The gateway's final answer, if there is one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::NotDone { .. } | Self::Unknown { .. } | Self::Unreadable { .. } => None,
        }
    }
}
