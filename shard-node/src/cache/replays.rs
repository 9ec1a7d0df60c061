//! Whether clients repeat requests at present, so that Redis is asked only then.
//!
//! A look-up costs a batch a round trip, and finds nothing while nobody repeats. A repeated key that was not
//! looked up meets the unique constraint instead, and from then on all are looked up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long after the last repeat the next one is expected: longer than clients pause between two tries.
const EXPECTED_FOR: Duration = Duration::from_mins(1);

pub struct Replays {
    started: Instant,
    /// Milliseconds from `started` to the last one.
    last_ms: AtomicU64,
}

impl Replays {
    /// Expects some: a node that starts may take over from one that ended with answers under way.
    pub fn expected_from(started: Instant) -> Self {
        Self { started, last_ms: AtomicU64::new(0) }
    }

    pub fn note(&self, now: Instant) {
        self.last_ms.store(self.ms_to(now), Ordering::Relaxed);
    }

    pub fn are_expected(&self, now: Instant) -> bool {
        let since_last = self.ms_to(now).saturating_sub(self.last_ms.load(Ordering::Relaxed));
        Duration::from_millis(since_last) < EXPECTED_FOR
    }

    fn ms_to(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_expected_for_a_minute_after_the_start_and_after_each_one() {
        let started = Instant::now();
        let replays = Replays::expected_from(started);
        let at = |seconds| started + Duration::from_secs(seconds);
        assert!(replays.are_expected(at(0)) && replays.are_expected(at(59)) && !replays.are_expected(at(60)));
        replays.note(at(1000));
        assert!(replays.are_expected(at(1059)) && !replays.are_expected(at(1060)));
    }
}
