//! Charges of one user from several clients, and the proof that each was booked once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::client::{Client, dollars, eventually};

/// Charges one cent at a time, from several clients, until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Charges>>,
}

/// What the load was told, by key.
#[derive(Default)]
pub struct Charges {
    pub acknowledged: HashMap<Uuid, String>,
    pub unanswered: Vec<Uuid>,
    /// Why not, where the gateway said so.
    pub problems: Vec<String>,
    pub other: Vec<String>,
}

impl Load {
    pub fn start(client: &Client, user: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..8)
            .map(|_| {
                let (client, stop) = (client.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut charges = Charges::default();
                    while !stop.load(Ordering::Relaxed) {
                        let key = Uuid::new_v4();
                        match client.try_charge(user, key, "0.01").await {
                            Some(answer) if answer.status == 200 => {
                                charges.acknowledged.insert(key, answer.body);
                            }
                            Some(answer) if answer.status >= 500 => {
                                charges.problems.push(answer.code());
                                if !matches!(answer.status, 503 | 504) {
                                    charges.other.push(answer.body);
                                }
                                charges.unanswered.push(key);
                                sleep(Duration::from_millis(20)).await;
                            }
                            Some(answer) => charges.other.push(answer.body),
                            None => charges.unanswered.push(key),
                        }
                    }
                    charges
                })
            })
            .collect();
        Self { stop, clients }
    }

    pub async fn end(self) -> Charges {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Charges::default();
        for client in self.clients {
            let charges = client.await.unwrap();
            all.acknowledged.extend(charges.acknowledged);
            all.unanswered.extend(charges.unanswered);
            all.problems.extend(charges.problems);
            all.other.extend(charges.other);
        }
        all
    }
}

/// Retries what was not answered, and checks that the ledger has every charge once, as it was acknowledged.
pub async fn settle(client: &Client, user: i64, started_with: i64, charges: Charges) {
    assert_eq!(charges.other, [""; 0], "only 200, 503 and 504 are answers to these faults");
    let mut acknowledged = charges.acknowledged;
    assert!(acknowledged.len() > 50, "the load was real: {}", acknowledged.len());
    for key in charges.unanswered {
        let answer = eventually("the answer to a retry", || async {
            client.try_charge(user, key, "0.01").await.filter(|answer| answer.status == 200)
        })
        .await;
        acknowledged.insert(key, answer.body);
    }
    // The same key again is the same answer, whatever happened in between.
    for (key, body) in acknowledged.iter().take(20) {
        let again = client.charge(user, *key, "0.01").await;
        assert_eq!((&again.body, again.is_replayed), (body, true));
    }
    let expected = started_with - i64::try_from(acknowledged.len()).unwrap();
    assert_eq!(client.balance(user).await, dollars(expected));
    let history = eventually("a history that has caught up", || async {
        let history = client.history(user).await;
        (history.len() == acknowledged.len() + 1).then_some(history)
    })
    .await;
    for transaction in history.iter().filter(|transaction| transaction["kind"] == "charge") {
        let key: Uuid = transaction["idempotency_key"].as_str().unwrap().parse().unwrap();
        let mut answer: serde_json::Value = serde_json::from_str(&acknowledged[&key]).unwrap();
        // The one thing that a read says more.
        answer["transaction"]["made_by"] = "dev".into();
        assert_eq!(&answer["transaction"], transaction);
    }
}
