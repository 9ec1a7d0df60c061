//! Transfers as clients read them.

use picopay_shared::money::Money;
use picopay_shared::transfer::{Transfer, TransferStatus};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::transaction_body::{serialize_display, time_of};

/// A transfer as it is now, all of it from the record.
#[derive(Debug, Clone, Copy)]
pub struct TransferBody<'a>(pub &'a Transfer);

/// The answer to a look at a transfer.
#[derive(Debug, Serialize)]
pub struct TransferLookupBody<'a> {
    pub transfer: TransferBody<'a>,
}

/// The answer to a transfer.
#[derive(Debug, Serialize)]
pub struct TransferAnswerBody<'a> {
    pub transfer: TransferBody<'a>,
    #[serde(serialize_with = "serialize_display")]
    pub new_balance: Money,
}

impl Serialize for TransferBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(transfer) = self;
        // The text was checked when it was written, and `json` columns hold nothing else.
        let metadata: Option<&RawValue> =
            transfer.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut body = serializer.serialize_struct("Transfer", 12)?;
        body.serialize_field("id", &transfer.id)?;
        body.serialize_field("from_user_id", &transfer.from_user_id)?;
        body.serialize_field("to_user_id", &transfer.to_user_id)?;
        body.serialize_field("status", transfer.status.as_str())?;
        body.serialize_field("amount", &format_args!("{}", transfer.money))?;
        body.serialize_field("currency", &transfer.money.currency())?;
        body.serialize_field("idempotency_key", &transfer.idempotency_key)?;
        body.serialize_field("created_at", &time_of(transfer.id.unix_ms()))?;
        match (transfer.status, transfer.ended_at_ms) {
            (TransferStatus::Completed, Some(ended_at_ms)) => {
                body.serialize_field("completed_at", &time_of(ended_at_ms))?;
            }
            (TransferStatus::Reversed { reason }, _) => body.serialize_field("reason", reason.as_str())?,
            (TransferStatus::Pending | TransferStatus::Completed, _) => {}
        }
        if let Some(reference) = &transfer.reference {
            body.serialize_field("reference", reference)?;
        }
        if let Some(metadata) = metadata {
            body.serialize_field("metadata", metadata)?;
        }
        body.end()
    }
}

// The schema of `TransferBody`.
/// Money that goes from one user to another.
#[derive(Debug, ToSchema)]
#[schema(as = Transfer)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct TransferSchema {
    /// A UUIDv8: sorts by time. The sender's `transfer_out` has the same id.
    #[schema(format = "uuid", example = "019a9f3a-7a6b-892e-9356-4ab70000c001")]
    id: String,
    #[schema(example = 1, minimum = 1)]
    from_user_id: i64,
    #[schema(example = 2, minimum = 1)]
    to_user_id: i64,
    status: TransferStatusSchema,
    /// At the currency's scale.
    #[schema(example = "30.00")]
    amount: String,
    #[schema(example = "USD")]
    currency: String,
    /// The key of its request.
    #[schema(format = "uuid", example = "550e8400-e29b-41d4-a716-446655440000")]
    idempotency_key: String,
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.123Z")]
    created_at: String,
    /// Since when the recipient's shard has said that he has it.
    #[schema(format = DateTime, nullable = false, example = "2026-11-22T12:00:00.131Z")]
    completed_at: Option<String>,
    /// Of a reversed transfer: why the recipient could not have it.
    #[schema(nullable = false)]
    reason: Option<ReasonSchema>,
    /// The client's own reference, unchanged.
    #[schema(nullable = false)]
    reference: Option<String>,
    /// As it was given, names sorted.
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<String>,
}

/// What became of a transfer.
#[derive(Debug, ToSchema)]
#[schema(as = TransferStatus, rename_all = "lowercase")]
pub enum TransferStatusSchema {
    /// Taken from the sender and not yet with the recipient. It goes on by itself.
    Pending,
    /// The recipient has it.
    Completed,
    /// The recipient could not have it, and the sender has it again.
    Reversed,
}

/// Why a transfer was reversed.
#[derive(Debug, ToSchema)]
#[schema(as = ReversalReason, rename_all = "kebab-case")]
pub enum ReasonSchema {
    /// The recipient does not exist.
    UserNotFound,
    /// The recipient's balance would have passed the largest that there is.
    BalanceTooLarge,
}

// The schema of `TransferAnswerBody`.
/// The transfer as it is now, and what it left its sender.
#[derive(Debug, ToSchema)]
#[schema(as = TransferAnswer)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct TransferAnswerSchema {
    transfer: TransferSchema,
    /// The sender's balance in this currency right after the amount was taken from it, in a replay too.
    #[schema(example = "920.00")]
    new_balance: String,
}

// The schema of `TransferLookupBody`.
/// The transfer with the id that was asked for.
#[derive(Debug, ToSchema)]
#[schema(as = TransferLookup)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct TransferLookupSchema {
    transfer: TransferSchema,
}

#[cfg(test)]
mod tests {
    use picopay_shared::id::TransactionId;
    use picopay_shared::money::Currency;
    use picopay_shared::slot::UserId;
    use picopay_shared::transfer::CreditRefusal;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_transfer_reads_as_the_contract_says_in_each_of_its_states() {
        let usd = |text| Money::parse(text, Currency::parse("USD").unwrap()).unwrap();
        let user = |id| UserId::try_from(id).unwrap();
        for (status, ended_at_ms, expected) in [
            (TransferStatus::Pending, None, r#""status":"pending""#.to_owned()),
            (
                TransferStatus::Completed,
                Some(1_795_348_800_131),
                r#""completed_at":"2026-11-22T12:00:00.131Z""#.into(),
            ),
            (
                TransferStatus::Reversed { reason: CreditRefusal::BalanceTooLarge },
                Some(1_795_348_800_131),
                r#""reason":"balance-too-large""#.into(),
            ),
        ] {
            let transfer = Transfer {
                id: TransactionId::first_at(1_795_348_800_123),
                from_user_id: user(1),
                to_user_id: user(2),
                status,
                money: usd("30"),
                idempotency_key: Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000),
                ended_at_ms,
                reference: Some("rent".into()),
                metadata: Some(r#"{"a":1.10}"#.into()),
            };
            let more = if status == TransferStatus::Pending { String::new() } else { format!("{expected},") };
            let answer = TransferAnswerBody { transfer: TransferBody(&transfer), new_balance: usd("70") };
            assert_eq!(
                serde_json::to_string(&answer).unwrap(),
                format!(
                    concat!(
                        r#"{{"transfer":{{"id":"01a20320-a27b-0000-0000-000000000000","from_user_id":1,"to_user_id":2,"#,
                        r#""status":"{}","amount":"30.00","currency":"USD","#,
                        r#""idempotency_key":"550e8400-e29b-41d4-a716-446655440000","created_at":"2026-11-22T12:00:00.123Z","#,
                        r#"{}"reference":"rent","metadata":{{"a":1.10}}}},"new_balance":"70.00"}}"#
                    ),
                    status.as_str(),
                    more
                )
            );
        }
    }
}
