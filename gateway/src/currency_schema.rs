//! The schemas of currencies and amounts in the documentation.

use std::borrow::Cow;

use picopay_shared::money::{Currency, TABLE_DATE};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

const WHOLE_MAX: i64 = 99_999_999_999_999;

/// A currency that a balance can be in.
#[derive(Debug)]
pub struct CurrencySchema;

/// A currency that money can come in.
#[derive(Debug)]
pub struct ActiveCurrencySchema;

/// An amount as clients may write it.
#[derive(Debug)]
pub struct AmountSchema;

fn codes(description: &str, is_listed: impl Fn(&Currency) -> bool) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(Currency::all().filter(is_listed).map(Currency::code)))
        .description(Some(format!("{description} The table is of {TABLE_DATE}.")))
        .examples(["USD"])
        .into()
}

impl PartialSchema for CurrencySchema {
    fn schema() -> RefOr<Schema> {
        codes("A code of ISO 4217 with a minor unit, active or withdrawn since 2000.", |_| true)
    }
}

impl ToSchema for CurrencySchema {
    fn name() -> Cow<'static, str> {
        "Currency".into()
    }
}

impl PartialSchema for ActiveCurrencySchema {
    fn schema() -> RefOr<Schema> {
        codes("An active code of ISO 4217 with a minor unit.", |currency| currency.is_active())
    }
}

impl ToSchema for ActiveCurrencySchema {
    fn name() -> Cow<'static, str> {
        "ActiveCurrency".into()
    }
}

/// The contract's grammar, without zero and with at most this many decimals. It has no look-ahead, which not
/// every reader supports.
pub fn pattern(decimals: u32) -> String {
    let whole = "[1-9][0-9]{0,13}";
    if decimals == 0 {
        return format!("^{whole}$");
    }
    // `0.` and the first digit that is not zero, at each possible position.
    let small = (0..decimals).map(|zeros| {
        let more = decimals - zeros - 1;
        let zeros = "0".repeat(usize::try_from(zeros).expect("at most three"));
        if more == 0 { format!("{zeros}[1-9]") } else { format!("{zeros}[1-9][0-9]{{0,{more}}}") }
    });
    let small: Vec<String> = small.collect();
    format!("^({whole}(\\.[0-9]{{1,{decimals}}})?|0\\.({}))$", small.join("|"))
}

pub fn amount(decimals: u32) -> OneOfBuilder {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern(decimals)))
        .description(Some("Recommended: no JSON library makes a float of it."));
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(WHOLE_MAX))
        .description(Some("A number is read from its literal text, never through a float. Write one with decimals as a string."));
    OneOfBuilder::new().item(text).item(number)
}

impl PartialSchema for AmountSchema {
    fn schema() -> RefOr<Schema> {
        const DECIMALS_MAX: u32 = 4;
        amount(DECIMALS_MAX)
            .description(Some(
                "More than 0, with at most the decimals of its currency (JPY 0, USD 2, BHD 3, CLF 4).",
            ))
            .examples(["50.00"])
            .into()
    }
}

impl ToSchema for AmountSchema {
    fn name() -> Cow<'static, str> {
        "Amount".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_are_the_contracts_grammar_without_zero() {
        assert_eq!(pattern(0), "^[1-9][0-9]{0,13}$");
        assert_eq!(pattern(2), r"^([1-9][0-9]{0,13}(\.[0-9]{1,2})?|0\.([1-9][0-9]{0,1}|0[1-9]))$");
        assert!(pattern(4).contains(r"000[1-9]") && pattern(4).contains(r"[1-9][0-9]{0,3}"));
    }
}
