//! The gateway's answers, typed.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::amount::Amount;

/// What a transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Money was added to the balance.
    #[serde(rename = "topup")]
    TopUp,
    /// Money was spent for a service.
    Charge,
    /// Money of a charge came back.
    Refund,
    /// Money was reserved for a charge to come.
    Hold,
    /// A hold was given back.
    Void,
    /// The time of a hold has run out.
    Expiry,
    /// A transfer took money from its sender.
    TransferOut,
    /// A transfer brought its recipient money.
    TransferIn,
    /// A transfer was reversed: its sender has the money again.
    TransferBack,
    /// A kind that this version of the client does not know.
    #[serde(other)]
    Other,
}

impl Kind {
    /// The API's name; empty for a kind that this version does not know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TopUp => "topup",
            Self::Charge => "charge",
            Self::Refund => "refund",
            Self::Hold => "hold",
            Self::Void => "void",
            Self::Expiry => "expiry",
            Self::TransferOut => "transfer_out",
            Self::TransferIn => "transfer_in",
            Self::TransferBack => "transfer_back",
            Self::Other => "",
        }
    }
}

/// A completed transaction, which never changes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Transaction {
    /// The id, a UUIDv8: ids sort by time.
    pub id: Uuid,
    /// The user whose balance it moved.
    pub user_id: i64,
    /// Which kind of operation it was.
    pub kind: Kind,
    /// The amount, more than zero.
    pub amount: Amount,
    /// The code of ISO 4217.
    pub currency: String,
    /// The user's balance in this currency right after it.
    pub balance_after: Amount,
    /// The idempotency key of its request; a few kinds have none.
    pub idempotency_key: Option<Uuid>,
    /// RFC 3339, in UTC, to the millisecond.
    pub created_at: String,
    /// For a refund, the id of the charge.
    pub charge_id: Option<Uuid>,
    /// For a capture, a void and an expiry, the id of the hold.
    pub hold_id: Option<Uuid>,
    /// For a step of a transfer, the id of the transfer.
    pub transfer_id: Option<Uuid>,
    /// For a `transfer_in`, the sender.
    pub from_user_id: Option<i64>,
    /// For a `transfer_out` and a `transfer_back`, the recipient.
    pub to_user_id: Option<i64>,
    /// The client's own reference, unchanged.
    pub reference: Option<String>,
    /// The client's own object, with names sorted.
    pub metadata: Option<Value>,
    /// The name of the API key that made it; only in reads.
    pub made_by: Option<String>,
}

/// A write that was booked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Booked {
    /// The transaction that was booked.
    pub transaction: Transaction,
    /// The balance right after it, also in a replay.
    pub new_balance: Amount,
    /// Whether the gateway replayed an earlier answer. After a lost attempt this may be true or false.
    pub is_replayed: bool,
    /// The session token: a read that shows it sees this write, on any replica.
    /// [`Client::user`](crate::Client::user) does that by itself.
    pub session: Option<String>,
    /// How often the request was sent, from 1.
    pub attempts: u32,
}

/// Money that is reserved for a charge to come.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Hold {
    /// The id, a UUIDv8: ids sort by time.
    pub id: Uuid,
    /// The user whose money it reserves.
    pub user_id: i64,
    /// What became of it.
    pub status: HoldStatus,
    /// The amount that was reserved.
    pub amount: Amount,
    /// The part of it that was charged; zero until the capture.
    pub captured: Amount,
    /// The code of ISO 4217.
    pub currency: String,
    /// From this moment on it counts for nothing: RFC 3339, in UTC, to the millisecond.
    pub expires_at: String,
    /// The idempotency key under which it was taken.
    pub idempotency_key: Uuid,
    /// RFC 3339, in UTC, to the millisecond.
    pub created_at: String,
    /// The client's own reference, unchanged.
    pub reference: Option<String>,
    /// The client's own object, with names sorted.
    pub metadata: Option<Value>,
}

/// What became of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HoldStatus {
    /// It reserves its amount.
    Open,
    /// All or a part of it was charged, and the rest is free again.
    Captured,
    /// The client gave it back.
    Voided,
    /// Its time has run out.
    Expired,
    /// A status that this version of the client does not know.
    #[serde(other)]
    Other,
}

impl HoldStatus {
    /// The API's name; empty for a status that this version does not know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Expired => "expired",
            Self::Other => "",
        }
    }
}

/// A hold that was taken or given back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Held {
    /// The hold right after it, also in a replay.
    pub hold: Hold,
    /// What the user could spend in its currency right after it.
    pub available: Amount,
    /// Whether the gateway replayed an earlier answer. After a lost attempt this may be true or false.
    pub is_replayed: bool,
    /// The session token, as that of [`Booked`].
    pub session: Option<String>,
    /// How often the request was sent, from 1.
    pub attempts: u32,
}

/// Money that goes from one user to another.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Transfer {
    /// The id, a UUIDv8: ids sort by time. The sender's `transfer_out` has the same id.
    pub id: Uuid,
    /// The user who paid.
    pub from_user_id: i64,
    /// The user who is paid.
    pub to_user_id: i64,
    /// What became of it.
    pub status: TransferStatus,
    /// The amount, more than zero.
    pub amount: Amount,
    /// The code of ISO 4217.
    pub currency: String,
    /// The idempotency key of its request.
    pub idempotency_key: Uuid,
    /// RFC 3339, in UTC, to the millisecond.
    pub created_at: String,
    /// When it was completed; RFC 3339, in UTC, to the millisecond.
    pub completed_at: Option<String>,
    /// Why it was reversed: `user-not-found` or `balance-too-large`.
    pub reason: Option<String>,
    /// The client's own reference, unchanged.
    pub reference: Option<String>,
    /// The client's own object, with names sorted.
    pub metadata: Option<Value>,
}

/// What became of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TransferStatus {
    /// It was taken from the sender, and goes on by itself.
    Pending,
    /// The recipient has it.
    Completed,
    /// The recipient could not have it, and the sender has it again.
    Reversed,
    /// A status that this version of the client does not know.
    #[serde(other)]
    Other,
}

/// A transfer that was taken from its sender.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Transferred {
    /// The transfer as it is now, also in a replay.
    pub transfer: Transfer,
    /// The sender's balance right after the money was taken.
    pub new_balance: Amount,
    /// Whether the gateway knew the key. After a lost attempt this may be true or false.
    pub is_replayed: bool,
    /// The session token of the sender's shard, as that of [`Booked`].
    pub session: Option<String>,
    /// How often the request was sent, from 1.
    pub attempts: u32,
}

/// What an operation of a batch did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Done {
    /// It was a top-up, a charge, a refund or a capture.
    Booked(Booked),
    /// It was a hold or a void.
    Held(Held),
}

/// The answer of a write, apart from its body.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub is_replayed: bool,
    pub session: Option<String>,
    pub attempts: u32,
}

/// The body of a write's answer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum DoneBody {
    Booked(BookedBody),
    Held(HeldBody),
}

impl DoneBody {
    pub fn received(self, received: Received) -> Done {
        match self {
            Self::Booked(body) => Done::Booked(body.received(received)),
            Self::Held(body) => Done::Held(body.received(received)),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct BookedBody {
    pub transaction: Transaction,
    pub new_balance: Amount,
}

impl BookedBody {
    pub fn received(self, received: Received) -> Booked {
        let Self { transaction, new_balance } = self;
        let Received { is_replayed, session, attempts } = received;
        Booked { transaction, new_balance, is_replayed, session, attempts }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct HeldBody {
    pub hold: Hold,
    pub available: Amount,
}

impl HeldBody {
    pub fn received(self, received: Received) -> Held {
        let Self { hold, available } = self;
        let Received { is_replayed, session, attempts } = received;
        Held { hold, available, is_replayed, session, attempts }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct TransferredBody {
    pub transfer: Transfer,
    pub new_balance: Amount,
}

impl TransferredBody {
    pub fn received(self, received: Received) -> Transferred {
        let Self { transfer, new_balance } = self;
        let Received { is_replayed, session, attempts } = received;
        Transferred { transfer, new_balance, is_replayed, session, attempts }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct TransferBody {
    pub transfer: Transfer,
}

/// A user's balance in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Balance {
    /// The code of ISO 4217.
    pub currency: String,
    /// The balance, zero or more.
    pub balance: Amount,
    /// The part of it that open holds reserve.
    pub held: Amount,
    /// The rest, which can be spent.
    pub available: Amount,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BalancesBody {
    pub balances: Vec<Balance>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LookupBody {
    pub transaction: Transaction,
}

/// A part of a list, newest first. An empty page is not always the end.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Page<T = Transaction> {
    /// The entries, newest first.
    pub data: Vec<T>,
    /// The cursor of the next page; `None` at the end.
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_what_later_versions_add_to_it() {
        let body: BookedBody = serde_json::from_str(
            r#"{"transaction":{"id":"019a9f3a-7a6b-892e-9356-4ab70000c001","user_id":1,"kind":"charge","status":"completed",
            "amount":"50.00","currency":"USD","balance_after":"950.00","idempotency_key":"550e8400-e29b-41d4-a716-446655440000",
            "created_at":"2026-11-22T12:00:00.123Z","metadata":{"a":1.10},"new_field":[1]},"new_balance":"950.00"}"#,
        )
        .unwrap();
        let BookedBody { transaction, new_balance } = body;
        assert_eq!((transaction.kind, transaction.amount.as_str()), (Kind::Charge, "50.00"));
        assert_eq!(new_balance, "950.00");
        assert_eq!(transaction.metadata.unwrap().to_string(), r#"{"a":1.10}"#, "as it was written");
        assert_eq!(serde_json::from_str::<Kind>(r#""topup""#).unwrap(), Kind::TopUp);
        assert_eq!(serde_json::from_str::<Kind>(r#""transfer_in""#).unwrap(), Kind::TransferIn);
        assert_eq!(serde_json::from_str::<Kind>(r#""interest""#).unwrap(), Kind::Other);
    }
}
