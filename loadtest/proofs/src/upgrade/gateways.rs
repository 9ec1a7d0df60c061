//! The two gateways, as clients behind a load balancer reach them: by turns, and none that says it shuts down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use picopay_local::http_call;
use tokio::task::JoinHandle;

use crate::chaos::client::Client;

/// Well below the shortest time that a gateway drains for.
const PROBE_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Gateways {
    clients: [Client; 2],
    is_ready: [AtomicBool; 2],
    turn: AtomicUsize,
}

/// Ends its probes when it is dropped.
pub struct Probes(Vec<JoinHandle<()>>);

impl Gateways {
    pub fn new(clients: [Client; 2]) -> Arc<Self> {
        let is_ready = [AtomicBool::new(true), AtomicBool::new(true)];
        Arc::new(Self { clients, is_ready, turn: AtomicUsize::new(0) })
    }

    pub fn probe(self: &Arc<Self>) -> Probes {
        let probe = |number: usize| {
            let gateways = Arc::clone(self);
            tokio::spawn(async move {
                let url = format!("{}/readyz", gateways.clients[number].exchange.url());
                loop {
                    let answer = http_call::get(&url).await;
                    let is_ready = answer.is_ok_and(|answer| answer.status == 200);
                    gateways.is_ready[number].store(is_ready, Ordering::Relaxed);
                    tokio::time::sleep(PROBE_EVERY).await;
                }
            })
        };
        Probes((0..2).map(probe).collect())
    }

    pub fn either(&self) -> &Client {
        &self.clients[0]
    }

    /// Whose turn it is to get a request first.
    pub fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % 2
    }

    /// For the `attempt`th attempt, counted from 0: the other gateway each time. One that is not ready is left out, unless
    /// none is.
    pub fn client(&self, first: usize, attempt: usize) -> &Client {
        let number = (first + attempt) % 2;
        let other = 1 - number;
        let is_ready = |number: usize| self.is_ready[number].load(Ordering::Relaxed);
        &self.clients[if is_ready(number) || !is_ready(other) { number } else { other }]
    }

    /// Whether a gateway knows a route: of one that it does not know it says 404.
    pub async fn know(&self, path: &str) -> anyhow::Result<bool> {
        let exchange = &self.either().exchange;
        let answer = exchange.post(path, None, "{}").await;
        Ok(answer.with_context(|| format!("POST {path} is not answered"))?.status != 404)
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for probe in &self.0 {
            probe.abort();
        }
    }
}
