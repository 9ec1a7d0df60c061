//! One caller, as `gateway.toml` names it. The file holds a digest of the key, never the key.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::rfc3339::read_unix_ms;
use crate::scope::Scope;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    unix_ms: i64,
}

impl Expiry {
    pub fn parse(text: &str) -> Option<Self> {
        read_unix_ms(text).ok().map(|unix_ms| Self { unix_ms })
    }

    pub fn is_over(self, now: SystemTime) -> bool {
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_1970.as_millis()).is_ok_and(|now_ms| now_ms >= self.unix_ms)
    }
}

impl std::fmt::Display for Expiry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The library's times end some hours before the year 9999 does; such a key never ends.
        Timestamp::from_millisecond(self.unix_ms).unwrap_or(Timestamp::MAX).fmt(formatter)
    }
}

/// One caller. Only the digest of its key is known here.
#[derive(Clone, PartialEq)]
pub struct ApiKey {
    pub name: Arc<str>,
    /// SHA-256 of the key: 256 random bits need no slow hash.
    pub digest: [u8; 32],
    /// Of a certificate that stands for the key, as in RFC 4514: `CN=shop,O=Example`.
    pub client_subject: Option<Arc<str>>,
    pub scopes: Vec<Scope>,
    /// When it stops working; `None` for never.
    pub expires_at: Option<Expiry>,
    /// How often it may call; `None` for no limit.
    pub rate: Option<Rate>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ApiKey")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: NonZeroU32,
    /// Requests at once after a pause; as many as a second allows, unless the file says otherwise.
    pub burst: NonZeroU32,
}

/// Reads a digest as `gateway.toml` writes it: `sha256:` and 64 hexadecimal digits.
pub fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text.strip_prefix("sha256:")?, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_over_from_its_very_moment_on() {
        let at = |ms| SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(ms);
        let expiry = Expiry::parse("1970-01-01T00:00:01Z").unwrap();
        assert!(!expiry.is_over(at(999)) && expiry.is_over(at(1_000)));
    }
}
