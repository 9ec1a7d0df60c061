//! What clients were told: each key, what it stands for and its first answer. The cluster has no part in this account.
//!
//! Every later answer under a key is compared with the first. A key without an answer has an unknown outcome until it is
//! asked again. Every acknowledged write goes to a file at once, for `picopay verify --acks`.

use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use picopay_loadtest::acks::AckSink;
use picopay_loadtest::traffic::problem_code;
use picopay_loadtest::write::{UuidText, Wish, Write, describe};
use picopay_loadtest::write_answer::WriteAnswer;
use picopay_shared::money::Currency;

use crate::findings::{Finding, Findings, Promise};

#[derive(Debug, Clone)]
pub struct Entry {
    pub write: Write,
    pub told: Option<Told>,
    pub told_at: Duration,
    pub sent: u32,
    pub was_unknown: bool,
    /// Of a transfer that was answered as pending: a digest of its id and of the balance.
    pub begun: Option<u64>,
}

/// A decision: the answer that a key has from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub status: u16,
    body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Body {
    Text(Box<str>),
    Digest(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    Bodies,
    /// A run of a million keys has no room for more than a digest.
    Digests,
}

#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    pub status: u16,
    pub is_replayed: bool,
    pub session: Option<&'a [u8]>,
    pub body: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// While faults strike or slots move. A gateway that sent a key twice itself leaves `Idempotent-Replayed` out, since it
    /// cannot tell a replay from the first answer.
    InTrouble,
    /// With everything healed: an answer that was given before says so.
    InPeace,
}

#[derive(Debug)]
pub enum Taken {
    /// The key's first. One that acknowledges comes with what it says.
    First(Option<Acknowledged>),
    Again,
    /// Nothing that may ever be said; it is a finding already.
    Wrong,
}

/// What an acknowledgement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Of the transaction; that of a void stays unknown.
    pub id: Option<UuidText>,
    /// The balance after it, in minor units; a hold and a void leave it as it is.
    pub balance: Option<u64>,
}

#[derive(Debug)]
pub struct Account {
    pub entries: Vec<Entry>,
    pub findings: Findings,
    pub currency: Currency,
    pub acks: AckSink,
    keeps: Keeps,
}

impl Told {
    fn of(reply: Reply<'_>, keeps: Keeps) -> Self {
        let body = match keeps {
            Keeps::Bodies => Body::Text(String::from_utf8_lossy(reply.body).into()),
            Keeps::Digests => Body::Digest(digest(reply.body)),
        };
        Self { status: reply.status, body }
    }

    pub fn with_body(status: u16, body: &str) -> Self {
        Self { status, body: Body::Text(body.into()) }
    }

    pub fn body(&self) -> Option<&str> {
        match &self.body {
            Body::Text(text) => Some(text),
            Body::Digest(_) => None,
        }
    }
}

impl Account {
    pub fn new(keeps: Keeps, currency: Currency, acks: AckSink, findings: Findings) -> Self {
        Self { entries: Vec::new(), findings, currency, acks, keeps }
    }

    /// Notes a key before it is sent, and returns its place. Otherwise it could not be told from what nobody asked for.
    pub fn open(&mut self, write: Write) -> usize {
        let entry =
            Entry { write, told: None, told_at: Duration::ZERO, sent: 0, was_unknown: false, begun: None };
        self.entries.push(entry);
        self.entries.len() - 1
    }

    pub fn note_sent(&mut self, at: usize) -> Write {
        let entry = &mut self.entries[at];
        entry.sent += 1;
        entry.write
    }

    pub fn note_unknown(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        entry.was_unknown |= entry.told.is_none();
    }

    pub fn take(&mut self, at: usize, reply: Reply<'_>, asking: Asking, now: Duration) -> Taken {
        let told = Told::of(reply, self.keeps);
        let Entry { write, told: first, sent, .. } = &self.entries[at];
        let write = *write;
        if let Some(first) = first {
            let difference = if *first != told {
                "the answer is not the first one"
            } else if asking == Asking::InPeace && !reply.is_replayed {
                "an answer that was given before does not say so"
            } else {
                return Taken::Again;
            };
            let was =
                format!("{difference} (which was {} {})", first.status, first.body().unwrap_or_default());
            return self.wrong(at, Promise::EqualReplays, &was, reply, now);
        }
        if *sent == 1 && reply.is_replayed {
            let what = "a new key is answered as if it were known";
            return self.wrong(at, Promise::EqualReplays, what, reply, now);
        }
        let mut acknowledged = None;
        if reply.status == 200 {
            match self.read_acknowledgement(at, &write, reply.body) {
                Ok(read) => acknowledged = Some(read),
                Err(what) => return self.wrong(at, Promise::RightAnswers, &what, reply, now),
            }
        }
        let entry = &mut self.entries[at];
        entry.told = Some(told);
        entry.told_at = now;
        Taken::First(acknowledged)
    }

    /// Takes the answer to a transfer that is still pending. It is an acknowledgement: the end must be of the same transfer.
    pub fn take_pending(&mut self, at: usize, reply: Reply<'_>, now: Duration) -> Result<(), Taken> {
        let write = self.entries[at].write;
        if self.entries[at].told.is_some() {
            let what = "a transfer that had ended is pending";
            return Err(self.wrong(at, Promise::EqualReplays, what, reply, now));
        }
        match self.read_acknowledgement(at, &write, reply.body) {
            Ok(_) => Ok(()),
            Err(what) => Err(self.wrong(at, Promise::RightAnswers, &what, reply, now)),
        }
    }

    pub fn acknowledged(&self) -> usize {
        // A transfer that is pending is acknowledged, too.
        let is_told = |entry: &&Entry| entry.told.as_ref().is_some_and(|told| told.status == 200);
        self.entries.iter().filter(|entry| entry.begun.is_some() || is_told(entry)).count()
    }

    pub fn wrong(&self, at: usize, promise: Promise, what: &str, reply: Reply<'_>, now: Duration) -> Taken {
        let write = &self.entries[at].write;
        let body = String::from_utf8_lossy(reply.body);
        let text = format!("{what}: {}: {} {body}", describe(write), reply.status);
        self.findings.add(Finding::about_key(promise, text, write.key, now));
        Taken::Wrong
    }

    fn read_acknowledgement(
        &mut self,
        at: usize,
        write: &Write,
        body: &[u8],
    ) -> Result<Acknowledged, String> {
        let answer =
            WriteAnswer::read(write, body).map_err(|error| format!("it cannot be read ({error})"))?;
        if let Some(field) = answer.wrong_field(write, self.currency) {
            return Err(format!("{field} is not what was asked for"));
        }
        let id = answer.id.map(|id| id.as_bytes().try_into()).transpose();
        let id = id.map_err(|_| "the id is no UUID".to_owned())?;
        let balance = answer.balance_after.map(|balance| {
            let digits = balance.bytes().filter(u8::is_ascii_digit);
            digits.fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'))
        });
        let is_first = match (self.entries[at].begun, answer.transfer) {
            (_, None) => true,
            (begun, Some(_)) => {
                let this = digest(&(id, balance));
                if begun.is_some_and(|begun| begun != this) {
                    return Err("it is not the transfer that was pending".to_owned());
                }
                self.entries[at].begun = Some(this);
                begun.is_none()
            }
        };
        if is_first {
            self.acks.record(&write.key, &answer);
        }
        Ok(Acknowledged { id, balance })
    }
}

fn digest(of: &(impl std::hash::Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// A transfer that was taken from its sender, and is not yet with its recipient. The same key tells how it ends.
pub fn is_pending(write: &Write, status: u16) -> bool {
    status == 202 && matches!(write.wish, Wish::Transfer { .. })
}

pub fn is_decision(write: &Write, status: u16, body: &[u8]) -> bool {
    let refusals: &[&str] = match (status, write.wish) {
        (200, _) => return true,
        (402, Wish::Charge | Wish::Hold { .. } | Wish::Transfer { .. }) => &["insufficient-balance"],
        (422, Wish::Refund { .. }) => &["not-refundable", "refund-exceeds-charge"],
        (422, Wish::Hold { .. }) => &["too-many-holds"],
        (422, Wish::Capture { .. }) => &["capture-exceeds-hold", "hold-not-open"],
        (422, Wish::Void { .. }) => &["hold-not-open"],
        _ => return false,
    };
    refusals.contains(&&*problem_code(status, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use picopay_loadtest::acks::AckFile;
    use picopay_loadtest::write::{KeySource, text};
    use picopay_shared::slot::UserId;

    fn charge() -> Write {
        let (user, key) = (UserId::try_from(1).unwrap(), KeySource::new(1, 1).next_key());
        Write { wish: Wish::Charge, user, minor_units: 150, key }
    }

    fn body(write: &Write, amount: &str, balance: &str) -> Vec<u8> {
        format!(
            r#"{{"transaction":{{"id":"019a9f3a-7a6b-892e-9356-4ab70000c001","user_id":1,"kind":"charge","amount":"{amount}",
            "currency":"USD","balance_after":"{balance}","idempotency_key":"{}"}}}}"#,
            text(&write.key)
        )
        .into_bytes()
    }

    fn reply(status: u16, is_replayed: bool, body: &[u8]) -> Reply<'_> {
        Reply { status, is_replayed, session: None, body }
    }

    fn account(acks: &AckFile, keeps: Keeps) -> Account {
        Account::new(keeps, Currency::parse("USD").unwrap(), acks.sinks().sink(), Findings::default())
    }

    #[test]
    fn an_answer_counts_once_and_every_later_one_is_compared_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let acks = AckFile::open(&folder.path().join("acks")).unwrap();
        let write = charge();
        let (first, other) = (body(&write, "1.50", "8.50"), body(&write, "1.50", "8.49"));
        for keeps in [Keeps::Bodies, Keeps::Digests] {
            for (second, status, is_replayed, asking, is_equal) in [
                (&first, 200, false, Asking::InTrouble, true),
                (&first, 200, true, Asking::InTrouble, true),
                (&first, 200, true, Asking::InPeace, true),
                (&first, 200, false, Asking::InPeace, false),
                (&other, 200, true, Asking::InTrouble, false),
                (&first, 402, true, Asking::InTrouble, false),
            ] {
                let mut account = account(&acks, keeps);
                let at = account.open(write);
                account.note_sent(at);
                let taken = account.take(at, reply(200, false, &first), asking, Duration::ZERO);
                assert!(
                    matches!(taken, Taken::First(Some(Acknowledged { balance: Some(850), .. }))),
                    "{taken:?}"
                );
                account.note_sent(at);
                let taken = account.take(at, reply(status, is_replayed, second), asking, Duration::ZERO);
                assert_eq!(matches!(taken, Taken::Again), is_equal, "{status}, {is_replayed}, {asking:?}");
                let found = account.findings.count(Promise::EqualReplays);
                assert_eq!((found, account.acknowledged()), (u64::from(!is_equal), 1));
            }
        }
        assert_eq!(acks.finish().unwrap(), 12, "each first answer is a line, and no other");
    }

    #[test]
    fn an_answer_about_something_else_or_before_its_question_is_no_acknowledgement() {
        let folder = tempfile::tempdir().unwrap();
        let acks = AckFile::open(&folder.path().join("acks")).unwrap();
        let write = charge();
        for (amount, is_replayed, promise) in
            [("9.99", false, Promise::RightAnswers), ("1.50", true, Promise::EqualReplays)]
        {
            let mut account = account(&acks, Keeps::Bodies);
            let at = account.open(write);
            account.note_sent(at);
            let body = body(&write, amount, "8.50");
            account.take(at, reply(200, is_replayed, &body), Asking::InTrouble, Duration::ZERO);
            assert_eq!((account.findings.count(promise), account.acknowledged()), (1, 0));
        }
        assert_eq!(acks.finish().unwrap(), 0);
    }

    #[test]
    fn an_outcome_is_unknown_only_until_the_key_has_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let acks = AckFile::open(&folder.path().join("acks")).unwrap();
        let (mut account, write) = (account(&acks, Keeps::Digests), charge());
        let at = account.open(write);
        account.note_sent(at);
        account.take(at, reply(200, false, &body(&write, "1.50", "8.50")), Asking::InTrouble, Duration::ZERO);
        account.note_unknown(at);
        assert!(!account.entries[at].was_unknown, "a repeat whose answer was lost leaves nothing open");
    }
}
