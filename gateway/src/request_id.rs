//! The id of a request, in every answer and in the log: the client's own, or a new one.

use axum::http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::header_names::X_REQUEST_ID;

/// Longest id that a client may choose, in characters. Refusals record it and logs contain it.
const LENGTH_MAX: usize = 128;

/// 1 to 128 of `A–Z a–z 0–9 . _ ~ : -`, none of which has a meaning in a URI (`instance` is one) or in a log.
/// A header value, because cloning one costs nothing.
#[derive(Debug, Clone)]
pub struct RequestId(HeaderValue);

impl RequestId {
    pub fn take_or_make(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(&X_REQUEST_ID).iter();
        match (values.next(), values.next()) {
            (Some(value), None) if is_usable(value) => Self(value.clone()),
            _ => Self::make(),
        }
    }

    fn make() -> Self {
        // The thread's own generator: a system call per request would be a waste for an id that guards
        // nothing.
        let uuid = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        let mut buffer = Uuid::encode_buffer();
        let text = uuid.hyphenated().encode_lower(&mut buffer);
        Self(HeaderValue::from_str(text).expect("hexadecimal digits and hyphens"))
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("visible ASCII, checked when it was taken")
    }

    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_usable(value: &HeaderValue) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._~:-".contains(byte);
    (1..=LENGTH_MAX).contains(&value.len()) && value.as_bytes().iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(value: &[u8]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID.clone(), HeaderValue::from_bytes(value).unwrap());
        RequestId::take_or_make(&headers).as_str().as_bytes() == value
    }

    #[test]
    fn a_usable_id_is_taken_over_and_any_other_replaced() {
        let longest = [b'x'; LENGTH_MAX];
        for value in [b"a".as_slice(), b"550e8400-e29b-41d4-a716-446655440000", b"Az09._~:-", &longest] {
            assert!(taken(value), "{value:?}");
        }
        let too_long = [b'x'; LENGTH_MAX + 1];
        for value in [b"".as_slice(), b"a b", b"a\tb", "ü".as_bytes(), &too_long] {
            assert!(!taken(value), "{value:?}");
        }
        // Everything with a meaning in a URI or a log.
        for byte in (b'!'..=b'~').filter(|byte| !byte.is_ascii_alphanumeric() && !b"._~:-".contains(byte)) {
            assert!(!taken(&[b'a', byte]), "{}", char::from(byte));
        }
        let mut twice = HeaderMap::new();
        for value in ["a", "b"] {
            twice.append(X_REQUEST_ID.clone(), HeaderValue::from_static(value));
        }
        assert_eq!(RequestId::take_or_make(&twice).as_str().len(), 36);
    }

    #[test]
    fn ids_made_here_differ() {
        let made = || RequestId::take_or_make(&HeaderMap::new()).as_str().to_owned();
        assert_ne!(made(), made());
        assert_eq!(made().len(), 36);
    }
}
