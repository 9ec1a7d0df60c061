//! Transfers: money on its way from one user to another, wherever their shards are.
//!
//! A transfer is a row of the sender's shard. Its money is taken from the sender first ([`Transfer`](crate::command::Operation::Transfer)), then given
//! to the recipient ([`Credit`](crate::command::Operation::Credit)), and then the row is ended ([`Settle`](crate::command::Operation::Settle)). Gateway and courier drive the
//! last two steps, both by these commands. Each step can be repeated, and is done once.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::TransactionId;
use crate::money::Money;
use crate::slot::UserId;

/// A transfer as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its id: that of the transaction that took the money. It includes the time, and leads to the sender's shard.
    pub id: TransactionId,
    /// The user whose money it was.
    pub from_user_id: UserId,
    /// The user whose money it becomes.
    pub to_user_id: UserId,
    /// What became of it.
    pub status: TransferStatus,
    /// The amount and its currency.
    pub money: Money,
    /// The key under which it was asked for.
    pub idempotency_key: Uuid,
    /// When it was completed or reversed, by the clock of the sender's primary: Unix time in milliseconds. `None` while it is
    /// pending.
    pub ended_at_ms: Option<i64>,
    /// The client's own reference.
    pub reference: Option<String>,
    /// The client's own JSON object, as canonical text.
    pub metadata: Option<String>,
}

impl Transfer {
    /// Whether the sender has the money again.
    pub fn is_reversed(&self) -> bool {
        matches!(self.status, TransferStatus::Reversed { .. })
    }
}

/// What became of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TransferStatus {
    /// The money was taken from the sender, and is in transit.
    Pending,
    /// The recipient has it.
    Completed,
    /// The sender has it again.
    Reversed {
        /// Why the recipient could not have it.
        reason: CreditRefusal,
    },
}

impl TransferStatus {
    /// The word that the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Reversed { .. } => "reversed",
        }
    }
}

/// Gives a transfer's money to its recipient: what the recipient's shard must know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// The transfer. Whatever it credits, it credits once.
    pub transfer_id: TransactionId,
    /// The user who has paid.
    pub from_user_id: UserId,
    /// The user who is paid.
    pub to_user_id: UserId,
    /// The amount and its currency.
    pub money: Money,
    /// The sender's reference, which the recipient's history shows, too.
    pub reference: Option<String>,
    /// The sender's JSON object, which the recipient's history shows, too.
    pub metadata: Option<String>,
}

/// What the recipient's shard has decided about a credit. It stands in that shard's ledger, and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Credited {
    /// The recipient has the money.
    Given,
    /// The recipient will never have it. Nothing else permits a reversal.
    Refused(CreditRefusal),
}

/// Why a recipient cannot have the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CreditRefusal {
    /// There is no such user.
    UserNotFound,
    /// The balance would pass the largest that there is.
    BalanceTooLarge,
}

impl CreditRefusal {
    /// All reasons that there are.
    pub const ALL: [Self; 2] = [Self::UserNotFound, Self::BalanceTooLarge];

    /// The word that the API and the ledger use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserNotFound => "user-not-found",
            Self::BalanceTooLarge => "balance-too-large",
        }
    }

    /// The reason with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// What a transaction says about a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferPart {
    /// The transfer. A `transfer_out` has the same id; for a refused one there is no transfer.
    pub transfer_id: TransactionId,
    /// The sender for a `transfer_in`, the recipient for the others.
    pub other_user_id: UserId,
}
