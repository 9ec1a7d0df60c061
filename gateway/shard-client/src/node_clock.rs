//! An estimate of a node process' clock, from its answers.
//!
//! Each answer says when it was written, and is read later. So the node's clock is always further on than the
//! estimate. A deadline that is converted here comes too early by the quickest answer's time on the network,
//! and never too late. Clocks of two machines are never compared.

use std::sync::Mutex;

use picopay_shared::node_mark::NodeMoment;
use tokio::time::Instant;

/// How much slower a clock may run than ours, at worst: a thousandth is twice what time daemons correct by.
const DRIFT_PARTS: u64 = 1_000;

#[derive(Debug, Default)]
pub struct NodeClock(Mutex<Option<Reading>>);

/// The clock stood here, or further on, when an answer was read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    moment: NodeMoment,
    read_at: Instant,
}

impl Reading {
    /// The least that the clock shows at `at`.
    fn ms_at(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.read_at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.moment.ms.saturating_add(passed - passed.div_ceil(DRIFT_PARTS))
    }
}

impl NodeClock {
    pub fn note(&self, moment: NodeMoment, now: Instant) {
        let mut known = self.0.lock().expect("nothing panics while it is held");
        // The quickest answer is nearest to the truth. Another process has another clock.
        let is_better =
            known.is_none_or(|known| known.moment.process != moment.process || known.ms_at(now) <= moment.ms);
        if is_better {
            *known = Some(Reading { moment, read_at: now });
        }
    }

    /// Our moment by the node's clock, or a little earlier.
    pub fn at(&self, moment: Instant) -> Option<NodeMoment> {
        let known = (*self.0.lock().expect("nothing panics while it is held"))?;
        Some(NodeMoment { process: known.moment.process, ms: known.ms_at(moment) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn moment(process: u64, ms: u64) -> NodeMoment {
        NodeMoment { process, ms }
    }

    #[test]
    fn the_quickest_answer_counts_and_errs_on_the_early_side() {
        let clock = NodeClock::default();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(clock.at(start), None);
        // The node's clock is 5,000 ms ahead of ours. This answer took 300 ms.
        clock.note(moment(1, 5_000), at(300));
        assert_eq!(clock.at(at(300)), Some(moment(1, 5_000)));
        // This one took 2 ms, and the next a second.
        clock.note(moment(1, 5_400), at(402));
        clock.note(moment(1, 5_500), at(1_500));
        assert_eq!(clock.at(at(402)), Some(moment(1, 5_400)));
        let later = clock.at(at(2_402)).unwrap();
        assert_eq!(later, moment(1, 7_398), "two seconds later, less what the clock may be slower by");
        assert!(later.ms <= 5_000 + 2_402, "never too late");
    }

    #[test]
    fn another_process_has_another_clock() {
        let clock = NodeClock::default();
        let start = Instant::now();
        clock.note(moment(1, 90_000), start);
        clock.note(moment(2, 3), start);
        assert_eq!(clock.at(start), Some(moment(2, 3)));
    }
}
