//! Holds: money that is reserved for a charge to come.
//!
//! A hold is taken, and then captured, voided or expired. Each step is a transaction. The hold's id is that of the first
//! one.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::TransactionId;
use crate::money::Money;
use crate::slot::UserId;

/// For how long a hold may last, in seconds: a minute to thirty days.
pub const EXPIRES_IN_S: std::ops::RangeInclusive<u32> = 60..=2_592_000;

/// For how long a hold lasts when nobody says: seven days, in seconds.
pub const EXPIRES_IN_S_USUALLY: u32 = 604_800;

/// Most open holds of one user. Whoever writes down that all of them have expired does so in one batch.
pub const OPEN_HOLDS_MAX: u32 = 1_000;

/// A hold as it was at some moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id, which includes the time at which it was taken.
    pub id: TransactionId,
    /// The user whose money it reserves.
    pub user_id: UserId,
    /// What became of it.
    pub status: HoldStatus,
    /// The amount that was reserved.
    pub money: Money,
    /// The part of it that was charged: zero until the capture.
    pub captured: Money,
    /// From this moment on it counts for nothing: Unix time in milliseconds.
    pub expires_at_ms: i64,
    /// The key under which it was taken.
    pub idempotency_key: Uuid,
    /// The client's own reference.
    pub reference: Option<String>,
    /// The client's own JSON object, as canonical text.
    pub metadata: Option<String>,
}

/// What became of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HoldStatus {
    /// It reserves its amount.
    Open,
    /// All or a part of it was charged, and the rest is free again.
    Captured,
    /// The client gave it back.
    Voided,
    /// Its time has run out.
    Expired,
}

impl HoldStatus {
    /// All of them, in the documentation's order.
    pub const ALL: [Self; 4] = [Self::Open, Self::Captured, Self::Voided, Self::Expired];

    /// The word that the API and the ledger use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Expired => "expired",
        }
    }

    /// The status with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// What a transaction says about a hold. All other transactions have an empty one, which costs nothing on the wire:
/// it crosses behind what older programs read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HoldPart {
    /// For a capture, a void and an expiry, the hold.
    pub hold_id: Option<TransactionId>,
    /// For a hold and a void, when the hold ends: Unix time in milliseconds.
    pub expires_at_ms: Option<i64>,
    /// For a hold, a void and a refusal for lack of money: what the user could spend right after it.
    pub available: Option<Money>,
    /// For a void, the key under which the hold was taken.
    pub hold_key: Option<Uuid>,
}

impl HoldPart {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
