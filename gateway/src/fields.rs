//! The top-level fields of a JSON body, read strictly: all errors are found and reported at once.
//!
//! Values stay the client's text until the code that knows the field reads them. So no amount passes through
//! a float, and `1.0` is not taken for the integer 1.

use std::borrow::Cow;
use std::fmt;

use picopay_shared::money::{Amount, Currency};
use picopay_shared::slot::{UserId, UserIdError};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::problem::{ERRORS_MAX, FieldError, Problem};

#[derive(Debug)]
pub struct Fields<'a> {
    values: Vec<(Cow<'a, str>, &'a RawValue)>,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Splits a body into fields. `known` are the fields that it may have.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn read(body: &'a [u8], known: &[&str]) -> Result<Self, Problem> {
        // Some editors and libraries begin a text with a byte order mark (RFC 8259, section 8.1: it may be
        // ignored).
        let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
        let whole = |detail: String| Problem::invalid_request(vec![FieldError::in_body(detail)]);
        let text = std::str::from_utf8(body).map_err(|_| whole("the body is not UTF-8".to_owned()))?;
        if text.trim_ascii().is_empty() {
            return Err(whole("the body is empty; it must be a JSON object".to_owned()));
        }
        let Object(values) = serde_json::from_str(text)
            .map_err(|error| whole(format!("the body is no JSON object: {error}")))?;
        let mut fields = Self { values: Vec::with_capacity(values.len()), errors: Vec::new() };
        for (name, value) in values {
            if !known.contains(&name.as_ref()) {
                let detail = match known {
                    [] => "unknown field; there are none".to_owned(),
                    known => format!("unknown field; there are {}", known.join(", ")),
                };
                fields.add(&name, detail);
            } else if fields.values.iter().any(|(other, _)| *other == name) {
                fields.add(&name, "the field is given twice".to_owned());
            } else {
                fields.values.push((name, value));
            }
        }
        Ok(fields)
    }

    pub fn required<T>(&mut self, name: &str, read: impl FnOnce(&'a str) -> Result<T, String>) -> Option<T> {
        if self.get(name).is_none() {
            self.add(name, "the field is missing".to_owned());
        }
        self.optional(name, read)
    }

    /// Reads a field that may be absent. `null` is a value, and never a valid one: a refund with the amount
    /// `null` must not return everything.
    pub fn optional<T>(&mut self, name: &str, read: impl FnOnce(&'a str) -> Result<T, String>) -> Option<T> {
        match read(self.get(name)?.get()) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.add(name, detail);
                None
            }
        }
    }

    pub fn add(&mut self, name: &str, detail: String) {
        self.push(FieldError::in_field(name, detail));
    }

    /// Adds the errors of a part that was read by itself and stands at `pointer`.
    pub fn add_below(&mut self, pointer: &str, problem: Problem) {
        for error in problem.into_errors() {
            self.push(error.below(pointer));
        }
    }

    fn push(&mut self, error: FieldError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        }
    }

    /// # Errors
    /// Everything that was wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Problem> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => {
                assert!(!self.errors.is_empty(), "a value that is missing has a reason");
                Err(Problem::invalid_request(self.errors))
            }
        }
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.values.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }
}

struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// Borrows a name without escapes, as nearly all are.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(5);
                while let Some((Name(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

pub fn string(raw: &str) -> Result<Cow<'_, str>, String> {
    let expected = || "must be a string".to_owned();
    if !raw.starts_with('"') {
        return Err(expected());
    }
    let Name(text) = serde_json::from_str(raw).map_err(|_| expected())?;
    Ok(text)
}

pub fn amount(raw: &str) -> Result<Amount, String> {
    let text = match raw.as_bytes().first() {
        Some(b'"') => string(raw)?,
        Some(b'-' | b'0'..=b'9') => Cow::Borrowed(raw),
        _ => return Err("must be a string or a number, for example \"50.00\"".to_owned()),
    };
    Amount::parse(&text).map_err(|error| error.to_string())
}

/// A JSON integer: not a string, and neither `1.0` nor `1e0`.
pub fn user_id(raw: &str) -> Result<UserId, String> {
    raw.parse::<i64>().ok().and_then(|id| UserId::try_from(id).ok()).ok_or_else(|| UserIdError.to_string())
}

pub fn currency(raw: &str) -> Result<Currency, String> {
    Currency::parse(&string(raw)?).map_err(|error| error.to_string())
}

pub fn active_currency(raw: &str) -> Result<Currency, String> {
    Currency::parse_active(&string(raw)?).map_err(|error| error.to_string())
}

/// A UUID with hyphens (RFC 9562), in any case.
pub fn uuid(raw: &str) -> Result<Uuid, String> {
    hyphenated_uuid(&string(raw)?).ok_or_else(|| NO_UUID.to_owned())
}

pub const NO_UUID: &str = "must be a UUID with hyphens, for example \"550e8400-e29b-41d4-a716-446655440000\"";

/// Reads 36 characters. The `uuid` crate alone would also accept braces, `urn:uuid:` and no hyphens.
pub fn hyphenated_uuid(text: &str) -> Option<Uuid> {
    const LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;
    if text.len() == LENGTH { Uuid::try_parse(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["user_id", "amount"];

    fn told(body: &str) -> Vec<String> {
        let problem = match Fields::read(body.as_bytes(), &KNOWN) {
            Err(problem) => problem,
            Ok(mut fields) => {
                let user = fields.required("user_id", user_id);
                let amount = fields.required("amount", amount);
                match fields.finish(user.zip(amount)) {
                    Ok(_) => return Vec::new(),
                    Err(problem) => problem,
                }
            }
        };
        let body: serde_json::Value = serde_json::from_slice(&problem.body("r", "http://x")).unwrap();
        let error = |error: &serde_json::Value| {
            format!("{} {}", error["pointer"].as_str().unwrap(), error["detail"].as_str().unwrap())
        };
        body["errors"].as_array().unwrap().iter().map(error).collect()
    }

    #[test]
    fn what_is_right_is_taken() {
        for body in [
            r#"{"user_id":1,"amount":"50.00"}"#,
            r#" { "amount" : 50.00 , "user_id" : 9223372036854775807 } "#,
            r#"{"user_\u0069d":1,"amount":"\u0035"}"#,
            "\u{feff}{\"user_id\":1,\"amount\":\"50.00\"}",
        ] {
            assert_eq!(told(body), Vec::<String>::new(), "{body}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let told = told(r#"{"user_id":"1","amount":true,"a/b":1,"user_id":2,"~":[]}"#);
        assert_eq!(told.len(), 5, "{told:?}");
        for (told, start) in told.iter().zip([
            "/a~1b unknown field; there are user_id, amount",
            "/user_id the field is given twice",
            "/~0 unknown",
            "/user_id a user_id is an integer",
            "/amount must be a string or a number",
        ]) {
            assert!(told.starts_with(start), "{told} is not {start}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_object_is_told_as_a_whole() {
        for body in [
            "",
            "  ",
            "null",
            "[]",
            "1",
            "\"x\"",
            "{",
            "{}{}",
            "{} x",
            "{\"a\"}",
            "{'a':1}",
            "{\"a\":1,}",
            "nul",
            "{\"a\":NaN}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":.5}",
            "{\"\\ud800\":1}",
            "\u{feff}",
            "\u{feff}\u{feff}{}",
            "{}\u{feff}",
        ] {
            let told = told(body);
            assert!(told.len() == 1 && told[0].starts_with(" the body is"), "{body:?} gave {told:?}");
        }
        let problem = Fields::read(b"{\"\xff\":1}", &KNOWN).unwrap_err();
        assert!(String::from_utf8_lossy(&problem.body("r", "x")).contains("not UTF-8"));
    }

    #[test]
    fn depth_and_mass_harm_nobody() {
        let deep = format!("{{\"amount\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(told(&deep).len(), 2);
        let many: Vec<String> = (0..5_000).map(|n| format!("\"f{n}\":1")).collect();
        assert_eq!(told(&format!("{{{}}}", many.join(","))).len(), ERRORS_MAX);
    }

    #[test]
    fn a_user_id_is_an_integer_literal() {
        for raw in ["1", "42", "9223372036854775807"] {
            assert!(user_id(raw).is_ok(), "{raw}");
        }
        for raw in ["0", "-1", "1.0", "1e0", "\"1\"", "9223372036854775808", "null", "true", "[1]", "{}"] {
            assert!(user_id(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn a_uuid_has_hyphens() {
        for raw in ["\"550e8400-e29b-41d4-a716-446655440000\"", "\"550E8400-E29B-41D4-A716-446655440000\""] {
            assert!(uuid(raw).is_ok(), "{raw}");
        }
        for raw in [
            "\"550e8400e29b41d4a716446655440000\"",
            "\"{550e8400-e29b-41d4-a716-446655440000}\"",
            "\"urn:uuid:550e8400-e29b-41d4-a716-446655440000\"",
            "\"550e8400-e29b-41d4-a716-44665544000g\"",
            "\"\"",
            "1",
            "null",
        ] {
            assert!(uuid(raw).is_err(), "{raw}");
        }
    }
}
