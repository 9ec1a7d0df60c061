//! Clients that charge all the time, and never take "maybe" for an answer: whatever is not a definite yes is asked again
//! under the same key.
//!
//! When each yes came is kept, for the gaps; what it said goes into a file outside of the cluster, for the proof.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use picopay_loadtest::acks::{AckFile, AckSink};
use picopay_loadtest::write::AnsweredTransaction;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Clients, each with a user of its own. Enough for batches, few enough that on two cores three databases, an etcd and their
/// agents are not starved: a starved agent would be a failover of its own.
const CLIENTS: i64 = 16;
/// Between two charges of a client: with [`CLIENTS`] some 300 a second, so that a gap is known to a few milliseconds.
const THINK: Duration = Duration::from_millis(50);
/// Between two tries of one charge, as a client in a hurry would do it. `Retry-After` says a second.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// The gateway answers in 5 s, whatever happens.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// A charge that finds no definite answer for so long will find none.
const GIVE_UP: Duration = Duration::from_secs(90);
/// More than anybody is charged, in USD; and in cents, of which each charge takes one.
const FUND: &str = "1000000.00";
const FUND_CENTS: u64 = 100_000_000;
/// Between two reads of a balance.
const READ_EVERY: Duration = Duration::from_millis(50);

/// Clients at work.
pub struct Charges {
    stop: Arc<AtomicBool>,
    book: Arc<Book>,
    clients: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// What all clients have seen.
#[derive(Debug, Default)]
struct Book {
    acknowledged: Mutex<Vec<Instant>>,
    /// Of each client, how many charges.
    charged: [AtomicU64; 16],
    tries_again: AtomicU64,
    unknown: AtomicU64,
    strong_reads: AtomicU64,
    stale_reads: AtomicU64,
}

impl Charges {
    /// Makes the users, gives them money and begins to charge them.
    pub async fn start(url: &str, api_key: &str, acks: &AckFile) -> anyhow::Result<Self> {
        let (stop, book) = (Arc::new(AtomicBool::new(false)), Arc::new(Book::default()));
        let mut clients = Vec::new();
        for user in 1..=CLIENTS {
            let mut client = OneClient {
                gateway: Gateway::new(url, api_key),
                user,
                acks: acks.sinks().sink(),
                book: Arc::clone(&book),
            };
            client.ask_until_yes("/users", &json!({"user_id": user})).await?;
            let fund = json!({"user_id": user, "amount": FUND, "currency": "USD"});
            client.ask_until_yes("/topup", &fund).await?;
            let stop = Arc::clone(&stop);
            clients.push(tokio::spawn(async move {
                let charge = json!({"user_id": user, "amount": "0.01", "currency": "USD"});
                while !stop.load(Ordering::Relaxed) {
                    client.ask_until_yes("/charge", &charge).await?;
                    client.book.charged_of(user).fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(THINK).await;
                }
                Ok(())
            }));
        }
        clients.push(tokio::spawn(read_balances(
            Gateway::new(url, api_key),
            Arc::clone(&book),
            Arc::clone(&stop),
        )));
        Ok(Self { stop, book, clients })
    }

    /// How many came back since then.
    pub fn acknowledged_since(&self, moment: Instant) -> usize {
        self.times().iter().filter(|time| **time >= moment).count()
    }

    /// The longest time between two acknowledgements, of which the second came after `moment`.
    pub fn gap_after(&self, moment: Instant) -> Duration {
        let mut times = self.times();
        times.sort_unstable();
        let gaps = times.windows(2).filter(|pair| pair[1] >= moment);
        gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Tries that had to be repeated, and those of them whose outcome was unknown.
    pub fn repeated(&self) -> (u64, u64) {
        (self.book.tries_again.load(Ordering::Relaxed), self.book.unknown.load(Ordering::Relaxed))
    }

    /// Balances that were read from a primary, and those of them that lacked a charge acknowledged before they were asked for.
    pub fn strong_reads(&self) -> (u64, u64) {
        (self.book.strong_reads.load(Ordering::Relaxed), self.book.stale_reads.load(Ordering::Relaxed))
    }

    /// Lets every client finish its charge.
    pub async fn end(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.context("a client panicked")??;
        }
        Ok(())
    }

    fn times(&self) -> Vec<Instant> {
        self.book.acknowledged.lock().expect("nobody panics with it").clone()
    }
}

impl Book {
    fn charged_of(&self, user: i64) -> &AtomicU64 {
        let position = usize::try_from(user - 1).expect("users are numbered from 1");
        &self.charged[position]
    }
}

/// Reads strong balances, of one client after the other. What was acknowledged before the question is in the answer, or it came
/// from a primary that was replaced.
async fn read_balances(gateway: Gateway, book: Arc<Book>, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    for user in (1..=CLIENTS).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let charged = book.charged_of(user).load(Ordering::SeqCst);
        if let Some(balance) = gateway.balance_cents(user).await {
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
    gateway: Gateway,
    user: i64,
    acks: AckSink,
    book: Arc<Book>,
}

impl OneClient {
    /// One operation under one key, until it is acknowledged.
    async fn ask_until_yes(&mut self, path: &str, body: &Value) -> anyhow::Result<()> {
        let (key, started) = (Uuid::new_v4().to_string(), Instant::now());
        loop {
            // No answer is like "maybe".
            let (status, answer) = self.gateway.post(path, &key, body).await.unwrap_or((504, String::new()));
            match status {
                200 | 201 => return self.take_down(&answer),
                503 | 504 => {}
                _ => anyhow::bail!("{path} of user {}: {status} {answer}", self.user),
            }
            ensure!(
                started.elapsed() < GIVE_UP,
                "{path} of user {} under key {key} finds no answer",
                self.user
            );
            self.book.tries_again.fetch_add(1, Ordering::Relaxed);
            self.book.unknown.fetch_add(u64::from(status == 504), Ordering::Relaxed);
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    fn take_down(&mut self, answer: &str) -> anyhow::Result<()> {
        let came = Instant::now();
        let Answered { transaction } = serde_json::from_str(answer).context(answer.to_owned())?;
        // A user that was made moves no money.
        let Some(transaction) = transaction else { return Ok(()) };
        self.book.acknowledged.lock().expect("nobody panics with it").push(came);
        self.acks.record(&transaction);
        // The file must hold it before anything else can happen to this process.
        self.acks.flush();
        Ok(())
    }
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow)]
    transaction: Option<AnsweredTransaction<'a>>,
}

struct Gateway {
    url: String,
    api_key: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Gateway {
    fn new(url: &str, api_key: &str) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { url: url.to_owned(), api_key: api_key.to_owned(), http }
    }

    /// `None` when no whole answer came.
    async fn post(&self, path: &str, key: &str, body: &Value) -> Option<(u16, String)> {
        let request = http::Request::post(format!("{}{path}", self.url))
            .header("x-api-key", &self.api_key)
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("all of it is well-formed");
        self.ask(request).await
    }

    /// A balance that is as true as the primary knows, in cents; `None` when it was not answered.
    async fn balance_cents(&self, user: i64) -> Option<u64> {
        let request = http::Request::get(format!("{}/users/{user}/balance", self.url))
            .header("x-api-key", &self.api_key)
            .body(Full::default())
            .expect("all of it is well-formed");
        let (status, body) = self.ask(request).await?;
        if status != 200 {
            return None;
        }
        let body: Value = serde_json::from_str(&body).ok()?;
        body["balances"][0]["balance"].as_str()?.replace('.', "").parse().ok()
    }

    async fn ask(&self, request: http::Request<Full<Bytes>>) -> Option<(u16, String)> {
        let answered = async {
            let response = self.http.request(request).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::time::timeout(ANSWER_WAIT, answered).await.ok()?
    }
}
