//! What to do after an attempt. Pure, so that a table can test every order of events.
//!
//! The question is whether an earlier attempt of this request could have booked it. An attempt that may have
//! reached the node and was never answered leaves that open. Only an answer to a later attempt with the same
//! key settles it. Until then the client hears that the outcome is unknown.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::ended::{Decision, Ended, NotDone};

const RETRIES_MAX: u8 = 1;
const MOVES_MAX: u8 = 2;

#[derive(Debug, PartialEq)]
pub enum Next<T> {
    Answer(T),
    GiveUp(GaveUp),
    Retry,
    LookAgain,
}

impl<T> Next<T> {
    pub fn map<U>(self, translate: impl FnOnce(T) -> U) -> Next<U> {
        match self {
            Self::Answer(answer) => Next::Answer(translate(answer)),
            Self::GiveUp(end) => Next::GiveUp(end),
            Self::Retry => Next::Retry,
            Self::LookAgain => Next::LookAgain,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaveUp {
    NotDone(NotDone),
    Unknown,
}

#[derive(Debug, Default)]
pub struct Attempts {
    may_be_booked: bool,
    retries: u8,
    moves: u8,
}

impl Attempts {
    /// What to do after an attempt of a command. `may_retry` says whether time and budget allow a retry; it
    /// is asked only when one would help.
    pub fn after_write(
        &mut self,
        ended: Ended<Decision>,
        may_retry: impl FnOnce() -> bool,
    ) -> Next<Decision> {
        match self.after(ended, may_retry) {
            // After an unanswered attempt a replay is most likely the answer to that attempt, which the
            // client never had. Nobody can tell it from a true replay, so `Idempotent-Replayed` is left out.
            // The body is the same either way. Every other final answer settles an earlier attempt too: had
            // it been booked, its record would have been replayed.
            Next::Answer(Decision::Decided { transaction, is_replayed }) => Next::Answer(Decision::Decided {
                transaction,
                is_replayed: is_replayed && !self.may_be_booked,
            }),
            Next::Answer(Decision::Transferred { transfer, balance_after, is_replayed }) => {
                Next::Answer(Decision::Transferred {
                    transfer,
                    balance_after,
                    is_replayed: is_replayed && !self.may_be_booked,
                })
            }
            next => next,
        }
    }

    pub fn after<T>(&mut self, ended: Ended<T>, may_retry: impl FnOnce() -> bool) -> Next<T> {
        let (would_help, end) = match ended {
            Ended::Final(answer) => return Next::Answer(answer),
            Ended::Moved(_) if self.moves < MOVES_MAX => {
                self.moves += 1;
                return Next::LookAgain;
            }
            Ended::Moved(_) => (false, GaveUp::NotDone(NotDone::SlotMoving)),
            Ended::NotDone(why) => (why == NotDone::Unavailable, GaveUp::NotDone(why)),
            Ended::Unknown => {
                self.may_be_booked = true;
                (true, GaveUp::Unknown)
            }
        };
        if would_help && self.retries < RETRIES_MAX && may_retry() {
            self.retries += 1;
            return Next::Retry;
        }
        Next::GiveUp(self.given_up(end))
    }

    pub fn without_owner(&self, why: NotDone) -> GaveUp {
        self.given_up(GaveUp::NotDone(why))
    }

    fn given_up(&self, end: GaveUp) -> GaveUp {
        if self.may_be_booked { GaveUp::Unknown } else { end }
    }
}

/// At most one retry per ten requests of a shard, so that a dead one is not hammered by its own failures.
#[derive(Debug)]
pub struct RetryBudget {
    tenths: AtomicI64,
}

impl RetryBudget {
    /// In tenths: a retry costs ten, a request brings one.
    const RETRY_TENTHS: i64 = 10;
    /// Ten retries can be saved up: enough for a short break at low load, too few to matter at high load.
    const SAVED_MAX_TENTHS: i64 = 100;

    pub fn new() -> Self {
        Self { tenths: AtomicI64::new(Self::SAVED_MAX_TENTHS) }
    }

    pub fn earn(&self) {
        if self.tenths.load(Ordering::Relaxed) < Self::SAVED_MAX_TENTHS {
            self.tenths.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn spend(&self) -> bool {
        let take = |tenths: i64| (tenths >= Self::RETRY_TENTHS).then(|| tenths - Self::RETRY_TENTHS);
        self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use picopay_shared::command::{Kind, Moved, Outcome, Status, Transaction};
    use picopay_shared::hold::HoldPart;
    use picopay_shared::id::TransactionId;
    use picopay_shared::money::{Currency, Money};
    use picopay_shared::slot::{Slot, UserId};
    use uuid::Uuid;

    use super::*;

    fn decided(is_replayed: bool) -> Ended<Decision> {
        let money = Money::parse("1", Currency::parse("USD").unwrap()).unwrap();
        let transaction = Transaction {
            id: TransactionId::from_uuid(Uuid::nil()),
            user_id: UserId::try_from(1).unwrap(),
            kind: Kind::Charge,
            status: Status::Completed,
            money,
            balance_after: money,
            idempotency_key: None,
            charge_id: None,
            reference: None,
            metadata: None,
            made_by: None,
            hold_part: HoldPart::default(),
            transfer: None,
        };
        Outcome::Decided { transaction: Box::new(transaction), is_replayed }.into()
    }

    fn moved() -> Ended<Decision> {
        Outcome::Moved(Moved { slot: Slot::new(1).unwrap(), owner: None, epoch: 0 }).into()
    }

    fn unavailable() -> Ended<Decision> {
        Outcome::Unavailable { reason: "the database is away".into() }.into()
    }

    fn end_of(story: Vec<Ended<Decision>>) -> String {
        let mut attempts = Attempts::default();
        let count = story.len();
        for (number, ended) in (1..).zip(story) {
            let next = attempts.after_write(ended, || true);
            let is_last = number == count;
            match next {
                Next::Retry | Next::LookAgain if !is_last => {}
                _ if !is_last => return format!("ended after {number}"),
                Next::Answer(Decision::Decided { is_replayed, .. }) => {
                    return if is_replayed { "replayed" } else { "decided" }.to_owned();
                }
                Next::Answer(decision) => return format!("{decision:?}"),
                Next::GiveUp(GaveUp::NotDone(why)) => return format!("{why:?}"),
                Next::GiveUp(GaveUp::Unknown) => return "Unknown".to_owned(),
                other => return format!("{other:?}"),
            }
        }
        unreachable!("a story has an end")
    }

    #[test]
    fn every_story_ends_as_it_should() {
        use Ended::{NotDone as Not, Unknown as Unanswered};
        let answered = |outcome: Outcome| Ended::from(outcome);
        let unreachable = || Not(NotDone::Unavailable);
        for (story, end) in [
            (vec![decided(false)], "decided"),
            (vec![decided(true)], "replayed"),
            // After a failure in which certainly nothing happened, a replay is a replay.
            (vec![unreachable(), decided(true)], "replayed"),
            (vec![unavailable(), decided(true)], "replayed"),
            // After a lost answer, the replay may be this client's first answer.
            (vec![Unanswered, decided(true)], "decided"),
            (vec![answered(Outcome::OutcomeUnknown), decided(true)], "decided"),
            (vec![Unanswered, decided(false)], "decided"),
            (vec![Unanswered, answered(Outcome::UserNotFound)], "UserNotFound"),
            (vec![Unanswered, answered(Outcome::KeyReused { differs: vec![] })], "KeyReused([])"),
            (vec![unreachable(), unreachable()], "Unavailable"),
            (vec![Not(NotDone::BreakerOpen)], "BreakerOpen"),
            (vec![Not(NotDone::Overloaded)], "Overloaded"),
            (vec![unavailable(), unavailable()], "Unavailable"),
            (vec![answered(Outcome::Internal)], "Internal"),
            (vec![answered(Outcome::Overloaded)], "Overloaded"),
            (vec![Unanswered, answered(Outcome::Overloaded)], "Unknown"),
            // After one lost answer, nothing says "nothing happened" any more.
            (vec![Unanswered, unreachable()], "Unknown"),
            (vec![Unanswered, Not(NotDone::BreakerOpen)], "Unknown"),
            (vec![Unanswered, Not(NotDone::Overloaded)], "Unknown"),
            (vec![Unanswered, Unanswered], "Unknown"),
            (vec![Unanswered, unavailable()], "Unknown"),
            (vec![Unanswered, answered(Outcome::Internal)], "Unknown"),
            (vec![answered(Outcome::OutcomeUnknown), answered(Outcome::OutcomeUnknown)], "Unknown"),
            (vec![Unanswered, moved(), moved(), moved()], "Unknown"),
            (vec![unavailable(), Unanswered], "Unknown"),
            (vec![moved(), decided(false)], "decided"),
            (vec![moved(), moved(), decided(false)], "decided"),
            (vec![moved(), moved(), moved()], "SlotMoving"),
            (vec![moved(), Unanswered, decided(true)], "decided"),
        ] {
            let told = format!("{story:?}");
            assert_eq!(end_of(story), end, "{told}");
        }
    }

    #[test]
    fn without_time_or_budget_the_first_failure_is_the_last() {
        for (ended, end) in [
            (Ended::Unknown, GaveUp::Unknown),
            (Ended::NotDone(NotDone::Unavailable), GaveUp::NotDone(NotDone::Unavailable)),
            (unavailable(), GaveUp::NotDone(NotDone::Unavailable)),
        ] {
            assert_eq!(Attempts::default().after_write(ended, || false), Next::GiveUp(end));
        }
    }

    #[test]
    fn an_owner_that_went_missing_after_a_lost_answer_leaves_the_outcome_unknown() {
        let mut attempts = Attempts::default();
        let moving = NotDone::SlotMoving;
        assert_eq!(attempts.without_owner(moving), GaveUp::NotDone(moving));
        assert_eq!(attempts.after_write(Ended::Unknown, || true), Next::Retry);
        assert_eq!(attempts.without_owner(moving), GaveUp::Unknown);
    }

    #[test]
    fn a_read_is_tried_twice_and_its_outcome_is_never_unknown() {
        let mut attempts = Attempts::default();
        let lost = || Ended::<()>::Unknown.of_read();
        assert_eq!(attempts.after(lost(), || true), Next::Retry);
        let end = GaveUp::NotDone(NotDone::Unavailable);
        assert_eq!(attempts.after(lost(), || true), Next::GiveUp(end));
    }

    #[test]
    fn retries_are_at_most_a_tenth_of_the_requests() {
        let budget = RetryBudget::new();
        while budget.spend() {}
        let mut retries = 0;
        for _ in 0..1000 {
            budget.earn();
            retries += u32::from(budget.spend());
        }
        assert_eq!(retries, 100);
    }
}
