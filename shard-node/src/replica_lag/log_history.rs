//! Where the primary's log stood, and when: this turns a replica's position into a time. No IO; the caller
//! reads the monotonic clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use picopay_shared::session::LogPosition;

/// How many positions are remembered: eight minutes of a busy primary that is asked twice a second, 24 KB. A
/// replica that is further behind has an unknown lag.
const SAMPLES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub struct LogHistory {
    timeline: u32,
    /// Time and position both rise.
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    lsn: u64,
    /// The last moment at which the log is known to have ended there or before.
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaughtUp {
    /// All that was flushed at this moment has been replayed.
    pub at: Instant,
    /// Whether nothing later is known either.
    pub lacks_nothing: bool,
}

impl LogHistory {
    /// Records what the primary said when it was asked at `asked`. The log had not got further then, so the
    /// answer is safe for that moment.
    ///
    /// Positions of another timeline cannot be compared. A log that became shorter is another log.
    pub fn add(&mut self, asked: Instant, ended: LogPosition) {
        let is_other = ended.timeline != self.timeline
            || self.samples.back().is_some_and(|newest| newest.lsn > ended.lsn);
        if is_other {
            self.samples.clear();
            self.timeline = ended.timeline;
        }
        match self.samples.back_mut() {
            Some(newest) if newest.lsn == ended.lsn => newest.at = asked,
            _ => self.samples.push_back(Sample { lsn: ended.lsn, at: asked }),
        }
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    pub fn asked_last(&self) -> Option<Instant> {
        self.samples.back().map(|newest| newest.at)
    }

    pub fn has_reached(&self, position: LogPosition) -> bool {
        position.timeline == self.timeline
            && self.samples.back().is_some_and(|newest| newest.lsn >= position.lsn)
    }

    /// What is known of a replica that has replayed up to `replayed`; `None` when it follows another
    /// timeline, or is behind all remembered positions.
    pub fn caught_up(&self, replayed: LogPosition) -> Option<CaughtUp> {
        if replayed.timeline != self.timeline {
            return None;
        }
        let has = self.samples.partition_point(|sample| sample.lsn <= replayed.lsn);
        let last = self.samples.get(has.checked_sub(1)?)?;
        Some(CaughtUp { at: last.at, lacks_nothing: has == self.samples.len() })
    }
}

impl CaughtUp {
    /// How far behind the replica can be at `now`. It grows while nothing is heard.
    ///
    /// 0 when it lacks nothing, but only for `is_current_for`: after that the primary may have written more.
    pub fn lag(self, now: Instant, is_current_for: Duration) -> Duration {
        let age = now.saturating_duration_since(self.at);
        if self.lacks_nothing && age <= is_current_for { Duration::ZERO } else { age }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: Duration = Duration::from_secs(1);

    fn at(timeline: u32, lsn: u64) -> LogPosition {
        LogPosition { timeline, lsn }
    }

    /// A history of (seconds, LSN) on timeline 1, and a function from a position and a second to its lag.
    fn history(samples: &[(u64, u64)]) -> (Instant, LogHistory) {
        let start = Instant::now();
        let mut history = LogHistory::default();
        for (second, lsn) in samples {
            history.add(start + Duration::from_secs(*second), at(1, *lsn));
        }
        (start, history)
    }

    #[test]
    fn lag_is_how_long_ago_the_log_stood_where_the_replica_is() {
        let busy: &[(u64, u64)] = &[(10, 100), (11, 200), (12, 300)];
        let idle: &[(u64, u64)] = &[(10, 100), (11, 100), (12, 100)];
        for (samples, timeline, replayed, now, expected) in [
            (busy, 1, 300, 12, Some(0)),
            (busy, 1, 301, 13, Some(0)),
            (idle, 1, 100, 12, Some(0)),
            (idle, 1, 100, 13, Some(0)),
            // What it lacks was flushed after the last sample that it has.
            (busy, 1, 299, 12, Some(1)),
            (busy, 1, 200, 12, Some(1)),
            (busy, 1, 199, 12, Some(2)),
            (busy, 1, 100, 14, Some(4)),
            (busy, 1, 99, 12, None),
            // A silent primary may have written more.
            (busy, 1, 300, 14, Some(2)),
            (idle, 1, 100, 20, Some(8)),
            // Another timeline, whichever is higher, and whatever the numbers are.
            (busy, 2, 300, 12, None),
            (busy, 0, 300, 12, None),
            (&[], 0, 300, 12, None),
        ] {
            let (start, history) = history(samples);
            let caught_up = history.caught_up(at(timeline, replayed));
            let lag = caught_up.map(|seen| seen.lag(start + Duration::from_secs(now), CURRENT).as_secs());
            assert_eq!(lag, expected, "{samples:?}, {replayed} on {timeline} at {now}");
        }
    }

    #[test]
    fn a_new_timeline_and_a_shorter_log_begin_anew() {
        for (ended, before) in [(at(2, 400), at(1, 300)), (at(1, 50), at(1, 300)), (at(2, 50), at(1, 50))] {
            let (start, mut history) = history(&[(10, 50), (11, 300)]);
            history.add(start + Duration::from_secs(12), ended);
            if before.timeline != ended.timeline {
                assert_eq!(history.caught_up(before), None);
            }
            let seen = CaughtUp { at: start + Duration::from_secs(12), lacks_nothing: true };
            assert_eq!(history.caught_up(ended), Some(seen));
            assert_eq!(history.caught_up(LogPosition { lsn: ended.lsn - 1, ..ended }), None);
        }
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let samples: Vec<(u64, u64)> = (0..2_000).map(|second| (second, second * 10)).collect();
        let (start, history) = history(&samples);
        assert_eq!(history.samples.len(), SAMPLES_MAX);
        assert_eq!(history.caught_up(at(1, 9_750)), None);
        let oldest = CaughtUp { at: start + Duration::from_secs(976), lacks_nothing: false };
        assert_eq!(history.caught_up(at(1, 9_765)), Some(oldest));
    }
}
