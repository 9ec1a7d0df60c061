//! How long a pipe under load lets its next batch gather. Pure: what waits and for how long comes from outside.
//!
//! The clients that were just answered are about to ask again, and what waits already would leave without them: two half
//! batches, one after the other, at twice the price of a whole one.

use std::time::Duration;

/// A batch of at least so many shows a load under which the next one is worth waiting for. Below, a command leaves at once.
const FROM: usize = 3;
/// A batch costs by itself (a commit on two machines, and a dozen wake-ups) as much CPU as ten to twenty commands, by a line
/// through what a third of saturation and all of it cost. With so many in it, that is less than half of what it costs.
const FEW: usize = 40;
/// How much of the time that the last batch took, while fewer than that wait: twice as long, so that a third as many batches
/// leave as without.
const SHARE_OF_FEW: f64 = 2.0;
/// And while more wait: a quarter spares a sixth of all CPU at half of saturation and leaves the median as it is; with a half
/// or all of it the machine rests while clients wait.
const SHARE: f64 = 0.25;

/// When nobody came for so long, nobody is expected: all clients that there are have their answers from here and wait for those of
/// other shards. Waiting for twice the time all the same cost 64 connections on 2 shards a quarter of their charges. At 1,300
/// charges a second, 3 ms without one are one in fifty.
const QUIET: Duration = Duration::from_millis(3);

/// What a pipe waits for after a batch.
#[derive(Debug, Clone, Copy)]
pub struct Gathering {
    /// As many as were answered, beside those that waited meanwhile: whoever asks again is there.
    enough: usize,
    for_few: Duration,
    for_more: Duration,
    seen: usize,
    /// When more than `seen` were to be seen last.
    grew_after: Duration,
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
            for_few: took.mul_f64(SHARE_OF_FEW).min(longest),
            for_more: took.mul_f64(SHARE).min(longest),
            seen: queued,
            grew_after: Duration::ZERO,
        })
    }

    /// Whether it goes on, with `queued` waiting now and after so long.
    pub fn goes_on(&mut self, queued: usize, waited: Duration) -> bool {
        if queued > self.seen {
            (self.seen, self.grew_after) = (queued, waited);
        }
        let longest = if queued < FEW { self.for_few } else { self.for_more };
        queued < self.enough && waited < longest && waited - self.grew_after < QUIET
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

    /// Whether it goes on when one more came just now.
    fn goes_on(mut gathering: Gathering, queued: usize, waited: Duration) -> bool {
        gathering.seen = queued - 1;
        gathering.goes_on(queued, waited)
    }

    #[test]
    fn few_gather_for_twice_as_long_as_the_last_batch_took() {
        assert!(goes_on(after(38, 4, 20), FEW - 1, ms(7)));
        assert!(!goes_on(after(38, 4, 20), FEW - 1, ms(8)));
    }

    #[test]
    fn many_gather_for_a_quarter_of_it() {
        assert!(goes_on(after(38, 8, 20), FEW, ms(1)));
        assert!(!goes_on(after(38, 8, 20), FEW, ms(2)));
    }

    #[test]
    fn nobody_waits_once_all_who_were_answered_are_back() {
        assert!(goes_on(after(10, 4, 0), 9, ms(1)));
        assert!(!goes_on(after(10, 4, 0), 10, ms(1)));
        assert!(goes_on(after(100, 8, 60), 159, ms(1)));
        assert!(!goes_on(after(100, 8, 60), 160, ms(1)));
    }

    #[test]
    fn nobody_waits_for_long_when_nobody_comes() {
        let mut gathering = after(20, 10, 5);
        assert!(gathering.goes_on(5, ms(2)));
        assert!(gathering.goes_on(6, ms(2)));
        assert!(gathering.goes_on(6, ms(4)));
        assert!(!gathering.goes_on(6, ms(5)));
        assert!(!after(20, 10, 5).goes_on(5, QUIET));
    }

    #[test]
    fn nothing_waits_beyond_the_bound_or_a_full_batch() {
        assert!(goes_on(after(10, 500, 15), 20, ms(19)));
        assert!(!goes_on(after(10, 500, 15), 20, LONGEST));
        assert!(goes_on(after(200, 500, 200), 255, ms(19)));
        assert!(!goes_on(after(200, 500, 200), 256, ms(1)));
        assert!(!goes_on(after(200, 500, 200), 255, LONGEST));
        let small = Gathering::after(4, ms(8), 2, 4, LONGEST).unwrap();
        assert!(!goes_on(small, 4, ms(1)));
        let never = Gathering::after(10, ms(4), 5, 256, Duration::ZERO).unwrap();
        assert!(!goes_on(never, 1, ms(0)));
    }
}
