//! Holds as clients read them.

use picopay_shared::hold::{Hold, HoldStatus};
use picopay_shared::money::Money;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::transaction_body::{serialize_display, time_of};

/// A hold, all of it from the record.
#[derive(Debug, Clone, Copy)]
pub struct HoldBody<'a>(pub &'a Hold);

/// The answer to a hold, a void and a look at one.
#[derive(Debug, Serialize)]
pub struct HoldAnswerBody<'a> {
    pub hold: HoldBody<'a>,
    #[serde(serialize_with = "serialize_display")]
    pub available: Money,
}

impl Serialize for HoldBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(hold) = self;
        // The text was checked when it was written, and `json` columns hold nothing else.
        let metadata: Option<&RawValue> =
            hold.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut body = serializer.serialize_struct("Hold", 11)?;
        body.serialize_field("id", &hold.id)?;
        body.serialize_field("user_id", &hold.user_id)?;
        body.serialize_field("status", hold.status.as_str())?;
        body.serialize_field("amount", &format_args!("{}", hold.money))?;
        body.serialize_field("captured", &format_args!("{}", hold.captured))?;
        body.serialize_field("currency", &hold.money.currency())?;
        body.serialize_field("expires_at", &time_of(hold.expires_at_ms))?;
        body.serialize_field("idempotency_key", &hold.idempotency_key)?;
        body.serialize_field("created_at", &time_of(hold.id.unix_ms()))?;
        if let Some(reference) = &hold.reference {
            body.serialize_field("reference", reference)?;
        }
        if let Some(metadata) = metadata {
            body.serialize_field("metadata", metadata)?;
        }
        body.end()
    }
}

// The schema of `HoldBody`.
/// Money that is reserved for a charge to come.
#[derive(Debug, ToSchema)]
#[schema(as = Hold)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct HoldSchema {
    /// A UUIDv8: sorts by time.
    #[schema(format = "uuid", example = "019a9f3a-7a6b-892e-9356-4ab70000c001")]
    id: String,
    #[schema(example = 1, minimum = 1)]
    user_id: i64,
    status: HoldStatusSchema,
    /// What was reserved, at the currency's scale.
    #[schema(example = "30.00")]
    amount: String,
    /// What was charged of it: zero until the capture.
    #[schema(example = "0.00")]
    captured: String,
    #[schema(example = "USD")]
    currency: String,
    /// From this moment on it counts for nothing.
    #[schema(format = DateTime, example = "2026-11-29T12:00:00.123Z")]
    expires_at: String,
    /// The key under which it was taken.
    #[schema(format = "uuid", example = "550e8400-e29b-41d4-a716-446655440000")]
    idempotency_key: String,
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.123Z")]
    created_at: String,
    /// The client's own reference, unchanged.
    #[schema(nullable = false)]
    reference: Option<String>,
    /// As it was given, names sorted.
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<String>,
}

/// What became of a hold.
#[derive(Debug, ToSchema)]
#[schema(as = HoldStatus, rename_all = "lowercase")]
pub enum HoldStatusSchema {
    /// It reserves its amount.
    Open,
    /// All or a part of it was charged, and the rest is free again.
    Captured,
    /// The client gave it back.
    Voided,
    /// Its time has run out.
    Expired,
}

// The schema of `HoldAnswerBody`.
/// The hold, and what its user can spend.
#[derive(Debug, ToSchema)]
#[schema(as = HoldAnswer)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct HoldAnswerSchema {
    hold: HoldSchema,
    /// The user's balance in this currency, less what open holds reserve.
    #[schema(example = "920.00")]
    available: String,
}

pub fn parse_status(word: &str) -> Result<HoldStatus, String> {
    HoldStatus::parse(word).ok_or_else(|| {
        let words = HoldStatus::ALL.map(HoldStatus::as_str);
        format!("must be one of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use picopay_shared::id::TransactionId;
    use picopay_shared::money::Currency;
    use picopay_shared::slot::UserId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_hold_reads_as_the_contract_says() {
        let usd = |text| Money::parse(text, Currency::parse("USD").unwrap()).unwrap();
        let hold = Hold {
            id: TransactionId::first_at(1_795_348_800_123),
            user_id: UserId::try_from(1).unwrap(),
            status: HoldStatus::Open,
            money: usd("30"),
            captured: Money::zero(usd("1").currency()),
            expires_at_ms: 1_795_953_600_123,
            idempotency_key: Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000),
            reference: Some("room 7".into()),
            metadata: Some(r#"{"a":1.10}"#.into()),
        };
        let answer = HoldAnswerBody { hold: HoldBody(&hold), available: usd("920") };
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            concat!(
                r#"{"hold":{"id":"01a20320-a27b-0000-0000-000000000000","user_id":1,"status":"open","amount":"30.00","#,
                r#""captured":"0.00","currency":"USD","expires_at":"2026-11-29T12:00:00.123Z","#,
                r#""idempotency_key":"550e8400-e29b-41d4-a716-446655440000","created_at":"2026-11-22T12:00:00.123Z","#,
                r#""reference":"room 7","metadata":{"a":1.10}},"available":"920.00"}"#
            )
        );
    }
}
