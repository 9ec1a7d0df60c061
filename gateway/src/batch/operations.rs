//! The body of a batch: which operations it has, before any of them is looked into.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::charge::CHARGE;
use crate::fields::{self, Fields};
use crate::hold::HOLD;
use crate::hold::capture::CAPTURE;
use crate::hold::void::VOID;
use crate::idempotency_key::Key;
use crate::problem::{FieldError, Problem};
use crate::refund::REFUND;
use crate::topup::TOP_UP;
use crate::wish::Wish;

/// Most operations of one batch (contract, "Batch").
pub const OPERATIONS_MAX: usize = 500;

/// What a batch can have.
const WISHES: [&Wish; 6] = [&TOP_UP, &CHARGE, &REFUND, &HOLD, &CAPTURE, &VOID];

/// One operation, as the client wrote it.
#[derive(Debug)]
pub struct Asked<'a> {
    pub wish: &'static Wish,
    /// The key, or a new one, or what is wrong with it.
    pub key: Result<Key, Problem>,
    /// Not read yet: what is wrong in it concerns this operation alone.
    pub body: &'a str,
}

/// Reads the body of a batch.
///
/// # Errors
/// Everything that makes it no batch.
pub fn read_operations(body: &[u8]) -> Result<Vec<Asked<'_>>, Problem> {
    let mut fields = Fields::read(body, &["operations"])?;
    let Some(list) = fields.required("operations", list) else { return fields.finish(None) };
    if !(1..=OPERATIONS_MAX).contains(&list.length) {
        let detail = format!("must have 1 to {OPERATIONS_MAX} operations, and has {}", list.length);
        fields.add("operations", detail);
    }
    let mut operations = Vec::with_capacity(list.first.len());
    for (position, raw) in list.first.into_iter().enumerate() {
        match read_operation(raw.get()) {
            Ok(operation) => operations.push(operation),
            Err(problem) => fields.add_below(&format!("/operations/{position}"), problem),
        }
    }
    fields.finish(Some(operations))
}

fn read_operation(raw: &str) -> Result<Asked<'_>, Problem> {
    if !raw.starts_with('{') {
        let error = FieldError::in_body("an operation is a JSON object");
        return Err(Problem::invalid_request(vec![error]));
    }
    let mut fields = Fields::read(raw.as_bytes(), &["operation", "idempotency_key", "body"])?;
    let wish = fields.required("operation", wish);
    let key = fields.optional("idempotency_key", |raw| Ok(key(raw)));
    let body = fields.required("body", Ok);
    let key = key.unwrap_or_else(|| Ok(Key::make()));
    fields.finish(wish.zip(body).map(|(wish, body)| Asked { wish, key, body }))
}

fn wish(raw: &str) -> Result<&'static Wish, String> {
    let word = fields::string(raw)?;
    WISHES.into_iter().find(|wish| wish.word == word).ok_or_else(|| {
        let known = WISHES.map(|wish| wish.word).join(", ");
        format!("unknown operation; there are {known}")
    })
}

/// A key that is none is this operation's own problem, like a wrong header of one that is sent alone.
fn key(raw: &str) -> Result<Key, Problem> {
    fields::string(raw)
        .map_err(|_| Problem::invalid_idempotency_key("a key is a string with one UUID"))
        .and_then(|text| Key::read(&text))
}

struct List<'a> {
    /// As many as a batch can have: the rest is only counted.
    first: Vec<&'a RawValue>,
    length: usize,
}

fn list(raw: &str) -> Result<List<'_>, String> {
    serde_json::from_str(raw).map_err(|_| "must be an array of operations".to_owned())
}

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = List<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut list = List { first: Vec::new(), length: 0 };
                while let Some(value) = sequence.next_element::<&'de RawValue>()? {
                    if list.first.len() < OPERATIONS_MAX {
                        list.first.push(value);
                    }
                    list.length += 1;
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHARGE_BODY: &str = r#"{"user_id":1,"amount":"1","currency":"USD"}"#;

    fn told(body: &str) -> Vec<(String, String)> {
        let Err(problem) = read_operations(body.as_bytes()) else { return Vec::new() };
        let body: serde_json::Value = serde_json::from_slice(&problem.body("r", "http://x")).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let error = |error: &serde_json::Value| (text(&error["pointer"]), text(&error["detail"]));
        body["errors"].as_array().unwrap().iter().map(error).collect()
    }

    fn batch(operations: &[&str]) -> String {
        format!("{{\"operations\":[{}]}}", operations.join(","))
    }

    #[test]
    fn a_batch_has_1_to_500_operations() {
        let charge = format!(r#"{{"operation":"charge","body":{CHARGE_BODY}}}"#);
        for (count, is_right) in [(0, false), (1, true), (500, true), (501, false), (5_000, false)] {
            let told = told(&batch(&vec![charge.as_str(); count]));
            assert_eq!(told.is_empty(), is_right, "{count}: {told:?}");
            assert!(is_right || (told.len() == 1 && told[0].0 == "/operations"), "{count}: {told:?}");
        }
    }

    #[test]
    fn everything_that_makes_it_no_batch_is_told_at_once_with_its_place() {
        let body = batch(&[
            r#"{"operation":"charge","body":{}}"#,
            r#"{"operation":"gift","body":{}}"#,
            r#"{"operation":"charge","body":{},"note":1}"#,
            r#"{"operation":"charge"}"#,
            "7",
            r#"{"operation":1,"operation":2,"body":{}}"#,
        ]);
        let body = format!("{},\"x\":1}}", body.strip_suffix('}').unwrap());
        let pointers: Vec<String> = told(&body).into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(
            pointers,
            [
                "/x",
                "/operations/1/operation",
                "/operations/2/note",
                "/operations/3/body",
                "/operations/4",
                "/operations/5/operation",
                "/operations/5/operation",
            ]
        );
        for (body, pointer) in [
            ("{}", "/operations"),
            (r#"{"operations":{}}"#, "/operations"),
            (r#"{"operations":null}"#, "/operations"),
            ("[]", ""),
            ("", ""),
            (r#"{"operations":[1,]}"#, ""),
        ] {
            let told = told(body);
            assert!(told.len() == 1 && told[0].0 == pointer, "{body}: {told:?}");
        }
    }

    #[test]
    fn what_is_wrong_inside_an_operation_is_its_own_affair() {
        let body = batch(&[
            r#"{"operation":"refund","body":7}"#,
            r#"{"operation":"charge","body":{"amount":-1},"idempotency_key":"x"}"#,
            r#"{"operation":"topup","body":{},"idempotency_key":null}"#,
            r#"{"operation":"topup","body":{},"idempotency_key":"550E8400-e29b-41d4-a716-446655440000"}"#,
            r#"{"operation":"topup","body":{}}"#,
        ]);
        let operations = read_operations(body.as_bytes()).unwrap();
        let words: Vec<&str> = operations.iter().map(|asked| asked.wish.word).collect();
        assert_eq!(words, ["refund", "charge", "topup", "topup", "topup"]);
        assert_eq!((operations[0].body, operations[1].body), ("7", r#"{"amount":-1}"#));
        let keys: Vec<Option<bool>> =
            operations.iter().map(|asked| asked.key.as_ref().ok().map(|key| key.is_client_key)).collect();
        assert_eq!(keys, [Some(false), None, None, Some(true), Some(false)]);
    }

    #[test]
    fn mass_harms_nobody() {
        let many = format!("{{\"operations\":[{}]}}", vec!["[]"; 300_000].join(","));
        assert_eq!(told(&many).len(), crate::problem::ERRORS_MAX);
    }
}
