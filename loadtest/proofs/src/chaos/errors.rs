//! Errors that clients saw, held against what was broken at that time.
//!
//! An error is fine while something is broken that may cause it, for the users of that shard. Any other error is a broken
//! promise.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use picopay_shared::slot::UserId;

use super::kind::Kind;
use super::what::{AFTERMATH, What};
use crate::findings::{Finding, Findings, Promise};

#[derive(Debug, Clone)]
pub struct Failure {
    pub user: UserId,
    pub shard: usize,
    pub is_write: bool,
    pub began: Duration,
    pub ended: Duration,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub cause: Cause,
    pub from: Duration,
    /// Until its users were served again; nothing while it goes on.
    pub until: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Fault(Kind, usize),
    Stall,
}

impl Window {
    fn excuses(&self, failure: &Failure) -> bool {
        let end = self.until.map(|until| until + AFTERMATH);
        let overlaps = failure.ended >= self.from && end.is_none_or(|end| failure.began <= end);
        overlaps
            && match self.cause {
                Cause::Fault(kind, shard) => {
                    kind.may_cause(&failure.what, failure.is_write, failure.shard == shard)
                }
                Cause::Stall => failure.what.name() != "slot-moving",
            }
    }
}

#[derive(Debug, Default)]
pub struct Errors(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    failures: Vec<Failure>,
    windows: Vec<Window>,
}

impl Errors {
    pub fn add(&self, failure: Failure) {
        self.lock().failures.push(failure);
    }

    pub fn open_window(&self, cause: Cause, from: Duration) -> usize {
        let mut seen = self.lock();
        seen.windows.push(Window { cause, from, until: None });
        seen.windows.len() - 1
    }

    pub fn close_window(&self, number: usize, until: Duration) {
        self.lock().windows[number].until = Some(until);
    }

    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let mut names = BTreeMap::new();
        for failure in &self.lock().failures {
            *names.entry(failure.what.name().to_owned()).or_default() += 1;
        }
        names
    }

    pub fn stalls(&self) -> usize {
        self.lock().windows.iter().filter(|window| window.cause == Cause::Stall).count()
    }

    /// Whether the machine itself stood still since then.
    pub fn has_stalled_since(&self, moment: Duration) -> bool {
        let is_stall = |window: &Window| {
            window.cause == Cause::Stall && window.until.is_none_or(|until| until >= moment)
        };
        self.lock().windows.iter().any(is_stall)
    }

    pub fn judge(&self, findings: &Findings) {
        let seen = self.lock();
        for failure in &seen.failures {
            if seen.windows.iter().any(|window| window.excuses(failure)) {
                continue;
            }
            let before = seen.windows.iter().rfind(|window| window.from <= failure.ended);
            let before = before.map_or_else(String::new, |window| format!("; before it: {window:?}"));
            let asked = if failure.is_write { "a write" } else { "a read" };
            let text = format!(
                "{asked} of user {} (shard {}) failed with {:?} at {:.1}–{:.1} s, which nothing accounts for{before}",
                failure.user,
                failure.shard + 1,
                failure.what,
                failure.began.as_secs_f64(),
                failure.ended.as_secs_f64(),
            );
            findings.add(Finding {
                promise: Promise::AllowedErrors,
                text,
                at: Some(failure.ended),
                words: Vec::new(),
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str, shard: usize, is_write: bool, at_s: u64) -> Failure {
        let status = if code == "outcome-unknown" { 504 } else { 503 };
        let what = match code {
            "" => What::Lost("reset".to_owned()),
            code => What::Problem { status, code: code.to_owned() },
        };
        let at = Duration::from_secs(at_s);
        Failure { user: UserId::try_from(1).unwrap(), shard, is_write, began: at, ended: at, what }
    }

    #[test]
    fn an_error_is_held_against_what_was_broken_at_that_time() {
        // Shard 1 is struck from 10 to 20 s.
        for (kind, failure, is_allowed) in [
            (Kind::NodeKilled, failure("shard-unavailable", 1, true, 15), true),
            (Kind::NodeKilled, failure("outcome-unknown", 1, true, 15), true),
            (Kind::NodeKilled, failure("shard-unavailable", 1, false, 15), true),
            // A broken shard costs its own users only.
            (Kind::NodeKilled, failure("shard-unavailable", 0, true, 15), false),
            (Kind::NodeKilled, failure("shard-unavailable", 1, true, 9), false),
            (Kind::NodeKilled, failure("shard-unavailable", 1, true, 21), true),
            (Kind::NodeKilled, failure("shard-unavailable", 1, true, 30), false),
            // No slot moves here, and only a gateway that is gone gives no answer.
            (Kind::NodeKilled, failure("slot-moving", 1, true, 15), false),
            (Kind::NodeKilled, failure("", 1, true, 15), false),
            (Kind::GatewayKilled, failure("", 0, true, 15), true),
            (Kind::GatewayKilled, failure("shard-unavailable", 0, true, 15), true),
            // A cache is no reason for any error.
            (Kind::RedisKilled, failure("shard-unavailable", 1, true, 15), false),
            (Kind::RedisFrozen, failure("outcome-unknown", 1, true, 15), false),
            (Kind::NodeTwice, failure("outcome-unknown", 0, true, 15), false),
            // Without a standby no write is acknowledged, and reads go on.
            (Kind::ReplicaFrozen, failure("outcome-unknown", 1, true, 15), true),
            // It says nothing, so it may have been promoted.
            (Kind::ReplicaFrozen, failure("shard-unavailable", 1, false, 15), true),
            (Kind::ReplicaDiskFull, failure("shard-unavailable", 1, false, 15), true),
            (Kind::HeartbeatStepped, failure("shard-unavailable", 1, false, 15), false),
            (Kind::ReplicaFrozen, failure("overloaded", 1, false, 15), true),
        ] {
            let errors = Errors::default();
            let window = errors.open_window(Cause::Fault(kind, 1), Duration::from_secs(10));
            errors.close_window(window, Duration::from_secs(20));
            let told = format!("{kind:?}, {failure:?}");
            errors.add(failure);
            let findings = Findings::default();
            errors.judge(&findings);
            assert_eq!(findings.count(Promise::AllowedErrors), u64::from(!is_allowed), "{told}");
        }
    }
}
