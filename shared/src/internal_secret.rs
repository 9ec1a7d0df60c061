//! The secret between gateways, operators and nodes, while it changes.
//!
//! Processes reload at different moments. So for a while after a change the previous secret is accepted too.
//! A caller shows the newest secret first, and the previous one if that is refused. They understand each
//! other in whatever order they reload.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::config::Secret;

/// How long the previous secret is accepted and shown. A changed file reaches all pods of a Kubernetes
/// cluster within a minute and a half: the kubelet looks every 60 s, and up to a half later. A leaked secret
/// should not work much longer.
pub const PREVIOUS_VALID_FOR: Duration = Duration::from_mins(2);

/// The newest secret, and the previous one for a while.
#[derive(Debug)]
pub struct InternalSecret {
    known: RwLock<Known>,
}

#[derive(Debug)]
struct Known {
    newest: Secret,
    previous: Option<(Secret, Instant)>,
}

impl InternalSecret {
    /// Knows only this secret.
    pub fn new(secret: &Secret) -> Self {
        Self { known: RwLock::new(Known { newest: secret.clone(), previous: None }) }
    }

    /// Makes `newest` the newest secret. Returns whether it was another one before.
    pub fn replace(&self, newest: &Secret) -> bool {
        self.replace_at(newest, Instant::now())
    }

    /// Whether a caller who shows this is one of us. Takes constant time for each of the two.
    pub fn accepts(&self, shown: &[u8]) -> bool {
        self.accepts_at(shown, Instant::now())
    }

    /// The newest, for what is derived from it.
    pub fn newest(&self) -> Secret {
        self.known.read().unwrap_or_else(PoisonError::into_inner).newest.clone()
    }

    /// Whether the newest is still this one.
    pub fn is_newest(&self, secret: &Secret) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).newest == *secret
    }

    fn replace_at(&self, newest: &Secret, now: Instant) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let is_another = known.newest != *newest;
        if is_another {
            let before = std::mem::replace(&mut known.newest, newest.clone());
            known.previous = Some((before, now + PREVIOUS_VALID_FOR));
        }
        is_another
    }

    fn accepts_at(&self, shown: &[u8], now: Instant) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.newest.is(shown) | known.previous(now).is_some_and(|previous| previous.is(shown))
    }
}

impl Known {
    fn previous(&self, now: Instant) -> Option<&Secret> {
        self.previous.as_ref().filter(|(_, until)| now < *until).map(|(secret, _)| secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_before_the_newest_is_accepted_for_a_while_and_no_older_one_is() {
        let [first, second, third] = ["first", "second", "third"].map(Secret::new);
        let secret = InternalSecret::new(&first);
        let start = Instant::now();
        let accepted =
            |at| ["first", "second", "third", ""].map(|shown| secret.accepts_at(shown.as_bytes(), at));
        assert_eq!(accepted(start), [true, false, false, false]);
        secret.replace_at(&second, start);
        assert_eq!(accepted(start), [true, true, false, false]);
        // The same again is no change: the old one does not live longer.
        let end = start + PREVIOUS_VALID_FOR;
        secret.replace_at(&second, end);
        assert_eq!(accepted(end), [false, true, false, false]);
        secret.replace_at(&third, end);
        assert_eq!(accepted(end), [false, true, true, false]);
    }
}
