//! What the crowd may ask next: the clients' account, shared by all of them, and lists to pick from.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use picopay_loadtest::acks::AckSink;
use picopay_loadtest::random::Random;
use picopay_loadtest::write::{UuidText, Wish, Write};
use picopay_shared::money::Currency;

use super::clock::Clock;
use crate::account::{self, Account, Asking, Entry, Keeps, Reply, Taken};
use crate::findings::Findings;

/// A second refund of a charge, which is refused.
const REFUND_TWICE: f64 = 0.2;

/// A second step of a hold; one of the two is refused.
const END_TWICE: f64 = 0.2;

#[derive(Debug, Clone)]
pub struct AcknowledgedWrite {
    pub id: UuidText,
    pub write: Write,
    pub at: Duration,
    pub session: Option<String>,
}

#[derive(Debug)]
pub struct Ledger {
    books: Mutex<LedgerState>,
    clock: Clock,
    currency: Currency,
}

#[derive(Debug)]
struct LedgerState {
    account: Account,
    places: HashMap<UuidText, usize>,
    answered: Vec<UuidText>,
    acknowledged: Vec<AcknowledgedWrite>,
    refundable: Vec<AcknowledgedWrite>,
    holds: Vec<AcknowledgedWrite>,
}

impl Ledger {
    pub fn new(acks: AckSink, currency: Currency, findings: Findings, clock: Clock) -> Self {
        let books = LedgerState {
            account: Account::new(Keeps::Bodies, currency, acks, findings),
            places: HashMap::new(),
            answered: Vec::new(),
            acknowledged: Vec::new(),
            refundable: Vec::new(),
            holds: Vec::new(),
        };
        Self { books: Mutex::new(books), clock, currency }
    }

    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Notes a write before it is sent. Otherwise it could not be told from what nobody asked for.
    pub fn note_attempt(&self, write: &Write) {
        let mut books = self.lock();
        let LedgerState { account, places, .. } = &mut *books;
        let at = *places.entry(write.key).or_insert_with(|| account.open(*write));
        account.note_sent(at);
    }

    pub fn note_unknown(&self, write: &Write) {
        let mut books = self.lock();
        let at = books.places[&write.key];
        books.account.note_unknown(at);
    }

    pub fn take(&self, write: &Write, reply: Reply<'_>, asking: Asking) {
        let (mut books, now) = (self.lock(), self.clock.now());
        let books = &mut *books;
        let Taken::First(acknowledged) = books.account.take(books.places[&write.key], reply, asking, now)
        else {
            return;
        };
        books.answered.push(write.key);
        if acknowledged.is_some() {
            books.account.acks.flush();
        }
        if let Some(account::Acknowledged { id: Some(id), .. }) = acknowledged {
            let session = reply.session.map(|session| String::from_utf8_lossy(session).into_owned());
            let acknowledged = AcknowledgedWrite { id, write: *write, at: now, session };
            match write.wish {
                Wish::Charge | Wish::Capture { .. } => books.refundable.push(acknowledged.clone()),
                Wish::Hold { .. } => books.holds.push(acknowledged.clone()),
                Wish::TopUp | Wish::Refund { .. } | Wish::Void { .. } | Wish::Transfer { .. } => {}
            }
            books.acknowledged.push(acknowledged);
        }
    }

    /// Takes the answer to a transfer that is still pending: it is as good as an acknowledgement, and not the last answer.
    /// Returns whether it was right.
    pub fn take_pending(&self, write: &Write, reply: Reply<'_>) -> bool {
        let (mut books, now) = (self.lock(), self.clock.now());
        let at = books.places[&write.key];
        let taken = books.account.take_pending(at, reply, now);
        books.account.acks.flush();
        taken.is_ok()
    }

    pub fn any_answered(&self, random: &mut Random) -> Option<Write> {
        let books = self.lock();
        let key = pick(&books.answered, random)?;
        Some(books.account.entries[books.places[key]].write)
    }

    pub fn any_refundable(&self, random: &mut Random) -> Option<AcknowledgedWrite> {
        take_or_look(&mut self.lock().refundable, random, REFUND_TWICE)
    }

    /// A hold to capture or void: mostly one that is open, unless its time has run out.
    pub fn any_hold(&self, random: &mut Random) -> Option<AcknowledgedWrite> {
        take_or_look(&mut self.lock().holds, random, END_TWICE)
    }

    /// Any acknowledged write; every other time the last one, which replicas may not have yet.
    pub fn any_acknowledged(&self, random: &mut Random) -> Option<AcknowledgedWrite> {
        let books = self.lock();
        if random.chance(0.5) {
            books.acknowledged.last().cloned()
        } else {
            pick(&books.acknowledged, random).cloned()
        }
    }

    pub fn acknowledged(&self) -> usize {
        self.lock().account.acknowledged()
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.lock().account.entries.clone()
    }

    fn lock(&self) -> MutexGuard<'_, LedgerState> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With this chance another may have it too.
fn take_or_look(
    all: &mut Vec<AcknowledgedWrite>,
    random: &mut Random,
    stays: f64,
) -> Option<AcknowledgedWrite> {
    if all.is_empty() {
        return None;
    }
    let place = usize::try_from(random.below(u64::try_from(all.len()).ok()?)).ok()?;
    Some(if random.chance(stays) { all[place].clone() } else { all.swap_remove(place) })
}

fn pick<'a, T>(all: &'a [T], random: &mut Random) -> Option<&'a T> {
    let place = random.below(u64::try_from(all.len()).ok()?);
    all.get(usize::try_from(place).ok()?)
}
