//! The parameters of a query string, read as strictly as a body. Unknown ones are refused by name; all errors
//! are reported at once, with those of path and headers.

use std::borrow::Cow;
use std::convert::Infallible;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use picopay_shared::id::TransactionId;
use picopay_shared::slot::{UserId, UserIdError};

use crate::fields::{NO_UUID, hyphenated_uuid};
use crate::problem::{ERRORS_MAX, FieldError, Problem};

const NOT_DECODABLE: &str = "must be UTF-8, percent-encoded (RFC 3986)";

/// The parameters of the path, decoded; nothing when they are not UTF-8. (axum's own refusal is not
/// problem+json.)
#[derive(Debug)]
pub struct PathParameters(Option<RawPathParams>);

impl PathParameters {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathParameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self(RawPathParams::from_request_parts(parts, state).await.ok()))
    }
}

#[derive(Debug)]
pub struct Parameters<'a> {
    values: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    errors: Vec<FieldError>,
}

impl<'a> Parameters<'a> {
    /// Splits a query string. `known` are the parameters that it may have.
    pub fn read(query: Option<&'a str>, known: &[&str]) -> Self {
        let mut parameters = Self { values: Vec::new(), errors: Vec::new() };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some((name, value)) = percent_decode(name).zip(percent_decode(value)) else {
                parameters.add(name, NOT_DECODABLE);
                continue;
            };
            if !known.contains(&name.as_ref()) {
                let detail = match known {
                    [] => "unknown parameter; there are none".to_owned(),
                    known => format!("unknown parameter; there are {}", known.join(", ")),
                };
                parameters.add(&name, detail);
            } else if parameters.values.iter().any(|(other, _)| *other == name) {
                parameters.add(&name, "the parameter is given twice");
            } else {
                parameters.values.push((name, value));
            }
        }
        parameters
    }

    /// For a route without parameters.
    ///
    /// # Errors
    /// Names every parameter there is.
    pub fn refuse_all(query: Option<&str>) -> Result<(), Problem> {
        Parameters::read(query, &[]).finish(Some(()))
    }

    pub fn required<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        if !self.values.iter().any(|(other, _)| other == name) {
            self.add(name, "the parameter is missing");
        }
        self.optional(name, read)
    }

    pub fn optional<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let (_, value) = self.values.iter().find(|(other, _)| other == name)?;
        match read(value) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.add(name, detail);
                None
            }
        }
    }

    /// Reads a value in the path; `None` when it was not UTF-8.
    pub fn in_path<T>(
        &mut self,
        name: &str,
        text: Option<&str>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let read = text.ok_or_else(|| NOT_DECODABLE.to_owned()).and_then(read);
        read.map_err(|detail| self.add(name, detail)).ok()
    }

    /// Reads the `id` in the path, which may be one that is not of our making.
    pub fn id_in_path(&mut self, path: &PathParameters) -> Option<TransactionId> {
        let read = |text: &str| hyphenated_uuid(text).ok_or_else(|| NO_UUID.to_owned());
        self.in_path("id", path.get("id"), read).map(TransactionId::from_uuid)
    }

    pub fn add(&mut self, name: &str, detail: impl Into<String>) {
        self.push(FieldError::in_parameter(name, detail));
    }

    pub fn add_header(&mut self, name: &str, detail: impl Into<String>) {
        self.push(FieldError::in_header(name, detail));
    }

    /// Records headers that are sent twice but may have one line only. Reads ignore them, but nobody knows
    /// which one counts.
    pub fn refuse_doubled_headers(&mut self, headers: &HeaderMap) {
        for name in ["Idempotency-Key", "Content-Type"] {
            if headers.get_all(name).iter().nth(1).is_some() {
                self.add_header(name, "the header is sent twice");
            }
        }
    }

    fn push(&mut self, error: FieldError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        }
    }

    /// Returns what was read from the body too, if nothing was wrong with either.
    ///
    /// # Errors
    /// Everything that was wrong.
    pub fn finish_with_body<T>(self, read: Result<T, Problem>) -> Result<T, Problem> {
        if self.errors.is_empty() {
            return read;
        }
        let mut errors = self.errors;
        if let Err(problem) = read {
            errors.extend(problem.into_errors());
        }
        Err(Problem::invalid_request(errors))
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
}

/// `%` needs two hexadecimal digits, and the result must be UTF-8. `+` is itself, as in any URI (RFC 3986):
/// no value has spaces, and few clients encode the plus of a time's offset.
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let mut byte = [0];
            hex::decode_to_slice(digits, &mut byte).ok()?;
            bytes.push(byte[0]);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

pub fn user_id(text: &str) -> Result<UserId, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let id = if is_plain { text.parse::<i64>().ok() } else { None };
    id.and_then(|id| UserId::try_from(id).ok()).ok_or_else(|| UserIdError.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["user_id", "kind"];

    fn told(query: &str) -> Vec<String> {
        let mut parameters = Parameters::read(Some(query), &KNOWN);
        let user = parameters.required("user_id", user_id);
        let _kind = parameters.optional("kind", |text| Ok(text.to_owned()));
        let Err(problem) = parameters.finish(user) else { return Vec::new() };
        let body: serde_json::Value = serde_json::from_slice(&problem.body("r", "http://x")).unwrap();
        let error = |error: &serde_json::Value| {
            format!("{} {}", error["parameter"].as_str().unwrap(), error["detail"].as_str().unwrap())
        };
        body["errors"].as_array().unwrap().iter().map(error).collect()
    }

    #[test]
    fn what_is_right_is_taken() {
        for query in
            ["user_id=1", "kind=charge&user_id=42", "&user_id=1&", "user%5Fid=%31", "user_id=1&kind="]
        {
            assert_eq!(told(query), Vec::<String>::new(), "{query}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        for (query, expected) in [
            ("", vec!["user_id the parameter is missing"]),
            ("user_id=1&user_id=1", vec!["user_id the parameter is given twice"]),
            ("user_id=1&User_id=1", vec!["User_id unknown parameter; there are user_id, kind"]),
            ("user_id=1&x", vec!["x unknown parameter"]),
            ("user_id=1&user%5Fid=2", vec!["user_id the parameter is given twice"]),
            ("user_id=%2", vec!["user_id must be UTF-8", "user_id the parameter is missing"]),
            ("user_id=1&kind=%ff", vec!["kind must be UTF-8"]),
            ("user_id=1&kind=%+1", vec!["kind must be UTF-8"]),
            ("user_id=x&y=1", vec!["y unknown", "user_id a user_id is"]),
        ] {
            let told = told(query);
            assert_eq!(told.len(), expected.len(), "{query} gave {told:?}");
            for (told, expected) in told.iter().zip(expected) {
                assert!(told.starts_with(expected), "{query} gave {told}");
            }
        }
    }

    #[test]
    fn values_are_decoded_and_a_plus_is_a_plus() {
        assert_eq!(percent_decode("2026-01-01T00%3A00%3A00%2b01:00").unwrap(), "2026-01-01T00:00:00+01:00");
        assert_eq!(percent_decode("a+b%20c").unwrap(), "a+b c");
        assert_eq!(percent_decode("%C3%A9").unwrap(), "é");
        assert_eq!(percent_decode("%2565").unwrap(), "%65", "decoded once");
        for text in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_route_without_parameters_names_each_that_it_is_given() {
        for query in [None, Some(""), Some("&")] {
            assert!(Parameters::refuse_all(query).is_ok(), "{query:?}");
        }
        let told = |query| Parameters::refuse_all(Some(query)).unwrap_err().body("r", "");
        let told = String::from_utf8(told("dry%5Frun=true&x&dry_run=1")).unwrap();
        assert_eq!(told.matches(r#""parameter":"dry_run""#).count(), 2, "{told}");
        assert!(told.contains(r#""parameter":"x""#), "{told}");
        let many = vec!["a"; 4_000].join("&");
        let told = Parameters::refuse_all(Some(&many)).unwrap_err().into_errors();
        assert_eq!(told.len(), ERRORS_MAX);
    }

    #[test]
    fn what_is_wrong_with_query_and_body_is_told_together() {
        let in_body = || Err::<(), _>(Problem::invalid_request(vec![FieldError::in_field("amount", "no")]));
        let query = |query| Parameters::read(Some(query), &[]);
        assert_eq!(query("").finish_with_body(in_body()).unwrap_err().into_errors().len(), 1);
        assert_eq!(query("x=1").finish_with_body(in_body()).unwrap_err().into_errors().len(), 2);
        assert_eq!(query("x=1").finish_with_body(Ok(())).unwrap_err().into_errors().len(), 1);
        assert!(query("").finish_with_body(Ok(())).is_ok());
    }

    #[test]
    fn a_user_id_is_plain_digits() {
        for text in ["1", "9223372036854775807"] {
            assert!(user_id(text).is_ok(), "{text}");
        }
        for text in ["", "0", "01", "+1", "-1", "1.0", "1e0", " 1", "9223372036854775808", "one", "١"] {
            assert!(user_id(text).is_err(), "{text}");
        }
    }
}
