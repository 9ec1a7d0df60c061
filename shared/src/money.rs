//! Amounts, currencies and money, parsed once at the edge and checked ever after.
//!
//! There is no float in this file, and no rounding: an amount that does not fit its currency's scale is
//! refused.

mod currency;
mod sum;

use std::fmt;

use rust_decimal::Decimal;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::currency::{Currency, TABLE_DATE};
pub use self::sum::MoneySum;

/// Digits before the decimal point that an amount may have (contract, "Values").
const AMOUNT_INTEGER_DIGITS_MAX: usize = 14;
/// Digits after the decimal point that any amount may have; its currency usually allows fewer.
const AMOUNT_SCALE_MAX: usize = 4;
/// A balance stays below 10^20 units of its currency: that fits `numeric(24,4)`, and is a million times the
/// largest amount. A top-up or refund beyond it is refused.
const BALANCE_INTEGER_DIGITS_MAX: u32 = 20;

/// Why a text is no amount, or an amount no money. The message says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The text does not follow the grammar of the contract.
    #[error(
        "an amount is written as digits with at most 14 before and 4 after the decimal point, for example \"50.00\""
    )]
    Grammar,
    /// The amount is zero.
    #[error("an amount must be greater than 0")]
    NotPositive,
    /// More decimals than ISO 4217 gives the currency.
    #[error("{currency} takes {}", decimals(*.scale))]
    TooFine {
        /// The currency whose scale was exceeded.
        currency: Currency,
        /// How many decimals it has.
        scale: u32,
    },
    /// No code of ISO 4217 with a minor unit, or not in upper case.
    #[error("a currency is an active ISO 4217 code with a minor unit, in upper case, for example \"USD\"")]
    UnknownCurrency,
    /// A code that ISO 4217 withdrew, where money would come in.
    #[error(
        "{currency} was withdrawn from ISO 4217: what a user has of it can be charged and refunded, but no more comes in"
    )]
    WithdrawnCurrency {
        /// The code that was withdrawn.
        currency: Currency,
    },
    /// The result would not fit the ledger's columns.
    #[error("the balance would pass the largest that is kept, 10^20")]
    TooLarge,
}

fn decimals(scale: u32) -> String {
    match scale {
        0 => "no decimals".to_owned(),
        1 => "at most 1 decimal".to_owned(),
        n => format!("at most {n} decimals"),
    }
}

/// A positive amount as the client wrote it, before its currency is known (a refund names none). It remembers
/// its decimals, so that `1.100` can be refused for USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(Decimal);

impl Amount {
    /// Reads `^(0|[1-9][0-9]{0,13})(\.[0-9]{1,4})?$`, greater than zero.
    ///
    /// # Errors
    /// [`MoneyError::Grammar`] or [`MoneyError::NotPositive`].
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let (integer, fraction) = match text.split_once('.') {
            Some((integer, fraction)) => (integer, Some(fraction)),
            None => (text, None),
        };
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let integer_is_right = (1..=AMOUNT_INTEGER_DIGITS_MAX).contains(&integer.len())
            && is_digits(integer)
            && (integer == "0" || !integer.starts_with('0'));
        let fraction_is_right =
            fraction.is_none_or(|part| (1..=AMOUNT_SCALE_MAX).contains(&part.len()) && is_digits(part));
        if !integer_is_right || !fraction_is_right {
            return Err(MoneyError::Grammar);
        }
        let mantissa = integer
            .bytes()
            .chain(fraction.unwrap_or_default().bytes())
            .fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
        if mantissa == 0 {
            return Err(MoneyError::NotPositive);
        }
        let scale = u32::try_from(fraction.map_or(0, str::len)).expect("at most four decimals");
        Ok(Self(Decimal::new(mantissa, scale)))
    }

    /// This amount as money of `currency`.
    ///
    /// # Errors
    /// [`MoneyError::TooFine`] when more decimals were written than the currency has.
    pub fn in_currency(self, currency: Currency) -> Result<Money, MoneyError> {
        let scale = currency.scale();
        if self.0.scale() > scale {
            return Err(MoneyError::TooFine { currency, scale });
        }
        let mut amount = self.0;
        amount.rescale(scale);
        Ok(Money { amount, currency })
    }

    /// The value without trailing zeros, so that `100.0` and `100.00` are equal in a fingerprint.
    pub fn normalized(self) -> Decimal {
        self.0.normalize()
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// An amount of zero or more at its currency's scale. Arithmetic is checked: currencies never mix, and
/// nothing goes below zero or beyond the ledger's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    amount: Decimal,
    currency: Currency,
}

impl Money {
    /// Zero in this currency.
    pub fn zero(currency: Currency) -> Self {
        Self { amount: Decimal::new(0, currency.scale()), currency }
    }

    /// An amount from the client.
    ///
    /// # Errors
    /// Those of [`Amount::parse`] and [`Amount::in_currency`].
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        Amount::parse(text)?.in_currency(currency)
    }

    /// A value from the ledger, whose `numeric(…,4)` columns pad to four decimals.
    ///
    /// # Errors
    /// For rows that PicoPay never writes: [`MoneyError::TooFine`] for digits below the currency's
    /// scale, [`MoneyError::TooLarge`] when negative or too large.
    pub fn from_ledger(amount: Decimal, currency: Currency) -> Result<Self, MoneyError> {
        let scale = currency.scale();
        let mut scaled = amount;
        scaled.rescale(scale);
        if scaled != amount {
            return Err(MoneyError::TooFine { currency, scale });
        }
        Self { amount: scaled, currency }.within_bounds()
    }

    /// The amount, at the currency's scale.
    pub fn amount(self) -> Decimal {
        self.amount
    }

    /// The currency of the amount.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// Whether the amount is zero.
    pub fn is_zero(self) -> bool {
        self.amount.is_zero()
    }

    /// The sum of both amounts.
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`] when it would pass 10^20.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        assert_eq!(self.currency, other.currency, "currencies never mix");
        let amount = self.amount.checked_add(other.amount).ok_or(MoneyError::TooLarge)?;
        Self { amount, ..self }.within_bounds()
    }

    /// The difference, or `None` when `other` is more than this.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        assert_eq!(self.currency, other.currency, "currencies never mix");
        let amount = self.amount.checked_sub(other.amount)?;
        (!amount.is_sign_negative() || amount.is_zero()).then_some(Self { amount, ..self })
    }

    fn within_bounds(self) -> Result<Self, MoneyError> {
        let is_negative = self.amount.is_sign_negative() && !self.amount.is_zero();
        let is_too_large = self.amount >= Decimal::from(10_u128.pow(BALANCE_INTEGER_DIGITS_MAX));
        if is_negative || is_too_large { Err(MoneyError::TooLarge) } else { Ok(self) }
    }
}

/// The amount alone, at the currency's scale: `50.00`.
impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.amount.fmt(formatter)
    }
}

/// On the wire between gateway and node: minor units and the code, so that no point can be misplaced.
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.amount.mantissa(), self.currency).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mantissa, currency) = <(i128, Currency)>::deserialize(deserializer)?;
        let amount =
            Decimal::try_from_i128_with_scale(mantissa, currency.scale()).map_err(D::Error::custom)?;
        Self::from_ledger(amount, currency).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    #[test]
    fn amounts_of_the_grammar_are_read_and_all_others_refused() {
        let usd = currency("USD");
        for (text, expected) in [
            ("1", Some("1.00")),
            ("0.01", Some("0.01")),
            ("50.0", Some("50.00")),
            ("99999999999999.99", Some("99999999999999.99")),
            ("100000000000000", None),
            ("0", None),
            ("0.00", None),
            ("00.10", None),
            ("01", None),
            (".5", None),
            ("5.", None),
            ("1.100", None),
            ("1.234", None),
            ("1_000", None),
            ("1,000", None),
            ("+5", None),
            ("-1", None),
            ("1e3", None),
            ("1E3", None),
            ("NaN", None),
            ("inf", None),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("1\n", None),
            ("0x10", None),
            ("٣", None),
            ("1.2.3", None),
        ] {
            let read = Money::parse(text, usd).ok().map(|money| money.to_string());
            assert_eq!(read.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn each_currency_has_its_own_scale() {
        for (code, text, expected) in [
            ("JPY", "100", Some("100")),
            ("JPY", "100.0", None),
            ("USD", "1.5", Some("1.50")),
            ("BHD", "1.234", Some("1.234")),
            ("BHD", "1.2345", None),
            ("CLF", "1.2345", Some("1.2345")),
        ] {
            let read = Money::parse(text, currency(code)).ok().map(|money| money.to_string());
            assert_eq!(read.as_deref(), expected, "{text} {code}");
        }
    }

    #[test]
    fn a_balance_never_passes_what_its_column_holds() {
        let usd = currency("USD");
        let largest = Money::from_ledger(Decimal::from_i128_with_scale(10_i128.pow(22) - 1, 2), usd).unwrap();
        assert_eq!(largest.checked_add(Money::parse("0.01", usd).unwrap()), Err(MoneyError::TooLarge));
        assert!(Money::from_ledger(Decimal::new(-1, 2), usd).is_err());
        assert!(Money::from_ledger(Decimal::new(1, 3), usd).is_err());
    }

    proptest! {
        #[test]
        fn reading_follows_the_grammar_to_the_letter(text in "[0-9.eE+_ -]{0,22}") {
            // A second, independent implementation of the contract's grammar.
            let bytes = text.as_bytes();
            let point = bytes.iter().position(|byte| *byte == b'.');
            let (integer, fraction) = point.map_or((bytes, None), |at| (&bytes[..at], Some(&bytes[at + 1..])));
            let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            let follows = digits(integer)
                && integer.len() <= 14
                && (integer.len() == 1 || integer[0] != b'0')
                && fraction.is_none_or(|part| digits(part) && part.len() <= 4)
                && bytes.iter().any(|byte| (b'1'..=b'9').contains(byte));
            prop_assert_eq!(Amount::parse(&text).is_ok(), follows, "{}", text);
        }

        #[test]
        fn what_was_read_is_written_back_at_scale_and_survives_the_wire(minor in 1_i64..9_999_999_999_999_999) {
            let usd = currency("USD");
            let text = format!("{}.{:02}", minor / 100, minor % 100);
            let money = Money::parse(&text, usd).unwrap();
            prop_assert_eq!(money.to_string(), text);
            let wire = postcard::to_stdvec(&money).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Money>(&wire).unwrap(), money);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in any::<String>()) {
            let _ = Amount::parse(&text);
            let _ = Currency::parse(&text);
        }
    }
}
