//! Short words for what tests ask of a gateway. Every call has a connection of its own.

use std::sync::atomic::{AtomicI64, Ordering};

use http::Method;
use picopay_local::http_call::{self, Answer};
use serde_json::{Value, json};
use uuid::Uuid;

#[derive(Debug, Clone)]
pub struct Api {
    pub url: String,
    pub key: String,
}

static NEXT_USER: AtomicI64 = AtomicI64::new(10_000);

impl Api {
    pub fn new(url: impl Into<String>, key: &str) -> Self {
        Self { url: url.into(), key: key.to_owned() }
    }

    pub fn with_key(&self, key: &str) -> Self {
        Self::new(self.url.clone(), key)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.call(Method::POST, path, &[], body).await
    }

    pub async fn post_with(&self, path: &str, key: Uuid, body: &Value) -> Answer {
        let headers = [("idempotency-key", key.to_string())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        self.call(Method::POST, path, &headers, &body.to_string()).await
    }

    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("x-api-key", self.key.as_str())];
        all.extend(headers);
        all.retain(|(_, value)| !value.is_empty());
        let url = format!("{}{path}", self.url);
        http_call::call(method, &url, &all, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub async fn user_with(&self, amount: &str, currency: &str) -> i64 {
        let user = NEXT_USER.fetch_add(1, Ordering::Relaxed);
        let made = self.post("/users", &json!({"user_id": user}).to_string()).await;
        assert_eq!((made.status, made.body.as_str()), (201, format!("{{\"user_id\":{user}}}").as_str()));
        let topped_up = self.pay("/topup", user, amount, currency).await;
        assert_eq!(topped_up.status, 200, "{topped_up:?}");
        user
    }

    pub async fn pay(&self, path: &str, user: i64, amount: &str, currency: &str) -> Answer {
        self.post(path, &payment(user, amount, currency).to_string()).await
    }

    pub async fn balance(&self, user: i64, currency: &str) -> String {
        let answer = self.get(&format!("/users/{user}/balance?currency={currency}")).await;
        answer.json()["balance"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    /// Checks that an answer is the problem that the contract names, with everything that all problems have.
    pub fn expect_problem(&self, answer: &Answer, status: u16, suffix: &str) -> Value {
        let body = answer.json();
        assert_eq!((answer.status, &body["code"]), (status, &json!(suffix)), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
        assert_eq!(body["type"], format!("{}/problems/{suffix}", self.url));
        assert_eq!(body["status"], status);
        let request_id = answer.header("x-request-id").expect("every answer names its request");
        assert_eq!(body["instance"], format!("urn:request:{request_id}"));
        for member in ["title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {body}");
        }
        for leak in ["postgres", "SELECT", "src/", "panicked", "tokio"] {
            assert!(!answer.body.contains(leak), "{leak} in {body}");
        }
        body
    }
}

pub fn payment(user: i64, amount: &str, currency: &str) -> Value {
    json!({"user_id": user, "amount": amount, "currency": currency})
}
