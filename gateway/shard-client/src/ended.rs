//! How an attempt ended, by what its caller can do: final, moved, not done, unknown.
//!
//! The one vocabulary between the node's word ([`Outcome`]) and the client's. Answer what is final; look again for what has
//! moved; what is not done may be tried by anybody, and what is unknown with the same key only.

use picopay_shared::command::{Moved, Outcome, Transaction};

/// How one attempt at a shard ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended<T> {
    /// The shard's final answer.
    Final(T),
    /// The shard does not own the slot. Nothing happened.
    Moved(Moved),
    /// Nothing happened.
    NotDone(NotDone),
    /// It may have been done.
    Unknown,
}

/// Why nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDone {
    /// No node of the shard takes a connection or our requests, or the shard cannot work.
    Unavailable,
    /// The shard's breaker is open: it was not even tried.
    BreakerOpen,
    /// Too much is waiting, here or in the node, or the request's time was over before its turn came.
    Overloaded,
    /// Nobody owns the slot at the moment.
    SlotMoving,
    /// A bug.
    Internal,
}

/// A shard's final answer to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The user is new.
    UserCreated,
    /// The user was there already.
    UserExisted,
    /// Booked or refused.
    Decided {
        /// The record.
        transaction: Box<Transaction>,
        /// Whether the client could have had this answer before.
        is_replayed: bool,
    },
    /// The key stands for something else; these fields differ.
    KeyReused(Vec<String>),
    /// No such user.
    UserNotFound,
    /// No such transaction to refund.
    TransactionNotFound,
    /// The amount cannot be booked in its currency; what would be right.
    AmountInvalid(String),
}

impl<T> Ended<T> {
    /// The same of an attempt that changes nothing, for which it makes no difference whether it was done.
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
            Outcome::AmountInvalid { detail } => Decision::AmountInvalid(detail),
            Outcome::Moved(moved) => return Self::Moved(moved),
            Outcome::Unavailable { .. } => return Self::NotDone(NotDone::Unavailable),
            Outcome::Overloaded => return Self::NotDone(NotDone::Overloaded),
            Outcome::Internal => return Self::NotDone(NotDone::Internal),
            Outcome::OutcomeUnknown => return Self::Unknown,
        })
    }
}
