//! Transactions as clients read them.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use picopay_shared::command::{Kind, Transaction};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Milliseconds, because an id carries those.
static TIMES: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// A completed transaction, all of it from the record, so that it reads the same each time. Only reads show
/// who made it; the bytes of an answer to a write never change.
#[derive(Debug, Clone, Copy)]
pub struct TransactionBody<'a> {
    record: &'a Transaction,
    made_by: Option<&'a str>,
}

impl<'a> TransactionBody<'a> {
    /// The form in an answer to a write.
    pub fn of_write(record: &'a Transaction) -> Self {
        Self { record, made_by: None }
    }

    /// The form in an answer to a read.
    pub fn of_read(record: &'a Transaction) -> Self {
        Self { record, made_by: record.made_by.as_deref() }
    }
}

#[derive(Debug, Serialize)]
pub struct LookupBody<'a> {
    pub transaction: TransactionBody<'a>,
}

/// A moment as the API writes it; `unix_ms` is in milliseconds.
pub fn time_of(unix_ms: i64) -> String {
    TIMES.timestamp_to_string(&Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::MAX))
}

/// For `#[serde(serialize_with = …)]`: money as its text at the currency's scale.
pub fn serialize_display<S: Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Serialize for TransactionBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { record, made_by } = self;
        // The text was checked when it was written, and `json` columns hold nothing else.
        let metadata: Option<&RawValue> =
            record.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut body = serializer.serialize_struct("Transaction", 16)?;
        body.serialize_field("id", &record.id)?;
        body.serialize_field("user_id", &record.user_id)?;
        body.serialize_field("kind", record.kind.as_str())?;
        body.serialize_field("status", "completed")?;
        body.serialize_field("amount", &format_args!("{}", record.money))?;
        body.serialize_field("currency", &record.money.currency())?;
        body.serialize_field("balance_after", &format_args!("{}", record.balance_after))?;
        if let Some(key) = &record.idempotency_key {
            body.serialize_field("idempotency_key", key)?;
        }
        body.serialize_field("created_at", &time_of(record.id.unix_ms()))?;
        if let Some(charge_id) = &record.charge_id {
            body.serialize_field("charge_id", charge_id)?;
        }
        if let Some(hold_id) = &record.hold_part.hold_id {
            body.serialize_field("hold_id", hold_id)?;
        }
        if let Some(part) = &record.transfer {
            body.serialize_field("transfer_id", &part.transfer_id)?;
            let other = if record.kind == Kind::TransferIn { "from_user_id" } else { "to_user_id" };
            body.serialize_field(other, &part.other_user_id)?;
        }
        if let Some(reference) = &record.reference {
            body.serialize_field("reference", reference)?;
        }
        if let Some(metadata) = metadata {
            body.serialize_field("metadata", metadata)?;
        }
        if let Some(made_by) = made_by {
            body.serialize_field("made_by", made_by)?;
        }
        body.end()
    }
}

// The schema of `TransactionBody`.
/// A completed transaction, which never changes.
#[derive(Debug, ToSchema)]
#[schema(as = Transaction)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct TransactionSchema {
    /// A UUIDv8: sorts by time.
    #[schema(format = "uuid", example = "019a9f3a-7a6b-892e-9356-4ab70000c001")]
    id: String,
    #[schema(example = 1, minimum = 1)]
    user_id: i64,
    kind: KindSchema,
    status: StatusSchema,
    /// At the currency's scale.
    #[schema(example = "50.00")]
    amount: String,
    #[schema(example = "USD")]
    currency: String,
    /// The user's balance in this currency right after it.
    #[schema(example = "950.00")]
    balance_after: String,
    /// The key of its request. An expiry has none, nor have `transfer_in` and `transfer_back`.
    #[schema(format = "uuid", nullable = false, example = "550e8400-e29b-41d4-a716-446655440000")]
    idempotency_key: Option<String>,
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.123Z")]
    created_at: String,
    /// Of a refund only: the charge.
    #[schema(format = "uuid", nullable = false)]
    charge_id: Option<String>,
    /// Of a capture, a void and an expiry: the hold.
    #[schema(format = "uuid", nullable = false)]
    hold_id: Option<String>,
    /// Of a transfer's steps: the transfer.
    #[schema(format = "uuid", nullable = false)]
    transfer_id: Option<String>,
    /// Of a `transfer_in`: who sent it.
    #[schema(nullable = false, minimum = 1)]
    from_user_id: Option<i64>,
    /// Of a `transfer_out` and a `transfer_back`: the recipient.
    #[schema(nullable = false, minimum = 1)]
    to_user_id: Option<i64>,
    /// The client's own reference, unchanged.
    #[schema(nullable = false)]
    reference: Option<String>,
    /// As it was given, names sorted.
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<String>,
    /// The name of the API key that made it. Shown by history and lookup only; transactions from before PicoPay kept it
    /// have none.
    #[schema(nullable = false, example = "shop")]
    made_by: Option<String>,
}

/// What a transaction records.
#[derive(Debug, ToSchema)]
#[schema(as = Kind, rename_all = "snake_case")]
pub enum KindSchema {
    /// Money that comes in.
    Topup,
    /// Money for a service.
    Charge,
    /// Money back for a charge.
    Refund,
    /// Money that is reserved. It moves nothing.
    Hold,
    /// A hold that was given back. It moves nothing.
    Void,
    /// A hold whose time has run out. It moves nothing.
    Expiry,
    /// Money that a transfer took from its sender.
    TransferOut,
    /// Money that a transfer brought its recipient.
    TransferIn,
    /// Money of a reversed transfer, with its sender again.
    TransferBack,
}

/// Every transaction that can be seen is completed.
#[derive(Debug, ToSchema)]
#[schema(as = Status, rename_all = "lowercase")]
pub enum StatusSchema {
    /// It is done, and never undone.
    Completed,
}

// The schema of `write_body::WriteBody`, where it is about no hold.
/// What was booked, now or before.
#[derive(Debug, ToSchema)]
#[schema(as = WriteAnswer)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct WriteSchema {
    transaction: TransactionSchema,
    /// The user's balance in this currency right after the transaction, in a replay too.
    #[schema(example = "950.00")]
    new_balance: String,
}

// The schema of `LookupBody`.
/// The transaction with the id that was asked for.
#[derive(Debug, ToSchema)]
#[schema(as = LookupAnswer)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct LookupSchema {
    transaction: TransactionSchema,
}

#[cfg(test)]
mod tests {
    use picopay_shared::command::Status;
    use picopay_shared::hold::HoldPart;
    use picopay_shared::id::TransactionId;
    use picopay_shared::money::{Currency, Money};
    use picopay_shared::slot::UserId;
    use picopay_shared::transfer::TransferPart;
    use uuid::Uuid;

    use super::*;

    fn record() -> Transaction {
        let usd = |text| Money::parse(text, Currency::parse("USD").unwrap()).unwrap();
        Transaction {
            id: TransactionId::first_at(1_795_348_800_123),
            user_id: UserId::try_from(1).unwrap(),
            kind: Kind::Charge,
            status: Status::Completed,
            money: usd("50"),
            balance_after: usd("950.0"),
            idempotency_key: Some(Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000)),
            charge_id: None,
            reference: None,
            metadata: None,
            made_by: None,
            hold_part: HoldPart::default(),
            transfer: None,
        }
    }

    #[test]
    fn what_was_given_comes_back_as_it_was_given() {
        let mut record = record();
        record.kind = Kind::Refund;
        record.charge_id = Some(record.id);
        record.reference = Some("a \"b\"".into());
        record.metadata = Some(r#"{"a":1.10}"#.into());
        record.made_by = Some("shop".into());
        let text = serde_json::to_string(&TransactionBody::of_read(&record)).unwrap();
        let end = r#""charge_id":"01a20320-a27b-0000-0000-000000000000","reference":"a \"b\"","metadata":{"a":1.10}"#;
        assert!(text.ends_with(&format!(r#"{end},"made_by":"shop"}}"#)), "{text}");
        let text = serde_json::to_string(&TransactionBody::of_write(&record)).unwrap();
        assert!(text.ends_with(&format!("{end}}}")), "{text}");
    }

    #[test]
    fn a_step_of_a_transfer_names_it_and_the_other_user() {
        let other_user_id = UserId::try_from(2).unwrap();
        let transfer = Some(TransferPart { transfer_id: record().id, other_user_id });
        for (kind, name) in
            [(Kind::TransferOut, "to"), (Kind::TransferIn, "from"), (Kind::TransferBack, "to")]
        {
            let record = Transaction { kind, transfer, idempotency_key: None, ..record() };
            let text = serde_json::to_string(&TransactionBody::of_read(&record)).unwrap();
            let id = "01a20320-a27b-0000-0000-000000000000";
            assert!(text.ends_with(&format!(r#","transfer_id":"{id}","{name}_user_id":2}}"#)), "{text}");
        }
    }

    #[test]
    fn times_have_three_decimals_even_when_they_are_zero() {
        let mut record = record();
        record.id = TransactionId::first_at(1_795_348_800_000);
        let text = serde_json::to_string(&TransactionBody::of_read(&record)).unwrap();
        assert!(text.contains(r#""created_at":"2026-11-22T12:00:00.000Z""#), "{text}");
    }
}
