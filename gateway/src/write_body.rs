//! The body of the answer to a write that was booked.

use picopay_shared::command::Transaction;
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::hold_body::HoldBody;
use crate::transaction_body::TransactionBody;

/// The transaction with the new balance; or, where that is the point, the hold with what is available.
#[derive(Debug)]
pub struct WriteBody<'a>(pub &'a Transaction);

impl Serialize for WriteBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(record) = self;
        let Some(hold) = record.hold() else {
            let mut body = serializer.serialize_struct("WriteAnswer", 2)?;
            body.serialize_field("transaction", &TransactionBody::of_write(record))?;
            body.serialize_field("new_balance", &format_args!("{}", record.balance_after))?;
            return body.end();
        };
        // Only a hold from a node that knew of none would lack it.
        let available = record.hold_part.available.unwrap_or(record.balance_after);
        let mut body = serializer.serialize_struct("HoldAnswer", 2)?;
        body.serialize_field("hold", &HoldBody(&hold))?;
        body.serialize_field("available", &format_args!("{available}"))?;
        body.end()
    }
}

#[cfg(test)]
mod tests {
    use picopay_shared::command::{Kind, Status};
    use picopay_shared::hold::HoldPart;
    use picopay_shared::id::TransactionId;
    use picopay_shared::money::{Currency, Money};
    use picopay_shared::slot::UserId;
    use uuid::Uuid;

    use super::*;

    fn record(kind: Kind, hold_part: HoldPart) -> Transaction {
        Transaction {
            id: TransactionId::first_at(1_795_348_800_123),
            user_id: UserId::try_from(1).unwrap(),
            kind,
            status: Status::Completed,
            money: usd("50"),
            balance_after: usd("950.0"),
            idempotency_key: Some(Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000)),
            charge_id: None,
            reference: None,
            metadata: None,
            made_by: None,
            hold_part,
            transfer: None,
        }
    }

    fn usd(text: &str) -> Money {
        Money::parse(text, Currency::parse("USD").unwrap()).unwrap()
    }

    fn written(record: &Transaction) -> String {
        serde_json::to_string(&WriteBody(record)).unwrap()
    }

    const ID: &str = "01a20320-a27b-0000-0000-000000000000";
    const KEY: &str = "550e8400-e29b-41d4-a716-446655440000";
    const TIME: &str = "2026-11-22T12:00:00.123Z";

    #[test]
    fn a_charge_reads_as_the_contract_shows_it_and_a_capture_names_its_hold() {
        let hold_id = TransactionId::first_at(1_795_348_800_000);
        let capture = HoldPart { hold_id: Some(hold_id), ..HoldPart::default() };
        for (part, more) in
            [(HoldPart::default(), String::new()), (capture, format!(r#","hold_id":"{hold_id}""#))]
        {
            let expected = format!(
                r#"{{"transaction":{{"id":"{ID}","user_id":1,"kind":"charge","status":"completed","amount":"50.00","currency":"USD","balance_after":"950.00","idempotency_key":"{KEY}","created_at":"{TIME}"{more}}},"new_balance":"950.00"}}"#
            );
            assert_eq!(written(&record(Kind::Charge, part)), expected);
        }
    }

    #[test]
    fn a_hold_and_a_void_show_the_hold_and_what_is_available() {
        let hold_id = TransactionId::first_at(1_795_348_800_000);
        let hold = HoldPart {
            expires_at_ms: Some(1_795_348_860_123),
            available: Some(usd("900")),
            ..HoldPart::default()
        };
        let void = HoldPart { hold_id: Some(hold_id), hold_key: Some(Uuid::max()), ..hold.clone() };
        let expected = |id: &str, status: &str, key: &str, created_at: &str| {
            format!(
                r#"{{"hold":{{"id":"{id}","user_id":1,"status":"{status}","amount":"50.00","captured":"0.00","currency":"USD","expires_at":"2026-11-22T12:01:00.123Z","idempotency_key":"{key}","created_at":"{created_at}"}},"available":"900.00"}}"#
            )
        };
        assert_eq!(written(&record(Kind::Hold, hold)), expected(ID, "open", KEY, TIME));
        let of_hold = "2026-11-22T12:00:00.000Z";
        assert_eq!(
            written(&record(Kind::Void, void)),
            expected(&hold_id.to_string(), "voided", &Uuid::max().to_string(), of_hold)
        );
    }
}
