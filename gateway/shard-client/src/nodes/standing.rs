//! What a gateway knows of one node. Pure, with time as an argument, so that no test waits.
//!
//! Its inputs are the gateway's own polls and failed calls. A failure counts at once. Only a poll that began
//! after the last failure counts as recovery. A node that fails again soon is passed over for longer and
//! longer. All of this matters only while another node is ready.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause: a restarted node, or one whose gate was closed for a moment, is back within about a
/// second.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause. Another node serves meanwhile, so nobody waits for its end.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A node that served this long after its last pause starts again with the shortest pause.
const FORGIVEN_AFTER: Duration = Duration::from_mins(1);

/// In the order in which nodes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    Ready,
    /// It says that it is ready again, but it failed lately.
    PassedOver,
    NotReady,
    Silent,
}

impl NodeState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::PassedOver => "passed-over",
            Self::NotReady => "not-ready",
            Self::Silent => "silent",
        }
    }

    pub fn says_ready(self) -> bool {
        matches!(self, Self::Ready | Self::PassedOver)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It answered that it could not do it: its gate is closed, or only this batch's users are locked. A poll
    /// shows which.
    Refused,
    NoAnswer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    Ready,
    NotReady,
    /// No answer in time, or none from a node of this shard.
    Silence,
}

#[derive(Debug)]
pub struct Standing {
    polled: Polled,
    is_in_doubt: bool,
    is_unanswered: bool,
    silences: u32,
    failed_at: Option<Instant>,
    pause: Duration,
    pause_ends: Option<Instant>,
}

impl Standing {
    pub fn new() -> Self {
        Self {
            polled: Polled::Silence,
            is_in_doubt: false,
            is_unanswered: false,
            silences: 0,
            failed_at: None,
            pause: PAUSE_MIN,
            pause_ends: None,
        }
    }

    pub fn state(&self, now: Instant) -> NodeState {
        match self.polled {
            _ if self.is_unanswered => NodeState::Silent,
            Polled::Ready if self.is_in_doubt || self.is_paused(now) => NodeState::PassedOver,
            Polled::Ready => NodeState::Ready,
            Polled::NotReady => NodeState::NotReady,
            Polled::Silence => NodeState::Silent,
        }
    }

    /// Whether it failed so lately that others in the same state come first.
    pub fn is_paused(&self, now: Instant) -> bool {
        self.pause_ends.is_some_and(|ends| now < ends)
    }

    pub fn polled(&self) -> Polled {
        self.polled
    }

    pub fn silences(&self) -> u32 {
        self.silences
    }

    /// A call failed. Returns whether the node is passed over from now on. `jitter` in 0 … 1 spreads the
    /// return of many gateways.
    pub fn note_trouble(&mut self, trouble: Trouble, now: Instant, jitter: f64) -> bool {
        self.failed_at = Some(now);
        self.is_in_doubt = true;
        self.is_unanswered |= trouble == Trouble::NoAnswer;
        // Calls that were already under way fail together with the first one: they are one failure.
        let is_new = !self.is_paused(now);
        if is_new {
            self.pause_from(now, jitter);
        }
        is_new
    }

    /// Returns whether the node is passed over from now on. The poll began at `began`.
    pub fn note_poll(&mut self, polled: Polled, began: Instant, now: Instant, jitter: f64) -> bool {
        self.silences = if polled == Polled::Silence { self.silences.saturating_add(1) } else { 0 };
        // A continuing state is one failure. A failed call may have counted it first.
        let is_new = self.polled == Polled::Ready && polled != Polled::Ready && !self.is_in_doubt;
        self.polled = polled;
        // The poll may be older than the failed call.
        if self.failed_at.is_none_or(|failed| failed < began) {
            self.is_in_doubt = false;
            self.is_unanswered = false;
        }
        if is_new {
            self.pause_from(now, jitter);
        }
        is_new
    }

    fn pause_from(&mut self, now: Instant, jitter: f64) {
        self.pause = match self.pause_ends {
            Some(ended) if now.saturating_duration_since(ended) < FORGIVEN_AFTER => {
                (self.pause * 2).min(PAUSE_MAX)
            }
            _ => PAUSE_MIN,
        };
        self.pause_ends = Some(now + self.pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL_JITTER: f64 = 1.0;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn ready(start: Instant) -> Standing {
        let mut standing = Standing::new();
        standing.note_poll(Polled::Ready, start, start, FULL_JITTER);
        standing
    }

    #[test]
    fn a_node_is_ready_once_a_poll_says_so_and_until_something_says_that_it_is_not() {
        let start = Instant::now();
        let mut standing = Standing::new();
        assert_eq!(standing.state(start), NodeState::Silent, "nobody has asked");
        standing.note_poll(Polled::NotReady, start, start, FULL_JITTER);
        assert_eq!(standing.state(start), NodeState::NotReady);
        standing.note_poll(Polled::Ready, start, start, FULL_JITTER);
        assert_eq!(standing.state(start), NodeState::Ready);
        assert!(standing.note_poll(Polled::Silence, start, start, FULL_JITTER));
        assert_eq!((standing.state(start), standing.silences()), (NodeState::Silent, 1));
        for (trouble, state) in
            [(Trouble::Refused, NodeState::PassedOver), (Trouble::NoAnswer, NodeState::Silent)]
        {
            let mut standing = ready(start);
            assert!(standing.note_trouble(trouble, after(start, 1), FULL_JITTER));
            assert_eq!(standing.state(after(start, 60_000)), state);
            assert!(!standing.note_poll(Polled::NotReady, after(start, 2), after(start, 2), FULL_JITTER));
            assert_eq!(standing.state(after(start, 2)), NodeState::NotReady);
        }
    }

    #[test]
    fn a_node_that_failed_is_taken_back_by_a_poll_that_began_after_that_and_after_its_pause() {
        let start = Instant::now();
        let mut standing = ready(start);
        standing.note_trouble(Trouble::NoAnswer, after(start, 100), FULL_JITTER);
        // Even much later, and after a poll that was under way when the call failed.
        assert_eq!(standing.state(after(start, 60_000)), NodeState::Silent);
        standing.note_poll(Polled::Ready, after(start, 99), after(start, 150), FULL_JITTER);
        assert_eq!(standing.state(after(start, 60_000)), NodeState::Silent);
        standing.note_poll(Polled::Ready, after(start, 200), after(start, 210), FULL_JITTER);
        assert_eq!(standing.state(after(start, 599)), NodeState::PassedOver);
        assert_eq!(standing.state(after(start, 600)), NodeState::Ready);
    }

    #[test]
    fn a_node_that_fails_again_and_again_is_passed_over_for_longer_and_longer() {
        let mut now = Instant::now();
        let mut standing = ready(now);
        for seconds in [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0] {
            now += Duration::from_millis(10);
            assert!(standing.note_poll(Polled::NotReady, now, now, FULL_JITTER));
            assert!(!standing.note_poll(Polled::NotReady, now, now, FULL_JITTER), "the same failure");
            let pause = Duration::from_secs_f64(seconds);
            standing.note_poll(Polled::Ready, now, now, FULL_JITTER);
            assert_eq!(standing.state(now + pause - Duration::from_millis(1)), NodeState::PassedOver);
            now += pause;
            assert_eq!(standing.state(now), NodeState::Ready);
        }
        now += FORGIVEN_AFTER;
        standing.note_poll(Polled::Silence, now, now, 0.0);
        standing.note_poll(Polled::Ready, now, now, FULL_JITTER);
        assert_eq!(standing.state(now + PAUSE_MIN / 2), NodeState::Ready, "jitter takes half at most");
    }

    #[test]
    fn calls_that_fail_together_are_one_failure() {
        let start = Instant::now();
        let mut standing = ready(start);
        assert!(standing.note_trouble(Trouble::NoAnswer, start, FULL_JITTER));
        for ms in 1..100 {
            assert!(!standing.note_trouble(Trouble::NoAnswer, after(start, ms), FULL_JITTER));
        }
        standing.note_poll(Polled::Ready, after(start, 200), after(start, 200), FULL_JITTER);
        assert_eq!(standing.state(after(start, 500)), NodeState::Ready);
    }

    #[test]
    fn nodes_are_asked_in_the_order_of_what_may_come_of_it() {
        use NodeState::{NotReady, PassedOver, Ready, Silent};
        // A node that answers "not ready" costs a moment; a silent one costs the whole timeout.
        assert!(Ready < PassedOver && PassedOver < NotReady && NotReady < Silent);
    }
}
