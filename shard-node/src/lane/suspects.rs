//! Users who have cost their lane time, and how others are protected from them. Pure: time is an argument.
//!
//! There are two kinds. A user is *held* when somebody else, perhaps a person at `psql`, keeps the row
//! locked. A user is *slow* when a statement about nobody else took too long. Either rests for a while, and
//! is then tried alone with a short limit. The rest grows each time. A held user is served during the rest
//! too, if the row is free just then.
//!
//! Users are known by slot and tag, which every command has. Users who share both are treated alike.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use picopay_shared::command::Command;
use picopay_shared::slot::{Slot, UserId, UserTag};

/// How long a suspect is remembered after the last event.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Somebody else holds the row. Another node's batch usually needs milliseconds only.
    Held,
    Slow,
}

impl Why {
    /// The first rest and the longest; it doubles. To try a held user takes half of the time of a slow one,
    /// and another node's batch is soon over.
    fn rests(self) -> (Duration, Duration) {
        match self {
            Self::Held => (Duration::from_millis(100), Duration::from_secs(2)),
            Self::Slow => (Duration::from_secs(1), Duration::from_secs(30)),
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::Held => "somebody else holds the row of this user",
            Self::Slow => "the last statement about this user took too long",
        }
    }
}

#[derive(Debug, Default)]
pub struct Suspects(HashMap<Who, Rest>);

type Who = (Slot, UserTag);

#[derive(Debug, Clone, Copy)]
struct Rest {
    why: Why,
    until: Instant,
    lasts: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    Together,
    Alone,
    Rest(Why),
}

impl Suspects {
    pub fn treatment(&self, command: &Command, now: Instant) -> Treatment {
        match self.0.get(&who(command)) {
            None => Treatment::Together,
            Some(rest) if now < rest.until => Treatment::Rest(rest.why),
            Some(_) => Treatment::Alone,
        }
    }

    pub fn note_held(&mut self, user: UserId, now: Instant) {
        self.note((user.slot(), user.tag()), Why::Held, now);
    }

    pub fn note_slow(&mut self, command: &Command, now: Instant) {
        self.note(who(command), Why::Slow, now);
    }

    pub fn note_done(&mut self, command: &Command) {
        self.0.remove(&who(command));
    }

    fn note(&mut self, who: Who, why: Why, now: Instant) {
        let (first, longest) = why.rests();
        let before = self.0.get(&who).filter(|rest| rest.why == why);
        let lasts = before.map_or(first, |rest| (rest.lasts * 2).min(longest));
        self.0.insert(who, Rest { why, until: now + lasts, lasts });
        self.0.retain(|_, rest| now.saturating_duration_since(rest.until) < REMEMBERED_FOR);
    }
}

fn who(command: &Command) -> Who {
    (command.operation.slot(), command.operation.tag())
}

#[cfg(test)]
mod tests {
    use picopay_shared::command::Operation;
    use picopay_shared::origin::Origin;
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
            origin: Origin::default(),
            made_by: None,
        }
    }

    #[test]
    fn whoever_costs_time_rests_longer_each_time_and_is_then_tried_alone() {
        for (why, rests_ms) in [
            (Why::Slow, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]),
            (Why::Held, [100, 200, 400, 800, 1_600, 2_000, 2_000]),
        ] {
            let (mut suspects, mut now) = (Suspects::default(), Instant::now());
            assert_eq!(suspects.treatment(&command(1), now), Treatment::Together);
            for rest_ms in rests_ms {
                suspects.note((user(1).slot(), user(1).tag()), why, now);
                let just_before = now + Duration::from_millis(rest_ms - 1);
                assert_eq!(suspects.treatment(&command(1), just_before), Treatment::Rest(why));
                now += Duration::from_millis(rest_ms);
                assert_eq!(suspects.treatment(&command(1), now), Treatment::Alone);
                assert_eq!(suspects.treatment(&command(2), now), Treatment::Together, "a neighbour");
            }
            suspects.note_done(&command(1));
            assert_eq!(suspects.treatment(&command(1), now), Treatment::Together);
        }
    }

    #[test]
    fn whoever_is_not_heard_of_is_forgotten_and_another_reason_begins_anew() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        suspects.note_slow(&command(1), now);
        suspects.note_held(user(1), now);
        assert_eq!(suspects.treatment(&command(1), now), Treatment::Rest(Why::Held));
        assert_eq!(suspects.treatment(&command(1), now + Duration::from_millis(100)), Treatment::Alone);
        suspects.note_slow(&command(2), now + Duration::from_millis(100) + REMEMBERED_FOR);
        assert_eq!(suspects.treatment(&command(1), now), Treatment::Together);
    }
}
