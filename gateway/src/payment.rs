//! The body of a top-up and of a charge.

use std::borrow::Cow;

use picopay_shared::command::Payment;
use picopay_shared::money::Currency;
use utoipa::ToSchema;

use crate::currency_schema::{ActiveCurrencySchema, AmountSchema, CurrencySchema};
use crate::fields::{self, Fields};
use crate::metadata;
use crate::problem::Problem;

/// Longest reference, in characters (contract, "Values").
const REFERENCE_CHARACTERS_MAX: usize = 255;

// The bodies are schemas for the documentation; `read_payment` reads them, from the literal text of each
// field.
/// The charge that is wanted.
#[derive(Debug, ToSchema)]
#[schema(as = Charge)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct ChargeBody {
    /// The user whose balance the money is taken from.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64, example = 1)]
    user_id: i64,
    amount: AmountSchema,
    currency: CurrencySchema,
    /// The client's own reference, without U+0000.
    #[schema(nullable = false, max_length = 255, pattern = "^[^\\u0000]*$", example = "order 4711")]
    reference: Option<String>,
    /// The client's own JSON object, at most 4 KiB without white space, nested at most 32 deep.
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<String>,
}

/// What to top up.
#[derive(Debug, ToSchema)]
#[schema(as = TopUp)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct TopUpBody {
    /// The user whose balance the money is added to.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64, example = 1)]
    user_id: i64,
    amount: AmountSchema,
    currency: ActiveCurrencySchema,
    /// The client's own reference, without U+0000.
    #[schema(nullable = false, max_length = 255, pattern = "^[^\\u0000]*$", example = "order 4711")]
    reference: Option<String>,
    /// The client's own JSON object, at most 4 KiB without white space, nested at most 32 deep.
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<String>,
}

pub const PAYMENT_FIELDS: [&str; 5] = ["user_id", "amount", "currency", "reference", "metadata"];

/// Reads the body of a top-up or a charge; `read_currency` decides which currencies it accepts.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_payment(
    body: &[u8],
    read_currency: impl FnOnce(&str) -> Result<Currency, String>,
) -> Result<Payment, Problem> {
    let mut fields = Fields::read(body, &PAYMENT_FIELDS)?;
    let payment = payment_of(&mut fields, "user_id", read_currency);
    fields.finish(payment)
}

/// Reads the fields of a payment, of which one names the user. Errors stay with them.
pub fn payment_of(
    fields: &mut Fields,
    user_field: &str,
    read_currency: impl FnOnce(&str) -> Result<Currency, String>,
) -> Option<Payment> {
    let user_id = fields.required(user_field, fields::user_id);
    let amount = fields.required("amount", fields::amount);
    let currency = fields.required("currency", read_currency);
    let reference = fields.optional("reference", reference);
    let metadata = fields.optional("metadata", metadata::canonical);
    let money = amount.zip(currency).and_then(|(amount, currency)| {
        amount.in_currency(currency).map_err(|error| fields.add("amount", error.to_string())).ok()
    });
    user_id.zip(money).map(|(user_id, money)| Payment { user_id, money, reference, metadata })
}

fn reference(raw: &str) -> Result<String, String> {
    let text: Cow<'_, str> = fields::string(raw)?;
    if text.chars().count() > REFERENCE_CHARACTERS_MAX {
        return Err(format!("must have at most {REFERENCE_CHARACTERS_MAX} characters"));
    }
    if text.contains('\0') {
        return Err("must not contain U+0000, which no database text can hold".to_owned());
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(body: &str) -> Vec<(String, String)> {
        let Err(problem) = read_payment(body.as_bytes(), fields::active_currency) else { return Vec::new() };
        let body: serde_json::Value = serde_json::from_slice(&problem.body("r", "http://x")).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let error = |error: &serde_json::Value| (text(&error["pointer"]), text(&error["detail"]));
        body["errors"].as_array().unwrap().iter().map(error).collect()
    }

    fn with_amount(amount: &str, currency: &str) -> String {
        format!(r#"{{"user_id":1,"amount":{amount},"currency":"{currency}"}}"#)
    }

    #[test]
    fn a_payment_is_read_with_all_it_says() {
        let payment = read_payment(
            r#"{"user_id":7,"amount":50.5,"currency":"USD","reference":"Ünder","metadata":{"b":1,"a":[ ]}}"#
                .as_bytes(),
            fields::currency,
        )
        .unwrap();
        assert_eq!((payment.user_id.get(), payment.money.to_string().as_str()), (7, "50.50"));
        assert_eq!(payment.reference.as_deref(), Some("Ünder"));
        assert_eq!(payment.metadata.as_deref(), Some(r#"{"a":[],"b":1}"#));
    }

    #[test]
    fn amounts_follow_the_grammar_of_the_contract() {
        for (amount, currency) in [
            ("\"50.00\"", "USD"),
            ("50.00", "USD"),
            ("50", "USD"),
            ("0.01", "USD"),
            ("\"100\"", "JPY"),
            ("1.234", "BHD"),
            ("99999999999999.99", "USD"),
        ] {
            assert_eq!(errors(&with_amount(amount, currency)), [], "{amount} {currency}");
        }
        for (amount, currency) in [
            ("\"1_000\"", "USD"),
            ("\"+5\"", "USD"),
            ("1e3", "USD"),
            ("1E3", "USD"),
            ("\"1.234\"", "USD"),
            ("\"1.100\"", "USD"),
            ("-1", "USD"),
            ("\"-1\"", "USD"),
            ("\"NaN\"", "USD"),
            ("0", "USD"),
            ("\"0.00\"", "USD"),
            ("\"01\"", "USD"),
            ("\"\"", "USD"),
            ("\" 1\"", "USD"),
            ("\"1.\"", "USD"),
            ("\".5\"", "USD"),
            ("\"1,5\"", "USD"),
            ("100000000000000", "USD"),
            ("\"1.0\"", "JPY"),
            ("1.2345", "BHD"),
            ("null", "USD"),
            ("true", "USD"),
            ("[]", "USD"),
            ("{}", "USD"),
        ] {
            let errors = errors(&with_amount(amount, currency));
            assert_eq!(errors.len(), 1, "{amount} {currency} gave {errors:?}");
            assert_eq!(errors[0].0, "/amount");
        }
    }

    #[test]
    fn every_wrong_field_is_pointed_at() {
        let long = "x".repeat(256);
        let body = format!(
            r#"{{"user_id":0,"amount":-1,"currency":"usd","reference":"{long}","metadata":[],"note":1}}"#
        );
        let pointers: Vec<_> = errors(&body).into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(pointers, ["/note", "/user_id", "/amount", "/currency", "/reference", "/metadata"]);
        let pointers: Vec<_> = errors("{}").into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(pointers, ["/user_id", "/amount", "/currency"]);
    }

    #[test]
    fn a_withdrawn_currency_is_charged_and_not_topped_up() {
        for (currency, can_be_charged) in
            [("HRK", true), ("ANG", true), ("LTL", true), ("XXX", false), ("XAU", false), ("XDR", false)]
        {
            let body = with_amount("1", currency);
            assert_eq!(errors(&body)[0].0, "/currency", "{currency}");
            assert_eq!(read_payment(body.as_bytes(), fields::currency).is_ok(), can_be_charged, "{currency}");
        }
    }

    #[test]
    fn a_reference_has_255_characters_of_any_script_but_no_nul() {
        let body = |reference: &str| {
            format!(r#"{{"user_id":1,"amount":1,"currency":"USD","reference":{reference}}}"#)
        };
        assert_eq!(errors(&body(&format!("\"{}\"", "é".repeat(255)))), []);
        assert_eq!(errors(&body("\"\"")), []);
        for reference in ["1", "null", "\"a\\u0000b\"", &format!("\"{}\"", "é".repeat(256))] {
            assert_eq!(errors(&body(reference))[0].0, "/reference", "{reference}");
        }
    }
}
