//! One caller, as `gateway.toml` names it: by the digest of a key, never by the key.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::rfc3339::read_unix_ms;
use crate::scope::Scope;

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    unix_ms: i64,
}

impl Expiry {
    /// Reads an RFC 3339 time.
    pub fn parse(text: &str) -> Option<Self> {
        read_unix_ms(text).ok().map(|unix_ms| Self { unix_ms })
    }

    /// Whether it has come.
    pub fn is_over(self, now: SystemTime) -> bool {
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_1970.as_millis()).is_ok_and(|now_ms| now_ms >= self.unix_ms)
    }
}

/// In UTC.
impl std::fmt::Display for Expiry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The last hours of the year 9999 are beyond the library's times: as good as never.
        Timestamp::from_millisecond(self.unix_ms).unwrap_or(Timestamp::MAX).fmt(formatter)
    }
}

/// One caller. The key itself is known to nobody here, only its digest.
#[derive(Clone, PartialEq)]
pub struct ApiKey {
    /// What the log and the ledger call it.
    pub name: Arc<str>,
    /// SHA-256 of the key: 256 random bits need no slow hash.
    pub digest: [u8; 32],
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// From when on it opens nothing; `None` for never.
    pub expires_at: Option<Expiry>,
    /// How often it may call; `None` is as often as it can.
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

/// How often a key may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, on average.
    pub per_second: NonZeroU32,
    /// Requests at once after a pause. As many as a second allows, unless the file says otherwise.
    pub burst: NonZeroU32,
}

/// Reads a digest as `gateway.toml` has it: `sha256:` and 64 hexadecimal digits.
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
