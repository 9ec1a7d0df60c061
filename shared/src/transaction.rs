//! What the ledger records of an operation, and gives back as its answer.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::hold::{Hold, HoldPart, HoldStatus};
use crate::id::TransactionId;
use crate::money::Money;
use crate::slot::UserId;
use crate::transfer::TransferPart;

/// The immutable record of one operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    /// Its id, which includes the time.
    pub id: TransactionId,
    /// The user whose balance it moved.
    pub user_id: UserId,
    /// The kind of the operation.
    pub kind: Kind,
    /// Whether it was booked or refused.
    pub status: Status,
    /// The amount; for a refusal, the amount that was asked for.
    pub money: Money,
    /// The user's balance in this currency right after it.
    pub balance_after: Money,
    /// The key under which it is replayed; `None` for an expiry, which nobody asked for, and for the later steps of a
    /// transfer. On the wire, that is the nil UUID, which is no key.
    #[serde(with = "nil_is_none")]
    pub idempotency_key: Option<Uuid>,
    /// For a refund, the charge.
    pub charge_id: Option<TransactionId>,
    /// The client's own reference.
    pub reference: Option<String>,
    /// The client's own JSON object, as canonical text.
    pub metadata: Option<String>,
    /// The name of the API key; `None` for old transactions. Only reads carry it, behind their answer
    /// (`Answer::to_wire`); the answer to a write has none.
    #[serde(skip)]
    pub made_by: Option<Arc<str>>,
    /// What it says about a hold. It crosses the wire behind the rest (`WriteReply::to_wire`,
    /// `Answer::to_wire`).
    #[serde(skip)]
    pub hold_part: HoldPart,
    /// What it says about a transfer. Only reads carry it, behind their answer (`Answer::to_wire`).
    #[serde(skip)]
    pub transfer: Option<TransferPart>,
}

impl Transaction {
    /// The hold as it was right after this transaction; `None` unless this took or voided one.
    pub fn hold(&self) -> Option<Hold> {
        if self.status != Status::Completed {
            return None;
        }
        let (id, status, key) = match self.kind {
            Kind::Hold => (self.id, HoldStatus::Open, self.idempotency_key),
            Kind::Void => (self.hold_part.hold_id?, HoldStatus::Voided, self.hold_part.hold_key),
            Kind::TopUp
            | Kind::Charge
            | Kind::Refund
            | Kind::Expiry
            | Kind::TransferOut
            | Kind::TransferIn
            | Kind::TransferBack => return None,
        };
        Some(Hold {
            id,
            user_id: self.user_id,
            status,
            money: self.money,
            captured: Money::zero(self.money.currency()),
            expires_at_ms: self.hold_part.expires_at_ms?,
            idempotency_key: key?,
            reference: self.reference.clone(),
            metadata: self.metadata.clone(),
        })
    }
}

mod nil_is_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use uuid::Uuid;

    #[expect(clippy::ref_option, reason = "serde gives it so")]
    pub fn serialize<S: Serializer>(key: &Option<Uuid>, serializer: S) -> Result<S::Ok, S::Error> {
        key.unwrap_or_default().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
        let key = Uuid::deserialize(deserializer)?;
        Ok((!key.is_nil()).then_some(key))
    }
}

/// The kind of operation that a transaction records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Money was added to a balance.
    #[serde(rename = "topup")]
    TopUp,
    /// Money for a service.
    #[serde(rename = "charge")]
    Charge,
    /// Money back for a charge.
    #[serde(rename = "refund")]
    Refund,
    /// Money was reserved. It moves nothing.
    #[serde(rename = "hold")]
    Hold,
    /// A hold was given back. It moves nothing.
    #[serde(rename = "void")]
    Void,
    /// A hold has run out. It moves nothing.
    #[serde(rename = "expiry")]
    Expiry,
    /// A transfer took money from its sender.
    #[serde(rename = "transfer_out")]
    TransferOut,
    /// A transfer gave money to its recipient.
    #[serde(rename = "transfer_in")]
    TransferIn,
    /// A transfer was reversed: its sender has the money again.
    #[serde(rename = "transfer_back")]
    TransferBack,
}

impl Kind {
    /// All kinds, in the documentation's order.
    pub const ALL: [Self; 9] = [
        Self::TopUp,
        Self::Charge,
        Self::Refund,
        Self::Hold,
        Self::Void,
        Self::Expiry,
        Self::TransferOut,
        Self::TransferIn,
        Self::TransferBack,
    ];

    /// The word that the API and the ledger use.
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
        }
    }

    /// Whether a completed transaction of this kind changed the balance. Sums count these only.
    pub fn moves_money(self) -> bool {
        match self {
            Self::TopUp
            | Self::Charge
            | Self::Refund
            | Self::TransferOut
            | Self::TransferIn
            | Self::TransferBack => true,
            Self::Hold | Self::Void | Self::Expiry => false,
        }
    }

    /// The kind with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// How an operation ended. Both are answers, and both are replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// The money has moved.
    Completed,
    /// The rules refused the operation.
    Refused {
        /// The rule that refused it.
        refusal: Refusal,
        /// The request that was refused first, which the replayed answer names.
        request_id: String,
    },
}

/// Why the rules refuse an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// What is available ([`HoldPart::available`]; all of `balance_after` in a record from before there were holds)
    /// is less than the charge, the hold or the transfer.
    InsufficientBalance,
    /// Together with earlier refunds this would exceed the charge.
    RefundExceedsCharge {
        /// What can still be refunded.
        remaining: Money,
    },
    /// The transaction to refund is no charge.
    NotRefundable,
    /// The hold is less than what was to be captured.
    CaptureExceedsHold {
        /// What could be captured: all of the hold.
        remaining: Money,
    },
    /// The hold was captured or voided before, or has expired.
    HoldNotOpen {
        /// What became of it.
        status: HoldStatus,
    },
    /// The user has [`crate::hold::OPEN_HOLDS_MAX`] open holds.
    TooManyHolds,
}
