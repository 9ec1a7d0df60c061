//! Who is called: takes Alertmanager's webhooks.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;

#[derive(Clone)]
pub struct Receiver {
    pub address: String,
    calls: Arc<Mutex<Vec<(&'static str, Value)>>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self { address: listener.local_addr().unwrap().to_string(), calls: Arc::default() };
        let note = |who: &'static str| {
            post(move |State(receiver): State<Receiver>, body: String| async move {
                receiver.calls.lock().unwrap().push((who, serde_json::from_str(&body).unwrap()));
            })
        };
        let paths = Router::new().route("/page", note("page")).route("/ticket", note("ticket"));
        let router = paths.with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    /// The alert of this name and state that was told last, with who was told.
    pub fn told(&self, name: &str, status: &str) -> Option<(&'static str, Value)> {
        let calls = self.calls.lock().unwrap();
        let mut alerts = calls.iter().flat_map(|(who, call)| {
            let alerts = call["alerts"].as_array().cloned().unwrap_or_default();
            alerts.into_iter().map(move |alert| (*who, alert))
        });
        alerts.rfind(|(_, alert)| alert["labels"]["alertname"] == name && alert["status"] == status)
    }

    /// All that was told, in short.
    pub fn heard(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        let short =
            |(who, call): &(&str, Value)| format!("{who}: {} {}", call["status"], call["groupLabels"]);
        calls.iter().map(short).collect()
    }
}
