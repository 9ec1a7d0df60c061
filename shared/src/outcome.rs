//! What a shard answers to commands, as it crosses the wire in `postcard`, under the rules of `command.rs`.

use serde::{Deserialize, Serialize};

use crate::hold::HoldPart;
use crate::money::Money;
use crate::session::LogPosition;
use crate::slot::Slot;
use crate::transaction::Transaction;
use crate::transfer::{Credited, Transfer};

/// The answer to a [`WriteBatch`](crate::command::WriteBatch).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WriteReply {
    /// One per command, in the same order.
    pub outcomes: Vec<Outcome>,
    /// How many were answered from Redis.
    pub cache_hits: u32,
    /// How long the slowest COMMIT of this batch took, in microseconds; zero when there was none.
    pub commit_us: u32,
    /// The position in the shard's log that has everything written in these outcomes; `None` when nothing
    /// was. One position is enough: all were written now or earlier.
    pub position: Option<LogPosition>,
}

impl WriteReply {
    /// Encodes the reply. What transactions say about holds comes last, so that an older program does not read it.
    pub fn to_wire(&self) -> Vec<u8> {
        let parts: Vec<(u32, &HoldPart)> = (0..)
            .zip(&self.outcomes)
            .filter_map(|(position, outcome)| match outcome {
                Outcome::Decided { transaction, .. } if !transaction.hold_part.is_empty() => {
                    Some((position, &transaction.hold_part))
                }
                _ => None,
            })
            .collect();
        postcard::to_stdvec(&(self, parts)).expect("plain data always serializes")
    }

    /// Decodes the reply, also of an older program.
    ///
    /// # Errors
    /// When the bytes are no reply, or the part behind does not fit.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let (mut reply, rest): (Self, &[u8]) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() {
            return Ok(reply);
        }
        let parts: Vec<(u32, HoldPart)> = postcard::from_bytes(rest)?;
        for (position, part) in parts {
            let outcome =
                usize::try_from(position).ok().and_then(|position| reply.outcomes.get_mut(position));
            let Some(Outcome::Decided { transaction, .. }) = outcome else {
                return Err(postcard::Error::SerdeDeCustom);
            };
            transaction.hold_part = part;
        }
        Ok(reply)
    }
}

/// The outcome of one [`Command`](crate::command::Command).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The user was created now.
    UserCreated,
    /// The user existed already.
    UserExisted,
    /// Booked or refused, now or (replayed) before.
    Decided {
        /// The record of the operation.
        transaction: Box<Transaction>,
        /// Whether this is the answer to an earlier request with this key.
        is_replayed: bool,
    },
    /// The key was used for another operation.
    KeyReused {
        /// The fields of the request that differ, as the API names them.
        differs: Vec<String>,
    },
    /// The user does not exist.
    UserNotFound,
    /// The transaction to refund does not exist.
    TransactionNotFound,
    /// The amount cannot be booked in its currency. Nothing was recorded.
    AmountInvalid {
        /// What would be right.
        detail: String,
    },
    /// This shard does not own the slot.
    Moved(Moved),
    /// Nothing happened; any retry is safe.
    Unavailable {
        /// The reason, for the log. No client sees it.
        reason: String,
    },
    /// COMMIT was sent and not answered: it may be done. The same key resolves it.
    OutcomeUnknown,
    /// A bug. Nothing was written.
    Internal,
    /// Nothing happened: too much is waiting in the node. An immediate retry would add to it.
    Overloaded,
    /// The hold to capture or void does not exist.
    HoldNotFound,
    /// A transfer was begun or ended now or (replayed) before.
    Transferred {
        /// The transfer as it is now.
        transfer: Box<Transfer>,
        /// The sender's balance right after its first step.
        balance_after: Money,
        /// Whether this step was done before.
        is_replayed: bool,
    },
    /// The recipient's shard has decided now or (replayed) before.
    Credited {
        /// Its decision, for [`Settle`](crate::command::Operation::Settle).
        credited: Credited,
        /// Whether it was made before.
        is_replayed: bool,
    },
    /// The transfer to settle does not exist.
    TransferNotFound,
    /// What had run out of the user's holds is written down.
    #[serde(skip)]
    Swept,
}

/// What a shard knows of a slot that it does not own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The slot that was asked for.
    pub slot: Slot,
    /// The shard that it went to, if this shard knows.
    pub owner: Option<String>,
    /// The epoch of that knowledge; zero when it has none.
    pub epoch: u64,
}
