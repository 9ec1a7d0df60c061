//! What clients asked for and what they were told, on their side of the wire: the cluster has no part in it.
//!
//! Every key's first answer is kept, and every later one compared with it. A key without an answer is one whose
//! outcome is unknown, and stays on the books until it is asked again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use picopay_shared::money::Currency;

use super::clock::Clock;
use crate::findings::{Finding, Findings, Promise};
use picopay_loadtest::acks::AckSink;
use picopay_loadtest::random::Random;
use picopay_loadtest::write::{UuidText, Wish, Write, WriteAnswer, describe};

/// A charge that was refunded already is refunded once more this often, to be refused.
const REFUND_TWICE: f64 = 0.2;

/// A decision: the answer that a key has from then on, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The status: 200, or the refusals 402 and 422.
    pub status: u16,
    /// The body, to the byte.
    pub body: String,
}

/// One key.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it stands for.
    pub write: Write,
    /// Its first answer.
    pub told: Option<Told>,
    /// When it was told, since the run began.
    pub told_at: Duration,
    /// Whether at least one attempt ended so that nobody could say what became of it.
    pub was_unknown: bool,
    /// How often it was sent.
    pub attempts: u32,
}

/// A write that was acknowledged.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// Its transaction.
    pub id: UuidText,
    /// What was asked for.
    pub write: Write,
    /// When, since the run began.
    pub at: Duration,
    /// What a read shows to see this write.
    pub session: Option<String>,
}

/// A decision with what came beside it.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The decision.
    pub told: Told,
    /// Whether it says that it was given before.
    pub is_replayed: bool,
    /// `PicoPay-Session`.
    pub session: Option<String>,
}

/// How sure an answer is expected to be of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// While faults strike: after an attempt of its own was lost, a gateway leaves `Idempotent-Replayed` out, since it
    /// cannot tell a replay from the first answer.
    UnderFaults,
    /// With everything healed: an answer that was given before says so.
    InPeace,
}

/// All keys of all clients.
#[derive(Debug)]
pub struct Ledger {
    books: Mutex<Books>,
    findings: Findings,
    clock: Clock,
    currency: Currency,
}

#[derive(Debug)]
struct Books {
    entries: HashMap<UuidText, Entry>,
    answered: Vec<UuidText>,
    acknowledged: Vec<Acknowledged>,
    refundable: Vec<Acknowledged>,
    acks: AckSink,
}

impl Ledger {
    /// Empty. Every acknowledged write goes to `acks` at once.
    pub fn new(acks: AckSink, currency: Currency, findings: Findings, clock: Clock) -> Self {
        let books = Books {
            entries: HashMap::new(),
            answered: Vec::new(),
            acknowledged: Vec::new(),
            refundable: Vec::new(),
            acks,
        };
        Self { books: Mutex::new(books), findings, clock, currency }
    }

    /// The currency of everything.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Notes that `write` is about to be sent. What was not noted cannot be told from what nobody asked for.
    pub fn note_attempt(&self, write: &Write) {
        let mut books = self.lock();
        let entry = books.entries.entry(write.key).or_insert_with(|| Entry {
            write: *write,
            told: None,
            told_at: Duration::ZERO,
            was_unknown: false,
            attempts: 0,
        });
        entry.attempts += 1;
    }

    /// Notes that nobody can say what became of an attempt.
    pub fn note_unknown(&self, write: &Write) {
        if let Some(entry) = self.lock().entries.get_mut(&write.key)
            && entry.told.is_none()
        {
            entry.was_unknown = true;
        }
    }

    /// Takes in a decision: the first under its key, or one that must be equal to the first.
    pub fn take(&self, write: &Write, reply: Reply, asking: Asking) {
        let Reply { told, is_replayed, session } = reply;
        let mut books = self.lock();
        let books = &mut *books;
        let entry = books.entries.get_mut(&write.key).expect("it was noted before it was sent");
        if let Some(first) = &entry.told {
            let difference = if *first != told {
                "two answers differ"
            } else if asking == Asking::InPeace && !is_replayed {
                "an answer that was given before does not say so"
            } else {
                return;
            };
            let text = format!(
                "{difference}: {}; first {} {}, then {} {}",
                describe(write),
                first.status,
                first.body,
                told.status,
                told.body
            );
            self.findings.add(Finding::about_key(Promise::EqualReplays, text, write.key, self.clock.now()));
            return;
        }
        if told.status == 200 {
            match read_acknowledgement(write, &told, self.currency) {
                Ok((id, line)) => {
                    let acknowledged = Acknowledged { id, write: *write, at: self.clock.now(), session };
                    line(&mut books.acks);
                    books.acks.flush();
                    if write.wish == Wish::Charge {
                        books.refundable.push(acknowledged.clone());
                    }
                    books.acknowledged.push(acknowledged);
                }
                Err(reason) => {
                    let text = format!("{reason}: {}; {}", describe(write), told.body);
                    let at = self.clock.now();
                    self.findings.add(Finding::about_key(Promise::RightAnswers, text, write.key, at));
                }
            }
        }
        entry.told = Some(told);
        entry.told_at = self.clock.now();
        books.answered.push(write.key);
    }

    /// Any key that has its answer.
    pub fn any_answered(&self, random: &mut Random) -> Option<Write> {
        let books = self.lock();
        let key = pick(&books.answered, random)?;
        Some(books.entries[key].write)
    }

    /// A charge to refund: mostly one that was not refunded yet.
    pub fn any_refundable(&self, random: &mut Random) -> Option<Acknowledged> {
        let mut books = self.lock();
        let place = usize::try_from(random.below(u64::try_from(books.refundable.len()).ok()?)).ok()?;
        if books.refundable.is_empty() {
            None
        } else if random.chance(REFUND_TWICE) {
            Some(books.refundable[place].clone())
        } else {
            Some(books.refundable.swap_remove(place))
        }
    }

    /// Any acknowledged write; every other time the last one, which replicas may not have yet.
    pub fn any_acknowledged(&self, random: &mut Random) -> Option<Acknowledged> {
        let books = self.lock();
        if random.chance(0.5) {
            books.acknowledged.last().cloned()
        } else {
            pick(&books.acknowledged, random).cloned()
        }
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.lock().acknowledged.len()
    }

    /// All keys as they are now.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pick<'a, T>(all: &'a [T], random: &mut Random) -> Option<&'a T> {
    let place = random.below(u64::try_from(all.len()).ok()?);
    all.get(usize::try_from(place).ok()?)
}

type AckLine<'a> = Box<dyn FnOnce(&mut AckSink) + 'a>;

/// The transaction's id and how to write it down, if the answer is about what was asked.
fn read_acknowledgement<'a>(
    write: &Write,
    told: &'a Told,
    currency: Currency,
) -> Result<(UuidText, AckLine<'a>), String> {
    let answer: WriteAnswer<'a> =
        serde_json::from_str(&told.body).map_err(|error| format!("the answer cannot be read ({error})"))?;
    let transaction = answer.transaction;
    if let Some(field) = transaction.wrong_field(write, currency) {
        return Err(format!("{field} is not what was asked for"));
    }
    let id = transaction.id.as_bytes().try_into().map_err(|_| "the id is no UUID".to_owned())?;
    Ok((id, Box::new(move |acks| acks.record(&transaction))))
}

#[cfg(test)]
mod tests {
    use picopay_shared::slot::UserId;

    use super::*;
    use picopay_loadtest::acks::AckFile;
    use picopay_loadtest::write::{KeySource, text};

    fn ledger(acks: &AckFile) -> (Ledger, Findings) {
        let (findings, usd) = (Findings::default(), Currency::parse("USD").unwrap());
        (Ledger::new(acks.sinks().sink(), usd, findings.clone(), Clock::start()), findings)
    }

    fn charge() -> Write {
        let (user, key) = (UserId::try_from(1).unwrap(), KeySource::new(1, 1).next_key());
        Write { wish: Wish::Charge, user, minor_units: 150, key }
    }

    fn told(status: u16, amount: &str, write: &Write) -> Reply {
        let body = format!(
            r#"{{"transaction":{{"id":"019a9f3a-7a6b-892e-9356-4ab70000c001","user_id":1,"kind":"charge","amount":"{amount}",
            "currency":"USD","balance_after":"8.50","idempotency_key":"{}"}}}}"#,
            text(&write.key)
        );
        Reply { told: Told { status, body }, is_replayed: true, session: None }
    }

    #[test]
    fn a_key_that_is_answered_twice_must_be_answered_alike() {
        let folder = tempfile::tempdir().unwrap();
        let acks = AckFile::open(&folder.path().join("acks")).unwrap();
        let write = charge();
        let first = || told(200, "1.50", &write);
        let silent = Reply { is_replayed: false, ..first() };
        for (second, asking, is_equal) in [
            (first(), Asking::UnderFaults, true),
            (first(), Asking::InPeace, true),
            (silent.clone(), Asking::UnderFaults, true),
            (silent, Asking::InPeace, false),
            (told(402, "1.50", &write), Asking::UnderFaults, false),
            (told(200, "1.51", &write), Asking::UnderFaults, false),
        ] {
            let (ledger, findings) = ledger(&acks);
            ledger.note_attempt(&write);
            ledger.take(&write, first(), asking);
            let described = format!("{second:?}, {asking:?}");
            ledger.take(&write, second, asking);
            assert_eq!(findings.count(Promise::EqualReplays), u64::from(!is_equal), "{described}");
            assert_eq!(ledger.acknowledged(), 1);
        }
        assert_eq!(acks.finish().unwrap(), 6, "each first answer is a line, and no other");
    }

    #[test]
    fn an_answer_about_something_else_is_no_acknowledgement() {
        let folder = tempfile::tempdir().unwrap();
        let acks = AckFile::open(&folder.path().join("acks")).unwrap();
        let (ledger, findings) = ledger(&acks);
        let write = charge();
        ledger.note_attempt(&write);
        ledger.take(&write, told(200, "9.99", &write), Asking::UnderFaults);
        assert_eq!((findings.count(Promise::RightAnswers), ledger.acknowledged()), (1, 0));
        drop(ledger);
        assert_eq!(acks.finish().unwrap(), 0);
    }

    #[test]
    fn an_outcome_is_unknown_only_until_the_key_has_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let acks = AckFile::open(&folder.path().join("acks")).unwrap();
        let (ledger, _) = ledger(&acks);
        let write = charge();
        ledger.note_attempt(&write);
        ledger.take(&write, told(200, "1.50", &write), Asking::UnderFaults);
        ledger.note_unknown(&write);
        assert!(!ledger.entries()[0].was_unknown, "a repeat whose answer was lost leaves nothing open");
    }
}
