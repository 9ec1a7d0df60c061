//! What the gateway answers, typed.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::amount::Amount;

/// What a transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Money came in.
    #[serde(rename = "topup")]
    TopUp,
    /// Money was spent.
    Charge,
    /// Money of a charge came back.
    Refund,
    /// A kind that this version of the client does not know.
    #[serde(other)]
    Other,
}

impl Kind {
    /// As the API names it; empty for what this version does not know.
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
    /// Sorts by time.
    pub id: Uuid,
    /// Whose money.
    pub user_id: i64,
    /// What it did.
    pub kind: Kind,
    /// How much.
    pub amount: Amount,
    /// Of ISO 4217.
    pub currency: String,
    /// The user's balance in this currency right after it.
    pub balance_after: Amount,
    /// The key under which it was asked for; a few kinds have none.
    pub idempotency_key: Option<Uuid>,
    /// RFC 3339, in UTC, to the millisecond.
    pub created_at: String,
    /// Of a refund: the charge.
    pub charge_id: Option<Uuid>,
    /// As it was sent.
    pub reference: Option<String>,
    /// As it was sent.
    pub metadata: Option<Value>,
    /// The name of the API key that made it; only in reads.
    pub made_by: Option<String>,
}

/// A write that was booked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Booked {
    /// The record.
    pub transaction: Transaction,
    /// The balance right after it; in a replay too.
    pub new_balance: Amount,
    /// Whether the gateway said that this key had its answer before. After an attempt that was lost it may be either.
    pub is_replayed: bool,
    /// A read that shows it sees this write, on whatever replica. [`Client::user`](crate::Client::user) does it by itself.
    pub session: Option<String>,
    /// How often it was sent.
    pub attempts: u32,
}

/// The body of a write's answer.
#[derive(Debug, Deserialize)]
pub(crate) struct BookedBody {
    pub transaction: Transaction,
    pub new_balance: Amount,
}

/// What a user has in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Balance {
    /// Of ISO 4217.
    pub currency: String,
    /// All of it.
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

/// A part of a history, newest first. It may be empty and still not be the end.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Page {
    /// In their order.
    pub data: Vec<Transaction>,
    /// Where the next page begins; nothing at the end.
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
