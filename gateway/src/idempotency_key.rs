//! The idempotency key of an operation: the client's own, or a new one.

use axum::http::HeaderMap;
use uuid::Uuid;

use crate::fields::hyphenated_uuid;
use crate::header_names::IDEMPOTENCY_KEY;
use crate::problem::Problem;

/// The key of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub uuid: Uuid,
    /// Whether the client sent it.
    pub is_client_key: bool,
}

impl Key {
    /// A new one, for the gateway's own retries.
    pub fn make() -> Self {
        Self { uuid: uuid::Builder::from_random_bytes(rand::random()).into_uuid(), is_client_key: false }
    }

    /// The client's own key: one UUID, bare or in quotes.
    ///
    /// # Errors
    /// 400.
    pub fn read(text: &str) -> Result<Self, Problem> {
        let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let uuid = hyphenated_uuid(bare).ok_or_else(|| {
            Problem::invalid_idempotency_key(
                "send one UUID with hyphens, bare or in double quotes, or leave it out",
            )
        })?;
        if uuid.is_nil() {
            // A program that forgot to make a key sends this. Its second order would be taken for a retry of
            // the first.
            return Err(Problem::invalid_idempotency_key(
                "the nil UUID stands for no operation; make a new one",
            ));
        }
        Ok(Self { uuid, is_client_key: true })
    }
}

/// The client's key, or a new one.
///
/// # Errors
/// 400.
pub fn read_key(headers: &HeaderMap) -> Result<Key, Problem> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(Key::make()),
        (Some(value), None) => Key::read(value.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Err(Problem::invalid_idempotency_key("the header is sent twice")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_one_uuid_bare_or_in_quotes() {
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        for value in [uuid, &format!("\"{uuid}\""), &uuid.to_uppercase()] {
            let key = read_key(&headers("idempotency-key", &[value])).unwrap();
            assert_eq!((key.uuid.to_string().as_str(), key.is_client_key), (uuid, true), "{value}");
        }
        for values in [
            vec![""],
            vec!["x"],
            vec!["\""],
            vec![&uuid[1..]],
            vec!["550e8400e29b41d4a716446655440000"],
            vec!["'550e8400-e29b-41d4-a716-446655440000'"],
            vec!["\"550e8400-e29b-41d4-a716-446655440000"],
            vec![uuid, uuid],
            vec!["00000000-0000-0000-0000-000000000000"],
            vec!["\"00000000-0000-0000-0000-000000000000\""],
        ] {
            assert!(read_key(&headers("idempotency-key", &values)).is_err(), "{values:?}");
        }
        let made = || read_key(&HeaderMap::new()).unwrap();
        assert!(made().uuid != made().uuid && !made().is_client_key);
        assert_eq!(made().uuid.get_version_num(), 4);
    }
}
