//! What is known of users while slots move: the clients' account, and what a read of each user must not miss.

use std::time::Duration;

use picopay_loadtest::batch_answer::BatchAnswer;
use picopay_loadtest::traffic::{Answer, problem_code};
use picopay_loadtest::write::{UuidText, Write};
use picopay_shared::slot::UserId;

use crate::account::{Account, Acknowledged, Asking, Reply, Taken, is_decision, is_pending};
use crate::findings::{Finding, Promise};

/// One user of so many gets transfers. What others send changes a balance at any moment, so nobody compares theirs.
pub const RECIPIENT_EVERY: u64 = 8;

/// Nobody asks when a key had its answer.
const NO_TIME: Duration = Duration::ZERO;

#[derive(Debug, Clone, Copy, Default)]
pub struct UserState {
    open: u32,
    version: u32,
    /// Transactions that a history lists, at least.
    pub listed: u32,
    newest: Option<(UuidText, u64)>,
}

#[derive(Debug, Clone)]
pub struct Own {
    pub write: Write,
    pub id: UuidText,
    pub session: Vec<u8>,
    /// Transactions of the user that the history listed then, at least.
    pub listed: u32,
}

#[derive(Debug)]
pub enum Judged {
    /// The first answer that acknowledges comes with what can be read then.
    Decided(Option<Own>),
    /// The same key may be tried again.
    Again(String),
    /// Nothing that may ever be said; it is a finding already.
    Wrong,
}

#[derive(Debug)]
pub struct Books {
    pub account: Account,
    users: Vec<UserState>,
}

impl Books {
    pub fn new(users: usize, listed: u32, account: Account) -> Self {
        let user = UserState { listed, ..UserState::default() };
        Self { account, users: vec![user; users] }
    }

    /// Notes a key before it is sent. Otherwise it could not be told from what nobody asked for.
    pub fn open(&mut self, write: Write) -> usize {
        let user = self.user_mut(write.user);
        user.open += 1;
        user.version += 1;
        self.account.open(write)
    }

    pub fn take(&mut self, at: usize, reply: Reply<'_>, asking: Asking) -> Judged {
        let write = self.account.entries[at].write;
        if is_pending(&write, reply.status) {
            return match self.account.take_pending(at, reply, NO_TIME) {
                Ok(()) => Judged::Again("pending".to_owned()),
                Err(_) => Judged::Wrong,
            };
        }
        if !is_decision(&write, reply.status, reply.body) {
            return self.read_problem(at, reply);
        }
        let acknowledged = match self.account.take(at, reply, asking, NO_TIME) {
            Taken::First(acknowledged) => acknowledged,
            Taken::Again => return Judged::Decided(None),
            Taken::Wrong => return Judged::Wrong,
        };
        let own = acknowledged.and_then(|Acknowledged { id, balance }| {
            let listed = self.note_acknowledged(write.user, id.zip(balance));
            let (id, session) = id.zip(reply.session)?;
            Some(Own { write, id, session: session.to_vec(), listed })
        });
        let user = self.user_mut(write.user);
        user.open -= 1;
        user.version += 1;
        Judged::Decided(own)
    }

    /// Takes the answer to a batch: one judgement for each operation.
    pub fn take_batch(&mut self, places: &[usize], answer: Answer<'_>) -> Vec<Judged> {
        let (status, session, body) = match answer {
            Answer::Lost(lost) => {
                for at in places {
                    self.account.note_unknown(*at);
                }
                return places.iter().map(|_| Judged::Again(lost.code().to_owned())).collect();
            }
            Answer::Reply { status, session, body, .. } => (status, session, body),
        };
        let reply = |status, is_replayed, body| Reply { status, is_replayed, session, body };
        if status != 200 {
            return places.iter().map(|at| self.read_problem(*at, reply(status, false, body))).collect();
        }
        let keys: Vec<UuidText> = places.iter().map(|at| self.account.entries[*at].write.key).collect();
        match BatchAnswer::read(body, &keys.iter().collect::<Vec<_>>()) {
            Err(what) => {
                let text = format!("a batch of {}: {what}", places.len());
                self.add_finding(Promise::RightAnswers, text);
                places.iter().map(|_| Judged::Wrong).collect()
            }
            Ok(answer) => (places.iter().zip(answer.results))
                .map(|(at, result)| {
                    let body = result.body.get().as_bytes();
                    self.take(*at, reply(result.status, result.replayed, body), Asking::InTrouble)
                })
                .collect(),
        }
    }

    /// The balance, with a version that tells whether something happened meanwhile.
    pub fn quiet_balance(&self, user: UserId) -> Option<(u64, u32)> {
        if user.get().unsigned_abs().is_multiple_of(RECIPIENT_EVERY) {
            return None;
        }
        let state = self.user(user);
        let (_, balance) = state.newest.filter(|_| state.open == 0)?;
        Some((balance, state.version))
    }

    pub fn is_quiet_since(&self, user: UserId, version: u32) -> bool {
        self.user(user).version == version
    }

    pub fn add_finding(&self, promise: Promise, text: String) {
        self.account.findings.add(Finding { promise, text, at: None, words: Vec::new() });
    }

    /// A hold and a void are listed, and leave the balance as it is.
    fn note_acknowledged(&mut self, user: UserId, moved: Option<(UuidText, u64)>) -> u32 {
        let user = self.user_mut(user);
        user.listed += 1;
        // Two that were on their way at once may be answered in any order; their ids sort by time.
        if let Some((id, balance)) = moved
            && user.newest.is_none_or(|(newest, _)| newest < id)
        {
            user.newest = Some((id, balance));
        }
        user.listed
    }

    fn read_problem(&mut self, at: usize, reply: Reply<'_>) -> Judged {
        if reply.status < 500 && reply.status != 429 {
            self.account.wrong(at, Promise::RightAnswers, "no rule says so", reply, NO_TIME);
            return Judged::Wrong;
        }
        if reply.status == 504 {
            self.account.note_unknown(at);
        }
        Judged::Again(problem_code(reply.status, reply.body).into_owned())
    }

    fn user(&self, user: UserId) -> &UserState {
        &self.users[rank(user)]
    }

    fn user_mut(&mut self, user: UserId) -> &mut UserState {
        &mut self.users[rank(user)]
    }
}

fn rank(user: UserId) -> usize {
    usize::try_from(user.get() - 1).expect("users are numbered from 1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Keeps;
    use crate::findings::Findings;
    use picopay_loadtest::acks::AckFile;
    use picopay_loadtest::write::{KeySource, Wish, text};
    use picopay_shared::money::Currency;

    #[test]
    fn a_balance_is_quiet_once_nothing_is_on_its_way_and_a_history_is_longer_by_each_acknowledgement() {
        let folder = tempfile::tempdir().unwrap();
        let acks = AckFile::open(&folder.path().join("acks")).unwrap();
        let (user, key) = (UserId::try_from(1).unwrap(), KeySource::new(1, 1).next_key());
        let write = Write { wish: Wish::Charge, user, minor_units: 150, key };
        let body = format!(
            r#"{{"transaction":{{"id":"019a9f3a-7a6b-892e-9356-4ab70000c001","user_id":1,"kind":"charge","amount":"1.50",
            "currency":"USD","balance_after":"8.50","idempotency_key":"{}"}}}}"#,
            text(&key)
        );
        let (usd, findings) = (Currency::parse("USD").unwrap(), Findings::default());
        let account = Account::new(Keeps::Digests, usd, acks.sinks().sink(), findings.clone());
        let mut books = Books::new(1, 11, account);
        let reply = |status, body| Reply { status, is_replayed: false, session: Some(b"token"), body };
        let at = books.open(write);
        books.account.note_sent(at);
        assert_eq!(books.quiet_balance(user), None, "a charge is on its way");
        let moving = br#"{"code":"slot-moving"}"#;
        assert!(matches!(books.take(at, reply(503, moving), Asking::InTrouble), Judged::Again(_)));
        let Judged::Decided(Some(own)) = books.take(at, reply(200, body.as_bytes()), Asking::InTrouble)
        else {
            panic!("the first answer acknowledges")
        };
        assert_eq!((own.listed, books.quiet_balance(user).unwrap().0), (12, 850));
        assert!(matches!(books.take(at, reply(404, moving), Asking::InTrouble), Judged::Wrong));
        assert_eq!(findings.count(Promise::RightAnswers), 1);
    }
}
