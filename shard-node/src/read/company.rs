//! Who is asked together with others, and who alone.
//!
//! A statement for many reads ends with its slowest one. So it has little time. When that is over, each of
//! its reads is asked alone, with the usual limits. Whoever is slow then stays alone for a while. The server
//! gets no such statement for a moment either: it may be slow for everybody, because its memory is cold.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use picopay_shared::query::Query;
use picopay_shared::slot::{Slot, UserTag};

/// The time of a statement for many reads: this for each, ten times what a page costs from memory.
const TOGETHER_EACH: Duration = Duration::from_millis(1);
/// And this in any case, since a busy machine gives a process no turn for some tens of milliseconds.
const TOGETHER_ALL: Duration = Duration::from_millis(30);
/// A read that takes longer than this is slow: a page looks at 1,000 rows at most, in a few milliseconds.
const SLOW: Duration = Duration::from_millis(20);
/// How long a slow user's reads are asked alone, which costs what a read cost before there were batches.
const ALONE_FOR: Duration = Duration::from_mins(1);
/// How long a server is asked each read alone, after a statement for many took too long.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a statement for so many reads may take.
pub fn longest(reads: usize) -> Duration {
    TOGETHER_ALL + TOGETHER_EACH * u32::try_from(reads).unwrap_or(u32::MAX)
}

/// Users by slot and tag, which every query has. Users who share both are treated alike.
#[derive(Debug, Default)]
pub struct Company {
    alone_until: Mutex<HashMap<(Slot, UserTag), Instant>>,
}

/// Looks at the time that a read takes, until it is dropped: also one that was given up.
pub struct Watch<'a> {
    company: &'a Company,
    query: &'a Query,
    began: Instant,
}

impl Company {
    pub fn is_alone(&self, query: &Query) -> bool {
        self.is_alone_at(query, Instant::now())
    }

    pub fn watch<'a>(&'a self, query: &'a Query) -> Watch<'a> {
        Watch { company: self, query, began: Instant::now() }
    }

    fn is_alone_at(&self, query: &Query, now: Instant) -> bool {
        let alone = self.alone_until.lock().unwrap_or_else(PoisonError::into_inner);
        // Mostly nobody is.
        !alone.is_empty() && alone.get(&who(query)).is_some_and(|until| now < *until)
    }

    fn note(&self, query: &Query, took: Duration, now: Instant) {
        if took > SLOW {
            let mut alone = self.alone_until.lock().unwrap_or_else(PoisonError::into_inner);
            alone.insert(who(query), now + ALONE_FOR);
            alone.retain(|_, until| now < *until);
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.company.note(self.query, now.saturating_duration_since(self.began), now);
    }
}

/// A server that was late with a statement for many reads.
#[derive(Debug, Default)]
pub struct Pause {
    ends: Mutex<Option<Instant>>,
}

impl Pause {
    pub fn begin(&self) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PAUSE);
    }

    pub fn is_on(&self) -> bool {
        let ends = *self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.is_some_and(|ends| Instant::now() < ends)
    }
}

fn who(query: &Query) -> (Slot, UserTag) {
    match query {
        Query::Balance { user_id, .. } | Query::BalanceAt { user_id, .. } => (user_id.slot(), user_id.tag()),
        Query::History(history) => (history.user_id.slot(), history.user_id.tag()),
        Query::Holds(holds) => (holds.user_id.slot(), holds.user_id.tag()),
        Query::Lookup { id } | Query::Hold { id } | Query::Transfer { id } => (id.slot(), id.tag()),
    }
}

#[cfg(test)]
mod tests {
    use picopay_shared::query::Consistency;
    use picopay_shared::slot::UserId;

    use super::*;

    fn balance(user: i64) -> Query {
        let user_id = UserId::try_from(user).unwrap();
        Query::Balance { user_id, currency: None, consistency: Consistency::Strong }
    }

    #[test]
    fn whoever_was_slow_is_alone_for_a_while_and_nobody_else() {
        let (company, now) = (Company::default(), Instant::now());
        company.note(&balance(1), SLOW, now);
        assert!(!company.is_alone_at(&balance(1), now));
        company.note(&balance(1), SLOW * 2, now);
        assert!(company.is_alone_at(&balance(1), now));
        assert!(!company.is_alone_at(&balance(2), now));
        assert!(!company.is_alone_at(&balance(1), now + ALONE_FOR));
        company.note(&balance(2), SLOW * 2, now + ALONE_FOR);
        assert_eq!(company.alone_until.lock().unwrap().len(), 1, "the first one is forgotten");
    }

    #[test]
    fn more_reads_have_more_time() {
        assert!(longest(64) > longest(2) && longest(2) > SLOW);
    }
}
