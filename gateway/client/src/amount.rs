//! An amount of money, as its text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Digits, perhaps with a point and more digits: `50.00`. The gateway decides how many decimals a currency
/// has. Its answers always have the currency's scale, so equal amounts of one currency are equal texts there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Amount(String);

/// A text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no amount: write digits, and a point with digits behind it if need be")]
pub struct NoAmount(String);

impl Amount {
    /// The text, as the API writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number without its point: cents of USD, if it has two decimals.
    pub fn minor_units(&self) -> Option<u64> {
        let digits = self.0.bytes().filter(u8::is_ascii_digit);
        digits
            .map(|digit| u64::from(digit - b'0'))
            .try_fold(0_u64, |sum, digit| sum.checked_mul(10).and_then(|sum| sum.checked_add(digit)))
    }
}

impl TryFrom<String> for Amount {
    type Error = NoAmount;

    fn try_from(text: String) -> Result<Self, NoAmount> {
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_whole = |part: &str| all_digits(part) && (part == "0" || !part.starts_with('0'));
        let is_amount = match text.split_once('.') {
            Some((whole, decimals)) => is_whole(whole) && all_digits(decimals),
            None => is_whole(&text),
        };
        if is_amount { Ok(Self(text)) } else { Err(NoAmount(text)) }
    }
}

impl TryFrom<&str> for Amount {
    type Error = NoAmount;

    fn try_from(text: &str) -> Result<Self, NoAmount> {
        Self::try_from(text.to_owned())
    }
}

impl FromStr for Amount {
    type Err = NoAmount;

    fn from_str(text: &str) -> Result<Self, NoAmount> {
        Self::try_from(text)
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl PartialEq<str> for Amount {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Amount {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_digits_with_a_point_at_most() {
        for (text, minor_units) in
            [("0", Some(0)), ("5", Some(5)), ("0.50", Some(50)), ("950.00", Some(95_000)), ("007", None)]
        {
            let amount = Amount::try_from(text).ok();
            assert_eq!(amount.as_ref().and_then(Amount::minor_units), minor_units, "{text}");
        }
        for text in ["", "-1", "+1", "1e3", "1_000", ".5", "5.", "1.2.3", "NaN", " 1", "00"] {
            assert!(Amount::try_from(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_amount_is_a_string_in_json_and_a_number_is_refused() {
        assert_eq!(serde_json::to_string(&Amount::try_from("5.00").unwrap()).unwrap(), r#""5.00""#);
        assert_eq!(serde_json::from_str::<Amount>(r#""5.00""#).unwrap(), "5.00");
        assert!(serde_json::from_str::<Amount>("5.00").is_err());
    }
}
