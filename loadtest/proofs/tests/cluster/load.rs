//! Charges of one user from several clients, and the proof that each was booked once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use picopay_loadtest::acks::AckFile;
use picopay_loadtest::write::{Wish, Write, text};
use picopay_proofs::account::{Account, Asking, Keeps, Reply, Taken};
use picopay_proofs::findings::Findings;
use picopay_shared::money::Currency;
use picopay_shared::slot::UserId;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::client::{Answer, GatewayClient, code_of, dollars, eventually};

pub struct UserLoad {
    stop: Arc<AtomicBool>,
    account: Arc<Mutex<Account>>,
    refused: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Trouble>>,
}

#[derive(Default)]
struct Trouble {
    problems: Vec<String>,
    other: Vec<String>,
}

pub struct LoadOutcome {
    pub account: Account,
    pub problems: Vec<String>,
    pub other: Vec<String>,
}

impl LoadOutcome {
    pub fn unanswered(&self) -> Vec<Uuid> {
        let open = self.account.entries.iter().filter(|entry| entry.told.is_none());
        open.map(|entry| key_of(&entry.write)).collect()
    }
}

impl UserLoad {
    pub fn start(client: &GatewayClient, user: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let folder = tempfile::tempdir().unwrap();
        let acks = AckFile::open(&folder.path().join("acks.jsonl")).unwrap().sinks().sink();
        let usd = Currency::parse("USD").unwrap();
        let account = Account::new(Keeps::Bodies, usd, acks, Findings::default());
        let account = Arc::new(Mutex::new(account));
        let refused = Arc::new(AtomicUsize::new(0));
        let clients = (0..8)
            .map(|_| {
                let (client, stop, account) = (client.clone(), Arc::clone(&stop), Arc::clone(&account));
                let refused = Arc::clone(&refused);
                tokio::spawn(async move {
                    let mut trouble = Trouble::default();
                    while !stop.load(Ordering::Relaxed) {
                        let key = Uuid::new_v4();
                        let at = {
                            let mut account = account.lock().unwrap();
                            let at = account.open(cent_of(user, key));
                            account.note_sent(at);
                            at
                        };
                        match client.try_charge(user, key, "0.01").await {
                            Some(answer) if answer.status == 200 => {
                                take(&mut account.lock().unwrap(), at, &answer, Asking::InTrouble);
                            }
                            Some(answer) if answer.status >= 500 => {
                                trouble.problems.push(code_of(&answer));
                                if !matches!(answer.status, 503 | 504) {
                                    trouble.other.push(answer.text());
                                }
                                refused.fetch_add(1, Ordering::Relaxed);
                                // Or eight clients that are refused at once would keep a node from starting.
                                sleep(Duration::from_millis(20)).await;
                            }
                            Some(answer) => trouble.other.push(answer.text()),
                            None => {
                                refused.fetch_add(1, Ordering::Relaxed);
                                account.lock().unwrap().note_unknown(at);
                            }
                        }
                    }
                    trouble
                })
            })
            .collect();
        Self { stop, account, refused, clients }
    }

    pub async fn goes_on(&self) {
        let acknowledged = || self.account.lock().unwrap().acknowledged();
        let before = acknowledged();
        eventually("charges that go on", async || acknowledged() >= before + 100).await;
    }

    pub async fn is_in_trouble(&self) {
        let before = self.refused.load(Ordering::Relaxed);
        eventually("a charge in trouble", async || self.refused.load(Ordering::Relaxed) > before).await;
    }

    pub async fn end(self) -> LoadOutcome {
        self.stop.store(true, Ordering::Relaxed);
        let (mut problems, mut other) = (Vec::new(), Vec::new());
        for client in self.clients {
            let trouble = client.await.unwrap();
            problems.extend(trouble.problems);
            other.extend(trouble.other);
        }
        let account = Arc::into_inner(self.account).expect("no client has it any more");
        LoadOutcome { account: account.into_inner().unwrap(), problems, other }
    }
}

fn cent_of(user: i64, key: Uuid) -> Write {
    let key = key.to_string().as_bytes().try_into().unwrap();
    Write { wish: Wish::Charge, user: UserId::try_from(user).unwrap(), minor_units: 1, key }
}

fn key_of(write: &Write) -> Uuid {
    text(&write.key).parse().unwrap()
}

fn take(account: &mut Account, at: usize, answer: &Answer, asking: Asking) -> Taken {
    let (status, is_replayed) = (answer.status, answer.is_replayed());
    let reply = Reply { status, is_replayed, session: None, body: &answer.body };
    account.take(at, reply, asking, Duration::ZERO)
}

/// Retries what was not answered, and checks that the ledger has every charge once, as it was acknowledged.
pub async fn settle(client: &GatewayClient, user: i64, started_with: i64, charges: LoadOutcome) {
    assert_eq!(charges.other, [""; 0], "only 200, 503 and 504 are answers to these faults");
    let mut account = charges.account;
    assert!(account.acknowledged() > 50, "the load was real: {}", account.acknowledged());
    for at in 0..account.entries.len() {
        let key = key_of(&account.entries[at].write);
        if account.entries[at].told.is_none() {
            account.note_sent(at);
            let answer = eventually("the answer to a retry", || async {
                client.try_charge(user, key, "0.01").await.filter(|answer| answer.status == 200)
            })
            .await;
            take(&mut account, at, &answer, Asking::InTrouble);
        } else if at < 20 {
            // The same key again is the same answer, whatever happened in between.
            let again = eventually("the answer to a repeat", || async {
                // A busy machine may keep one waiting too long, and then it is asked for again.
                client
                    .try_charge(user, key, "0.01")
                    .await
                    .filter(|answer| ![503, 504].contains(&answer.status))
            })
            .await;
            assert!(matches!(take(&mut account, at, &again, Asking::InPeace), Taken::Again), "{again:?}");
        }
    }
    assert!(account.findings.shown().is_empty(), "{:?}", account.findings.shown());
    let acknowledged: HashMap<Uuid, &str> = account
        .entries
        .iter()
        .filter_map(|entry| Some((key_of(&entry.write), entry.told.as_ref()?.body()?)))
        .collect();
    let expected = started_with - i64::try_from(acknowledged.len()).unwrap();
    assert_eq!(client.balance(user).await, dollars(expected));
    let history = eventually("a history that has caught up", || async {
        let history = client.history(user).await;
        (history.len() == acknowledged.len() + 1).then_some(history)
    })
    .await;
    for transaction in history.iter().filter(|transaction| transaction["kind"] == "charge") {
        let key: Uuid = transaction["idempotency_key"].as_str().unwrap().parse().unwrap();
        let mut answer: serde_json::Value = serde_json::from_str(acknowledged[&key]).unwrap();
        // The one thing that a read says more.
        answer["transaction"]["made_by"] = "dev".into();
        assert_eq!(&answer["transaction"], transaction);
    }
}
