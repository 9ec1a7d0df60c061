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

/// The body of a write's answer.
#[derive(Debug, Deserialize)]
pub(crate) struct BookedBody {
    pub transaction: Transaction,
    pub new_balance: Amount,
}

/// A user's balance in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Balance {
    /// The code of ISO 4217.
    pub currency: String,
    /// The balance, zero or more.
    pub balance: Amount,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BalancesBody {
    pub balances: Vec<Balance>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LookupBody {
    pub transaction: Transaction,
}

/// A part of a history, newest first. An empty page is not always the end.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Page {
    /// The transactions, newest first.
    pub data: Vec<Transaction>,
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
        assert_eq!(serde_json::from_str::<Kind>(r#""transfer_in""#).unwrap(), Kind::Other);
    }
}
