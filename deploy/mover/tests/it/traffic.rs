//! Clients that charge, refund and ask again while slots move, and keep account of what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use picopay_local::{LocalCluster, eventually_within};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::owners::{owner_of, slot_of};

/// A few hundred keys in all, on two busy cores.
const THINKING: Duration = Duration::from_millis(30);
/// Longer than a failover, the minute of a mover's recovery and a busy machine together.
const SERVED_WITHIN: Duration = Duration::from_secs(90);

pub async fn write(cluster: &LocalCluster, path: &str, key: Uuid, body: &Value) -> (u16, String) {
    eventually_within(SERVED_WITHIN, &format!("an answer to {path} {body}"), async || {
        let answer = cluster.post(path, Some(&key.to_string()), body).await.unwrap();
        if answer.status < 500 { Ok((answer.status, answer.body)) } else { Err(answer.body) }
    })
    .await
}

pub async fn make_user(cluster: &LocalCluster, user_id: i64) {
    let (status, answer) = write(cluster, "/users", Uuid::new_v4(), &json!({"user_id": user_id})).await;
    assert!(matches!(status, 200 | 201), "{answer}");
}

struct Told {
    path: &'static str,
    key: Uuid,
    body: Value,
    answer: String,
}

/// One request at a time, so that it knows the balance to the cent.
struct Client {
    cluster: Arc<LocalCluster>,
    user_id: i64,
    cents: i64,
    told: Vec<Told>,
}

impl Client {
    async fn new(cluster: &Arc<LocalCluster>, user_id: i64) -> Self {
        make_user(cluster, user_id).await;
        let mut client = Self { cluster: Arc::clone(cluster), user_id, cents: 10_000_000, told: Vec::new() };
        let body = json!({"user_id": user_id, "amount": "100000.00", "currency": "USD"});
        client.ask("/topup", body).await;
        client
    }

    async fn ask(&mut self, path: &'static str, body: Value) -> Value {
        let key = Uuid::new_v4();
        let (status, answer) = write(&self.cluster, path, key, &body).await;
        assert_eq!(status, 200, "{path} {body}: {answer}");
        let said = serde_json::from_str(&answer).unwrap();
        self.told.push(Told { path, key, body, answer });
        said
    }

    async fn round(&mut self) {
        let charge = json!({"user_id": self.user_id, "amount": "1.00", "currency": "USD"});
        self.ask("/charge", charge.clone()).await;
        let charged = self.ask("/charge", charge).await;
        let refund = json!({"transaction_id": charged["transaction"]["id"], "amount": "0.40"});
        self.ask("/refund", refund).await;
        self.cents -= 160;
        // Any of them comes to its turn: 7 divides the length now and then only.
        self.ask_again(self.told.len() * 7 / 10).await;
    }

    async fn ask_again(&self, position: usize) {
        let Told { path, key, body, answer } = &self.told[position];
        assert_eq!(write(&self.cluster, path, *key, body).await, (200, answer.clone()), "{path} {body}");
    }

    async fn run(mut self, is_over: Arc<AtomicBool>) -> Self {
        while !is_over.load(Ordering::Relaxed) {
            self.round().await;
            // Or each client would have thousands of keys to be asked for again, and the mover no processor.
            tokio::time::sleep(THINKING).await;
        }
        self
    }

    /// At the shard that owns the user, with nothing else; and the balance is right.
    async fn check(&self) {
        let (owner, slot) = (owner_of(&self.cluster, self.user_id).await, slot_of(self.user_id));
        let database = self.cluster.connect_primary(owner).await.unwrap();
        let keys: Vec<Uuid> = self.told.iter().map(|told| told.key).collect();
        let sql = "SELECT count(*), count(*) FILTER (WHERE idempotency_key = ANY ($3)),
                          (SELECT (balance * 100)::bigint FROM balances b WHERE b.slot = $1 AND b.user_id = $2)
                   FROM transactions WHERE slot = $1 AND user_id = $2";
        let row = database.query_one(sql, &[&slot.cast_signed(), &self.user_id, &keys]).await.unwrap();
        let told = i64::try_from(self.told.len()).unwrap();
        let found: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(found, (told, told, self.cents), "user {}", self.user_id);
        for position in [0, self.told.len() / 2, self.told.len() - 1] {
            self.ask_again(position).await;
        }
    }
}

pub struct Traffic {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Client>>,
}

impl Traffic {
    pub async fn start(cluster: &Arc<LocalCluster>, users: &[i64]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for user_id in users {
            let client = Client::new(cluster, *user_id).await;
            clients.push(tokio::spawn(client.run(Arc::clone(&is_over))));
        }
        Self { is_over, clients }
    }

    pub async fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            let mut client = client.await.expect("a client that was always answered rightly");
            client.round().await;
            client.check().await;
        }
    }
}
