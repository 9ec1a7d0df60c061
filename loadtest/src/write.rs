//! A write: what it asks for, how it looks on the wire, and whether an answer is about it.

use picopay_shared::money::{Currency, Money};
use picopay_shared::slot::UserId;
use serde::Deserialize;

use crate::http_client::target::{Form, Target, write_number};
use crate::random::mix;

pub type UuidText = [u8; 36];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Charge,
    TopUp,
    Refund { charge: UuidText },
}

impl Wish {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::TopUp => "topup",
            Self::Refund { .. } => "refund",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    pub wish: Wish,
    pub user: UserId,
    /// How much, in the currency's smallest unit. Of a refund: what the charge was.
    pub minor_units: u64,
    pub key: UuidText,
}

/// Idempotency keys that no other run and no other worker uses.
///
/// They differ from run to run even under the same seed: the same keys again would be answered from the
/// ledger's memory, and measure that.
#[derive(Debug, Clone)]
pub struct KeySource {
    run: u64,
    next: u64,
}

impl KeySource {
    pub fn new(run: u64, worker: u32) -> Self {
        // 2^40 keys a worker are a year at 30,000 a second.
        Self { run, next: u64::from(worker) << 40 }
    }

    /// The next one: as random to look at as a client's version 4, since that is what indexes will meet.
    pub fn next_key(&mut self) -> UuidText {
        let high = mix(self.run.wrapping_add(mix(self.next)));
        let low = mix(high ^ self.next.rotate_left(32));
        self.next += 1;
        let high = (high & !0xf000) | 0x4000;
        let low = (low & (u64::MAX >> 2)) | (1 << 63);
        uuid_text(high, low)
    }
}

fn uuid_text(high: u64, low: u64) -> UuidText {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let bytes = high.to_be_bytes().into_iter().chain(low.to_be_bytes());
    let mut at = 0;
    for (position, byte) in bytes.enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 0xf)];
        at += 2;
    }
    text
}

#[derive(Debug, Clone)]
pub struct WriteForms {
    charge: Form,
    top_up: Form,
    refund: Form,
    currency: Currency,
    body: Vec<u8>,
}

impl WriteForms {
    pub fn new(target: &Target, currency: Currency) -> Self {
        Self {
            charge: target.form("POST", "/v1/charge"),
            top_up: target.form("POST", "/v1/topup"),
            refund: target.form("POST", "/v1/refund"),
            currency,
            body: Vec::with_capacity(128),
        }
    }

    pub fn write(&mut self, write: &Write, output: &mut Vec<u8>) {
        let body = &mut self.body;
        body.clear();
        let form = match write.wish {
            Wish::Refund { charge } => {
                body.extend_from_slice(b"{\"transaction_id\":\"");
                body.extend_from_slice(&charge);
                body.extend_from_slice(b"\"}");
                &self.refund
            }
            Wish::Charge | Wish::TopUp => {
                body.extend_from_slice(b"{\"user_id\":");
                write_number(body, write.user.get().unsigned_abs());
                body.extend_from_slice(b",\"amount\":\"");
                write_amount(body, write.minor_units, self.currency.scale());
                body.extend_from_slice(b"\",\"currency\":\"");
                body.extend_from_slice(self.currency.code().as_bytes());
                body.extend_from_slice(b"\"}");
                if write.wish == Wish::Charge { &self.charge } else { &self.top_up }
            }
        };
        form.write_post(output, &write.key, body);
    }

    pub fn currency(&self) -> Currency {
        self.currency
    }
}

fn write_amount(out: &mut Vec<u8>, minor_units: u64, scale: u32) {
    let unit = 10_u64.pow(scale);
    write_number(out, minor_units / unit);
    if scale > 0 {
        out.push(b'.');
        let mut digit = unit / 10;
        while digit > 0 {
            out.push(b'0' + u8::try_from(minor_units / digit % 10).expect("one digit"));
            digit /= 10;
        }
    }
}

pub fn amount_text(minor_units: u64, scale: u32) -> String {
    let mut out = Vec::with_capacity(24);
    write_amount(&mut out, minor_units, scale);
    String::from_utf8(out).expect("digits and a point")
}

/// An amount in the currency's smallest unit. Not money any more: only for choosing what to ask for.
pub fn minor_units(money: Money) -> u64 {
    u64::try_from(money.amount().mantissa()).expect("at most 14 digits and 4 decimals")
}

pub fn describe(write: &Write) -> String {
    let what = match write.wish {
        Wish::Charge | Wish::TopUp => format!("{} of {} minor units", write.wish.as_str(), write.minor_units),
        Wish::Refund { charge } => format!("refund of {}", text(&charge)),
    };
    format!("{what}, user {}, key {}", write.user, text(&write.key))
}

pub fn text(uuid: &UuidText) -> String {
    String::from_utf8_lossy(uuid).into_owned()
}

#[derive(Debug, Deserialize)]
pub struct WriteAnswer<'a> {
    #[serde(borrow)]
    pub transaction: AnsweredTransaction<'a>,
}

/// A transaction in an answer. None of these fields ever needs a JSON escape.
#[derive(Debug, Deserialize)]
pub struct AnsweredTransaction<'a> {
    pub id: &'a str,
    pub user_id: i64,
    pub kind: &'a str,
    pub amount: &'a str,
    pub currency: &'a str,
    pub balance_after: &'a str,
    pub idempotency_key: &'a str,
    pub charge_id: Option<&'a str>,
}

impl AnsweredTransaction<'_> {
    pub fn wrong_field(&self, write: &Write, currency: Currency) -> Option<&'static str> {
        let mut amount = Vec::with_capacity(24);
        write_amount(&mut amount, write.minor_units, currency.scale());
        let charge_is_right = match write.wish {
            Wish::Refund { charge } => self.charge_id.is_some_and(|id| id.as_bytes() == charge),
            Wish::Charge | Wish::TopUp => true,
        };
        let checks = [
            ("idempotency_key", self.idempotency_key.as_bytes() == write.key),
            ("user_id", self.user_id == write.user.get()),
            ("kind", self.kind == write.wish.as_str()),
            ("amount", self.amount.as_bytes() == amount),
            ("currency", self.currency == currency.code()),
            ("charge_id", charge_is_right),
        ];
        checks.into_iter().find_map(|(field, is_right)| (!is_right).then_some(field))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    #[test]
    fn keys_are_uuids_and_never_repeat() {
        let mut seen = HashSet::new();
        for (run, worker) in [(1, 0), (1, 1), (2, 0)] {
            let mut keys = KeySource::new(run, worker);
            for _ in 0..20_000 {
                let text = String::from_utf8(keys.next_key().to_vec()).unwrap();
                let is_uuid = text.bytes().enumerate().all(|(at, byte)| match at {
                    8 | 13 | 18 | 23 => byte == b'-',
                    14 => byte == b'4',
                    19 => b"89ab".contains(&byte),
                    _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                });
                assert!(is_uuid, "{text}");
                assert!(seen.insert(text));
            }
        }
    }

    #[test]
    fn amounts_are_written_at_their_currencys_scale() {
        for (code, minor, expected) in
            [("USD", 1, "0.01"), ("USD", 123_456, "1234.56"), ("JPY", 7, "7"), ("BHD", 1_050, "1.050")]
        {
            let mut out = Vec::new();
            write_amount(&mut out, minor, currency(code).scale());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            let money = Money::parse(expected, currency(code)).unwrap();
            assert_eq!(minor_units(money), minor);
        }
    }

    #[test]
    fn an_answer_about_something_else_is_noticed() {
        let write = Write {
            wish: Wish::Charge,
            user: UserId::try_from(7).unwrap(),
            minor_units: 150,
            key: *b"550e8400-e29b-41d4-a716-446655440000",
        };
        let right = r#"{"transaction": {"id": "018f", "user_id": 7, "kind": "charge", "status": "completed", "amount": "1.50",
            "currency": "USD", "balance_after": "8.50", "idempotency_key": "550e8400-e29b-41d4-a716-446655440000",
            "created_at": "2026-11-22T12:00:00.123Z"}, "new_balance": "8.50"}"#;
        for (from, to, expected) in [
            ("", "", None),
            ("\"user_id\": 7", "\"user_id\": 8", Some("user_id")),
            ("1.50", "1.5", Some("amount")),
            ("charge", "topup", Some("kind")),
            ("USD", "EUR", Some("currency")),
            ("440000", "440001", Some("idempotency_key")),
        ] {
            let text = if from.is_empty() { right.to_owned() } else { right.replace(from, to) };
            let answer: WriteAnswer<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(answer.transaction.wrong_field(&write, currency("USD")), expected);
        }
    }

    #[test]
    fn a_request_is_written_with_its_own_length() {
        let target = Target::new("http://127.0.0.1:8080/base", Some("secret")).unwrap();
        let mut forms = WriteForms::new(&target, currency("USD"));
        let mut out = Vec::new();
        let key = KeySource::new(1, 1).next_key();
        forms.write(
            &Write { wish: Wish::TopUp, user: UserId::try_from(42).unwrap(), minor_units: 1_000, key },
            &mut out,
        );
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"user_id":42,"amount":"10.00","currency":"USD"}"#);
        assert!(
            head.starts_with("POST /base/v1/topup HTTP/1.1\r\nhost: 127.0.0.1:8080\r\nx-api-key: secret\r\n"),
            "{head}"
        );
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
    }
}
