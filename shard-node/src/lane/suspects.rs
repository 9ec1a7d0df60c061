//! Users who have cost their lane time, and how they are kept from costing others more. Pure: time comes from outside.
//!
//! Two kinds. A user is *held* when somebody else, a person at `psql` perhaps, does not let go of his row: whoever comes next for
//! him does not wait for it. And *slow* when a statement took too long that was about nobody else: he is left alone for a while,
//! and then tried by himself.
//!
//! Users are known by slot and tag, which every command has. Whoever shares both with one of them is treated like him.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use picopay_shared::command::Command;
use picopay_shared::slot::{Slot, UserId, UserTag};

/// For how long somebody stays known of whom nothing more is heard.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);
/// The first time that a slow one is left alone, and the longest: it doubles.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

/// Those of one lane.
#[derive(Debug, Default)]
pub struct Suspects {
    held: HashMap<Who, Instant>,
    slow: HashMap<Who, Slow>,
}

type Who = (Slot, UserTag);

#[derive(Debug, Clone, Copy)]
struct Slow {
    until: Instant,
    rest: Duration,
}

/// How a command is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// With all others.
    Together,
    /// By itself, and not for long.
    Alone,
    /// Not now.
    Rest,
}

impl Suspects {
    /// Whether somebody is thought to hold this user's row.
    pub fn is_held(&self, user: UserId) -> bool {
        self.held.contains_key(&(user.slot(), user.tag()))
    }

    /// Takes in who of the users that nobody was to wait for was held, and who was not.
    pub fn note_held(&mut self, looked_at: &[UserId], held: impl Fn(&UserId) -> bool, now: Instant) {
        for user in looked_at {
            let who = (user.slot(), user.tag());
            if held(user) {
                self.held.insert(who, now);
            } else {
                self.held.remove(&who);
            }
        }
        self.held.retain(|_, seen| now.saturating_duration_since(*seen) < REMEMBERED_FOR);
    }

    /// How this command is to be run.
    pub fn treatment(&self, command: &Command, now: Instant) -> Treatment {
        match self.slow.get(&who(command)) {
            None => Treatment::Together,
            Some(slow) if now < slow.until => Treatment::Rest,
            Some(_) => Treatment::Alone,
        }
    }

    /// This command, by itself, took too long.
    pub fn note_slow(&mut self, command: &Command, now: Instant) {
        let rest = self.slow.get(&who(command)).map_or(REST_MIN, |slow| (slow.rest * 2).min(REST_MAX));
        self.slow.insert(who(command), Slow { until: now + rest, rest });
        self.slow.retain(|_, slow| now.saturating_duration_since(slow.until) < REMEMBERED_FOR);
    }

    /// This command, by itself, was done.
    pub fn note_quick(&mut self, command: &Command) {
        self.slow.remove(&who(command));
    }
}

fn who(command: &Command) -> Who {
    (command.operation.slot(), command.operation.tag())
}

#[cfg(test)]
mod tests {
    use picopay_shared::command::Operation;
    use uuid::Uuid;

    use super::*;

    fn user(id: i64) -> UserId {
        UserId::try_from(id).unwrap()
    }

    fn command(id: i64) -> Command {
        let operation = Operation::CreateUser { user_id: user(id) };
        Command {
            fingerprint: operation.fingerprint(),
            operation,
            idempotency_key: Uuid::nil(),
            is_client_key: true,
            epoch: 1,
            request_id: String::new(),
            traceparent: None,
            made_by: None,
        }
    }

    #[test]
    fn a_held_user_is_known_until_he_is_free_or_nobody_speaks_of_him() {
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        suspects.note_held(&[user(1), user(2)], |held| *held == user(1), start);
        assert!(suspects.is_held(user(1)) && !suspects.is_held(user(2)));
        suspects.note_held(&[user(1)], |_| false, start);
        assert!(!suspects.is_held(user(1)));
        suspects.note_held(&[user(3)], |_| true, start);
        suspects.note_held(&[], |_| true, start + REMEMBERED_FOR);
        assert!(!suspects.is_held(user(3)));
    }

    #[test]
    fn a_slow_user_rests_longer_each_time_and_is_then_tried_alone() {
        let (mut suspects, mut now) = (Suspects::default(), Instant::now());
        assert_eq!(suspects.treatment(&command(1), now), Treatment::Together);
        for rest in [1, 2, 4, 8, 16, 30, 30] {
            suspects.note_slow(&command(1), now);
            let just_before = now + Duration::from_millis(rest * 1000 - 1);
            assert_eq!(suspects.treatment(&command(1), just_before), Treatment::Rest);
            now += Duration::from_secs(rest);
            assert_eq!(suspects.treatment(&command(1), now), Treatment::Alone);
            assert_eq!(suspects.treatment(&command(2), now), Treatment::Together, "a neighbour");
        }
        suspects.note_quick(&command(1));
        assert_eq!(suspects.treatment(&command(1), now), Treatment::Together);
        suspects.note_slow(&command(1), now);
        suspects.note_slow(&command(2), now + REST_MIN + REMEMBERED_FOR);
        assert_eq!(suspects.treatment(&command(1), now), Treatment::Together, "forgotten");
    }
}
