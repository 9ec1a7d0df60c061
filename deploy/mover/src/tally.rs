//! Adds up the rows of a binary COPY as they pass, so that the source reads its rows once.
//!
//! The format: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tokio_postgres::types::{FromSql as _, Type};
use twox_hash::XxHash3_64;

use crate::digest::Digest;

/// The signature, flags, and the length of an extension that there is none of.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;
const NULL: i32 = -1;

/// Where the columns are that are looked at, in `copy_older_out.sql`.
const SLOT: usize = 0;
const AMOUNT: usize = 6;
const KIND: usize = 8;
const CURRENCY: usize = 9;
const REFUSAL: usize = 10;
const COLUMNS: usize = 24;

#[derive(Debug, Default)]
pub struct Tally {
    has_begun: bool,
    has_ended: bool,
    is_unreadable: bool,
    sums: BTreeMap<i16, Vec<(String, Sum)>>,
}

#[derive(Debug, Default)]
struct Sum {
    count: i64,
    hash: u64,
    money: Decimal,
}

impl Tally {
    /// Whole rows, the first with the header before it.
    pub fn take(&mut self, message: &[u8]) {
        let mut rest = message;
        if !self.has_begun {
            self.has_begun = true;
            self.is_unreadable |= rest.split_off(..HEADER.len()) != Some(HEADER);
        }
        while !rest.is_empty() && !self.is_unreadable {
            self.is_unreadable = self.take_row(&mut rest).is_none();
        }
    }

    /// Fails when something was no row of a transaction, or the end is missing.
    pub fn into_digest(self) -> Option<Digest> {
        let mut digest = Digest::default();
        for (slot, sums) in self.sums {
            for (currency, Sum { count, hash, money }) in sums {
                digest.add_older(slot, currency, count, hash, money);
            }
        }
        (self.has_ended && !self.is_unreadable).then_some(digest)
    }

    fn take_row(&mut self, rest: &mut &[u8]) -> Option<()> {
        let row = *rest;
        let columns = i16::from_be_bytes(take(rest)?);
        if columns == END {
            self.has_ended = true;
            return rest.is_empty().then_some(());
        }
        if self.has_ended || usize::try_from(columns) != Ok(COLUMNS) {
            return None;
        }
        let mut fields: [Option<&[u8]>; COLUMNS] = [None; COLUMNS];
        for field in &mut fields {
            let length = i32::from_be_bytes(take(rest)?);
            if length != NULL {
                *field = Some(rest.split_off(..usize::try_from(length).ok()?)?);
            }
        }
        let row = &row[..row.len() - rest.len()];
        let slot = i16::from_be_bytes(fields[SLOT]?.try_into().ok()?);
        let amount = Decimal::from_sql(&Type::NUMERIC, fields[AMOUNT]?).ok()?;
        let money = match (fields[REFUSAL], fields[KIND]?) {
            (Some(_), _) | (None, b"hold" | b"void" | b"expiry") => Decimal::ZERO,
            (None, b"charge" | b"transfer_out") => -amount,
            (None, _) => amount,
        };
        let currency = std::str::from_utf8(fields[CURRENCY]?).ok()?;
        let sums = self.sums.entry(slot).or_default();
        let known = sums.iter().position(|(known, _)| known == currency);
        let place = known.unwrap_or_else(|| {
            sums.push((currency.to_owned(), Sum::default()));
            sums.len() - 1
        });
        let sum = &mut sums[place].1;
        sum.count += 1;
        sum.hash = sum.hash.wrapping_add(XxHash3_64::oneshot(row));
        sum.money += money;
        Some(())
    }
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Option<[u8; LENGTH]> {
    rest.split_off(..LENGTH)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio_postgres::types::{IsNull, ToSql as _};

    use super::*;

    /// A row as the server gives it; what is not looked at is NULL.
    fn row(slot: i16, amount: i64, kind: &str, currency: &str, refusal: Option<&str>) -> Vec<u8> {
        let mut numeric = BytesMut::new();
        let is_null = Decimal::new(amount, 2).to_sql(&Type::NUMERIC, &mut numeric).unwrap();
        assert!(matches!(is_null, IsNull::No));
        let mut fields: [Option<&[u8]>; COLUMNS] = [None; COLUMNS];
        let slot = slot.to_be_bytes();
        fields[SLOT] = Some(&slot);
        fields[AMOUNT] = Some(&numeric);
        fields[KIND] = Some(kind.as_bytes());
        fields[CURRENCY] = Some(currency.as_bytes());
        fields[REFUSAL] = refusal.map(str::as_bytes);
        let mut row = i16::try_from(COLUMNS).unwrap().to_be_bytes().to_vec();
        for field in fields {
            let length = field.map_or(NULL, |bytes| i32::try_from(bytes.len()).unwrap());
            row.extend(length.to_be_bytes());
            row.extend(field.unwrap_or_default());
        }
        row
    }

    fn digest_of(messages: &[&[u8]]) -> Option<Digest> {
        let mut tally = Tally::default();
        for message in messages {
            tally.take(message);
        }
        tally.into_digest()
    }

    fn digest_within(rows: &[u8]) -> Option<Digest> {
        digest_of(&[HEADER, rows, &END.to_be_bytes()])
    }

    #[test]
    fn the_columns_are_where_the_statement_has_them() {
        let sql = include_str!("sql/copy_older_out.sql");
        let list = sql.split_once("SELECT").unwrap().1.split_once("FROM").unwrap().0;
        let columns: Vec<&str> = list.split(',').map(str::trim).collect();
        assert_eq!(columns.len(), COLUMNS);
        let looked_at = [SLOT, AMOUNT, KIND, CURRENCY, REFUSAL].map(|place| columns[place]);
        assert_eq!(looked_at, ["slot", "amount", "kind", "currency", "refusal"]);
    }

    #[test]
    fn rows_are_added_up_by_slot_and_currency_in_any_order_and_cut() {
        let rows = [
            row(7, 500, "topup", "USD", None),
            row(7, 120, "charge", "USD", None),
            row(7, 20, "refund", "USD", None),
            row(7, 900, "charge", "USD", Some("insufficient-balance")),
            row(7, 30, "topup", "EUR", None),
            row(7, 70, "hold", "EUR", None),
            row(7, 70, "void", "EUR", None),
            row(7, 70, "expiry", "EUR", None),
            row(7, 9, "transfer_out", "EUR", None),
            row(7, 4, "transfer_in", "EUR", None),
            row(7, 3, "transfer_back", "EUR", None),
            row(4095, 1, "topup", "USD", None),
        ];
        let hash =
            |rows: &[Vec<u8>]| rows.iter().fold(0_u64, |sum, row| sum.wrapping_add(XxHash3_64::oneshot(row)));
        let mut expected = Digest::default();
        expected.add_older(7, "USD".to_owned(), 4, hash(&rows[..4]), Decimal::new(400, 2));
        expected.add_older(7, "EUR".to_owned(), 7, hash(&rows[4..11]), Decimal::new(28, 2));
        expected.add_older(4095, "USD".to_owned(), 1, hash(&rows[11..]), Decimal::new(1, 2));
        let end = END.to_be_bytes();
        let in_one = [HEADER, &rows.concat(), &end].concat();
        assert_eq!(digest_of(&[&in_one]).as_ref(), Some(&expected));
        let mut messages: Vec<&[u8]> = vec![HEADER];
        messages.extend(rows.iter().rev().map(Vec::as_slice));
        messages.push(&end);
        assert_eq!(digest_of(&messages), Some(expected));
        assert_eq!(digest_of(&[&[HEADER, &end].concat()]), Some(Digest::default()));
    }

    #[test]
    fn one_bit_anywhere_makes_another_digest() {
        let mut row = row(7, 500, "topup", "USD", None);
        let before = digest_within(&row);
        assert!(before.is_some());
        for place in 0..row.len() {
            row[place] ^= 1;
            assert_ne!(digest_within(&row), before, "byte {place}");
            row[place] ^= 1;
        }
    }

    #[test]
    fn what_is_no_row_of_a_transaction_has_no_digest() {
        let good = row(7, 500, "topup", "USD", None);
        assert!(digest_within(&good).is_some());
        let fewer = [&[0, 16][..], &good[2..]].concat();
        let negative = [&good[..2], &(-2_i32).to_be_bytes(), &good[2 + 4 + 2..]].concat();
        let after_the_end = [&END.to_be_bytes()[..], &good].concat();
        for bad in [&good[..good.len() - 1], &good[..1], &fewer, &negative, &after_the_end, HEADER] {
            assert_eq!(digest_within(bad), None, "{bad:?}");
        }
        assert_eq!(digest_of(&[&good, &END.to_be_bytes()]), None, "no header");
        assert_eq!(digest_of(&[HEADER, &good]), None, "no end");
        assert_eq!(digest_of(&[]), None, "nothing");
    }
}
