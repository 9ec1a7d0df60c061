//! How fast commands are refused that a shard in trouble has left waiting.
//!
//! Thousands wait by the time that a shard is known to be lost. To tell all of them at once keeps every core busy for a
//! tenth of a second, in which the users of the other shards wait; they have nothing to do with it. Those who are refused
//! have waited for more than a second, and do not notice a fifth of one. Nor need each who comes later travel to the node
//! to hear the same: those of some milliseconds go together.

use std::time::Duration;

/// What one refusal is given: some 40 µs of a core, measured from the lane to the client. So a shard's refusals take one
/// core at most, for as long as they last, and a full queue is told within a quarter of a second.
const PER_REFUSAL: Duration = Duration::from_micros(50);
/// The least after a refused batch, however small: a hundred batches a second find out as well as thousands that the shard
/// takes commands again, and nobody hears of it later than this. A client who is refused does not notice it either.
const REST_MIN: Duration = Duration::from_millis(10);

/// How long to rest after so many were refused, before the next are asked for or told.
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
