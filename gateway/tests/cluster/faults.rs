//! Faults in the middle of load: what was acknowledged stays, once; what was not can be retried.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use picopay_local::ClusterSpec;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::client::{Client, TestCluster, dollars, eventually};

/// Charges one cent at a time, from several clients, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Charges>>,
}

/// What the load was told, by key.
#[derive(Default)]
struct Charges {
    acknowledged: HashMap<Uuid, String>,
    unanswered: Vec<Uuid>,
    other: Vec<String>,
}

impl Load {
    fn start(client: &Client, user: i64) -> Self {
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

    async fn end(self) -> Charges {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Charges::default();
        for client in self.clients {
            let charges = client.await.unwrap();
            all.acknowledged.extend(charges.acknowledged);
            all.unanswered.extend(charges.unanswered);
            all.other.extend(charges.other);
        }
        all
    }
}

/// Retries what was not answered, and checks that the ledger has every charge once, as it was acknowledged.
async fn settle(client: &Client, user: i64, started_with: i64, charges: Charges) {
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
        let answer: serde_json::Value = serde_json::from_str(&acknowledged[&key]).unwrap();
        assert_eq!(&answer["transaction"], transaction);
    }
}

#[tokio::test]
async fn a_node_killed_under_load_loses_and_doubles_nothing() {
    let test = TestCluster::start(ClusterSpec::default().with_shards(1)).await;
    let user = test.user_with("1000").await;
    let load = Load::start(&test.client, user);
    for _ in 0..2 {
        sleep(Duration::from_millis(500)).await;
        let node = test.cluster.shard(0).node(0);
        node.kill().await.unwrap();
        sleep(Duration::from_millis(200)).await;
        node.start().await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    settle(&test.client, user, 100_000, load.end().await).await;
    test.stop().await;
}

#[tokio::test]
async fn redis_stopped_frozen_flushed_and_restarted_under_load_changes_no_answer() {
    let test = TestCluster::start(ClusterSpec::default().with_shards(1)).await;
    let user = test.user_with("1000").await;
    let load = Load::start(&test.client, user);
    let redis = test.cluster.redis();
    sleep(Duration::from_millis(300)).await;
    redis.freeze();
    sleep(Duration::from_millis(800)).await;
    redis.thaw();
    sleep(Duration::from_millis(800)).await;
    // A Redis that keeps nothing comes back empty: flushed as well as restarted.
    redis.kill().await.unwrap();
    sleep(Duration::from_millis(500)).await;
    redis.start().await.unwrap();
    sleep(Duration::from_millis(500)).await;
    let charges = load.end().await;
    assert_eq!(charges.unanswered, Vec::<Uuid>::new(), "no charge needs Redis");
    settle(&test.client, user, 100_000, charges).await;
    test.stop().await;
}

#[tokio::test]
async fn with_its_replica_gone_history_comes_from_the_primary_and_says_so() {
    let test = TestCluster::start(ClusterSpec::default().with_shards(1)).await;
    let user = test.user_with("100").await;
    let path = format!("/transactions?user_id={user}");
    let from = |source: &'static str| {
        let (client, path) = (test.client.clone(), path.clone());
        move || {
            let (client, path) = (client.clone(), path.clone());
            async move {
                let answer = client.get(&path).await?;
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(answer.json()["data"].as_array().unwrap().len(), 1);
                (answer.source.as_deref() == Some(source)).then_some(())
            }
        }
    };
    eventually("a history from the replica", from("replica")).await;
    test.cluster.shard(0).replica().kill().await.unwrap();
    eventually("a history from the primary", from("primary")).await;
    test.cluster.shard(0).replica().start().await.unwrap();
    eventually("a history from the replica again", from("replica")).await;
    test.stop().await;
}

#[tokio::test]
async fn a_dead_shard_costs_only_its_own_users_and_answers_them_fast() {
    let test = TestCluster::start(ClusterSpec::default()).await;
    let client = &test.client;
    // One user on each shard.
    let mut users: HashMap<String, i64> = HashMap::new();
    while users.len() < 2 {
        let user = test.user_with("100").await;
        let slot = picopay_shared::slot::UserId::try_from(user).unwrap().slot().get();
        users.insert(if slot < 2048 { "shard-1" } else { "shard-2" }.to_owned(), user);
    }
    test.cluster.shard(0).node(0).kill().await.unwrap();
    let refused = eventually("the breaker's answer", || async {
        let started = std::time::Instant::now();
        let answer = client.charge(users["shard-1"], Uuid::new_v4(), "1").await;
        assert!(matches!(answer.status, 503 | 504), "{answer:?}");
        assert_eq!(client.charge(users["shard-2"], Uuid::new_v4(), "0.01").await.status, 200);
        (answer.status == 503 && started.elapsed() < Duration::from_millis(100)).then_some(answer)
    })
    .await;
    assert_eq!((refused.code().as_str(), &refused.json()["shard"]), ("shard-unavailable", &"shard-1".into()));
    assert_eq!(client.get("/readyz").await.unwrap().status, 200);
    test.cluster.shard(0).node(0).start().await.unwrap();
    eventually("the shard's return", || async {
        (client.charge(users["shard-1"], Uuid::new_v4(), "1").await.status == 200).then_some(())
    })
    .await;
    test.stop().await;
}
