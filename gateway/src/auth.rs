//! Who calls, and what they may do.
//!
//! Only digests are kept. A key is 256 random bits, so one SHA-256 is enough, and its comparison takes the same
//! time whichever key was shown and however much of it was right.

use std::num::NonZeroU32;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{ApiKey, Rate};
use crate::problem::Problem;

static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Move money, make users.
    Write,
    /// Look.
    Read,
    /// Both, and whatever else there will be.
    Admin,
}

impl Scope {
    /// The word in `gateway.toml` and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// The scope with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Write, Self::Read, Self::Admin].into_iter().find(|scope| scope.as_str() == word)
    }
}

/// The keys that are known, each with its own rate limit.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<KnownKey>,
}

#[derive(Debug)]
struct KnownKey {
    key: ApiKey,
    limiter: Option<DefaultDirectRateLimiter>,
}

impl KeyRing {
    /// Takes the keys of the configuration.
    pub fn new(keys: &[ApiKey]) -> Self {
        let known = |key: &ApiKey| KnownKey { key: key.clone(), limiter: key.rate.map(limiter) };
        Self { keys: keys.iter().map(known).collect() }
    }

    /// Lets a request pass that shows a key with `scope` which has not called too often.
    ///
    /// # Errors
    /// 401 without a known key, 403 when it lacks the scope, 429 when it called too often; checked in this order, so
    /// that a key which may not call uses up no allowance.
    pub fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<(), Problem> {
        let shown = shown_key(headers)?.ok_or_else(Problem::key_missing)?;
        let known = self.find(shown).ok_or_else(Problem::key_unknown)?;
        let scopes = &known.key.scopes;
        if !scopes.contains(&scope) && !scopes.contains(&Scope::Admin) {
            return Err(Problem::scope_missing(scope));
        }
        let Some(limiter) = &known.limiter else { return Ok(()) };
        limiter.check().map_err(|not_until| {
            Problem::rate_limited(not_until.wait_time_from(DefaultClock::default().now()))
        })
    }

    /// Compares with every digest and never stops early: the time tells nothing about which one matched.
    fn find(&self, shown: &[u8]) -> Option<&KnownKey> {
        let digest: [u8; 32] = Sha256::digest(shown).into();
        let mut found = None;
        for known in &self.keys {
            if bool::from(known.key.digest.ct_eq(&digest)) {
                found = Some(known);
            }
        }
        found
    }
}

fn limiter(rate: Rate) -> DefaultDirectRateLimiter {
    let per_second: NonZeroU32 = rate.per_second;
    RateLimiter::direct(Quota::per_second(per_second).allow_burst(rate.burst))
}

/// `X-API-Key`, else `Authorization: Bearer`, whose scheme is written in any case (RFC 9110, section 11.1). Of two lines
/// nobody knows which one counts for whoever else looks at the request: a proxy, a log.
fn shown_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let api_key = only_value(headers, &X_API_KEY)?;
    let authorization = only_value(headers, &header::AUTHORIZATION)?;
    if api_key.is_some() {
        return Ok(api_key);
    }
    Ok(authorization.and_then(bearer_token))
}

fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
}

fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first.map(HeaderValue::as_bytes)),
        (_, Some(_)) => Err(Problem::key_twice()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Code;

    fn key(name: &str, secret: &str, scopes: &[Scope], per_second: Option<u32>) -> ApiKey {
        let number = |n| NonZeroU32::new(n).unwrap();
        ApiKey {
            name: name.into(),
            digest: Sha256::digest(secret).into(),
            scopes: scopes.to_vec(),
            rate: per_second.map(|n| Rate { per_second: number(n), burst: number(n) }),
        }
    }

    fn ring() -> KeyRing {
        KeyRing::new(&[
            key("reader", "r-key", &[Scope::Read], None),
            key("writer", "w-key", &[Scope::Write], None),
            key("admin", "a-key", &[Scope::Admin], None),
            key("slow", "s-key", &[Scope::Read], Some(2)),
        ])
    }

    fn ask(ring: &KeyRing, header: &'static str, value: &str, scope: Scope) -> Option<Code> {
        let mut headers = HeaderMap::new();
        headers.insert(header, HeaderValue::from_str(value).unwrap());
        ring.admit(&headers, scope).err().map(|problem| problem.code())
    }

    #[test]
    fn a_key_may_do_what_its_scopes_say() {
        let ring = ring();
        for (secret, scope, expected) in [
            ("r-key", Scope::Read, None),
            ("r-key", Scope::Write, Some(Code::Forbidden)),
            ("w-key", Scope::Write, None),
            ("w-key", Scope::Read, Some(Code::Forbidden)),
            ("a-key", Scope::Read, None),
            ("a-key", Scope::Write, None),
            ("r-key ", Scope::Read, Some(Code::Unauthorized)),
            ("R-KEY", Scope::Read, Some(Code::Unauthorized)),
            ("", Scope::Read, Some(Code::Unauthorized)),
        ] {
            assert_eq!(ask(&ring, "x-api-key", secret, scope), expected, "{secret:?} {scope:?}");
        }
    }

    #[test]
    fn a_bearer_token_is_a_key_too() {
        let ring = ring();
        for (value, expected) in [
            ("Bearer r-key", None),
            ("bearer r-key", None),
            ("Bearer  r-key ", None),
            ("Basic r-key", Some(Code::Unauthorized)),
            ("Bearer", Some(Code::Unauthorized)),
            ("Bearer ", Some(Code::Unauthorized)),
            ("r-key", Some(Code::Unauthorized)),
        ] {
            assert_eq!(ask(&ring, "authorization", value, Scope::Read), expected, "{value:?}");
        }
        assert_eq!(
            ring.admit(&HeaderMap::new(), Scope::Read).unwrap_err().code(),
            Code::Unauthorized,
            "no key at all"
        );
    }

    #[test]
    fn two_lines_of_a_key_are_refused_whichever_of_them_is_right() {
        let ring = ring();
        for lines in [
            [("x-api-key", "r-key"), ("x-api-key", "wrong")],
            [("x-api-key", "wrong"), ("x-api-key", "r-key")],
            [("x-api-key", "r-key"), ("x-api-key", "r-key")],
            [("authorization", "Bearer r-key"), ("authorization", "Bearer wrong")],
            [("authorization", "Basic x"), ("authorization", "Bearer r-key")],
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name, HeaderValue::from_static(value));
            }
            let refused = ring.admit(&headers, Scope::Read).err().map(|problem| problem.code());
            assert_eq!(refused, Some(Code::Unauthorized), "{lines:?}");
        }
    }

    #[test]
    fn a_key_that_calls_too_often_is_told_when_to_come_back() {
        let ring = ring();
        assert_eq!(ask(&ring, "x-api-key", "s-key", Scope::Write), Some(Code::Forbidden), "uses up nothing");
        assert_eq!(ask(&ring, "x-api-key", "s-key", Scope::Read), None);
        assert_eq!(ask(&ring, "x-api-key", "s-key", Scope::Read), None);
        assert_eq!(ask(&ring, "x-api-key", "s-key", Scope::Read), Some(Code::RateLimited));
        assert_eq!(ask(&ring, "x-api-key", "r-key", Scope::Read), None, "other keys do not mind");
    }
}
