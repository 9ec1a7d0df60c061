//! Clients that charge all the time, and ask again under the same key until they get a definite answer.
//!
//! Times of acknowledgements are kept for the gaps, and the acknowledgements go into a file for the proof.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use picopay_client::{Booked, Client, Error, Patience, Payment};
use picopay_loadtest::acks::{AckFile, AckSink};
use picopay_loadtest::write_answer::WriteAnswer;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Enough for batches. With more, on two cores, an agent could starve and cause a failover of its own.
const CLIENTS: i64 = 16;
/// With [`CLIENTS`] some 300 charges a second, so that a gap is known to a few milliseconds.
const THINK: Duration = Duration::from_millis(50);
/// As a client in a hurry. `Retry-After` says a second.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// The gateway answers in 5 s, whatever happens.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// A charge that finds no definite answer for so long will find none.
const GIVE_UP: Duration = Duration::from_secs(90);
/// More than anybody is charged, in USD; each charge takes a cent.
const FUND: &str = "1000000.00";
const FUND_CENTS: u64 = 100_000_000;
const READ_EVERY: Duration = Duration::from_millis(50);

pub struct Charges {
    stop: Arc<AtomicBool>,
    book: Arc<Book>,
    clients: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// A charge that was not answered with yes. It was asked again.
#[derive(Debug, Clone)]
pub struct Failure {
    pub user: i64,
    pub at: Instant,
    pub is_unknown: bool,
    pub text: String,
}

#[derive(Debug, Default)]
struct Book {
    first_user: i64,
    acknowledged: Mutex<Vec<(i64, Instant)>>,
    failed: Mutex<Vec<Failure>>,
    charged: [AtomicU64; 16],
    tries_again: AtomicU64,
    unknown: AtomicU64,
    strong_reads: AtomicU64,
    stale_reads: AtomicU64,
}

impl Charges {
    /// Sixteen users from this one on, whom nobody else charges.
    pub async fn start(url: &str, api_key: &str, acks: &AckFile, first_user: i64) -> anyhow::Result<Self> {
        let book = Arc::new(Book { first_user, ..Book::default() });
        let stop = Arc::new(AtomicBool::new(false));
        // One attempt at a time: who asks again, and when, is what the drill measures.
        let patience = Patience { attempt: ANSWER_WAIT, ..Patience::none() };
        let client = Client::new(url, api_key)?.with_patience(patience);
        let mut clients = Vec::new();
        for user in book.users() {
            let mut one = OneClient {
                client: client.clone(),
                user,
                acks: acks.sinks().sink(),
                book: Arc::clone(&book),
            };
            one.make_user().await?;
            let top_up = async |client: Client, payment: Payment| client.top_up(&payment).await;
            one.ask_until_yes(FUND, top_up).await?;
            let stop = Arc::clone(&stop);
            clients.push(tokio::spawn(async move {
                let charge = async |client: Client, payment: Payment| client.charge(&payment).await;
                while !stop.load(Ordering::Relaxed) {
                    one.ask_until_yes("0.01", charge).await?;
                    one.book.charged_of(user).fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(THINK).await;
                }
                Ok(())
            }));
        }
        clients.push(tokio::spawn(read_balances(client, Arc::clone(&book), Arc::clone(&stop))));
        Ok(Self { stop, book, clients })
    }

    pub fn acknowledged_since(&self, moment: Instant) -> usize {
        self.times(|_| true).iter().filter(|time| **time >= moment).count()
    }

    /// How many charges of these users were acknowledged meanwhile.
    pub fn acknowledged_between(&self, from: Instant, until: Instant, whose: impl Fn(i64) -> bool) -> usize {
        self.times(whose).iter().filter(|time| (from..until).contains(*time)).count()
    }

    pub fn failures_since(&self, moment: Instant) -> Vec<Failure> {
        let failed = self.book.failed.lock().expect("nobody panics with it");
        failed.iter().filter(|failure| failure.at >= moment).cloned().collect()
    }

    pub fn users(&self) -> impl Iterator<Item = i64> + use<> {
        self.book.users()
    }

    /// The longest time between two acknowledgements of these users, of which the second came after `moment`.
    pub fn gap_after(&self, moment: Instant, whose: impl Fn(i64) -> bool) -> Duration {
        let mut times = self.times(whose);
        times.sort_unstable();
        let gaps = times.windows(2).filter(|pair| pair[1] >= moment);
        gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    pub fn repeated(&self) -> (u64, u64) {
        (self.book.tries_again.load(Ordering::Relaxed), self.book.unknown.load(Ordering::Relaxed))
    }

    pub fn strong_reads(&self) -> (u64, u64) {
        (self.book.strong_reads.load(Ordering::Relaxed), self.book.stale_reads.load(Ordering::Relaxed))
    }

    /// The balance that each user has, in cents, when every client has its last answer.
    pub async fn end(self) -> anyhow::Result<Vec<(i64, u64)>> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.context("a client panicked")??;
        }
        let left = |user| FUND_CENTS - self.book.charged_of(user).load(Ordering::SeqCst);
        Ok(self.book.users().map(|user| (user, left(user))).collect())
    }

    fn times(&self, whose: impl Fn(i64) -> bool) -> Vec<Instant> {
        let acknowledged = self.book.acknowledged.lock().expect("nobody panics with it");
        acknowledged.iter().filter(|(user, _)| whose(*user)).map(|(_, time)| *time).collect()
    }
}

impl Book {
    fn users(&self) -> impl Iterator<Item = i64> + use<> {
        self.first_user..self.first_user + CLIENTS
    }

    fn charged_of(&self, user: i64) -> &AtomicU64 {
        let position = usize::try_from(user - self.first_user).expect("one of the users");
        &self.charged[position]
    }
}

/// Whatever was acknowledged before the question must be in the answer. Otherwise a replaced primary answered.
async fn read_balances(client: Client, book: Arc<Book>, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    for user in book.users().collect::<Vec<_>>().into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let charged = book.charged_of(user).load(Ordering::SeqCst);
        let balance = client.balance(user, "USD").await.ok();
        if let Some(balance) = balance.and_then(|balance| balance.balance.minor_units()) {
            book.strong_reads.fetch_add(1, Ordering::Relaxed);
            if balance > FUND_CENTS - charged {
                book.stale_reads.fetch_add(1, Ordering::Relaxed);
                eprintln!("user {user} has {balance} cents after {charged} charges of one");
            }
        }
        tokio::time::sleep(READ_EVERY).await;
    }
    Ok(())
}

struct OneClient {
    client: Client,
    user: i64,
    acks: AckSink,
    book: Arc<Book>,
}

impl OneClient {
    async fn make_user(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while let Err(error) = self.client.create_user(self.user).await {
            self.expect_passing(&error, started)?;
            tokio::time::sleep(TRY_AGAIN).await;
        }
        Ok(())
    }

    /// One operation under one key, until it is acknowledged.
    async fn ask_until_yes<F: Future<Output = Result<Booked, Error>>>(
        &mut self,
        amount: &str,
        ask: impl Fn(Client, Payment) -> F,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let payment = Payment::new(self.user, amount, "USD")?.with_key(Uuid::new_v4());
        loop {
            let error = match ask(self.client.clone(), payment.clone()).await {
                Ok(booked) => {
                    self.take_down(&booked);
                    return Ok(());
                }
                Err(error) => error,
            };
            self.expect_passing(&error, started)?;
            self.book.tries_again.fetch_add(1, Ordering::Relaxed);
            let is_unknown = matches!(error, Error::Unknown { .. });
            self.book.unknown.fetch_add(u64::from(is_unknown), Ordering::Relaxed);
            let (at, text) = (Instant::now(), error.to_string());
            let failure = Failure { user: self.user, at, is_unknown, text };
            self.book.failed.lock().expect("nobody panics with it").push(failure);
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    fn expect_passing(&self, error: &Error, started: Instant) -> anyhow::Result<()> {
        let is_passing = matches!(error, Error::NotDone { .. } | Error::Unknown { .. });
        ensure!(is_passing, "user {}: {error}", self.user);
        ensure!(started.elapsed() < GIVE_UP, "user {} finds no answer: {error}", self.user);
        Ok(())
    }

    fn take_down(&mut self, booked: &Booked) {
        let came = Instant::now();
        let record = &booked.transaction;
        self.book.acknowledged.lock().expect("nobody panics with it").push((self.user, came));
        let key = record.idempotency_key.unwrap_or_default().to_string();
        let answer = WriteAnswer {
            id: Some(&record.id.to_string()),
            user_id: record.user_id,
            kind: record.kind.as_str(),
            amount: record.amount.as_str(),
            currency: &record.currency,
            balance_after: Some(record.balance_after.as_str()),
            idempotency_key: Some(&key),
            charge_id: None,
            hold_id: None,
            hold_status: None,
            transfer: None,
        };
        self.acks.record(key.as_bytes().try_into().expect("a UUID has 36 characters"), &answer);
        // The file must hold it before anything else can happen to this process.
        self.acks.flush();
    }
}
