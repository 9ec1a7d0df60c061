//! What to do after an attempt: pure, so that every order of events stands in a table.
//!
//! The question behind all of it: could an earlier attempt of this request have booked it? Once an attempt may have
//! reached the node and was never answered, only an answer to a later attempt with the same key says what became
//! of it. Until then "nothing happened" would be a lie, and the client hears that the outcome is unknown.

use std::sync::atomic::{AtomicI64, Ordering};

use picopay_shared::command::{Command, Outcome, Transaction};
use picopay_shared::session::SessionToken;

/// Retries of the gateway's own, after a failed attempt.
const RETRIES_MAX: u8 = 1;
/// Attempts more after a *moved* answer.
const MOVES_MAX: u8 = 2;

/// How one attempt at a node ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt<T> {
    /// The node said this.
    Answered(T),
    /// Nothing reached any node, or the node refused to look at it: nothing happened.
    NotSent(NotSent),
    /// It may have reached a node, and no answer came.
    Unanswered,
}

/// Why nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// No node of the shard takes a connection, or it takes none of our requests.
    Unreachable,
    /// The breaker is open.
    BreakerOpen,
    /// The queue or the readers' places are full.
    Full,
    /// The request's time was over before its turn came.
    TooLate,
}

/// A command's final answer from the node.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// The user is new.
    UserCreated,
    /// The user was there already.
    UserExisted,
    /// Booked or refused.
    Decided {
        /// The record.
        transaction: Box<Transaction>,
        /// Whether the client could have had this answer before.
        is_replayed: bool,
    },
    /// The key stands for something else; these fields differ.
    KeyReused(Vec<String>),
    /// No such user.
    UserNotFound,
    /// No such transaction to refund.
    TransactionNotFound,
    /// The amount cannot be booked in its currency; what would be right.
    AmountInvalid(String),
}

/// What to do now.
#[derive(Debug, PartialEq)]
pub enum Next<T> {
    /// Answer the client.
    Answer(T),
    /// Give up.
    Fail(Failure),
    /// Once more, to the same shard.
    Retry,
    /// Refresh the slot map, then once more.
    LookAgain,
}

/// Why it was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing happened: the shard cannot be reached or cannot write.
    Unavailable,
    /// Nothing happened: too much is waiting.
    Overloaded,
    /// Nothing happened: nobody owns the slot at the moment.
    SlotMoving,
    /// Maybe done.
    OutcomeUnknown,
    /// A bug; nothing was written.
    Internal,
}

/// The history of one command.
#[derive(Debug, Default)]
pub struct Attempts {
    may_be_booked: bool,
    retries: u8,
    moves: u8,
}

impl Attempts {
    /// What to do after `attempt`. `may_retry` is asked only when a retry would help: it says whether time and budget
    /// allow one.
    pub fn after(&mut self, attempt: Attempt<Outcome>, may_retry: impl FnOnce() -> bool) -> Next<Written> {
        let failure = match attempt {
            Attempt::Answered(outcome) => match self.settle(outcome) {
                Settled::Final(written) => return Next::Answer(written),
                Settled::Moved => return self.after_moved(),
                Settled::Failed(failure) => failure,
            },
            Attempt::Unanswered => Failure::OutcomeUnknown,
            Attempt::NotSent(NotSent::Unreachable) => Failure::Unavailable,
            Attempt::NotSent(NotSent::BreakerOpen) => return self.give_up(Failure::Unavailable),
            Attempt::NotSent(NotSent::Full | NotSent::TooLate) => return self.give_up(Failure::Overloaded),
        };
        self.may_be_booked |= failure == Failure::OutcomeUnknown;
        let would_help = matches!(failure, Failure::Unavailable | Failure::OutcomeUnknown);
        if would_help && self.retries < RETRIES_MAX && may_retry() {
            self.retries += 1;
            return Next::Retry;
        }
        self.give_up(failure)
    }

    /// What to say when the slot has no owner to send to.
    pub fn without_owner(&self, failure: Failure) -> Failure {
        if self.may_be_booked { Failure::OutcomeUnknown } else { failure }
    }

    fn settle(&self, outcome: Outcome) -> Settled {
        let written = match outcome {
            Outcome::Decided { transaction, is_replayed } => {
                // After an unanswered attempt of this very request a replay is most likely the answer to that attempt,
                // which this client never had. Nobody can tell it from a true replay, so the weaker claim is made:
                // `Idempotent-Replayed` is left out. The body is the same either way.
                Written::Decided { transaction, is_replayed: is_replayed && !self.may_be_booked }
            }
            Outcome::UserCreated => Written::UserCreated,
            // By the same doubt this could be our own first attempt; the user is there, which is what was asked for.
            Outcome::UserExisted => Written::UserExisted,
            // These three also settle an earlier attempt: had it been booked, its record would have been replayed.
            Outcome::KeyReused { differs } => Written::KeyReused(differs),
            Outcome::UserNotFound => Written::UserNotFound,
            Outcome::TransactionNotFound => Written::TransactionNotFound,
            Outcome::AmountInvalid { detail } => Written::AmountInvalid(detail),
            Outcome::Moved(_) => return Settled::Moved,
            Outcome::Unavailable { .. } => return Settled::Failed(Failure::Unavailable),
            Outcome::OutcomeUnknown => return Settled::Failed(Failure::OutcomeUnknown),
            Outcome::Internal => return Settled::Failed(Failure::Internal),
            Outcome::Overloaded => return Settled::Failed(Failure::Overloaded),
        };
        Settled::Final(written)
    }

    fn after_moved(&mut self) -> Next<Written> {
        if self.moves < MOVES_MAX {
            self.moves += 1;
            return Next::LookAgain;
        }
        self.give_up(Failure::SlotMoving)
    }

    /// The same for a read, which changes nothing: its outcome is never unknown, and it may always be tried again.
    pub fn after_read<T>(&mut self, attempt: Attempt<T>, may_retry: impl FnOnce() -> bool) -> Next<T> {
        let failure = match attempt {
            Attempt::Answered(found) => return Next::Answer(found),
            Attempt::NotSent(NotSent::Full | NotSent::TooLate) => return Next::Fail(Failure::Overloaded),
            Attempt::NotSent(NotSent::BreakerOpen) => return Next::Fail(Failure::Unavailable),
            Attempt::NotSent(NotSent::Unreachable) | Attempt::Unanswered => Failure::Unavailable,
        };
        if self.retries < RETRIES_MAX && may_retry() {
            self.retries += 1;
            return Next::Retry;
        }
        Next::Fail(failure)
    }

    /// After a read was answered by a shard that does not own the slot.
    pub fn after_moved_read<T>(&mut self) -> Next<T> {
        if self.moves < MOVES_MAX {
            self.moves += 1;
            return Next::LookAgain;
        }
        Next::Fail(Failure::SlotMoving)
    }

    fn give_up<T>(&self, failure: Failure) -> Next<T> {
        Next::Fail(self.without_owner(failure))
    }
}

enum Settled {
    Final(Written),
    Moved,
    Failed(Failure),
}

/// At most one retry per ten requests of a shard, so that a dead one is not hammered by its own failures.
#[derive(Debug)]
pub struct RetryBudget {
    tenths: AtomicI64,
}

impl RetryBudget {
    /// A retry costs ten tenths, a request brings one.
    const RETRY_TENTHS: i64 = 10;
    /// Ten retries can be saved up: enough for a short break at low load, too few to matter at high load.
    const SAVED_MAX_TENTHS: i64 = 100;

    /// Full.
    pub fn new() -> Self {
        Self { tenths: AtomicI64::new(Self::SAVED_MAX_TENTHS) }
    }

    /// A request came.
    pub fn earn(&self) {
        if self.tenths.load(Ordering::Relaxed) < Self::SAVED_MAX_TENTHS {
            self.tenths.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes one retry, if there is one.
    pub fn spend(&self) -> bool {
        let take = |tenths: i64| (tenths >= Self::RETRY_TENTHS).then(|| tenths - Self::RETRY_TENTHS);
        self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// A command and how its attempt ended: handed back, so that a retry needs no copy.
#[derive(Debug)]
pub struct Done {
    /// What was tried.
    pub command: Command,
    /// How it ended.
    pub attempt: Attempt<Outcome>,
    /// The session token of an answer that tells of something written.
    pub session: Option<SessionToken>,
}

#[cfg(test)]
mod tests {
    use picopay_shared::command::{Kind, Moved, Status};
    use picopay_shared::id::TransactionId;
    use picopay_shared::money::{Currency, Money};
    use picopay_shared::slot::{Slot, UserId};
    use uuid::Uuid;

    use super::*;

    fn decided(is_replayed: bool) -> Attempt<Outcome> {
        let money = Money::parse("1", Currency::parse("USD").unwrap()).unwrap();
        let transaction = Transaction {
            id: TransactionId::from_uuid(Uuid::nil()),
            user_id: UserId::try_from(1).unwrap(),
            kind: Kind::Charge,
            status: Status::Completed,
            money,
            balance_after: money,
            idempotency_key: Uuid::nil(),
            charge_id: None,
            reference: None,
            metadata: None,
            made_by: None,
        };
        Attempt::Answered(Outcome::Decided { transaction: Box::new(transaction), is_replayed })
    }

    fn moved() -> Attempt<Outcome> {
        Attempt::Answered(Outcome::Moved(Moved { slot: Slot::new(1).unwrap(), owner: None, epoch: 0 }))
    }

    fn unavailable() -> Attempt<Outcome> {
        Attempt::Answered(Outcome::Unavailable { reason: "the database is away".into() })
    }

    /// How a request ends whose attempts end like this, when time and budget allow a retry.
    fn end_of(story: Vec<Attempt<Outcome>>) -> String {
        let mut attempts = Attempts::default();
        let count = story.len();
        for (number, attempt) in (1..).zip(story) {
            let next = attempts.after(attempt, || true);
            let is_last = number == count;
            match next {
                Next::Retry | Next::LookAgain if !is_last => {}
                _ if !is_last => return format!("ended after {number}"),
                Next::Answer(Written::Decided { is_replayed, .. }) => {
                    return if is_replayed { "replayed" } else { "decided" }.to_owned();
                }
                Next::Answer(written) => return format!("{written:?}"),
                Next::Fail(failure) => return format!("{failure:?}"),
                other => return format!("{other:?}"),
            }
        }
        unreachable!("a story has an end")
    }

    #[test]
    fn every_story_ends_as_it_should() {
        use Attempt::{Answered, NotSent as Unsent, Unanswered};
        let unknown = || Answered(Outcome::OutcomeUnknown);
        for (story, end) in [
            (vec![decided(false)], "decided"),
            (vec![decided(true)], "replayed"),
            // A retry after a failure in which certainly nothing happened: a replay is a replay.
            (vec![Unsent(NotSent::Unreachable), decided(true)], "replayed"),
            (vec![unavailable(), decided(true)], "replayed"),
            // A retry after a lost answer: the replay may be this client's first answer.
            (vec![Unanswered, decided(true)], "decided"),
            (vec![unknown(), decided(true)], "decided"),
            (vec![Unanswered, decided(false)], "decided"),
            // A definitive no also settles the lost attempt.
            (vec![Unanswered, Answered(Outcome::UserNotFound)], "UserNotFound"),
            (vec![Unanswered, Answered(Outcome::KeyReused { differs: vec![] })], "KeyReused([])"),
            // Nothing was ever sent: nothing happened.
            (vec![Unsent(NotSent::Unreachable), Unsent(NotSent::Unreachable)], "Unavailable"),
            (vec![Unsent(NotSent::BreakerOpen)], "Unavailable"),
            (vec![Unsent(NotSent::Full)], "Overloaded"),
            (vec![Unsent(NotSent::TooLate)], "Overloaded"),
            (vec![unavailable(), unavailable()], "Unavailable"),
            (vec![Answered(Outcome::Internal)], "Internal"),
            // A node that has too much to do is not asked again.
            (vec![Answered(Outcome::Overloaded)], "Overloaded"),
            (vec![Unanswered, Answered(Outcome::Overloaded)], "OutcomeUnknown"),
            // One lost answer, and nothing after it says "nothing happened" any more.
            (vec![Unanswered, Unsent(NotSent::Unreachable)], "OutcomeUnknown"),
            (vec![Unanswered, Unsent(NotSent::BreakerOpen)], "OutcomeUnknown"),
            (vec![Unanswered, Unsent(NotSent::Full)], "OutcomeUnknown"),
            (vec![Unanswered, Unsent(NotSent::TooLate)], "OutcomeUnknown"),
            (vec![Unanswered, Unanswered], "OutcomeUnknown"),
            (vec![Unanswered, unavailable()], "OutcomeUnknown"),
            (vec![Unanswered, Answered(Outcome::Internal)], "OutcomeUnknown"),
            (vec![unknown(), unknown()], "OutcomeUnknown"),
            (vec![Unanswered, moved(), moved(), moved()], "OutcomeUnknown"),
            (vec![unavailable(), Unanswered], "OutcomeUnknown"),
            // Moved: twice more, and then the slot is on its way.
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
        for (attempt, failure) in [
            (Attempt::Unanswered, Failure::OutcomeUnknown),
            (Attempt::NotSent(NotSent::Unreachable), Failure::Unavailable),
            (unavailable(), Failure::Unavailable),
        ] {
            assert_eq!(Attempts::default().after(attempt, || false), Next::Fail(failure));
        }
    }

    #[test]
    fn an_owner_that_went_missing_after_a_lost_answer_leaves_the_outcome_unknown() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.without_owner(Failure::SlotMoving), Failure::SlotMoving);
        assert_eq!(attempts.after(Attempt::Unanswered, || true), Next::Retry);
        assert_eq!(attempts.without_owner(Failure::SlotMoving), Failure::OutcomeUnknown);
    }

    #[test]
    fn a_read_is_tried_twice_and_its_outcome_is_never_unknown() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.after_read::<()>(Attempt::Unanswered, || true), Next::Retry);
        assert_eq!(attempts.after_read::<()>(Attempt::Unanswered, || true), Next::Fail(Failure::Unavailable));
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
