//! How fast the commands that wait for a failing shard are refused.
//!
//! Thousands wait by the time a shard is known to be lost. Refusing all at once would keep every core busy
//! for a tenth of a second, and users of other shards would wait. The refused clients have waited over a
//! second and do not notice a fifth of one.

use std::time::Duration;

/// The time for one refusal: about 40 µs of a core, measured from the lane to the client. So the refusals of
/// a shard take at most one core, and a full queue is refused within a quarter of a second.
const PER_REFUSAL: Duration = Duration::from_micros(50);
/// The least pause after a refused batch. A hundred batches a second find out as well as thousands that the
/// shard is back. No client notices this delay.
const REST_MIN: Duration = Duration::from_millis(10);

pub fn rest_after(refused: usize) -> Duration {
    PER_REFUSAL.saturating_mul(u32::try_from(refused).unwrap_or(u32::MAX)).max(REST_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_take_one_core_at_most_and_never_long() {
        for (refused, rest_us) in [(1, 10_000), (200, 10_000), (256, 12_800), (4_096, 204_800)] {
            assert_eq!(rest_after(refused), Duration::from_micros(rest_us), "{refused}");
        }
    }
}
