//! API keys: who calls, and what they may do.
//!
//! Only digests are kept. A key is 256 random bits, so one SHA-256 is enough. The comparison takes the same
//! time for every key.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::info;

use crate::header_names::X_API_KEY;
use crate::problem::Problem;
use picopay_gateway_config::{ApiKey, Rate, Scope};
use picopay_shard_client::journey;

/// The known keys, each with its own rate limit. A reload replaces them.
#[derive(Debug)]
pub struct KeyRing {
    keys: ArcSwap<Vec<Arc<KnownKey>>>,
}

/// Who shows a known key that is in force.
#[derive(Debug, Clone)]
pub struct Caller(Arc<KnownKey>);

#[derive(Debug)]
struct KnownKey {
    key: ApiKey,
    /// Shared with the previous ring, so that a reload gives nobody a new allowance.
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
    stand_in: Option<StandIn>,
}

/// What a request carries whose client showed a certificate instead of a key: a key that this process has made up, and
/// that nobody else ever sees.
#[derive(Debug)]
struct StandIn {
    subject: Arc<str>,
    shown: HeaderValue,
    digest: [u8; 32],
}

impl StandIn {
    fn of(key: &ApiKey) -> Option<Self> {
        let subject = Arc::clone(key.client_subject.as_ref()?);
        let secret = hex::encode(rand::random::<[u8; 32]>());
        let mut shown = HeaderValue::from_str(&secret).expect("hexadecimal digits");
        shown.set_sensitive(true);
        Some(Self { subject, digest: Sha256::digest(&secret).into(), shown })
    }
}

impl KeyRing {
    pub fn new(keys: &[ApiKey]) -> Self {
        let known = |key: &ApiKey| KnownKey {
            key: key.clone(),
            stand_in: StandIn::of(key),
            limiter: key.rate.map(|rate| Arc::new(limiter(rate))),
        };
        Self { keys: ArcSwap::from_pointee(keys.iter().map(known).map(Arc::new).collect()) }
    }

    pub fn replace(&self, keys: &[ApiKey]) {
        let before = self.keys.load();
        let known = |key: &ApiKey| {
            let same =
                before.iter().find(|known| known.key.digest == key.digest && known.key.rate == key.rate);
            let kept = same.and_then(|known| known.limiter.clone());
            KnownKey {
                key: key.clone(),
                stand_in: StandIn::of(key),
                limiter: kept.or_else(|| key.rate.map(|rate| Arc::new(limiter(rate)))),
            }
        };
        self.keys.store(Arc::new(keys.iter().map(known).map(Arc::new).collect()));
    }

    /// Has a request without any key go by the one that the subject of its client's certificate stands for.
    pub fn stand_in(&self, subject: &str, headers: &mut HeaderMap) {
        if headers.contains_key(&X_API_KEY) || headers.contains_key(header::AUTHORIZATION) {
            return;
        }
        let keys = self.keys.load();
        let mut stand_ins = keys.iter().filter_map(|known| known.stand_in.as_ref());
        if let Some(found) = stand_ins.find(|stand_in| &*stand_in.subject == subject) {
            headers.insert(X_API_KEY.clone(), found.shown.clone());
        }
    }

    /// Admits a request that shows a key with one of the scopes `needed`, and returns the key's name.
    ///
    /// # Errors
    /// 401 without a known key or with an expired one, and those of [`Caller::admit`].
    pub fn admit(&self, headers: &HeaderMap, needed: &[Scope]) -> Result<Arc<str>, Problem> {
        self.identify(headers)?.admit(needed)
    }

    /// Tells who calls, whatever that key may do.
    ///
    /// # Errors
    /// 401.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let shown = shown_key(headers)?.ok_or_else(Problem::key_missing)?;
        let keys = self.keys.load();
        let known = find(&keys, shown).ok_or_else(Problem::key_unknown)?;
        journey::note(|journey| journey.key_name = Some(Arc::clone(&known.key.name)));
        if known.key.expires_at.is_some_and(|expires_at| expires_at.is_over(SystemTime::now())) {
            return Err(known.refused(Problem::key_expired()));
        }
        Ok(Caller(Arc::clone(known)))
    }
}

impl Caller {
    /// Admits one operation, and returns the key's name.
    ///
    /// # Errors
    /// 403 when the key lacks the scopes, 429 when it called too often. They are checked in this order, so
    /// that a key without the scope uses up no allowance.
    pub fn admit(&self, needed: &[Scope]) -> Result<Arc<str>, Problem> {
        let Self(known) = self;
        let ApiKey { name, scopes, .. } = &known.key;
        if !needed.iter().any(|needed| scopes.iter().any(|scope| scope.includes(*needed))) {
            return Err(known.refused(Problem::scope_missing(needed)));
        }
        let Some(limiter) = &known.limiter else { return Ok(Arc::clone(name)) };
        limiter.check().map_err(|not_until| {
            known.refused(Problem::rate_limited(not_until.wait_time_from(DefaultClock::default().now())))
        })?;
        Ok(Arc::clone(name))
    }
}

impl KnownKey {
    fn refused(&self, problem: Problem) -> Problem {
        info!(key = &*self.key.name, code = problem.code().suffix(), "a call was refused");
        problem
    }
}

/// Compares with every digest and never stops early, so that the time tells nothing about the match.
fn find<'a>(keys: &'a [Arc<KnownKey>], shown: &[u8]) -> Option<&'a Arc<KnownKey>> {
    let digest: [u8; 32] = Sha256::digest(shown).into();
    let mut found = None;
    for known in keys {
        let stands_in = known.stand_in.as_ref().is_some_and(|stand_in| stand_in.digest.ct_eq(&digest).into());
        if bool::from(known.key.digest.ct_eq(&digest)) || stands_in {
            found = Some(known);
        }
    }
    found
}

fn limiter(rate: Rate) -> DefaultDirectRateLimiter {
    let per_second: NonZeroU32 = rate.per_second;
    RateLimiter::direct(Quota::per_second(per_second).allow_burst(rate.burst))
}

/// `X-API-Key`, else `Authorization: Bearer`, whose scheme may be in any case (RFC 9110, section 11.1). Two
/// lines are refused: a proxy or a log may take the other one.
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
    use picopay_gateway_config::Expiry;

    use crate::problem::Code;

    fn key(name: &str, secret: &str, scopes: &[Scope], per_second: Option<u32>) -> ApiKey {
        let number = |n| NonZeroU32::new(n).unwrap();
        ApiKey {
            name: name.into(),
            digest: Sha256::digest(secret).into(),
            client_subject: None,
            scopes: scopes.to_vec(),
            expires_at: None,
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
        ring.admit(&headers, &[scope]).err().map(|problem| problem.code())
    }

    #[test]
    fn a_key_may_do_what_its_scopes_say() {
        let ring = ring();
        for (secret, scope, expected) in [
            ("r-key", Scope::Read, None),
            ("r-key", Scope::Charge, Some(Code::Forbidden)),
            ("w-key", Scope::Charge, None),
            ("w-key", Scope::Read, Some(Code::Forbidden)),
            ("a-key", Scope::Read, None),
            ("a-key", Scope::TopUp, None),
            ("r-key ", Scope::Read, Some(Code::Unauthorized)),
            ("R-KEY", Scope::Read, Some(Code::Unauthorized)),
            ("", Scope::Read, Some(Code::Unauthorized)),
        ] {
            assert_eq!(ask(&ring, "x-api-key", secret, scope), expected, "{secret:?} {scope:?}");
        }
    }

    #[test]
    fn each_scope_opens_what_it_names_and_no_more() {
        for granted in Scope::ALL {
            let ring = KeyRing::new(&[key("k", "k", &[granted], None)]);
            let mut headers = HeaderMap::new();
            headers.insert("x-api-key", HeaderValue::from_static("k"));
            let may = |needed: &[Scope]| ring.admit(&headers, needed).is_ok();
            for needed in Scope::MOVING {
                let expected = granted == needed || [Scope::Write, Scope::Admin].contains(&granted);
                assert_eq!(may(&[needed]), expected, "{granted:?} for {needed:?}");
            }
            assert_eq!(may(&[Scope::Read]), [Scope::Read, Scope::Admin].contains(&granted), "{granted:?}");
            assert_eq!(may(&[Scope::Admin]), granted == Scope::Admin, "{granted:?}");
            assert_eq!(may(&Scope::MOVING), granted != Scope::Read, "{granted:?} makes users");
        }
    }

    #[test]
    fn a_key_is_good_until_it_expires() {
        let expiring = |text: &str| {
            let expires_at = Some(Expiry::parse(text).unwrap());
            KeyRing::new(&[ApiKey { expires_at, ..key("k", "k-key", &[Scope::Read], None) }])
        };
        let ask = |text| ask(&expiring(text), "x-api-key", "k-key", Scope::Read);
        assert_eq!(ask("2000-01-01T00:00:00Z"), Some(Code::Unauthorized));
        assert_eq!(ask("9999-12-31T23:59:59Z"), None);
    }

    #[test]
    fn changed_keys_are_in_force_at_once_and_nobody_gets_a_new_allowance() {
        let ring = ring();
        let ask = |secret, scope| ask(&ring, "x-api-key", secret, scope);
        while ask("s-key", Scope::Read).is_none() {}
        ring.replace(&[
            key("slow", "s-key", &[Scope::Read], Some(2)),
            key("new", "n-key", &[Scope::Refund], None),
        ]);
        assert_eq!(ask("s-key", Scope::Read), Some(Code::RateLimited));
        assert_eq!(ask("n-key", Scope::Refund), None);
        for revoked in ["r-key", "w-key", "a-key"] {
            assert_eq!(ask(revoked, Scope::Read), Some(Code::Unauthorized), "{revoked}");
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
            ring.admit(&HeaderMap::new(), &[Scope::Read]).unwrap_err().code(),
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
            let refused = ring.admit(&headers, &[Scope::Read]).err().map(|problem| problem.code());
            assert_eq!(refused, Some(Code::Unauthorized), "{lines:?}");
        }
    }

    #[test]
    fn a_key_that_calls_too_often_is_told_when_to_come_back() {
        let ring = ring();
        assert_eq!(ask(&ring, "x-api-key", "s-key", Scope::Charge), Some(Code::Forbidden), "uses up nothing");
        assert_eq!(ask(&ring, "x-api-key", "s-key", Scope::Read), None);
        assert_eq!(ask(&ring, "x-api-key", "s-key", Scope::Read), None);
        assert_eq!(ask(&ring, "x-api-key", "s-key", Scope::Read), Some(Code::RateLimited));
        assert_eq!(ask(&ring, "x-api-key", "r-key", Scope::Read), None, "other keys do not mind");
    }
}
