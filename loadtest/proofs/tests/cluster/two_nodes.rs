//! Two nodes serve a shard, and one of them is in trouble: its users are served by the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use picopay_local::{ClusterSpec, Weather};
use serde_json::json;
use tokio::time::{interval, sleep, sleep_until};
use uuid::Uuid;

use crate::client::{GatewayClient, TestCluster, code_of, eventually};

/// Between two charges: 200 a second.
const PACE: Duration = Duration::from_millis(5);
/// A poll a second, one more for the missing answer, and a call sent just before, on a busy machine.
const KNOWN_WITHIN: Duration = Duration::from_secs(4);
/// Less than a call to a frozen node takes (2 s).
const AT_ONCE: Duration = Duration::from_millis(1_500);

/// One charge of a cent.
struct TimedCharge {
    key: Uuid,
    sent: Instant,
    took: Duration,
    status: u16,
}

/// A debug build needs 100 ms of work for a login, and many times that on a busy machine.
const PATIENT: &str = "[postgres]\nconnect_timeout = \"8s\"\n";

async fn one_shard_with_two_nodes() -> TestCluster {
    TestCluster::start(ClusterSpec::one_shard().with_nodes_per_shard(2).with_node_toml(PATIENT)).await
}

async fn two_nodes_that_can_be_cut_off() -> TestCluster {
    let spec = ClusterSpec::one_shard().with_nodes_per_shard(2).with_proxies();
    TestCluster::start(spec.with_node_toml(PATIENT)).await
}

/// Charges at a pace that does not wait for answers, for so long.
async fn charge_for(client: &GatewayClient, users: &Arc<Vec<i64>>, time: Duration) -> Vec<TimedCharge> {
    let (until, mut turns, mut sent) = (Instant::now() + time, interval(PACE), Vec::new());
    while Instant::now() < until {
        turns.tick().await;
        let (client, user) = (client.clone(), users[sent.len() % users.len()]);
        sent.push(tokio::spawn(async move {
            let (key, sent) = (Uuid::new_v4(), Instant::now());
            let status = client.charge(user, key, "0.01").await.status;
            TimedCharge { key, sent, took: sent.elapsed(), status }
        }));
    }
    futures_util::future::join_all(sent).await.into_iter().map(Result::unwrap).collect()
}

/// Retries what was not answered, and checks that each was booked once. Each list began with the first user.
async fn settle(client: &GatewayClient, users: &[i64], lists: &[&[TimedCharge]]) {
    for charges in lists {
        for (position, charge) in charges.iter().enumerate() {
            assert!(matches!(charge.status, 200 | 503 | 504), "{}", charge.status);
            if charge.status != 200 {
                let user = users[position % users.len()];
                eventually("the answer to a retry", || async {
                    (client.charge(user, charge.key, "0.01").await.status == 200).then_some(())
                })
                .await;
            }
        }
    }
    let mut cents = 0;
    for user in users {
        cents += 100_000 - client.balance(*user).await.replace('.', "").parse::<usize>().unwrap();
    }
    assert_eq!(cents, lists.iter().map(|charges| charges.len()).sum::<usize>(), "a cent each");
}

async fn users_of(test: &TestCluster) -> Arc<Vec<i64>> {
    let mut users = Vec::new();
    for _ in 0..16 {
        users.push(test.user_with("1000").await);
    }
    Arc::new(users)
}

async fn wait_until_nodes_are(client: &GatewayClient, nodes: [&str; 2]) {
    eventually(&format!("nodes that are {nodes:?}"), || async {
        let ready = client.get("/readyz").await?.json();
        (ready["shards"][0]["nodes"] == json!(nodes)).then_some(())
    })
    .await;
}

/// Of the charges that were sent after the gateway could know of the trouble.
fn expect_served(charges: &[TimedCharge], trouble: Instant) {
    let later: Vec<_> = charges.iter().filter(|charge| charge.sent > trouble + KNOWN_WITHIN).collect();
    assert!(later.len() > 100, "the load went on: {}", later.len());
    for charge in later {
        assert_eq!(charge.status, 200, "{:?} after the trouble", charge.sent - trouble);
        assert!(charge.took < AT_ONCE, "{:?} at {:?}", charge.took, charge.sent - trouble);
    }
}

#[tokio::test]
async fn with_its_first_node_frozen_a_shard_stands_still_once_and_then_no_more() {
    let test = one_shard_with_two_nodes().await;
    let client = &test.client;
    let users = users_of(&test).await;
    wait_until_nodes_are(client, ["ready", "ready"]).await;
    let node = test.cluster.shard(0).node(0);
    let trouble = Instant::now() + Duration::from_secs(1);
    let freeze = async {
        // When `trouble` says, in the middle of the load.
        sleep_until(trouble.into()).await;
        node.freeze();
    };
    let read = async {
        let until = Instant::now() + Duration::from_secs(9);
        let mut reads = Vec::new();
        while Instant::now() < until {
            let (client, user) = (client.clone(), users[reads.len() % users.len()]);
            reads.push(tokio::spawn(async move {
                let sent = Instant::now();
                let path = format!("/users/{user}/balance?currency=USD");
                (sent, client.get(&path).await.expect("an answer").status, sent.elapsed())
            }));
            // A read for every four charges.
            sleep(PACE * 4).await;
        }
        futures_util::future::join_all(reads).await
    };
    let (charges, (), reads) = tokio::join!(charge_for(client, &users, Duration::from_secs(9)), freeze, read);
    expect_served(&charges, trouble);
    // A read changes nothing, so it goes on to the other node whatever became of it at the first.
    for (sent, status, took) in reads.into_iter().map(Result::unwrap) {
        assert_eq!(status, 200);
        assert!(sent < trouble + KNOWN_WITHIN || took < AT_ONCE, "{took:?}");
    }
    wait_until_nodes_are(client, ["silent", "ready"]).await;
    assert!(client.metric("picopay_gateway_breaker_state").await.abs() < f64::EPSILON, "closed");
    settle(client, &users, &[&charges]).await;
    node.thaw();
    wait_until_nodes_are(client, ["ready", "ready"]).await;
    assert_eq!(client.charge(users[0], Uuid::new_v4(), "0.01").await.status, 200);
    test.stop().await;
}

#[tokio::test]
async fn with_its_first_node_killed_a_shard_goes_on() {
    let test = one_shard_with_two_nodes().await;
    let client = &test.client;
    let users = users_of(&test).await;
    wait_until_nodes_are(client, ["ready", "ready"]).await;
    let node = test.cluster.shard(0).node(0);
    let trouble = Instant::now() + Duration::from_secs(1);
    let kill = async {
        // When `trouble` says, in the middle of the load.
        sleep_until(trouble.into()).await;
        node.kill().await.unwrap();
    };
    let (charges, ()) = tokio::join!(charge_for(client, &users, Duration::from_secs(7)), kill);
    expect_served(&charges, trouble);
    let failed = charges.iter().filter(|charge| charge.status != 200).count();
    // The batch that it had is retried by its keys at the other node, at once.
    assert!(failed < 20, "{failed}");
    wait_until_nodes_are(client, ["silent", "ready"]).await;
    settle(client, &users, &[&charges]).await;
    node.start().await.unwrap();
    wait_until_nodes_are(client, ["ready", "ready"]).await;
    test.stop().await;
}

#[tokio::test]
async fn with_its_first_node_cut_off_from_the_primary_a_shard_goes_on_at_the_second() {
    let test = two_nodes_that_can_be_cut_off().await;
    let client = &test.client;
    let users = users_of(&test).await;
    wait_until_nodes_are(client, ["ready", "ready"]).await;
    let shard = test.cluster.shard(0);
    let way = shard.primary_proxy_of_node(0);
    let trouble = Instant::now() + Duration::from_secs(1);
    let cut = async {
        // When `trouble` says, in the middle of the load.
        sleep_until(trouble.into()).await;
        way.set_weather(Weather::Silent);
    };
    let (charges, ()) = tokio::join!(charge_for(client, &users, Duration::from_secs(7)), cut);
    expect_served(&charges, trouble);
    wait_until_nodes_are(client, ["not-ready", "ready"]).await;
    assert_eq!(client.get("/readyz").await.unwrap().status, 200);
    // One that is started without a way to its primary answers, and is never ready.
    let node = shard.node(0);
    node.kill().await.unwrap();
    wait_until_nodes_are(client, ["silent", "ready"]).await;
    node.start().await.unwrap();
    wait_until_nodes_are(client, ["not-ready", "ready"]).await;
    let more = charge_for(client, &users, Duration::from_secs(2)).await;
    for charge in &more {
        assert_eq!(charge.status, 200);
    }
    way.set_weather(Weather::Clear);
    wait_until_nodes_are(client, ["ready", "ready"]).await;
    settle(client, &users, &[&charges, &more]).await;
    test.stop().await;
}

#[tokio::test]
async fn with_both_nodes_cut_off_from_the_primary_users_hear_so_and_both_are_taken_back() {
    let test = two_nodes_that_can_be_cut_off().await;
    let client = &test.client;
    let users = users_of(&test).await;
    wait_until_nodes_are(client, ["ready", "ready"]).await;
    let way = test.cluster.shard(0).primary_proxy();
    way.set_weather(Weather::Silent);
    let charges = charge_for(client, &users, Duration::from_secs(5)).await;
    wait_until_nodes_are(client, ["not-ready", "not-ready"]).await;
    assert_eq!(client.get("/readyz").await.unwrap().status, 503);
    let refused = client.charge(users[0], charges[0].key, "0.01").await;
    assert_eq!((refused.status, code_of(&refused).as_str()), (503, "shard-unavailable"));
    way.set_weather(Weather::Clear);
    eventually("the shard's return", || async {
        (client.charge(users[0], charges[0].key, "0.01").await.status == 200).then_some(())
    })
    .await;
    wait_until_nodes_are(client, ["ready", "ready"]).await;
    settle(client, &users, &[&charges]).await;
    test.stop().await;
}
