//! The requests of writes.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::amount::{Amount, NoAmount};

/// A top-up or a charge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Payment {
    user_id: i64,
    amount: Amount,
    currency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip)]
    key: Option<Uuid>,
}

impl Payment {
    /// A payment of this amount for this user. Its key is made when it is sent.
    pub fn new(
        user_id: i64,
        amount: impl TryInto<Amount, Error = NoAmount>,
        currency: &str,
    ) -> Result<Self, NoAmount> {
        let (amount, currency) = (amount.try_into()?, currency.to_owned());
        Ok(Self { user_id, amount, currency, reference: None, metadata: None, key: None })
    }

    /// Adds a text of at most 255 characters that the transaction keeps.
    #[must_use]
    pub fn with_reference(self, reference: impl Into<String>) -> Self {
        Self { reference: Some(reference.into()), ..self }
    }

    /// Adds an object of at most 4 KiB that the transaction keeps.
    #[must_use]
    pub fn with_metadata(self, metadata: Value) -> Self {
        Self { metadata: Some(metadata), ..self }
    }
}

/// A refund of a charge, whole or in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refund {
    transaction_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Amount>,
    #[serde(skip)]
    key: Option<Uuid>,
}

impl Refund {
    /// A refund of all that remains of this charge. Its key is made when it is sent.
    pub fn new(charge_id: Uuid) -> Self {
        Self { transaction_id: charge_id, amount: None, key: None }
    }

    /// Refunds only this amount of it.
    #[must_use]
    pub fn of(self, amount: Amount) -> Self {
        Self { amount: Some(amount), ..self }
    }
}

/// Money to reserve for a charge to come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewHold {
    #[serde(flatten)]
    payment: Payment,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u32>,
}

impl NewHold {
    /// Reserves what this payment would charge, under its key, for seven days.
    pub fn of(payment: Payment) -> Self {
        Self { payment, expires_in: None }
    }

    /// Reserves it for so many seconds, from 60 to 2,592,000.
    #[must_use]
    pub fn expiring_in(self, seconds: u32) -> Self {
        Self { expires_in: Some(seconds), ..self }
    }

    /// The key, if one was set.
    pub fn key(&self) -> Option<Uuid> {
        self.payment.key()
    }
}

/// Money to move to another user.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewTransfer {
    from_user_id: i64,
    to_user_id: i64,
    amount: Amount,
    currency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip)]
    key: Option<Uuid>,
}

impl NewTransfer {
    /// Moves what this payment would charge to another user, under its key.
    pub fn of(payment: Payment, to_user_id: i64) -> Self {
        let Payment { user_id, amount, currency, reference, metadata, key } = payment;
        Self { from_user_id: user_id, to_user_id, amount, currency, reference, metadata, key }
    }
}

/// A charge of what a hold reserves, whole or in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capture {
    hold_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Amount>,
    #[serde(skip)]
    key: Option<Uuid>,
}

impl Capture {
    /// A charge of all of this hold.
    pub fn new(hold_id: Uuid) -> Self {
        Self { hold_id, amount: None, key: None }
    }

    /// Charges only this amount of it. The rest is free again.
    #[must_use]
    pub fn of(self, amount: Amount) -> Self {
        Self { amount: Some(amount), ..self }
    }

    pub(crate) fn path(&self) -> String {
        format!("/v1/holds/{}/capture", self.hold_id)
    }

    /// The body of its own route, whose path names the hold.
    pub(crate) fn body(&self) -> String {
        match &self.amount {
            Some(amount) => format!("{{\"amount\":\"{amount}\"}}"),
            None => "{}".to_owned(),
        }
    }
}

/// The end of a hold that is not needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Void {
    hold_id: Uuid,
    #[serde(skip)]
    key: Option<Uuid>,
}

impl Void {
    /// Gives all of this hold back.
    pub fn new(hold_id: Uuid) -> Self {
        Self { hold_id, key: None }
    }

    pub(crate) fn path(&self) -> String {
        format!("/v1/holds/{}/void", self.hold_id)
    }
}

macro_rules! have_keys {
    ($($wish:ident),+) => {$(
        impl $wish {
            /// Sets the key: the same again, if it was sent before.
            #[must_use]
            pub fn with_key(self, key: Uuid) -> Self {
                Self { key: Some(key), ..self }
            }

            /// The key, if one was set.
            pub fn key(&self) -> Option<Uuid> {
                self.key
            }
        }
    )+};
}

have_keys!(Payment, NewTransfer, Refund, Capture, Void);
