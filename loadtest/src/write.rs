//! A write: what it asks for, how it looks on the wire, and whether an answer is about it.

use picopay_shared::money::{Currency, Money};
use picopay_shared::slot::UserId;

use crate::http_client::target::{Form, Target, write_number};
use crate::random::mix;

pub type UuidText = [u8; 36];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Charge,
    TopUp,
    Refund {
        charge: UuidText,
    },
    /// Without seconds it is left to the gateway how long it lasts.
    Hold {
        expires_in_s: Option<u32>,
    },
    Capture {
        hold: UuidText,
    },
    Void {
        hold: UuidText,
    },
    Transfer {
        to: UserId,
    },
}

impl Wish {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::TopUp => "topup",
            Self::Refund { .. } => "refund",
            Self::Hold { .. } => "hold",
            Self::Capture { .. } => "capture",
            Self::Void { .. } => "void",
            Self::Transfer { .. } => "transfer",
        }
    }

    /// The path of its route.
    pub fn path(self) -> String {
        match self {
            Self::Charge | Self::TopUp | Self::Refund { .. } => format!("/v1/{}", self.as_str()),
            Self::Hold { .. } => HOLDS.to_owned(),
            Self::Capture { hold } => format!("{HOLDS}/{}/capture", text(&hold)),
            Self::Void { hold } => format!("{HOLDS}/{}/void", text(&hold)),
            Self::Transfer { .. } => TRANSFERS.to_owned(),
        }
    }
}

const HOLDS: &str = "/v1/holds";
const TRANSFERS: &str = "/v1/transfers";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    pub wish: Wish,
    /// Of a transfer: the sender.
    pub user: UserId,
    /// How much, in the currency's smallest unit. Of a refund: what the charge was; of a void: what the hold is.
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
    holds: Form,
    transfers: Form,
    batch: Form,
    currency: Currency,
    body: Vec<u8>,
}

impl WriteForms {
    pub fn new(target: &Target, currency: Currency) -> Self {
        Self {
            charge: target.form("POST", "/v1/charge"),
            top_up: target.form("POST", "/v1/topup"),
            refund: target.form("POST", "/v1/refund"),
            holds: target.form("POST", HOLDS),
            transfers: target.form("POST", TRANSFERS),
            batch: target.form("POST", "/v1/batch"),
            currency,
            body: Vec::with_capacity(128),
        }
    }

    pub fn write(&mut self, write: &Write, output: &mut Vec<u8>) {
        self.body.clear();
        write_body(write, self.currency, &mut self.body);
        let (form, rest): (_, [&[u8]; 3]) = match &write.wish {
            Wish::Charge => (&self.charge, [b"", b"", b""]),
            Wish::TopUp => (&self.top_up, [b"", b"", b""]),
            Wish::Refund { .. } => (&self.refund, [b"", b"", b""]),
            Wish::Hold { .. } => (&self.holds, [b"", b"", b""]),
            Wish::Capture { hold } => (&self.holds, [b"/", hold, b"/capture"]),
            Wish::Void { hold } => (&self.holds, [b"/", hold, b"/void"]),
            Wish::Transfer { .. } => (&self.transfers, [b"", b"", b""]),
        };
        form.write_post_to(output, rest, &write.key, &self.body);
    }

    /// Writes one request with all of them, each under its own key.
    pub fn write_batch<'a>(&mut self, writes: impl Iterator<Item = &'a Write>, output: &mut Vec<u8>) {
        self.body.clear();
        write_batch_body(writes, self.currency, &mut self.body);
        self.batch.write_post(output, b"", &self.body);
    }

    pub fn currency(&self) -> Currency {
        self.currency
    }
}

/// Writes the body of a batch, with each write under its own key.
pub fn write_batch_body<'a>(writes: impl Iterator<Item = &'a Write>, currency: Currency, body: &mut Vec<u8>) {
    body.extend_from_slice(b"{\"operations\":[");
    for (position, write) in writes.enumerate() {
        if position > 0 {
            body.push(b',');
        }
        body.extend_from_slice(b"{\"operation\":\"");
        body.extend_from_slice(write.wish.as_str().as_bytes());
        body.extend_from_slice(b"\",\"idempotency_key\":\"");
        body.extend_from_slice(&write.key);
        body.extend_from_slice(b"\",\"body\":{");
        if let Wish::Capture { hold } | Wish::Void { hold } = &write.wish {
            body.extend_from_slice(b"\"hold_id\":\"");
            body.extend_from_slice(hold);
            body.extend_from_slice(if matches!(write.wish, Wish::Void { .. }) { b"\"" } else { b"\"," });
        }
        write_fields(write, currency, body);
        body.extend_from_slice(b"}}");
    }
    body.extend_from_slice(b"]}");
}

/// Writes the body with which its route is asked.
pub fn write_body(write: &Write, currency: Currency, body: &mut Vec<u8>) {
    body.push(b'{');
    write_fields(write, currency, body);
    body.push(b'}');
}

fn write_fields(write: &Write, currency: Currency, body: &mut Vec<u8>) {
    match write.wish {
        Wish::Refund { charge } => {
            body.extend_from_slice(b"\"transaction_id\":\"");
            body.extend_from_slice(&charge);
            body.push(b'"');
        }
        Wish::Charge | Wish::TopUp | Wish::Hold { .. } | Wish::Transfer { .. } => {
            if let Wish::Transfer { to } = write.wish {
                body.extend_from_slice(b"\"to_user_id\":");
                write_number(body, to.get().unsigned_abs());
                body.extend_from_slice(b",\"from_user_id\":");
            } else {
                body.extend_from_slice(b"\"user_id\":");
            }
            write_number(body, write.user.get().unsigned_abs());
            body.extend_from_slice(b",\"amount\":\"");
            write_amount(body, write.minor_units, currency.scale());
            body.extend_from_slice(b"\",\"currency\":\"");
            body.extend_from_slice(currency.code().as_bytes());
            body.push(b'"');
            if let Wish::Hold { expires_in_s: Some(seconds) } = write.wish {
                body.extend_from_slice(b",\"expires_in\":");
                write_number(body, u64::from(seconds));
            }
        }
        Wish::Capture { .. } => {
            body.extend_from_slice(b"\"amount\":\"");
            write_amount(body, write.minor_units, currency.scale());
            body.push(b'"');
        }
        Wish::Void { .. } => {}
    }
}

pub fn write_amount(out: &mut Vec<u8>, minor_units: u64, scale: u32) {
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
        Wish::Hold { expires_in_s } => {
            let lasting = expires_in_s.map(|seconds| format!(" for {seconds} s")).unwrap_or_default();
            format!("hold of {} minor units{lasting}", write.minor_units)
        }
        Wish::Refund { charge } => format!("refund of {}", text(&charge)),
        Wish::Capture { hold } => format!("capture of {} minor units of {}", write.minor_units, text(&hold)),
        Wish::Void { hold } => format!("void of {}", text(&hold)),
        Wish::Transfer { to } => format!("transfer of {} minor units to user {to}", write.minor_units),
    };
    format!("{what}, user {}, key {}", write.user, text(&write.key))
}

pub fn text(uuid: &UuidText) -> String {
    String::from_utf8_lossy(uuid).into_owned()
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
    #[test]
    fn the_steps_of_a_hold_name_it_in_the_path_and_in_a_batch_in_the_body() {
        let target = Target::new("http://127.0.0.1:8080", Some("secret")).unwrap();
        let mut forms = WriteForms::new(&target, currency("USD"));
        let hold = *b"019a9f3a-7a6b-892e-9356-4ab70000c001";
        let (user, key) = (UserId::try_from(42).unwrap(), *b"550e8400-e29b-41d4-a716-446655440000");
        let write = |wish| Write { wish, user, minor_units: 150, key };
        let all = [
            (
                write(Wish::Hold { expires_in_s: Some(60) }),
                "/v1/holds",
                r#"{"user_id":42,"amount":"1.50","currency":"USD","expires_in":60}"#,
                r#"{"user_id":42,"amount":"1.50","currency":"USD","expires_in":60}"#,
            ),
            (
                write(Wish::Capture { hold }),
                "/v1/holds/019a9f3a-7a6b-892e-9356-4ab70000c001/capture",
                r#"{"amount":"1.50"}"#,
                r#"{"hold_id":"019a9f3a-7a6b-892e-9356-4ab70000c001","amount":"1.50"}"#,
            ),
            (
                write(Wish::Void { hold }),
                "/v1/holds/019a9f3a-7a6b-892e-9356-4ab70000c001/void",
                "{}",
                r#"{"hold_id":"019a9f3a-7a6b-892e-9356-4ab70000c001"}"#,
            ),
        ];
        for (write, path, alone, _) in &all {
            let mut out = Vec::new();
            forms.write(write, &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{text}");
            assert!(text.ends_with(&format!("\r\n\r\n{alone}")), "{text}");
            assert_eq!(write.wish.path(), *path);
        }
        let mut batch = Vec::new();
        write_batch_body(all.iter().map(|(write, ..)| write), currency("USD"), &mut batch);
        let batch: serde_json::Value = serde_json::from_slice(&batch).unwrap();
        for ((write, .., in_batch), operation) in all.iter().zip(batch["operations"].as_array().unwrap()) {
            assert_eq!(operation["operation"], write.wish.as_str());
            assert_eq!(operation["body"], serde_json::from_str::<serde_json::Value>(in_batch).unwrap());
        }
    }
}
