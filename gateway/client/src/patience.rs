//! How long a client tries, and how often.

use std::time::Duration;

use uuid::Uuid;

/// How long a client tries, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the first attempt to the end of the last one. Longer than a failover (some 15 s with Patroni's
    /// usual settings), so that most callers never notice one.
    pub deadline: Duration,
    /// For one attempt: the gateway's own deadline is 5 s, and its "unknown" should still arrive.
    pub attempt: Duration,
    /// How many attempts there are at most.
    pub attempts_max: u32,
    /// The pause before the second attempt; it doubles for each later one. `Retry-After` makes it longer.
    pub first_pause: Duration,
    /// The longest pause: many clients wait for the same shard, and must not overload it.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            attempt: Duration::from_secs(8),
            attempts_max: u32::MAX,
            first_pause: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
        }
    }
}

impl Patience {
    /// One attempt, and no second.
    pub fn none() -> Self {
        Self { attempts_max: 1, ..Self::default() }
    }

    /// The pause after so many attempts: between half and all of the backoff, so that clients that failed
    /// together do not return together. Never shorter than the gateway asked for.
    pub(crate) fn pause_after(&self, attempts: u32, retry_after: Option<Duration>) -> Duration {
        let factor = 2_u32.saturating_pow(attempts.saturating_sub(1));
        let longest = self.first_pause.saturating_mul(factor).min(self.pause_max);
        let pause = longest.mul_f64(0.5 + random_unit() / 2.0);
        pause.max(retry_after.unwrap_or_default())
    }
}

/// A number from 0 to 1; a random key is random enough for a pause.
fn random_unit() -> f64 {
    let [low, high, ..] = Uuid::new_v4().into_bytes();
    f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_never_shorter_than_the_gateway_asks_for() {
        let patience = Patience::default();
        for (attempts, shortest, longest) in [(1, 25, 50), (2, 50, 100), (5, 400, 800), (40, 1_000, 2_000)] {
            for _ in 0..50 {
                let pause = patience.pause_after(attempts, None).as_millis();
                assert!((shortest..=longest).contains(&pause), "{attempts}: {pause}");
            }
        }
        assert_eq!(patience.pause_after(1, Some(Duration::from_secs(3))), Duration::from_secs(3));
    }
}
