//! The answer to a write that was done, and whether it is about what was asked.

use picopay_shared::money::Currency;
use serde::Deserialize;

use crate::write::{Wish, Write, write_amount};

/// What an answer says, whatever it is about. None of these texts ever needs a JSON escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteAnswer<'a> {
    /// Of the transaction; the answer to a void does not say it.
    pub id: Option<&'a str>,
    pub user_id: i64,
    /// Of the transaction: a capture is a charge.
    pub kind: &'a str,
    pub amount: &'a str,
    pub currency: &'a str,
    /// The answers to a hold and a void do not say it.
    pub balance_after: Option<&'a str>,
    /// The answer to a void says the hold's only.
    pub idempotency_key: Option<&'a str>,
    pub charge_id: Option<&'a str>,
    /// Of a capture and a void.
    pub hold_id: Option<&'a str>,
    /// Of a hold and a void.
    pub hold_status: Option<&'a str>,
    /// Of a transfer, which may still be on its way: what became of it, and the recipient.
    pub transfer: Option<(&'a str, i64)>,
}

#[derive(Deserialize)]
struct Booked<'a> {
    #[serde(borrow)]
    transaction: Transaction<'a>,
}

#[derive(Deserialize)]
struct Transaction<'a> {
    id: &'a str,
    user_id: i64,
    kind: &'a str,
    amount: &'a str,
    currency: &'a str,
    balance_after: &'a str,
    idempotency_key: &'a str,
    charge_id: Option<&'a str>,
    hold_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct Moved<'a> {
    #[serde(borrow)]
    transfer: Transfer<'a>,
    new_balance: &'a str,
}

#[derive(Deserialize)]
struct Transfer<'a> {
    id: &'a str,
    from_user_id: i64,
    to_user_id: i64,
    status: &'a str,
    amount: &'a str,
    currency: &'a str,
    idempotency_key: &'a str,
}

#[derive(Deserialize)]
struct Held<'a> {
    #[serde(borrow)]
    hold: Hold<'a>,
}

#[derive(Deserialize)]
struct Hold<'a> {
    id: &'a str,
    user_id: i64,
    status: &'a str,
    amount: &'a str,
    currency: &'a str,
    idempotency_key: &'a str,
}

impl<'a> WriteAnswer<'a> {
    /// Reads the answer to this write.
    pub fn read(write: &Write, body: &'a [u8]) -> Result<Self, serde_json::Error> {
        if matches!(write.wish, Wish::Transfer { .. }) {
            let Moved { transfer, new_balance } = serde_json::from_slice(body)?;
            return Ok(Self {
                id: Some(transfer.id),
                user_id: transfer.from_user_id,
                kind: "transfer_out",
                amount: transfer.amount,
                currency: transfer.currency,
                balance_after: Some(new_balance),
                idempotency_key: Some(transfer.idempotency_key),
                charge_id: None,
                hold_id: None,
                hold_status: None,
                transfer: Some((transfer.status, transfer.to_user_id)),
            });
        }
        if !matches!(write.wish, Wish::Hold { .. } | Wish::Void { .. }) {
            let Booked { transaction } = serde_json::from_slice(body)?;
            return Ok(Self {
                id: Some(transaction.id),
                user_id: transaction.user_id,
                kind: transaction.kind,
                amount: transaction.amount,
                currency: transaction.currency,
                balance_after: Some(transaction.balance_after),
                idempotency_key: Some(transaction.idempotency_key),
                charge_id: transaction.charge_id,
                hold_id: transaction.hold_id,
                hold_status: None,
                transfer: None,
            });
        }
        let Held { hold } = serde_json::from_slice(body)?;
        let is_void = matches!(write.wish, Wish::Void { .. });
        Ok(Self {
            id: (!is_void).then_some(hold.id),
            user_id: hold.user_id,
            kind: if is_void { "void" } else { "hold" },
            amount: hold.amount,
            currency: hold.currency,
            balance_after: None,
            idempotency_key: (!is_void).then_some(hold.idempotency_key),
            charge_id: None,
            hold_id: is_void.then_some(hold.id),
            hold_status: Some(hold.status),
            transfer: None,
        })
    }

    pub fn wrong_field(&self, write: &Write, currency: Currency) -> Option<&'static str> {
        let mut amount = Vec::with_capacity(24);
        write_amount(&mut amount, write.minor_units, currency.scale());
        let (kind, charge, hold, status): (_, _, _, Option<&str>) = match &write.wish {
            Wish::Charge => ("charge", None, None, None),
            Wish::TopUp => ("topup", None, None, None),
            Wish::Refund { charge } => ("refund", Some(&charge[..]), None, None),
            Wish::Hold { .. } => ("hold", None, None, Some("open")),
            Wish::Capture { hold } => ("charge", None, Some(&hold[..]), None),
            Wish::Void { hold } => ("void", None, Some(&hold[..]), Some("voided")),
            Wish::Transfer { .. } => ("transfer_out", None, None, None),
        };
        let recipient = match write.wish {
            Wish::Transfer { to } => Some(to.get()),
            _ => None,
        };
        let checks = [
            ("idempotency_key", self.idempotency_key.is_none_or(|key| key.as_bytes() == write.key)),
            ("user_id", self.user_id == write.user.get()),
            ("kind", self.kind == kind),
            ("amount", self.amount.as_bytes() == amount),
            ("currency", self.currency == currency.code()),
            ("charge_id", self.charge_id.map(str::as_bytes) == charge),
            ("hold_id", self.hold_id.map(str::as_bytes) == hold),
            ("status", self.hold_status == status),
            ("to_user_id", self.transfer.map(|(_, to)| to) == recipient),
        ];
        checks.into_iter().find_map(|(field, is_right)| (!is_right).then_some(field))
    }
}

#[cfg(test)]
mod tests {
    use picopay_shared::slot::UserId;

    use super::*;

    const KEY: &str = "550e8400-e29b-41d4-a716-446655440000";
    const HOLD: &str = "019a9f3a-7a6b-892e-9356-4ab70000c001";

    fn wrong_field(wish: Wish, text: &str) -> Option<&'static str> {
        let key = KEY.as_bytes().try_into().unwrap();
        let write = Write { wish, user: UserId::try_from(7).unwrap(), minor_units: 150, key };
        let answer = WriteAnswer::read(&write, text.as_bytes()).unwrap();
        answer.wrong_field(&write, Currency::parse("USD").unwrap())
    }

    #[test]
    fn an_answer_about_something_else_is_noticed() {
        let right = format!(
            r#"{{"transaction": {{"id": "018f", "user_id": 7, "kind": "charge", "status": "completed", "amount": "1.50",
            "currency": "USD", "balance_after": "8.50", "idempotency_key": "{KEY}",
            "created_at": "2026-11-22T12:00:00.123Z"}}, "new_balance": "8.50"}}"#
        );
        for (from, to, expected) in [
            ("", "", None),
            ("\"user_id\": 7", "\"user_id\": 8", Some("user_id")),
            ("1.50", "1.5", Some("amount")),
            ("charge", "topup", Some("kind")),
            ("USD", "EUR", Some("currency")),
            ("440000", "440001", Some("idempotency_key")),
            ("\"user_id\"", "\"hold_id\": \"x\", \"user_id\"", Some("hold_id")),
        ] {
            let text = if from.is_empty() { right.clone() } else { right.replace(from, to) };
            assert_eq!(wrong_field(Wish::Charge, &text), expected, "{to}");
        }
        let hold = HOLD.as_bytes().try_into().unwrap();
        let capture = right.replace("\"user_id\"", &format!("\"hold_id\": \"{HOLD}\", \"user_id\""));
        assert_eq!(wrong_field(Wish::Capture { hold }, &capture), None);
        assert_eq!(wrong_field(Wish::Capture { hold }, &right), Some("hold_id"));
    }

    #[test]
    fn an_answer_to_a_hold_is_about_that_hold_in_the_state_that_it_must_have() {
        let answer = |status: &str| {
            format!(
                r#"{{"hold": {{"id": "{HOLD}", "user_id": 7, "status": "{status}", "amount": "1.50", "captured": "0.00",
                "currency": "USD", "expires_at": "2026-11-22T12:00:00.123Z", "idempotency_key": "{KEY}",
                "created_at": "2026-11-22T11:00:00.123Z"}}, "available": "8.50"}}"#
            )
        };
        let hold = HOLD.as_bytes().try_into().unwrap();
        assert_eq!(wrong_field(Wish::Hold { expires_in_s: None }, &answer("open")), None);
        assert_eq!(wrong_field(Wish::Hold { expires_in_s: None }, &answer("voided")), Some("status"));
        assert_eq!(
            wrong_field(Wish::Hold { expires_in_s: None }, &answer("open").replace("440000", "440001")),
            Some("idempotency_key")
        );
        assert_eq!(wrong_field(Wish::Void { hold }, &answer("voided")), None);
        assert_eq!(wrong_field(Wish::Void { hold }, &answer("captured")), Some("status"));
        assert_eq!(
            wrong_field(Wish::Void { hold: *b"019a9f3a-7a6b-892e-9356-4ab70000c002" }, &answer("voided")),
            Some("hold_id")
        );
    }
    #[test]
    fn an_answer_to_a_transfer_is_about_both_its_users() {
        let wish = Wish::Transfer { to: UserId::try_from(8).unwrap() };
        let answer = |status: &str, to: i64| {
            format!(
                r#"{{"transfer": {{"id": "{HOLD}", "from_user_id": 7, "to_user_id": {to}, "status": "{status}",
                "amount": "1.50", "currency": "USD", "idempotency_key": "{KEY}",
                "created_at": "2026-11-22T12:00:00.123Z"}}, "new_balance": "8.50"}}"#
            )
        };
        for status in ["pending", "completed"] {
            assert_eq!(wrong_field(wish, &answer(status, 8)), None);
        }
        assert_eq!(wrong_field(wish, &answer("completed", 9)), Some("to_user_id"));
        assert_eq!(wrong_field(wish, &answer("completed", 8).replace("id\": 7", "id\": 6")), Some("user_id"));
    }
}
