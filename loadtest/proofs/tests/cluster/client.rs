//! A client of the gateway, and short words for what tests ask of it.

use std::sync::atomic::{AtomicI64, Ordering};

pub use picopay_client::Answer;
use picopay_client::Exchange;
pub use picopay_local::eventually;
use picopay_local::{ClusterSpec, LocalCluster, metric_sum};
use picopay_shared::slot::{SLOT_COUNT, UserId};
use serde_json::{Value, json};
use uuid::Uuid;

pub struct TestCluster {
    pub cluster: LocalCluster,
    pub client: GatewayClient,
}

#[derive(Clone)]
pub struct GatewayClient(Exchange);

static NEXT_USER: AtomicI64 = AtomicI64::new(1_000);

impl TestCluster {
    pub async fn start(spec: ClusterSpec) -> Self {
        let cluster = LocalCluster::start(spec).await.expect("a cluster");
        let client = GatewayClient::new(&cluster.gateway_url(), cluster.api_key());
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

impl GatewayClient {
    pub fn new(url: &str, api_key: &str) -> Self {
        Self(Exchange::new(url, api_key).unwrap())
    }

    pub async fn post(&self, path: &str, key: Option<Uuid>, body: &Value) -> Option<Answer> {
        self.0.post(path, key, body.to_string()).await.ok()
    }

    pub async fn get(&self, path: &str) -> Option<Answer> {
        self.get_with(path, None).await
    }

    pub async fn get_with(&self, path: &str, session: Option<&str>) -> Option<Answer> {
        self.0.get(path, session).await.ok()
    }

    pub async fn metric(&self, name: &str) -> f64 {
        metric_sum(&self.get("/metrics").await.expect("an answer").text(), name)
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

pub fn code_of(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

pub fn source_of(answer: &Answer) -> Option<&str> {
    answer.header("picopay-source")
}

pub fn dollars(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
