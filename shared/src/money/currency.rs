//! Currencies: ISO 4217 as this program's own table.
//!
//! A library's list changes with its updates, and then a code that users have money in may be gone. Here a
//! withdrawn code is marked and stays, so that users can spend what they have.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use self::State::{Active, Withdrawn, WithoutMinorUnit};
use super::MoneyError;

/// The date of the list that the table follows: ISO 4217, list one. The test below compares the table with
/// it. A code that is withdrawn later is marked and stays.
pub const TABLE_DATE: &str = "2026-01-01";

/// A currency of ISO 4217: its index in the table, which is sorted by code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency(u8);

/// What can be done with a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    /// In 2000 or later. No money comes in; existing money can be read, charged and refunded.
    Withdrawn,
    /// No currency for amounts: metals, units of account, `XTS`, `XXX`. Clients may not name them. They are
    /// listed because earlier releases took them, in whole units, and such rows must stay readable.
    WithoutMinorUnit,
}

impl Currency {
    /// Reads a three-letter code in upper case, active or withdrawn.
    ///
    /// # Errors
    /// [`MoneyError::UnknownCurrency`] when no such code has a minor unit.
    pub fn parse(code: &str) -> Result<Self, MoneyError> {
        Self::find(code).filter(|found| found.state() != WithoutMinorUnit).ok_or(MoneyError::UnknownCurrency)
    }

    /// The same for money that comes in.
    ///
    /// # Errors
    /// [`MoneyError::WithdrawnCurrency`] too.
    pub fn parse_active(code: &str) -> Result<Self, MoneyError> {
        let currency = Self::parse(code)?;
        if currency.is_active() { Ok(currency) } else { Err(MoneyError::WithdrawnCurrency { currency }) }
    }

    /// The currency of a row, or of a message between gateway and node, from any release.
    ///
    /// # Errors
    /// [`MoneyError::UnknownCurrency`] when the table has no such code.
    pub fn of_ledger(code: &str) -> Result<Self, MoneyError> {
        Self::find(code).ok_or(MoneyError::UnknownCurrency)
    }

    /// All currencies that a client may name.
    pub fn all() -> impl Iterator<Item = Self> {
        let every = (0..=u8::MAX).take(TABLE.len()).map(Self);
        every.filter(|currency| currency.state() != WithoutMinorUnit)
    }

    /// Whether money may still come in.
    pub fn is_active(self) -> bool {
        self.state() == Active
    }

    /// The three-letter code of ISO 4217.
    pub fn code(self) -> &'static str {
        self.entry().0
    }

    /// Decimals of the currency: JPY 0, USD 2, BHD 3, CLF 4.
    pub fn scale(self) -> u32 {
        self.entry().1
    }

    fn state(self) -> State {
        self.entry().2
    }

    fn entry(self) -> &'static (&'static str, u32, State) {
        &TABLE[usize::from(self.0)]
    }

    fn find(code: &str) -> Option<Self> {
        let place = PLACES[word_number(code.as_bytes().try_into().ok()?)?];
        place.checked_sub(1).map(Self)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::of_ledger(&code).map_err(D::Error::custom)
    }
}

/// Of each word of three letters, its place in the table plus one, or zero. A page of history reads forty
/// codes, and a search compares eight strings for each.
static PLACES: [u8; 26 * 26 * 26] = {
    assert!(TABLE.len() < 256, "a place and one more fit a byte");
    let mut places = [0; _];
    let mut place: u8 = 0;
    while (place as usize) < TABLE.len() {
        let [first, second, third] = *TABLE[place as usize].0.as_bytes() else { panic!("three letters") };
        let Some(number) = word_number([first, second, third]) else { panic!("three letters in upper case") };
        place += 1;
        places[number] = place;
    }
    places
};

/// The words of three upper-case letters, numbered from `AAA`.
const fn word_number(word: [u8; 3]) -> Option<usize> {
    let [first, second, third] = word;
    if !(first.is_ascii_uppercase() && second.is_ascii_uppercase() && third.is_ascii_uppercase()) {
        return None;
    }
    Some(((first - b'A') as usize * 26 + (second - b'A') as usize) * 26 + (third - b'A') as usize)
}

/// Code, decimals, state; sorted by code.
#[rustfmt::skip] // Many to a line, because it is searched for a code.
const TABLE: [(&str, u32, State); 238] = [
    ("ADP", 0, Withdrawn), ("AED", 2, Active), ("AFA", 2, Withdrawn), ("AFN", 2, Active), ("ALL", 2, Active),
    ("AMD", 2, Active), ("ANG", 2, Withdrawn), ("AOA", 2, Active), ("AON", 2, Withdrawn), ("AOR", 2, Withdrawn),
    ("ARS", 2, Active), ("ATS", 2, Withdrawn), ("AUD", 2, Active), ("AWG", 2, Active), ("AYM", 2, Withdrawn),
    ("AZM", 2, Withdrawn), ("AZN", 2, Active), ("BAM", 2, Active), ("BBD", 2, Active), ("BDT", 2, Active),
    ("BEF", 0, Withdrawn), ("BGL", 2, Withdrawn), ("BGN", 2, Withdrawn), ("BHD", 3, Active), ("BIF", 0, Active),
    ("BMD", 2, Active), ("BND", 2, Active), ("BOB", 2, Active), ("BOV", 2, Active), ("BRL", 2, Active),
    ("BSD", 2, Active), ("BTN", 2, Active), ("BWP", 2, Active), ("BYB", 0, Withdrawn), ("BYN", 2, Active),
    ("BYR", 0, Withdrawn), ("BZD", 2, Active), ("CAD", 2, Active), ("CDF", 2, Active), ("CHC", 2, Withdrawn),
    ("CHE", 2, Active), ("CHF", 2, Active), ("CHW", 2, Active), ("CLF", 4, Active), ("CLP", 0, Active),
    ("CNY", 2, Active), ("COP", 2, Active), ("COU", 2, Active), ("CRC", 2, Active), ("CSD", 2, Withdrawn),
    ("CUC", 2, Withdrawn), ("CUP", 2, Active), ("CVE", 2, Active), ("CYP", 2, Withdrawn), ("CZK", 2, Active),
    ("DEM", 2, Withdrawn), ("DJF", 0, Active), ("DKK", 2, Active), ("DOP", 2, Active), ("DZD", 2, Active),
    ("ECS", 2, Withdrawn), ("ECV", 2, Withdrawn), ("EEK", 2, Withdrawn), ("EGP", 2, Active), ("ERN", 2, Active),
    ("ESP", 0, Withdrawn), ("ETB", 2, Active), ("EUR", 2, Active), ("FIM", 2, Withdrawn), ("FJD", 2, Active),
    ("FKP", 2, Active), ("FRF", 2, Withdrawn), ("GBP", 2, Active), ("GEL", 2, Active), ("GHC", 2, Withdrawn),
    ("GHP", 2, Withdrawn), ("GHS", 2, Active), ("GIP", 2, Active), ("GMD", 2, Active), ("GNF", 0, Active),
    ("GRD", 0, Withdrawn), ("GTQ", 2, Active), ("GYD", 2, Active), ("HKD", 2, Active), ("HNL", 2, Active),
    ("HRK", 2, Withdrawn), ("HTG", 2, Active), ("HUF", 2, Active), ("IDR", 2, Active), ("IEP", 2, Withdrawn),
    ("ILS", 2, Active), ("INR", 2, Active), ("IQD", 3, Active), ("IRR", 2, Active), ("ISK", 0, Active),
    ("ITL", 0, Withdrawn), ("JMD", 2, Active), ("JOD", 3, Active), ("JPY", 0, Active), ("KES", 2, Active),
    ("KGS", 2, Active), ("KHR", 2, Active), ("KMF", 0, Active), ("KPW", 2, Active), ("KRW", 0, Active),
    ("KWD", 3, Active), ("KYD", 2, Active), ("KZT", 2, Active), ("LAK", 2, Active), ("LBP", 2, Active),
    ("LKR", 2, Active), ("LRD", 2, Active), ("LSL", 2, Active), ("LTL", 2, Withdrawn), ("LUF", 0, Withdrawn),
    ("LVL", 2, Withdrawn), ("LYD", 3, Active), ("MAD", 2, Active), ("MDL", 2, Active), ("MGA", 2, Active),
    ("MGF", 0, Withdrawn), ("MKD", 2, Active), ("MMK", 2, Active), ("MNT", 2, Active), ("MOP", 2, Active),
    ("MRO", 2, Withdrawn), ("MRU", 2, Active), ("MTL", 2, Withdrawn), ("MUR", 2, Active), ("MVR", 2, Active),
    ("MWK", 2, Active), ("MXN", 2, Active), ("MXV", 2, Active), ("MYR", 2, Active), ("MZM", 2, Withdrawn),
    ("MZN", 2, Active), ("NAD", 2, Active), ("NGN", 2, Active), ("NIO", 2, Active), ("NLG", 2, Withdrawn),
    ("NOK", 2, Active), ("NPR", 2, Active), ("NZD", 2, Active), ("OMR", 3, Active), ("PAB", 2, Active),
    ("PEN", 2, Active), ("PGK", 2, Active), ("PHP", 2, Active), ("PKR", 2, Active), ("PLN", 2, Active),
    ("PTE", 0, Withdrawn), ("PYG", 0, Active), ("QAR", 2, Active), ("ROL", 0, Withdrawn), ("RON", 2, Active),
    ("RSD", 2, Active), ("RUB", 2, Active), ("RUR", 2, Withdrawn), ("RWF", 0, Active), ("SAR", 2, Active),
    ("SBD", 2, Active), ("SCR", 2, Active), ("SDD", 2, Withdrawn), ("SDG", 2, Active), ("SEK", 2, Active),
    ("SGD", 2, Active), ("SHP", 2, Active), ("SIT", 2, Withdrawn), ("SKK", 2, Withdrawn), ("SLE", 2, Active),
    ("SLL", 2, Withdrawn), ("SOS", 2, Active), ("SRD", 2, Active), ("SRG", 2, Withdrawn), ("SSP", 2, Active),
    ("STD", 2, Withdrawn), ("STN", 2, Active), ("SVC", 2, Active), ("SYP", 2, Active), ("SZL", 2, Active),
    ("THB", 2, Active), ("TJR", 2, Withdrawn), ("TJS", 2, Active), ("TMM", 2, Withdrawn), ("TMT", 2, Active),
    ("TND", 3, Active), ("TOP", 2, Active), ("TPE", 0, Withdrawn), ("TRL", 0, Withdrawn), ("TRY", 2, Active),
    ("TTD", 2, Active), ("TWD", 2, Active), ("TZS", 2, Active), ("UAH", 2, Active), ("UGX", 0, Active),
    ("USD", 2, Active), ("USN", 2, Active), ("USS", 2, Withdrawn), ("UYI", 0, Active), ("UYU", 2, Active),
    ("UYW", 4, Active), ("UZS", 2, Active), ("VEB", 2, Withdrawn), ("VED", 2, Active), ("VEF", 2, Withdrawn),
    ("VES", 2, Active), ("VND", 0, Active), ("VUV", 0, Active), ("WST", 2, Active), ("XAD", 2, Active),
    ("XAF", 0, Active), ("XAG", 0, WithoutMinorUnit), ("XAU", 0, WithoutMinorUnit),
    ("XBA", 0, WithoutMinorUnit), ("XBB", 0, WithoutMinorUnit), ("XBC", 0, WithoutMinorUnit),
    ("XBD", 0, WithoutMinorUnit), ("XCD", 2, Active), ("XCG", 2, Active), ("XDR", 0, WithoutMinorUnit),
    ("XOF", 0, Active), ("XPD", 0, WithoutMinorUnit), ("XPF", 0, Active), ("XPT", 0, WithoutMinorUnit),
    ("XSU", 0, WithoutMinorUnit), ("XTS", 0, WithoutMinorUnit), ("XUA", 0, WithoutMinorUnit),
    ("XXX", 0, WithoutMinorUnit), ("YER", 2, Active), ("YUM", 2, Withdrawn), ("ZAR", 2, Active),
    ("ZMK", 2, Withdrawn), ("ZMW", 2, Active), ("ZWD", 2, Withdrawn), ("ZWG", 2, Active), ("ZWL", 2, Withdrawn),
    ("ZWN", 2, Withdrawn), ("ZWR", 2, Withdrawn),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Code and minor unit, line by line.
    fn published(text: &'static str) -> BTreeMap<&'static str, &'static str> {
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap()).collect()
    }

    fn list_one() -> BTreeMap<&'static str, &'static str> {
        let text = include_str!("list_one_2026-01-01.txt");
        assert!(text.lines().next().unwrap().contains(TABLE_DATE));
        published(text)
    }

    #[test]
    fn the_table_is_sorted_and_fits_its_index() {
        assert!(TABLE.is_sorted_by(|one, next| one.0 < next.0));
        assert!(u8::try_from(TABLE.len()).is_ok());
    }

    #[test]
    fn the_active_codes_are_those_of_the_published_list() {
        let list = list_one();
        for (code, minor_unit) in &list {
            let read = Currency::parse_active(code).map(|currency| currency.scale().to_string());
            let expected = if *minor_unit == "N.A." {
                Err(MoneyError::UnknownCurrency)
            } else {
                Ok((*minor_unit).to_owned())
            };
            assert_eq!(read, expected, "{code}");
        }
        for currency in Currency::all().filter(|currency| currency.is_active()) {
            assert!(list.contains_key(currency.code()), "{currency} is on no list");
        }
    }

    #[test]
    fn withdrawn_codes_are_read_and_take_no_new_money() {
        let list = list_one();
        // The peso of Guinea-Bissau was withdrawn in 1997; the other two never had a minor unit.
        let never_taken = ["GWP", "XFO", "XFU"];
        for (code, digits) in published(include_str!("withdrawn.txt")) {
            if never_taken.contains(&code) {
                assert_eq!(Currency::parse(code), Err(MoneyError::UnknownCurrency), "{code}");
                continue;
            }
            let currency = Currency::parse(code).unwrap_or_else(|_| panic!("{code} is missing"));
            assert_eq!(currency.scale().to_string(), digits, "{code}");
            assert_eq!(Currency::parse_active(code), Err(MoneyError::WithdrawnCurrency { currency }));
            assert!(!list.contains_key(code), "{code} is active");
        }
        for code in ["HRK", "SLL", "ZWL", "CUC", "BGN", "ANG", "LTL", "DEM", "ITL"] {
            assert!(Currency::parse(code).is_ok() && Currency::parse_active(code).is_err(), "{code}");
        }
    }

    #[test]
    fn what_is_counted_in_no_unit_is_read_from_old_rows_only() {
        for code in
            ["XXX", "XTS", "XAU", "XAG", "XPT", "XPD", "XDR", "XSU", "XUA", "XBA", "XBB", "XBC", "XBD"]
        {
            assert_eq!(Currency::parse(code), Err(MoneyError::UnknownCurrency), "{code}");
            assert_eq!(Currency::of_ledger(code).map(Currency::scale), Ok(0), "{code}");
            let wire = postcard::to_stdvec(&Currency::of_ledger(code).unwrap()).unwrap();
            assert_eq!(postcard::from_bytes::<Currency>(&wire).unwrap().code(), code);
        }
    }

    #[test]
    fn only_codes_that_exist_in_upper_case_are_currencies() {
        for code in ["usd", "Usd", "US", "USDT", "ZZZ", "", "U D", "ÜSD", "BTC", "XEU", "PLZ"] {
            assert_eq!(Currency::parse(code), Err(MoneyError::UnknownCurrency), "{code:?}");
            assert_eq!(Currency::of_ledger(code), Err(MoneyError::UnknownCurrency), "{code:?}");
        }
    }
}
