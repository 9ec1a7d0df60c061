//! Clients in an open loop: when a request starts does not depend on how the last one fared.
//!
//! A request takes from its intended start until its final success, with every attempt in between. A failed attempt is
//! repeated under its key after [`RETRY_PAUSE`].

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use picopay_shared::slot::UserId;

use super::books::{Books, Judged, Own, RECIPIENT_EVERY};
use super::pauses::Pauses;
use super::reads::{Reading, check};
use crate::account::{Asking, Reply};
use crate::findings::Promise;
use picopay_loadtest::http_client::target::{Form, Target, write_number};
use picopay_loadtest::random::Random;
use picopay_loadtest::timing::Timing;
use picopay_loadtest::traffic::{Answer, Kind, Traffic, Verdict};
use picopay_loadtest::write::{KeySource, UuidText, Wish, Write, WriteForms};

/// Less than `Retry-After` asks for (1 s): the cluster's pauses are measured, not the user's patience.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Shares of all requests; charges are what remains.
const HISTORIES: f64 = 0.08;
const BALANCES: f64 = 0.04;
const LOOKUPS: f64 = 0.04;
const REPEATS: f64 = 0.08;
const REFUNDS: f64 = 0.08;
const TOP_UPS: f64 = 0.05;
const HOLDS: f64 = 0.08;
const TRANSFERS: f64 = 0.06;
/// Of all requests: several writes in one, by the route of batches.
const BATCHES: f64 = 0.02;
/// Operations of such a request: so many that all shards have some.
const BATCH_MAX: u64 = 12;
/// Of these operations: about holds, and refunds. The others top up or charge.
const HOLDS_IN_BATCH: f64 = 0.3;
const REFUNDS_IN_BATCH: f64 = 0.2;
/// Refusals have keys and move too.
const TOO_LARGE: f64 = 0.01;

/// Of the new writes: sent twice, one right after the other.
const TWINS: f64 = 0.03;
/// Once slots have moved, these repeats are of keys from before.
const OLD_REPEATS: f64 = 0.5;
/// Of the refunds: of charges that were there before the run.
const OLD_REFUNDS: f64 = 0.3;
/// Of the refunded charges: refunded once more, to be refused.
const REFUND_TWICE: f64 = 0.2;

/// Of the requests about holds: a new one. The others end one, mostly from before its slot moved.
const NEW_HOLDS: f64 = 0.6;
/// Of the ends of holds: a capture.
const CAPTURES: f64 = 0.7;
/// Of the holds that end: once more, to be refused.
const END_TWICE: f64 = 0.1;

/// Of the lookups: of such charges.
const OLD_LOOKUPS: f64 = 0.3;
/// Once slots have moved, these tokens are from before.
const OLD_TOKENS: f64 = 0.5;
/// About the very last write, which replicas may not have yet.
const LAST: f64 = 0.5;

/// The largest charge, top-up and hold that are meant to succeed, in minor units.
const AMOUNT_MAX: u64 = 100;
/// More than anybody has: ten thousand millions.
const TOO_MUCH: u64 = 1_000_000_000_000;

const OWN_MAX: usize = 4_096;

/// A charge or a hold.
#[derive(Debug, Clone, Copy)]
pub struct Charge {
    pub user: UserId,
    pub id: UuidText,
    pub minor_units: u64,
}

#[derive(Debug, Clone)]
enum Subject {
    Write(usize, Kind),
    Batch(Vec<(usize, Kind)>),
    Read(Reading),
}

#[derive(Debug)]
pub struct Asked {
    what: Subject,
    /// When its first attempt was meant to start; nothing in the first.
    first_ns: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct Shared {
    pub books: Arc<Mutex<Books>>,
    pub pauses: Arc<Mutex<Pauses>>,
    pub stage: Arc<AtomicUsize>,
    /// How many keys there were before anything moved; 0 until then.
    pub old_keys: Arc<AtomicUsize>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Clients {
    shared: Shared,
    users: u64,
    random: Random,
    keys: KeySource,
    forms: WriteForms,
    history: Form,
    balance: Form,
    lookup: Form,
    retries: VecDeque<(Instant, Asked)>,
    twin: Option<usize>,
    refundable: Vec<Charge>,
    old_charges: Vec<Charge>,
    open_holds: Vec<Charge>,
    own: VecDeque<Rc<Own>>,
    old_own: Vec<Rc<Own>>,
}

impl Clients {
    pub fn new(target: &Target, shared: Shared, users: u64, old_charges: Vec<Charge>, seed: u64) -> Self {
        let currency = lock(&shared.books).account.currency;
        Self {
            shared,
            users,
            // An odd stream; the even ones belong to the schedules.
            random: Random::new(seed, 1),
            // The cluster is new, so keys may be the same ones for the same seed.
            keys: KeySource::new(seed, 1),
            forms: WriteForms::new(target, currency),
            history: target.form("GET", "/v1/transactions?user_id="),
            balance: target.form("GET", "/v1/users/"),
            lookup: target.form("GET", "/v1/transactions/"),
            retries: VecDeque::new(),
            twin: None,
            refundable: Vec::new(),
            old_charges,
            open_holds: Vec::new(),
            own: VecDeque::new(),
            old_own: Vec::new(),
        }
    }

    fn choose(&mut self) -> Subject {
        let mut point = self.random.unit();
        let mut is_within = |share: f64| {
            let is_within = (0.0..share).contains(&point);
            point -= share;
            is_within
        };
        let (history, balance, lookup) = (is_within(HISTORIES), is_within(BALANCES), is_within(LOOKUPS));
        let (repeat, refund, top_up) = (is_within(REPEATS), is_within(REFUNDS), is_within(TOP_UPS));
        let (hold, is_too_large) = (is_within(HOLDS), is_within(TOO_LARGE));
        let (transfer, batch) = (is_within(TRANSFERS), is_within(BATCHES));
        if history || balance || lookup {
            if let Some(reading) = self.choose_reading(history, balance) {
                return Subject::Read(reading);
            }
        } else if repeat {
            if let Some(at) = self.any_answered() {
                return Subject::Write(at, Kind::Replay);
            }
        } else if refund && let Some(refund) = self.choose_refund() {
            return refund;
        }
        if batch {
            return self.choose_batch();
        }
        if hold {
            return self.choose_about_holds();
        }
        if transfer && let Some(to) = self.any_recipient() {
            let (user, minor_units) = (self.any_user(), 1 + self.random.below(AMOUNT_MAX));
            if user != to {
                return self.open(Wish::Transfer { to }, user, minor_units, Kind::Transfer);
            }
        }
        self.choose_payment(top_up, is_too_large)
    }

    fn choose_payment(&mut self, top_up: bool, is_too_large: bool) -> Subject {
        let user = self.any_user();
        let minor_units = if is_too_large { TOO_MUCH } else { 1 + self.random.below(AMOUNT_MAX) };
        let (wish, kind) = if top_up { (Wish::TopUp, Kind::TopUp) } else { (Wish::Charge, Kind::Charge) };
        self.open(wish, user, minor_units, kind)
    }

    fn choose_refund(&mut self) -> Option<Subject> {
        let Charge { user, id, minor_units } = self.any_refundable()?;
        Some(self.open(Wish::Refund { charge: id }, user, minor_units, Kind::Refund))
    }

    fn choose_batch(&mut self) -> Subject {
        let mut all = Vec::new();
        for _ in 0..2 + self.random.below(BATCH_MAX - 1) {
            let refund = if self.random.chance(REFUNDS_IN_BATCH) { self.choose_refund() } else { None };
            let one = if let Some(refund) = refund {
                refund
            } else if self.random.chance(HOLDS_IN_BATCH) {
                self.choose_about_holds()
            } else {
                let top_up = self.random.chance(0.5);
                self.choose_payment(top_up, false)
            };
            if let Subject::Write(at, kind) = one {
                all.push((at, kind));
            }
        }
        Subject::Batch(all)
    }

    fn choose_about_holds(&mut self) -> Subject {
        let place = self.random.place(self.open_holds.len());
        if !self.random.chance(NEW_HOLDS)
            && let Some(at) = place
        {
            let hold = self.open_holds[at];
            if !self.random.chance(END_TWICE) {
                self.open_holds.swap_remove(at);
            }
            let Charge { user, id, minor_units } = hold;
            if self.random.chance(CAPTURES) {
                let captured = 1 + self.random.below(minor_units);
                return self.open(Wish::Capture { hold: id }, user, captured, Kind::Capture);
            }
            return self.open(Wish::Void { hold: id }, user, minor_units, Kind::Void);
        }
        let (user, minor_units) = (self.any_user(), 1 + self.random.below(AMOUNT_MAX));
        self.open(Wish::Hold { expires_in_s: None }, user, minor_units, Kind::Hold)
    }

    fn open(&mut self, wish: Wish, user: UserId, minor_units: u64, kind: Kind) -> Subject {
        let write = Write { wish, user, minor_units, key: self.keys.next_key() };
        let at = lock(&self.shared.books).open(write);
        if self.random.chance(TWINS) {
            self.twin = Some(at);
        }
        Subject::Write(at, kind)
    }

    fn choose_reading(&mut self, history: bool, balance: bool) -> Option<Reading> {
        if balance {
            let user = self.any_user();
            let quiet = lock(&self.shared.books).quiet_balance(user);
            return Some(Reading::Balance { user, quiet });
        }
        if !history && self.random.chance(OLD_LOOKUPS) {
            let Charge { user, id, .. } = self.old_charges[self.random.place(self.old_charges.len())?];
            return Some(Reading::OldCharge { user, id });
        }
        let own = if self.random.chance(OLD_TOKENS) && !self.old_own.is_empty() {
            &self.old_own[self.random.place(self.old_own.len())?]
        } else if self.random.chance(LAST) {
            self.own.back()?
        } else {
            &self.own[self.random.place(self.own.len())?]
        };
        let own = Rc::clone(own);
        Some(if history { Reading::History(own) } else { Reading::Lookup(own) })
    }

    fn any_answered(&mut self) -> Option<usize> {
        let old = self.shared.old_keys.load(Ordering::Relaxed);
        let is_old = old > 0 && self.random.chance(OLD_REPEATS);
        let books = lock(&self.shared.books);
        let at = self.random.place(if is_old { old } else { books.account.entries.len() })?;
        books.account.entries.get(at).filter(|entry| entry.told.is_some()).map(|_| at)
    }

    fn any_refundable(&mut self) -> Option<Charge> {
        let is_old = self.random.chance(OLD_REFUNDS) || self.refundable.is_empty();
        let from = if is_old { &mut self.old_charges } else { &mut self.refundable };
        let at = self.random.place(from.len())?;
        Some(if self.random.chance(REFUND_TWICE) { from[at] } else { from.swap_remove(at) })
    }

    fn any_user(&mut self) -> UserId {
        let id = i64::try_from(1 + self.random.below(self.users)).expect("below the number of users");
        UserId::try_from(id).expect("above zero")
    }

    fn any_recipient(&mut self) -> Option<UserId> {
        let recipients = self.users / RECIPIENT_EVERY;
        let id = RECIPIENT_EVERY * (1 + self.random.below(recipients.max(1)));
        i64::try_from(id).ok().filter(|_| recipients > 0).and_then(|id| UserId::try_from(id).ok())
    }

    fn write_request(&mut self, what: &Subject, output: &mut Vec<u8>) {
        match what {
            Subject::Write(at, _) => {
                let write = lock(&self.shared.books).account.note_sent(*at);
                self.forms.write(&write, output);
            }
            Subject::Batch(all) => {
                let mut books = lock(&self.shared.books);
                let writes: Vec<Write> = all.iter().map(|(at, _)| books.account.note_sent(*at)).collect();
                drop(books);
                self.forms.write_batch(writes.iter(), output);
            }
            Subject::Read(reading) => {
                let session = reading.session();
                let number = |out: &mut Vec<u8>| write_number(out, reading.user().get().unsigned_abs());
                match reading {
                    Reading::History(_) => self.history.write_get_after(output, number, session),
                    Reading::Balance { .. } => self.balance.write_get(output, |out| {
                        number(out);
                        out.extend_from_slice(b"/balance?currency=");
                        out.extend_from_slice(self.forms.currency().code().as_bytes());
                    }),
                    Reading::Lookup(_) | Reading::OldCharge { .. } => {
                        let id = reading.id().expect("lookups are by id");
                        self.lookup.write_get_after(output, |out| out.extend_from_slice(id), session);
                    }
                }
            }
        }
    }

    /// One judgement, of a batch one for each operation.
    fn judge_answer(&mut self, what: &Subject, answer: Answer<'_>) -> Vec<Judged> {
        let mut books = lock(&self.shared.books);
        let judged = match (what, answer) {
            (Subject::Batch(all), answer) => {
                let places: Vec<usize> = all.iter().map(|(at, _)| *at).collect();
                return books.take_batch(&places, answer);
            }
            (Subject::Write(at, _), Answer::Lost(lost)) => {
                books.account.note_unknown(*at);
                Judged::Again(lost.code().to_owned())
            }
            (Subject::Write(at, _), Answer::Reply { status, is_replayed, session, body }) => {
                books.take(*at, Reply { status, is_replayed, session, body }, Asking::InTrouble)
            }
            (Subject::Read(_), Answer::Lost(lost)) => Judged::Again(lost.code().to_owned()),
            (Subject::Read(reading), Answer::Reply { status, body, .. }) => {
                check(&books, reading, status, body)
            }
        };
        vec![judged]
    }

    /// Notes how one request or one operation of a batch fared. What may be tried again will be.
    fn settle(&mut self, what: Subject, judged: Judged, first_ns: u64, took_ns: u64) -> Result<(), String> {
        let stage = self.shared.stage.load(Ordering::Relaxed);
        match judged {
            Judged::Decided(own) => {
                lock(&self.shared.pauses).succeeded(stage, took_ns);
                if let Some(own) = own {
                    self.remember(own);
                }
                Ok(())
            }
            Judged::Again(code) => {
                lock(&self.shared.pauses).failed(stage, &code);
                let again = Asked { what, first_ns: Some(first_ns) };
                self.retries.push_back((Instant::now() + RETRY_PAUSE, again));
                Err(code)
            }
            Judged::Wrong => {
                lock(&self.shared.pauses).given_up();
                Err(Promise::RightAnswers.name().to_owned())
            }
        }
    }

    fn remember(&mut self, own: Own) {
        let Own { write, id, .. } = &own;
        let one = Charge { user: write.user, id: *id, minor_units: write.minor_units };
        match write.wish {
            Wish::Charge | Wish::Capture { .. } => self.refundable.push(one),
            Wish::Hold { .. } => self.open_holds.push(one),
            Wish::TopUp | Wish::Refund { .. } | Wish::Void { .. } | Wish::Transfer { .. } => {}
        }
        if self.old_own.is_empty() && self.shared.old_keys.load(Ordering::Relaxed) > 0 {
            self.old_own = self.own.iter().cloned().collect();
        }
        if self.own.len() == OWN_MAX {
            self.own.pop_front();
        }
        self.own.push_back(Rc::new(own));
    }
}

impl Traffic for Clients {
    type Request = Asked;

    fn next(&mut self, output: &mut Vec<u8>) -> Option<Asked> {
        if lock(&self.shared.books).account.acks.is_closed() {
            return None;
        }
        let is_due = self.retries.front().is_some_and(|(due, _)| *due <= Instant::now());
        let asked = if is_due {
            self.retries.pop_front().map(|(_, asked)| asked)?
        } else {
            let twin = self.twin.take().map(|at| Subject::Write(at, Kind::Replay));
            Asked { what: twin.unwrap_or_else(|| self.choose()), first_ns: None }
        };
        self.write_request(&asked.what, output);
        Some(asked)
    }

    fn judge(&mut self, asked: Asked, answer: Answer<'_>, timing: Timing) -> Verdict {
        let Asked { what, first_ns } = asked;
        let first_ns = first_ns.unwrap_or(timing.intended_ns);
        let took_ns = timing.ended_ns.saturating_sub(first_ns);
        let user_of = |at: usize| lock(&self.shared.books).account.entries[at].write.user;
        let (kind, user) = match &what {
            Subject::Write(at, kind) => (*kind, user_of(*at)),
            Subject::Batch(all) => (all[0].1, user_of(all[0].0)),
            Subject::Read(reading) => (reading.kind(), reading.user()),
        };
        let judged = self.judge_answer(&what, answer);
        let parts = match what {
            // Alone, if it must be tried again.
            Subject::Batch(all) => all.into_iter().map(|(at, kind)| Subject::Write(at, kind)).collect(),
            alone => vec![alone],
        };
        let mut result = Ok(());
        for (part, judged) in parts.into_iter().zip(judged) {
            result = result.and(self.settle(part, judged, first_ns, took_ns));
        }
        let result = result.map_err(Into::into);
        lock(&self.shared.pauses).waiting = self.retries.len();
        Verdict { kind, slot: user.slot(), result, broken: None, pause: None, rest: Vec::new() }
    }

    fn every_second(&mut self) {
        lock(&self.shared.books).account.acks.flush();
    }
}
