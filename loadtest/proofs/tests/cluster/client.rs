//! A client of the gateway, and short words for what tests ask of it.

use std::sync::atomic::{AtomicI64, Ordering};

use picopay_client::Exchange;
pub use picopay_local::eventually;
use picopay_local::{ClusterSpec, LocalCluster};
use picopay_shared::slot::{SLOT_COUNT, UserId};
use serde_json::{Value, json};
use uuid::Uuid;

pub struct TestCluster {
    pub cluster: LocalCluster,
    pub client: Client,
}

/// Talks to the gateway over kept-alive connections. Clones share them.
#[derive(Clone)]
pub struct Client(Exchange);

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub is_replayed: bool,
    pub source: Option<String>,
    pub session: Option<String>,
    pub retry_after: Option<String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl From<picopay_client::Answer> for Answer {
    fn from(answer: picopay_client::Answer) -> Self {
        Self {
            status: answer.status,
            is_replayed: answer.is_replayed(),
            source: answer.header("picopay-source").map(str::to_owned),
            session: answer.session().map(str::to_owned),
            retry_after: answer.header("retry-after").map(str::to_owned),
            body: String::from_utf8(answer.body.to_vec()).unwrap(),
        }
    }
}

static NEXT_USER: AtomicI64 = AtomicI64::new(1_000);

impl TestCluster {
    pub async fn start(spec: ClusterSpec) -> Self {
        let cluster = LocalCluster::start(spec).await.expect("a cluster");
        let client = Client::new(&cluster.gateway_url(), cluster.api_key());
        Self { cluster, client }
    }

    pub async fn user_with(&self, balance: &str) -> i64 {
        let user = NEXT_USER.fetch_add(1, Ordering::Relaxed);
        // A first request may meet a cluster that is still connecting, on a machine that is busy.
        let key = Uuid::new_v4();
        for (path, body) in [
            ("/users", json!({"user_id": user})),
            ("/topup", json!({"user_id": user, "amount": balance, "currency": "USD"})),
        ] {
            eventually("a user with money", || async {
                let answer = self.client.post(path, Some(key), &body).await?;
                assert!(matches!(answer.status, 200 | 201 | 503 | 504), "{answer:?}");
                (answer.status < 300).then_some(())
            })
            .await;
        }
        user
    }

    pub async fn user_of_first_shard(&self, balance: &str) -> i64 {
        loop {
            let user = self.user_with(balance).await;
            if UserId::try_from(user).unwrap().slot().get() < SLOT_COUNT / 2 {
                return user;
            }
        }
    }

    pub async fn stop(self) {
        self.cluster.stop().await;
    }
}

impl Client {
    pub fn new(url: &str, api_key: &str) -> Self {
        Self(Exchange::new(url, api_key).unwrap())
    }

    /// `None` when the connection failed before an answer.
    pub async fn post(&self, path: &str, key: Option<Uuid>, body: &Value) -> Option<Answer> {
        self.0.post(path, key, body.to_string()).await.ok().map(Answer::from)
    }

    pub async fn get(&self, path: &str) -> Option<Answer> {
        self.get_with(path, None).await
    }

    pub async fn get_with(&self, path: &str, session: Option<&str>) -> Option<Answer> {
        self.0.get(path, session).await.ok().map(Answer::from)
    }

    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.expect("an answer").body;
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        let values = text.lines().filter(of_name).map(|line| line.rsplit(' ').next().unwrap());
        values.map(|value| value.parse::<f64>().unwrap()).sum()
    }

    pub async fn refund(&self, charge_id: &str, key: Uuid, amount: &str) -> Answer {
        let body = json!({"transaction_id": charge_id, "amount": amount});
        self.post("/refund", Some(key), &body).await.expect("an answer")
    }

    pub async fn charge(&self, user: i64, key: Uuid, amount: &str) -> Answer {
        self.try_charge(user, key, amount).await.expect("an answer")
    }

    pub async fn try_charge(&self, user: i64, key: Uuid, amount: &str) -> Option<Answer> {
        let body = json!({"user_id": user, "amount": amount, "currency": "USD"});
        self.post("/charge", Some(key), &body).await
    }

    pub async fn top_up(&self, user: i64, amount: &str) -> Answer {
        let body = json!({"user_id": user, "amount": amount, "currency": "USD"});
        self.post("/topup", None, &body).await.expect("an answer")
    }

    pub async fn balance(&self, user: i64) -> String {
        let answer = self.get(&format!("/users/{user}/balance?currency=USD")).await.expect("an answer");
        answer.json()["balance"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    pub async fn history(&self, user: i64) -> Vec<Value> {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/transactions?user_id={user}&limit=100{cursor}");
            let page = eventually("a page of history", || async {
                self.get(&path).await.filter(|answer| answer.status == 200)
            })
            .await
            .json();
            seen.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return seen,
            }
        }
    }
}

pub fn dollars(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
