//! What many users did or have together, and what one had at a time.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::answer::Kind;

/// Whose transactions are added up, and which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SumsQuery {
    user_ids: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

impl SumsQuery {
    /// All transactions of these users, 1 to 1,000, that moved money.
    pub fn of(user_ids: impl Into<Vec<i64>>) -> Self {
        Self { user_ids: user_ids.into(), kind: None, from: None, to: None }
    }

    /// Only transactions of this kind, by its name in the API.
    #[must_use]
    pub fn of_kind(self, kind: &str) -> Self {
        Self { kind: Some(kind.to_owned()), ..self }
    }

    /// Only from this time on (RFC 3339).
    #[must_use]
    pub fn since(self, time: &str) -> Self {
        Self { from: Some(time.to_owned()), ..self }
    }

    /// Only before this time (RFC 3339).
    #[must_use]
    pub fn until(self, time: &str) -> Self {
        Self { to: Some(time.to_owned()), ..self }
    }
}

/// Sums over all shards.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Sums {
    /// One for each currency and kind of which there are transactions.
    pub sums: Vec<Sum>,
    /// One for each shard.
    pub shards: Vec<ShardSource>,
}

/// Transactions of one kind in one currency.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Sum {
    /// The code of ISO 4217.
    pub currency: String,
    /// The kind of the transactions.
    pub kind: Kind,
    /// How many there are.
    pub count: u64,
    /// What they add up to.
    pub amount: Amount,
}

/// All balances over all shards.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// One for each currency in which somebody has a balance.
    pub totals: Vec<Total>,
    /// One for each shard, which was asked at its own moment.
    pub shards: Vec<ShardSource>,
}

/// All balances in one currency.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Total {
    /// The code of ISO 4217.
    pub currency: String,
    /// How many users have a balance in it, be it zero.
    pub users: u64,
    /// What they have together.
    pub balance: Amount,
    /// What open holds reserve of it.
    pub held: Amount,
    /// What has left one user's balance and not reached another's yet.
    pub in_transit: Amount,
}

/// Where a shard's part of an answer came from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ShardSource {
    /// The name of the shard.
    pub shard: String,
    /// The database that answered: `primary` or `replica`.
    pub source: String,
    /// How far the replica was behind, in milliseconds; 0 for the primary.
    pub lag_ms: u64,
}

/// A user's balance in one currency as it was at a time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct BalanceAt {
    /// The code of ISO 4217.
    pub currency: String,
    /// The balance at the end of the millisecond.
    pub balance: Amount,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BalancesAtBody {
    pub balances: Vec<BalanceAt>,
}
