//! How long a pipe under load lets its next batch gather. Pure: what waits and for how long comes from outside.
//!
//! The clients that were just answered are about to ask again, and what waits already would leave without them: two half
//! batches, one after the other, at twice the price of a whole one.

use std::time::Duration;

/// A batch of at least so many shows a load under which the next one is worth waiting for. Below, a command leaves at once.
const FROM: usize = 3;
/// A batch costs by itself (a commit on two machines, and a dozen wake-ups) as much CPU as ten to twenty commands, by a line
/// through what a third of saturation and all of it cost. With so many in it, that is a third of its cost at most.
const FEW: usize = 40;
/// How much of the time that the last batch took, while fewer than that wait: twice as long, so that a third as many batches
/// leave as without.
const SHARE_OF_FEW: f64 = 2.0;
/// And while more wait: a quarter spares a sixth of all CPU at half of saturation and leaves the median as it is; with a half
/// or all of it the machine rests while clients wait.
const SHARE: f64 = 0.25;

/// What a pipe waits for after a batch.
#[derive(Debug, Clone, Copy)]
pub struct Gathering {
    /// As many as were answered, beside those that waited meanwhile: whoever asks again is there.
    enough: usize,
    for_more: Duration,
    for_few: Duration,
}

impl Gathering {
    /// After a batch of `size` that took so long, with `queued` waiting behind it; none when the next one leaves at once.
    /// A batch takes `batch_max` at most, and nothing waits for longer than `longest`.
    pub fn after(
        size: usize,
        took: Duration,
        queued: usize,
        batch_max: usize,
        longest: Duration,
    ) -> Option<Self> {
        (size >= FROM).then(|| Self {
            enough: (size + queued).min(batch_max),
            for_more: took.mul_f64(SHARE).min(longest),
            for_few: took.mul_f64(SHARE_OF_FEW).min(longest),
        })
    }

    /// Whether it goes on, with `queued` waiting now and after so long. It does not once all clients of the gateway wait.
    pub fn goes_on(&self, queued: usize, waited: Duration) -> bool {
        let longest = if queued < FEW { self.for_few } else { self.for_more };
        queued < self.enough && waited < longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(20);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn after(size: usize, took_ms: u64, queued: usize) -> Gathering {
        Gathering::after(size, ms(took_ms), queued, 256, LONGEST).unwrap()
    }

    #[test]
    fn a_command_without_a_load_leaves_at_once() {
        assert!(Gathering::after(FROM - 1, ms(4), 0, 256, LONGEST).is_none());
        assert!(Gathering::after(FROM, ms(4), 0, 256, LONGEST).is_some());
    }

    #[test]
    fn few_gather_for_twice_as_long_as_the_last_batch_took() {
        let gathering = after(38, 4, 20);
        assert!(gathering.goes_on(FEW - 1, ms(7)));
        assert!(!gathering.goes_on(FEW - 1, ms(8)));
    }

    #[test]
    fn many_gather_for_a_quarter_of_it() {
        let gathering = after(38, 8, 20);
        assert!(gathering.goes_on(FEW, ms(1)));
        assert!(!gathering.goes_on(FEW, ms(2)));
    }

    #[test]
    fn nobody_waits_once_all_who_were_answered_are_back() {
        assert!(after(10, 4, 0).goes_on(9, ms(1)));
        assert!(!after(10, 4, 0).goes_on(10, ms(0)));
        assert!(after(100, 8, 60).goes_on(159, ms(1)));
        assert!(!after(100, 8, 60).goes_on(160, ms(1)));
    }

    #[test]
    fn nothing_waits_beyond_the_bound_or_a_full_batch() {
        let slow = after(10, 500, 15);
        assert!(slow.goes_on(20, ms(19)));
        assert!(!slow.goes_on(20, LONGEST));
        let slow = after(200, 500, 200);
        assert!(slow.goes_on(255, ms(19)));
        assert!(!slow.goes_on(256, ms(1)));
        assert!(!slow.goes_on(255, LONGEST));
        let small = Gathering::after(4, ms(8), 2, 4, LONGEST).unwrap();
        assert!(!small.goes_on(4, ms(0)));
        let never = Gathering::after(10, ms(4), 5, 256, Duration::ZERO).unwrap();
        assert!(!never.goes_on(0, ms(0)));
    }
}
