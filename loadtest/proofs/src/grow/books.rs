//! What clients asked for and what they were told, on their side of the wire: every key, and of every user what a read must
//! not miss.
//!
//! It keeps a digest of each first answer and not the answer: a run has a million of them. Everything else is as in the
//! ledger of the chaos run.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use picopay_shared::money::Currency;
use picopay_shared::slot::UserId;

use crate::findings::{Finding, Findings, Promise};
use picopay_loadtest::acks::AckSink;
use picopay_loadtest::traffic::problem_code;
use picopay_loadtest::write::{AnsweredTransaction, UuidText, Wish, Write, WriteAnswer, describe};

/// One key.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it stands for.
    pub write: Write,
    /// Its first answer.
    pub told: Option<Told>,
    /// How often it was sent.
    pub sent: u32,
    /// Whether at least one attempt ended so that nobody could say what became of it.
    pub was_unknown: bool,
}

/// A decision: the answer that a key has from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// 200, or the refusals 402 and 422.
    pub status: u16,
    /// Of the body.
    digest: u64,
}

/// What is known of one user.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserState {
    /// Keys that were sent and have no answer.
    open: u32,
    /// Grows whenever a key is opened or answered.
    version: u32,
    /// Transactions that a history lists, at least.
    pub listed: u32,
    /// The newest transaction that was acknowledged, and the balance after it in minor units.
    newest: Option<(UuidText, u64)>,
}

/// A write that was acknowledged, and what a read shows to see it.
#[derive(Debug, Clone)]
pub struct Own {
    /// What was asked for.
    pub write: Write,
    /// Its transaction.
    pub id: UuidText,
    /// `PicoPay-Session`.
    pub session: Vec<u8>,
    /// Transactions of the user that the history listed then, at least.
    pub listed: u32,
}

/// What an answer to a write is.
#[derive(Debug)]
pub enum Judged {
    /// The key's answer. The first that acknowledges comes with what can be read then.
    Decided(Option<Own>),
    /// Not now, for the reason of this name: the same key may be tried again.
    Again(String),
    /// Nothing that may ever be said; it is a finding already.
    Wrong,
}

/// How sure an answer is expected to be of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// A gateway that sent a key twice itself leaves `Idempotent-Replayed` out: it cannot tell.
    WhileMoving,
    /// An answer that was given before says so.
    InPeace,
}

/// An answer to a write.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// For example 200.
    pub status: u16,
    /// Whether it said `Idempotent-Replayed: true`.
    pub is_replayed: bool,
    /// Its session token.
    pub session: Option<&'a [u8]>,
    /// All of it.
    pub body: &'a [u8],
}

/// Every key of a run.
#[derive(Debug)]
pub struct Books {
    /// In the order in which they were first sent.
    pub entries: Vec<Entry>,
    /// By rank: user 1 first.
    users: Vec<UserState>,
    /// What was broken.
    pub findings: Findings,
    /// The currency of everything.
    pub currency: Currency,
    /// Where acknowledgements go.
    pub acks: AckSink,
}

impl Books {
    /// For so many users, each of whom has at least so many transactions in its history.
    pub fn new(users: usize, listed: u32, currency: Currency, acks: AckSink, findings: Findings) -> Self {
        let user = UserState { listed, ..UserState::default() };
        Self { entries: Vec::new(), users: vec![user; users], findings, currency, acks }
    }

    /// Opens a key. What was not noted before it is sent cannot be told from what nobody asked for.
    pub fn open(&mut self, write: Write) -> usize {
        let user = self.user_mut(write.user);
        user.open += 1;
        user.version += 1;
        self.entries.push(Entry { write, told: None, sent: 0, was_unknown: false });
        self.entries.len() - 1
    }

    /// Takes in an answer to the key at this place: the first, or one that must be equal to it.
    pub fn take(&mut self, at: usize, reply: Reply<'_>, asking: Asking) -> Judged {
        let Reply { status, is_replayed, session, body } = reply;
        let Entry { write, told: first, sent, .. } = self.entries[at].clone();
        if !is_decision(&write, status, body) {
            return self.read_problem(at, reply);
        }
        let told = Told { status, digest: digest(body) };
        if let Some(first) = first {
            let difference = if first != told {
                "the answer is not the first one"
            } else if asking == Asking::InPeace && !is_replayed {
                "an answer that was given before does not say so"
            } else {
                return Judged::Decided(None);
            };
            let was = format!("{difference} (which was {})", first.status);
            return self.wrong(at, Promise::EqualReplays, &was, reply);
        }
        if sent == 1 && is_replayed {
            return self.wrong(at, Promise::EqualReplays, "a new key is answered as if it were known", reply);
        }
        let mut own = None;
        if status == 200 {
            let Ok(WriteAnswer { transaction }) = serde_json::from_slice(body) else {
                return self.wrong(at, Promise::RightAnswers, "it cannot be read", reply);
            };
            if let Some(field) = transaction.wrong_field(&write, self.currency) {
                return self.wrong(
                    at,
                    Promise::RightAnswers,
                    &format!("{field} is not what was asked for"),
                    reply,
                );
            }
            let Ok(id) = UuidText::try_from(transaction.id.as_bytes()) else {
                return self.wrong(at, Promise::RightAnswers, "the id is no UUID", reply);
            };
            self.acks.record(&transaction);
            let listed = self.note_acknowledged(&write, id, &transaction);
            own = session.map(|session| Own { write, id, session: session.to_vec(), listed });
        }
        self.entries[at].told = Some(told);
        let user = self.user_mut(write.user);
        user.open -= 1;
        user.version += 1;
        Judged::Decided(own)
    }

    /// Notes that nobody can say what became of an attempt.
    pub fn note_unknown(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        entry.was_unknown |= entry.told.is_none();
    }

    /// The balance of a user, as long as nothing happens: with what tells that something did.
    pub fn quiet_balance(&self, user: UserId) -> Option<(u64, u32)> {
        let state = self.user(user);
        let (_, balance) = state.newest.filter(|_| state.open == 0)?;
        Some((balance, state.version))
    }

    /// Whether nothing has happened to a user since.
    pub fn is_quiet_since(&self, user: UserId, version: u32) -> bool {
        self.user(user).version == version
    }

    /// Notes a broken promise.
    pub fn add_finding(&self, promise: Promise, text: String) {
        self.findings.add(Finding { promise, text, at: None, words: Vec::new() });
    }

    fn note_acknowledged(&mut self, write: &Write, id: UuidText, answer: &AnsweredTransaction<'_>) -> u32 {
        let balance = answer.balance_after.bytes().filter(u8::is_ascii_digit);
        let balance = balance.fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let user = self.user_mut(write.user);
        user.listed += 1;
        // Two that were on their way at once may be answered in any order; their ids sort by time.
        if user.newest.is_none_or(|(newest, _)| newest < id) {
            user.newest = Some((id, balance));
        }
        user.listed
    }

    fn read_problem(&mut self, at: usize, reply: Reply<'_>) -> Judged {
        if reply.status < 500 && reply.status != 429 {
            return self.wrong(at, Promise::RightAnswers, "no rule says so", reply);
        }
        if reply.status == 504 {
            self.note_unknown(at);
        }
        Judged::Again(problem_code(reply.status, reply.body).into_owned())
    }

    fn wrong(&self, at: usize, promise: Promise, what: &str, reply: Reply<'_>) -> Judged {
        let asked = describe(&self.entries[at].write);
        let text = format!("{what}: {asked}: {} {}", reply.status, String::from_utf8_lossy(reply.body));
        self.add_finding(promise, text);
        Judged::Wrong
    }

    fn user(&self, user: UserId) -> &UserState {
        &self.users[rank(user)]
    }

    fn user_mut(&mut self, user: UserId) -> &mut UserState {
        &mut self.users[rank(user)]
    }
}

/// Users are numbered from 1.
fn rank(user: UserId) -> usize {
    usize::try_from(user.get() - 1).expect("users are numbered from 1")
}

fn digest(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

/// Whether the answer is the ledger's: booked, or refused by a rule.
fn is_decision(write: &Write, status: u16, body: &[u8]) -> bool {
    match status {
        200 => true,
        402 => write.wish == Wish::Charge && problem_code(status, body) == "insufficient-balance",
        422 => {
            matches!(write.wish, Wish::Refund { .. })
                && matches!(&*problem_code(status, body), "not-refundable" | "refund-exceeds-charge")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picopay_loadtest::acks::AckFile;
    use picopay_loadtest::write::{KeySource, text};

    fn body(write: &Write, amount: &str, balance: &str) -> Vec<u8> {
        format!(
            r#"{{"transaction":{{"id":"019a9f3a-7a6b-892e-9356-4ab70000c001","user_id":1,"kind":"charge","amount":"{amount}",
            "currency":"USD","balance_after":"{balance}","idempotency_key":"{}"}}}}"#,
            text(&write.key)
        )
        .into_bytes()
    }

    #[test]
    fn an_answer_counts_once_and_every_later_one_is_compared_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let acks = AckFile::open(&folder.path().join("acks")).unwrap();
        let (user, key) = (UserId::try_from(1).unwrap(), KeySource::new(1, 1).next_key());
        let write = Write { wish: Wish::Charge, user, minor_units: 150, key };
        let first = body(&write, "1.50", "8.50");
        let other = body(&write, "1.50", "8.49");
        let problem = br#"{"code":"slot-moving"}"#.to_vec();
        for (second, status, is_replayed, asking, broken) in [
            (&first, 200, false, Asking::WhileMoving, None),
            (&first, 200, true, Asking::InPeace, None),
            (&first, 200, false, Asking::InPeace, Some(Promise::EqualReplays)),
            (&other, 200, true, Asking::WhileMoving, Some(Promise::EqualReplays)),
            (&first, 402, true, Asking::WhileMoving, Some(Promise::RightAnswers)),
            (&problem, 503, false, Asking::InPeace, None),
            (&problem, 404, false, Asking::WhileMoving, Some(Promise::RightAnswers)),
        ] {
            let (usd, findings) = (Currency::parse("USD").unwrap(), Findings::default());
            let mut books = Books::new(1, 11, usd, acks.sinks().sink(), findings.clone());
            let at = books.open(write);
            assert_eq!(books.quiet_balance(user), None, "a charge is on its way");
            let reply =
                |status, is_replayed, body| Reply { status, is_replayed, session: Some(b"token"), body };
            let Judged::Decided(Some(own)) = books.take(at, reply(200, false, &first), asking) else {
                panic!("the first answer acknowledges")
            };
            assert_eq!((own.listed, books.quiet_balance(user).unwrap().0), (12, 850));
            let judged = books.take(at, reply(status, is_replayed, second), asking);
            let found = [Promise::EqualReplays, Promise::RightAnswers];
            let found = found.into_iter().find(|promise| findings.count(*promise) > 0);
            assert_eq!(found, broken, "{status}, {is_replayed}, {asking:?}: {judged:?}");
        }
        assert_eq!(acks.finish().unwrap(), 7, "each first answer is a line, and no other");
    }
}
