//! How many commands may wait in a lane: as many as the shard can finish within `queue_wait`.
//!
//! A fixed number is a third of a second of one shard and three seconds of a slower one. So the limit follows
//! the pace of the shard's last full batches.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::config::ShardClientConfig;

/// Full batches that may always wait, however slow they are: one for the pipe, and one behind it.
const BATCHES_MIN: usize = 2;
/// A new batch counts for an eighth, so that one that met a checkpoint does not close the queue.
const MEMORY: u64 = 8;

#[derive(Debug)]
pub struct QueueRoom {
    batch_max: usize,
    queue_max: usize,
    pipes: usize,
    wait_max: Duration,
    /// Smoothed time of a full batch, in microseconds; zero before the first.
    batch_us: AtomicU64,
    room: AtomicUsize,
}

impl QueueRoom {
    pub fn new(config: &ShardClientConfig) -> Self {
        Self {
            batch_max: config.batch_max,
            queue_max: config.queue_max,
            pipes: config.pipes,
            wait_max: config.queue_wait,
            batch_us: AtomicU64::new(0),
            room: AtomicUsize::new(config.queue_max),
        }
    }

    pub fn has_place(&self, waiting: usize) -> bool {
        waiting < self.room.load(Ordering::Relaxed)
    }

    /// How much of the room is taken: at 1 the next command is refused.
    pub fn fullness(&self, waiting: usize) -> f64 {
        share(waiting, self.room.load(Ordering::Relaxed))
    }

    /// Nothing was left waiting behind a batch: the shard keeps up, and its pace is not known.
    pub fn note_spare_batch(&self) {
        self.room.store(self.queue_max, Ordering::Relaxed);
    }

    /// A batch of `size` took so long, and no other command would have fitted into it.
    pub fn note_full_batch(&self, size: usize, took: Duration) {
        // A client's own batch is not divided, and may be larger.
        let took = took.mul_f64(share(self.batch_max, size).min(1.0));
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / MEMORY).max(1);
        let before = match self.batch_us.load(Ordering::Relaxed) {
            0 => took_us,
            before => before,
        };
        // Pipes of one lane may overwrite each other's sample; the next batch brings another one.
        let batch_us = (before * (MEMORY - 1) + took_us) / MEMORY;
        self.batch_us.store(batch_us, Ordering::Relaxed);
        let batches = self.wait_max.as_micros() / u128::from(batch_us.max(1));
        let batches = usize::try_from(batches).unwrap_or(usize::MAX).saturating_mul(self.pipes);
        let room = batches.max(BATCHES_MIN).saturating_mul(self.batch_max);
        self.room.store(room.min(self.queue_max), Ordering::Relaxed);
    }
}

fn share(part: usize, whole: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    number(part) / number(whole.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room_of(batch_max: usize, pipes: usize) -> QueueRoom {
        let queue_wait = Duration::from_millis(300);
        QueueRoom::new(&ShardClientConfig {
            batch_max,
            pipes,
            queue_wait,
            queue_max: 4_000,
            ..Default::default()
        })
    }

    fn places(room: &QueueRoom) -> usize {
        (0..=4_000).find(|waiting| !room.has_place(*waiting)).unwrap()
    }

    #[test]
    fn the_room_is_what_the_shard_works_off_in_time() {
        for (batch_ms, pipes, expected) in [
            (5, 1, 4_000),
            (100, 1, 300),
            (100, 2, 600),
            // A third one would wait too long; two are always taken.
            (200, 1, 200),
            (10_000, 1, 200),
        ] {
            let room = room_of(100, pipes);
            assert_eq!(places(&room), 4_000, "nothing is known yet");
            room.note_full_batch(100, Duration::from_millis(batch_ms));
            assert_eq!(places(&room), expected, "{batch_ms} ms, {pipes} pipes");
            assert!((room.fullness(expected / 4) - 0.25).abs() < 1e-9, "a quarter of {expected}");
        }
    }

    #[test]
    fn one_slow_batch_does_not_shut_the_door_and_a_half_empty_one_opens_it() {
        let room = room_of(100, 1);
        for _ in 0..50 {
            room.note_full_batch(100, Duration::from_millis(20));
        }
        assert_eq!(places(&room), 1_500);
        room.note_full_batch(100, Duration::from_millis(180));
        assert_eq!(places(&room), 700);
        for _ in 0..50 {
            room.note_full_batch(100, Duration::from_millis(150));
        }
        assert_eq!(places(&room), 200);
        // The same pace in another size.
        for _ in 0..50 {
            room.note_full_batch(400, Duration::from_millis(80));
        }
        assert_eq!(places(&room), 1_400);
        room.note_spare_batch();
        assert_eq!(places(&room), 4_000);
    }
}
