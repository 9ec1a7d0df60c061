//! The client's own JSON object as canonical text: names sorted, no white space.
//!
//! Two bodies that mean the same have the same text, hence the same fingerprint. Numbers stay as they were
//! written, because parsing would round them. `serde_json::Value` is not used: it also takes an object with a
//! private name for a number.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Largest metadata, as canonical text in bytes (contract, "Values").
const LENGTH_MAX: usize = 4 * 1024;
/// Objects and arrays in each other, with the outermost (contract, "Values"). Each level is read again from
/// its start.
const DEPTH_MAX: usize = 32;

/// The canonical text of the object `raw`.
///
/// # Errors
/// What would be right.
pub fn canonical(raw: &str) -> Result<String, String> {
    if !raw.starts_with('{') {
        return Err("must be a JSON object".to_owned());
    }
    let mut text = String::with_capacity(raw.len().min(LENGTH_MAX));
    write_value(raw, &mut text, 1)?;
    if text.len() > LENGTH_MAX {
        return Err(format!("must have at most {LENGTH_MAX} bytes without white space"));
    }
    Ok(text)
}

fn write_value(raw: &str, text: &mut String, depth: usize) -> Result<(), String> {
    match raw.as_bytes().first() {
        Some(b'{' | b'[') if depth > DEPTH_MAX => Err(format!("must be nested at most {DEPTH_MAX} deep")),
        Some(b'{') => write_object(raw, text, depth),
        Some(b'[') => write_array(raw, text, depth),
        Some(b'"') => write_string(raw, text),
        // Numbers, true, false, null: the text is the value.
        _ => {
            text.push_str(raw);
            Ok(())
        }
    }
}

fn write_object(raw: &str, text: &mut String, depth: usize) -> Result<(), String> {
    let Entries { sorted, doubled } = serde_json::from_str(raw).map_err(|error| unreadable(&error))?;
    if let Some(name) = doubled {
        // One of the two would be lost, and the client would not know which.
        return Err(format!("names {name:?} twice in one object"));
    }
    text.push('{');
    for (position, (name, value)) in sorted.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        push_string(name, text);
        text.push(':');
        write_value(value.get(), text, depth + 1)?;
    }
    text.push('}');
    Ok(())
}

fn write_array(raw: &str, text: &mut String, depth: usize) -> Result<(), String> {
    let values: Vec<&RawValue> = serde_json::from_str(raw).map_err(|error| unreadable(&error))?;
    text.push('[');
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        write_value(value.get(), text, depth + 1)?;
    }
    text.push(']');
    Ok(())
}

fn write_string(raw: &str, text: &mut String) -> Result<(), String> {
    let Text(value) = serde_json::from_str(raw).map_err(|error| unreadable(&error))?;
    push_string(&value, text);
    Ok(())
}

fn push_string(value: &str, text: &mut String) {
    text.push_str(&serde_json::to_string(value).expect("a text always serializes"));
}

fn unreadable(error: &serde_json::Error) -> String {
    format!("is not valid JSON: {error}")
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Entries<'a> {
    sorted: BTreeMap<Cow<'a, str>, &'a RawValue>,
    doubled: Option<String>,
}

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Entries { sorted: BTreeMap::new(), doubled: None };
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    if let Some(_first) = entries.sorted.insert(name.clone(), value) {
                        entries.doubled = Some(name.into_owned());
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_objects_have_equal_text() {
        for (raw, expected) in [
            ("{}", "{}"),
            (" {\n} ".trim(), "{}"),
            (
                r#"{ "b" : [ 1 , true , null ] , "a" : { "d":"x", "c" : 1.10 } }"#,
                r#"{"a":{"c":1.10,"d":"x"},"b":[1,true,null]}"#,
            ),
            (r#"{"\u0061":"\u00e9\/"}"#, r#"{"a":"é/"}"#),
            (r#"{"a":"\u0000\n"}"#, r#"{"a":"\u0000\n"}"#),
            // Numbers stay as they were written.
            (
                r#"{"a":123456789012345678901234567890.10,"b":1E400,"c":-0.0}"#,
                r#"{"a":123456789012345678901234567890.10,"b":1E400,"c":-0.0}"#,
            ),
            // Names with a meaning for serde_json have none here.
            (r#"{"$serde_json::private::Number":"1"}"#, r#"{"$serde_json::private::Number":"1"}"#),
            (r#"{"$serde_json::private::RawValue":"[1]"}"#, r#"{"$serde_json::private::RawValue":"[1]"}"#),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
            assert_eq!(canonical(expected).as_deref(), Ok(expected), "canonical text stays");
        }
    }

    #[test]
    fn what_is_no_small_object_is_refused_with_what_would_be_right() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(LENGTH_MAX));
        for (raw, needle) in [
            ("[]", "JSON object"),
            ("null", "JSON object"),
            ("\"x\"", "JSON object"),
            ("1", "JSON object"),
            (&deep, "deep"),
            (&large, "at most 4096 bytes"),
            (r#"{"a":1,"\u0061":2}"#, "\"a\" twice"),
            (r#"{"x":[{"a":1,"a":2}]}"#, "\"a\" twice"),
            (r#"{"a":"\ud800"}"#, "not valid JSON"),
        ] {
            let told = canonical(raw).unwrap_err();
            assert!(told.contains(needle), "{needle} in {told}");
        }
    }

    #[test]
    fn objects_and_arrays_are_nested_32_deep_whatever_is_in_the_innermost() {
        for inner in ["", "1", "\"x\""] {
            let arrays =
                |depth: usize| format!("{{\"a\":{}{inner}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
            assert!(canonical(&arrays(DEPTH_MAX)).is_ok(), "{inner:?}");
            assert!(canonical(&arrays(DEPTH_MAX + 1)).unwrap_err().contains("deep"), "{inner:?}");
        }
        let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(canonical(&objects(DEPTH_MAX)).is_ok());
        assert!(canonical(&objects(DEPTH_MAX + 1)).unwrap_err().contains("deep"));
    }

    #[test]
    fn the_limit_counts_bytes_of_canonical_text() {
        let fits = format!("{{\"a\":\"{}\"}}", "x".repeat(LENGTH_MAX - 8));
        assert_eq!(canonical(&fits).unwrap().len(), LENGTH_MAX);
        let padded = fits.replace(':', &format!(":{}", " ".repeat(1_000)));
        assert_eq!(canonical(&padded), Ok(fits));
    }
}
