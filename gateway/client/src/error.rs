//! Why a wish was not fulfilled, by what its caller can do.

use uuid::Uuid;

use crate::problem::Problem;

/// Why a wish was not fulfilled, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The gateway's definite answer: to ask again under the same key is no use.
    #[error("refused: {0}")]
    Refused(Box<Problem>),
    /// Nothing happened, and patience has ended. It may be tried again, under any key.
    #[error("not done, after {attempts} attempts; the last: {last}")]
    NotDone {
        /// How the last attempt ended.
        last: String,
        /// How many there were.
        attempts: u32,
    },
    /// Perhaps it happened, and patience has ended, or there is a bug. Only the same key tells.
    #[error("it is not known whether it happened, after {attempts} attempts; the last: {last}")]
    Unknown {
        /// To ask again with; a read has none.
        key: Option<Uuid>,
        /// How the last attempt ended.
        last: String,
        /// How many there were.
        attempts: u32,
    },
    /// The gateway answered with success and something that is not in the contract.
    #[error("the answer cannot be read")]
    Unreadable {
        /// The key that it is about; a read has none.
        key: Option<Uuid>,
        /// Why not.
        #[source]
        cause: serde_json::Error,
    },
}

impl Error {
    /// The gateway's definite answer, if there is one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::NotDone { .. } | Self::Unknown { .. } | Self::Unreadable { .. } => None,
        }
    }
}
