//! The breaker of one shard: a shard that does not answer gets no requests for a while, and its users get an
//! error at once.
//!
//! It has two inputs: how calls end, and whether any node answers the gateway's poll. A frozen node costs one
//! failed call per `call_timeout`. Calls alone would take ten seconds to open the breaker, so polls count as
//! well.
//!
//! Closed: everything passes. Open: nothing passes while polls go unanswered. Once they are answered and the
//! pause is over, one probe goes. A success closes the breaker, a failure doubles the pause. Time is an
//! argument, so that no test waits.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Failed calls in a row that open it. Fewer would open it for one lost packet; more would tie up requests
/// longer.
const FAILURES_MAX: u32 = 5;
/// Unanswered polls in a row that open it, so that the first users of an idle shard also hear at once. One
/// could be a node that is busy for a second.
const SILENT_POLLS_MAX: u32 = 2;
/// The first pause: a restarted node is back within about a second.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause: users of a shard that came back wait at most this long for the probe.
const PAUSE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Breaker {
    /// Every request reads this; the rest is read only when it is set.
    is_open: AtomicBool,
    state: Mutex<State>,
    /// How long a probe may take before the next one goes.
    probe_max: Duration,
}

#[derive(Debug)]
struct State {
    failures: u32,
    silent_polls: u32,
    pause: Duration,
    /// When the next probe may go. It moves on with each probe, so that there is only one.
    next_probe: Option<Instant>,
    is_probing: bool,
}

impl State {
    fn closed() -> Self {
        Self { failures: 0, silent_polls: 0, pause: PAUSE_MIN, next_probe: None, is_probing: false }
    }

    fn is_convinced(&self) -> bool {
        self.failures >= FAILURES_MAX
            || self.silent_polls >= SILENT_POLLS_MAX
            || (self.failures > 0 && self.silent_polls > 0)
    }

    /// `jitter` in 0 … 1 spreads the probes of many gateways.
    fn pause_from(&mut self, now: Instant, jitter: f64) {
        self.next_probe = Some(now + self.pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Pass,
    /// Send the request; its end says whether the shard is back.
    Probe,
    Refuse {
        wait: Duration,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    Probing,
    Open,
}

impl BreakerState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Probing => "probing",
            Self::Open => "open",
        }
    }
}

impl Breaker {
    pub fn new(probe_max: Duration) -> Self {
        Self { is_open: AtomicBool::new(false), state: Mutex::new(State::closed()), probe_max }
    }

    pub fn admit(&self, now: Instant) -> Admission {
        if !self.is_open() {
            return Admission::Pass;
        }
        let mut state = self.lock();
        match state.next_probe {
            None => Admission::Pass,
            Some(at) if state.silent_polls > 0 => {
                Admission::Refuse { wait: at.saturating_duration_since(now) }
            }
            Some(at) if at <= now => {
                state.next_probe = Some(now + self.probe_max);
                state.is_probing = true;
                Admission::Probe
            }
            Some(at) => Admission::Refuse { wait: at - now },
        }
    }

    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    pub fn record_success(&self) {
        let mut state = self.lock();
        *state = State::closed();
        self.is_open.store(false, Ordering::Release);
    }

    /// A call could not reach the shard or had no answer in time. Returns whether this opened the breaker.
    /// `jitter` in 0 … 1 spreads the probes of many gateways.
    pub fn record_failure(&self, now: Instant, jitter: f64) -> bool {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.next_probe.is_none() {
            return self.open_if_convinced(&mut state, now, jitter);
        }
        // While it is open only the probe counts. Other calls were sent before it opened.
        if state.is_probing {
            state.is_probing = false;
            state.pause = (state.pause * 2).min(PAUSE_MAX);
            state.pause_from(now, jitter);
        }
        false
    }

    /// Returns whether this opened the breaker.
    pub fn record_silence(&self, now: Instant, jitter: f64) -> bool {
        let mut state = self.lock();
        state.silent_polls = state.silent_polls.saturating_add(1);
        state.next_probe.is_none() && self.open_if_convinced(&mut state, now, jitter)
    }

    /// A node answered a poll. That alone does not close the breaker, because writes may still hang.
    pub fn record_sign_of_life(&self) {
        self.lock().silent_polls = 0;
    }

    fn open_if_convinced(&self, state: &mut State, now: Instant, jitter: f64) -> bool {
        if state.is_convinced() {
            state.pause_from(now, jitter);
            self.is_open.store(true, Ordering::Release);
        }
        self.is_open()
    }

    /// Whether a request may be tried: the breaker is closed, or a probe may go or is under way. Only a
    /// request closes an open breaker, so a caller must hear that it may try.
    pub fn may_be_tried(&self, now: Instant) -> bool {
        let state = self.lock();
        state.next_probe.is_none_or(|at| state.silent_polls == 0 && (state.is_probing || at <= now))
    }

    pub fn wait(&self, now: Instant) -> Duration {
        self.lock().next_probe.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    pub fn state(&self) -> BreakerState {
        let state = self.lock();
        match (state.next_probe, state.is_probing) {
            (None, _) => BreakerState::Closed,
            (Some(_), true) => BreakerState::Probing,
            (Some(_), false) => BreakerState::Open,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL_JITTER: f64 = 1.0;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new(Duration::from_secs(2));
        for _ in 0..FAILURES_MAX {
            breaker.record_failure(now, FULL_JITTER);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_between_does_not() {
        let now = Instant::now();
        let breaker = Breaker::new(Duration::from_secs(2));
        for _ in 0..3 {
            for _ in 0..FAILURES_MAX - 1 {
                breaker.record_failure(now, FULL_JITTER);
            }
            assert_eq!(breaker.admit(now), Admission::Pass);
            breaker.record_success();
        }
        assert_eq!(opened(now).admit(now), Admission::Refuse { wait: PAUSE_MIN });
    }

    #[test]
    fn a_failed_call_and_a_silent_poll_open_it_in_either_order_and_so_do_two_silent_polls() {
        let now = Instant::now();
        let call = |breaker: &Breaker| breaker.record_failure(now, FULL_JITTER);
        let poll = |breaker: &Breaker| breaker.record_silence(now, FULL_JITTER);
        let breaker = Breaker::new(Duration::from_secs(2));
        assert_eq!((call(&breaker), poll(&breaker)), (false, true));
        let breaker = Breaker::new(Duration::from_secs(2));
        assert_eq!((poll(&breaker), call(&breaker)), (false, true));
        let breaker = Breaker::new(Duration::from_secs(2));
        assert_eq!((poll(&breaker), poll(&breaker)), (false, true));
        let breaker = Breaker::new(Duration::from_secs(2));
        assert!(!poll(&breaker));
        breaker.record_sign_of_life();
        assert!(!call(&breaker));
        breaker.record_success();
        assert!(!poll(&breaker));
        assert_eq!(breaker.admit(now), Admission::Pass);
    }

    #[test]
    fn no_user_probes_a_shard_whose_polls_nobody_answers() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(!breaker.record_silence(now, FULL_JITTER), "it is open already");
        let later = now + PAUSE_MAX;
        assert!(matches!(breaker.admit(later), Admission::Refuse { .. }));
        breaker.record_sign_of_life();
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert_ne!(breaker.state(), BreakerState::Closed, "only a call that succeeds closes it");
    }

    #[test]
    fn a_gateway_to_which_nobody_sends_while_it_is_open_may_be_tried_after_the_pause() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(!breaker.may_be_tried(now));
        let later = now + PAUSE_MIN;
        assert!(breaker.may_be_tried(later));
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert!(breaker.may_be_tried(later), "the probe is out");
        breaker.record_silence(later, FULL_JITTER);
        assert!(!breaker.may_be_tried(later), "nobody answers there");
        breaker.record_success();
        assert!(breaker.may_be_tried(later));
    }

    #[test]
    fn after_the_pause_one_probe_goes_and_only_one() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + PAUSE_MIN;
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert!(matches!(breaker.admit(later), Admission::Refuse { .. }));
        breaker.record_success();
        assert_eq!(breaker.admit(later), Admission::Pass);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn each_failed_probe_doubles_the_pause_up_to_its_limit() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for seconds in [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0] {
            let pause = Duration::from_secs_f64(seconds);
            assert_eq!(breaker.admit(now), Admission::Refuse { wait: pause });
            now += pause;
            assert_eq!(breaker.admit(now), Admission::Probe);
            breaker.record_failure(now, FULL_JITTER);
        }
    }

    #[test]
    fn late_failures_of_requests_sent_before_do_not_stretch_the_pause() {
        let now = Instant::now();
        let breaker = opened(now);
        for _ in 0..100 {
            breaker.record_failure(now, FULL_JITTER);
        }
        assert_eq!(breaker.admit(now), Admission::Refuse { wait: PAUSE_MIN });
    }

    #[test]
    fn a_probe_that_never_comes_back_is_replaced() {
        let now = Instant::now();
        let breaker = opened(now);
        let first = now + PAUSE_MIN;
        assert_eq!(breaker.admit(first), Admission::Probe);
        assert_eq!(breaker.admit(first + Duration::from_secs(2)), Admission::Probe);
    }

    #[test]
    fn jitter_shortens_the_pause_to_half_at_most() {
        let now = Instant::now();
        let breaker = Breaker::new(Duration::from_secs(2));
        for _ in 0..FAILURES_MAX {
            breaker.record_failure(now, 0.0);
        }
        assert_eq!(breaker.wait(now), PAUSE_MIN / 2);
    }
}
