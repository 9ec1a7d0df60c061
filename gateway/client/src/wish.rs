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

    /// Sets the key: the same payment again, if it was sent before.
    #[must_use]
    pub fn with_key(self, key: Uuid) -> Self {
        Self { key: Some(key), ..self }
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

    /// The key, if one was set.
    pub fn key(&self) -> Option<Uuid> {
        self.key
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

    /// Sets the key: the same refund again, if it was sent before.
    #[must_use]
    pub fn with_key(self, key: Uuid) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The key, if one was set.
    pub fn key(&self) -> Option<Uuid> {
        self.key
    }
}
