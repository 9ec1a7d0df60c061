//! What a gateway asks a shard node to read, and what the node answers. Reads change nothing.

use serde::{Deserialize, Serialize};

use crate::command::{Kind, Moved, Transaction};
use crate::id::TransactionId;
use crate::money::{Currency, Money};
use crate::session::SessionToken;
use crate::slot::{Slot, UserId};

/// Where a node takes a [`ReadRequest`] and answers with an [`Answer`]. Like `WRITE_PATH`, it changes with the types.
pub const READ_PATH: &str = "/internal/v2/read";

/// A query, and what its client has written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// What to read.
    pub query: Query,
    /// Of the client's own last write: the answer must show it. A strong balance does in any case.
    pub session: Option<SessionToken>,
}

/// The header in which a read carries how many milliseconds its gateway still waits. A node answers within them, whatever
/// its databases do; without the header it takes its own longest.
pub const DEADLINE_HEADER: &str = "picopay-deadline-ms";

/// A read of one user's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Query {
    /// A user's balances.
    Balance {
        /// Whose.
        user_id: UserId,
        /// In this currency only.
        currency: Option<Currency>,
        /// How fresh.
        consistency: Consistency,
    },
    /// A user's completed transactions, newest first.
    History(HistoryQuery),
    /// One completed transaction.
    Lookup {
        /// Which.
        id: TransactionId,
    },
}

/// A page of a user's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// Whose.
    pub user_id: UserId,
    /// Transactions on the page, 1–100.
    pub limit: u16,
    /// Only those older than this one: the last of the page before.
    pub before: Option<TransactionId>,
    /// Only these.
    pub kind: Option<Kind>,
    /// Made at or after this time; Unix time in milliseconds.
    pub from_ms: Option<i64>,
    /// Made before this time; Unix time in milliseconds.
    pub to_ms: Option<i64>,
}

impl Query {
    /// The slot whose owner answers.
    pub fn slot(&self) -> Slot {
        match self {
            Self::Balance { user_id, .. } => user_id.slot(),
            Self::History(history) => history.user_id.slot(),
            Self::Lookup { id } => id.slot(),
        }
    }
}

/// How fresh a balance must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Consistency {
    /// From the primary.
    #[default]
    Strong,
    /// From a replica whose lag is within bounds, else from the primary.
    Eventual,
}

/// What was found, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What.
    pub found: Found,
    /// Where.
    pub source: Source,
}

/// What a [`Query`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Found {
    /// The user's balances, by currency.
    Balances(Vec<Money>),
    /// A page of history.
    History {
        /// Newest first.
        transactions: Vec<Transaction>,
        /// Whether older ones follow.
        has_more: bool,
    },
    /// The transaction.
    Transaction(Box<Transaction>),
    /// There is no such user.
    UserNotFound,
    /// There is no such transaction.
    TransactionNotFound,
    /// This shard does not own the slot.
    Moved(Moved),
    /// No database of the shard could answer in time.
    Unavailable {
        /// Why, for the log. No client sees it.
        reason: String,
    },
}

/// Which database answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The primary.
    Primary,
    /// A replica, this far behind.
    Replica {
        /// Milliseconds.
        lag_ms: u32,
    },
}
