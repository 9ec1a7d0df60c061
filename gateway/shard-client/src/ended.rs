//! How an attempt ended, by what its caller can do: final, moved, not done, unknown.
//!
//! It translates between the node's [`Outcome`] and the client's answer. What was not done anybody may try
//! again; what is unknown only with the same key.

use picopay_shared::command::{Moved, Outcome, Transaction};
use picopay_shared::money::Money;
use picopay_shared::transfer::{Credited, Transfer};

#[derive(Debug, Clone, PartialEq)]
pub enum Ended<T> {
    Final(T),
    Moved(Moved),
    NotDone(NotDone),
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDone {
    /// No node takes a connection or our requests, or the shard cannot work.
    Unavailable,
    BreakerOpen,
    /// Too much is waiting, here or in the node, or the request's time ended before its turn came.
    Overloaded,
    SlotMoving,
    Internal,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    UserCreated,
    UserExisted,
    Decided {
        transaction: Box<Transaction>,
        is_replayed: bool,
    },
    KeyReused(Vec<String>),
    UserNotFound,
    TransactionNotFound,
    HoldNotFound,
    AmountInvalid(String),
    /// A transfer was begun or ended. The transfer is as it is now, and the balance the sender's right after the first step.
    Transferred {
        transfer: Box<Transfer>,
        balance_after: Money,
        is_replayed: bool,
    },
    /// The recipient's shard has decided.
    Credited(Credited),
    TransferNotFound,
}

impl<T> Ended<T> {
    /// The same for an attempt that changes nothing: it makes no difference whether it was done.
    pub fn of_read(self) -> Self {
        match self {
            Self::Unknown => Self::NotDone(NotDone::Unavailable),
            other => other,
        }
    }
}

impl From<Outcome> for Ended<Decision> {
    fn from(outcome: Outcome) -> Self {
        // Exhaustive, no `_` arm: a new outcome forces a decision here.
        Self::Final(match outcome {
            Outcome::UserCreated => Decision::UserCreated,
            Outcome::UserExisted => Decision::UserExisted,
            Outcome::Decided { transaction, is_replayed } => Decision::Decided { transaction, is_replayed },
            Outcome::KeyReused { differs } => Decision::KeyReused(differs),
            Outcome::UserNotFound => Decision::UserNotFound,
            Outcome::TransactionNotFound => Decision::TransactionNotFound,
            Outcome::HoldNotFound => Decision::HoldNotFound,
            Outcome::Transferred { transfer, balance_after, is_replayed } => {
                Decision::Transferred { transfer, balance_after, is_replayed }
            }
            Outcome::Credited { credited, is_replayed: _ } => Decision::Credited(credited),
            Outcome::TransferNotFound => Decision::TransferNotFound,
            Outcome::AmountInvalid { detail } => Decision::AmountInvalid(detail),
            Outcome::Moved(moved) => return Self::Moved(moved),
            Outcome::Unavailable { .. } => return Self::NotDone(NotDone::Unavailable),
            Outcome::Overloaded => return Self::NotDone(NotDone::Overloaded),
            // No gateway asks for a sweep.
            Outcome::Internal | Outcome::Swept => return Self::NotDone(NotDone::Internal),
            Outcome::OutcomeUnknown => return Self::Unknown,
        })
    }
}
