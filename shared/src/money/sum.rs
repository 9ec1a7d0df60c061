//! What many amounts add up to, which may be more than any balance.

use std::fmt;

use rust_decimal::Decimal;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Currency, Money, MoneyError};

/// A sum of amounts of one currency, at its scale: zero or more, below 10^24 units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoneySum {
    amount: Decimal,
    currency: Currency,
}

impl MoneySum {
    /// Zero in this currency.
    pub fn zero(currency: Currency) -> Self {
        Money::zero(currency).into()
    }

    /// A sum that the database made of columns with four decimals.
    ///
    /// # Errors
    /// For what PicoPay never writes: [`MoneyError::TooFine`] for digits below the currency's scale,
    /// [`MoneyError::TooLarge`] when negative.
    pub fn from_ledger(amount: Decimal, currency: Currency) -> Result<Self, MoneyError> {
        let scale = currency.scale();
        let mut scaled = amount;
        scaled.rescale(scale);
        if scaled != amount || scaled.scale() != scale {
            return Err(MoneyError::TooFine { currency, scale });
        }
        if scaled.is_sign_negative() && !scaled.is_zero() {
            return Err(MoneyError::TooLarge);
        }
        Ok(Self { amount: scaled, currency })
    }

    /// The amount, at the currency's scale.
    pub fn amount(self) -> Decimal {
        self.amount
    }

    /// The currency of the sum.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The sum of both.
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`] when a decimal of 96 bits cannot hold it.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        assert_eq!(self.currency, other.currency, "currencies never mix");
        let amount = self.amount.checked_add(other.amount).ok_or(MoneyError::TooLarge)?;
        // What does not fit would be rounded to fewer decimals.
        if amount.scale() == self.currency.scale() {
            Ok(Self { amount, ..self })
        } else {
            Err(MoneyError::TooLarge)
        }
    }
}

impl From<Money> for MoneySum {
    fn from(money: Money) -> Self {
        Self { amount: money.amount(), currency: money.currency() }
    }
}

/// The amount alone, at the currency's scale: `50.00`.
impl fmt::Display for MoneySum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.amount.fmt(formatter)
    }
}

/// On the wire between gateway and node, as money is.
impl Serialize for MoneySum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.amount.mantissa(), self.currency).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MoneySum {
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

    fn sum(text: &str, code: &str) -> Result<MoneySum, MoneyError> {
        MoneySum::from_ledger(text.parse().unwrap(), Currency::parse(code).unwrap())
    }

    #[test]
    fn sums_are_larger_than_any_balance_and_never_rounded() {
        let one = sum("100000000000000000000.0100", "USD").unwrap();
        assert_eq!(one.checked_add(one).unwrap().to_string(), "200000000000000000000.02");
        assert_eq!(postcard::from_bytes::<MoneySum>(&postcard::to_stdvec(&one).unwrap()), Ok(one));
        let largest = sum("792281625142643375935439503.35", "USD").unwrap();
        assert_eq!(largest.checked_add(largest), Err(MoneyError::TooLarge));
        assert_eq!(sum("0.0010", "USD").unwrap_err().to_string(), "USD takes at most 2 decimals");
        assert_eq!(sum("-1", "JPY"), Err(MoneyError::TooLarge));
    }
}
