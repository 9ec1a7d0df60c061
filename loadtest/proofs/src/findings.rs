//! Promises that were broken, with what it takes to find out why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use picopay_loadtest::write::{self, UuidText};

/// All are counted. Whoever has more looks for one cause.
pub const SHOWN_MAX: usize = 5;

/// What must hold at any seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// An acknowledged write is in the ledger as it was acknowledged.
    NothingLost,
    /// A key has one transaction, and nobody's transaction is one that was not asked for.
    NothingDoubled,
    /// Every answer under a key is the first one, byte for byte.
    EqualReplays,
    RightAnswers,
    Resolved,
    NoNegativeBalance,
    /// Everything that `picopay verify` checks.
    Verified,
    BooksAddUp,
    SameHistory,
    /// A transaction is dated when it was booked.
    WrongTimes,
    AllowedErrors,
    /// What was healed serves again.
    Recovered,
}

impl Promise {
    /// All, with what a reader of a summary sees.
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::NothingLost, "lost"),
        (Self::NothingDoubled, "doubled"),
        (Self::EqualReplays, "unequal_replays"),
        (Self::RightAnswers, "wrong_answers"),
        (Self::Resolved, "unresolved"),
        (Self::NoNegativeBalance, "negative_balances"),
        (Self::Verified, "verify_failures"),
        (Self::BooksAddUp, "books_off"),
        (Self::SameHistory, "wrong_histories"),
        (Self::WrongTimes, "wrong_times"),
        (Self::AllowedErrors, "forbidden_errors"),
        (Self::Recovered, "not_recovered"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(promise, _)| *promise == self).expect("all are there").1
    }
}

#[derive(Debug, Clone)]
pub struct Finding {
    pub promise: Promise,
    pub text: String,
    pub at: Option<Duration>,
    pub words: Vec<String>,
}

impl Finding {
    pub fn about_key(promise: Promise, text: String, key: UuidText, at: Duration) -> Self {
        Self { promise, text, at: Some(at), words: vec![write::text(&key)] }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Findings(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    counts: BTreeMap<Promise, u64>,
    shown: Vec<Finding>,
}

impl Findings {
    pub fn add(&self, finding: Finding) {
        let promise = finding.promise;
        self.add_counted(promise, 1, Some(finding));
    }

    pub fn add_counted(&self, promise: Promise, count: u64, first: Option<Finding>) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *found.counts.entry(promise).or_default() += count;
        let shown = found.shown.iter().filter(|one| one.promise == promise).count();
        if shown < SHOWN_MAX {
            found.shown.extend(first);
        }
    }

    pub fn count(&self, promise: Promise) -> u64 {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.counts.get(&promise).copied().unwrap_or(0)
    }

    pub fn shown(&self) -> Vec<Finding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).shown.clone()
    }
}
