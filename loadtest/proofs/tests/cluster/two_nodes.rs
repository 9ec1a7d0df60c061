//! Two nodes serve a shard, and one of them is in trouble: its users are served by the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use picopay_local::{ClusterSpec, LocalShard, Weather};
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
/// Of load before the trouble, which then comes in the middle of it.
const BEFORE: Duration = Duration::from_secs(1);

/// One charge of a cent.
struct TimedCharge {
    key: Uuid,
    sent: Instant,
    took: Duration,
    status: u16,
}

/// A debug build needs 100 ms of work for a login, and many times that on a busy machine.
const PATIENT: &str = "[postgres]\nconnect_timeout = \"8s\"\n";

/// A shard, its two nodes, and users with 1,000.00 USD each.
struct TwoNodes {
    test: TestCluster,
    users: Arc<Vec<i64>>,
}

impl TwoNodes {
    /// When both nodes are ready.
    async fn start(spec: ClusterSpec) -> Self {
        let test = TestCluster::start(spec.with_nodes_per_shard(2).with_node_toml(PATIENT)).await;
        let mut users = Vec::new();
        for _ in 0..16 {
            users.push(test.user_with("1000").await);
        }
        let nodes = Self { test, users: Arc::new(users) };
        nodes.are(["ready", "ready"]).await;
        nodes
    }

    fn client(&self) -> &GatewayClient {
        &self.test.client
    }

    fn shard(&self) -> &LocalShard {
        self.test.cluster.shard(0)
    }

    /// Waits until the gateway says so.
    async fn are(&self, nodes: [&str; 2]) {
        eventually(&format!("nodes that are {nodes:?}"), || async {
            let ready = self.client().get("/readyz").await?.json();
            (ready["shards"][0]["nodes"] == json!(nodes)).then_some(())
        })
        .await;
    }

    /// Charges at a pace that does not wait for answers, for so long.
    async fn charge_for(&self, time: Duration) -> Vec<TimedCharge> {
        let (until, mut turns, mut sent) = (Instant::now() + time, interval(PACE), Vec::new());
        while Instant::now() < until {
            turns.tick().await;
            let (client, user) = (self.client().clone(), self.users[sent.len() % self.users.len()]);
            sent.push(tokio::spawn(async move {
                let (key, sent) = (Uuid::new_v4(), Instant::now());
                let status = client.charge(user, key, "0.01").await.status;
                TimedCharge { key, sent, took: sent.elapsed(), status }
            }));
        }
        join_all(sent).await.into_iter().map(Result::unwrap).collect()
    }

    /// The same, with trouble in the middle. What is sent after the gateway could know of it is served.
    async fn charge_through(
        &self,
        time: Duration,
        trouble: Instant,
        make_trouble: impl Future<Output = ()>,
    ) -> Vec<TimedCharge> {
        let make_trouble = async {
            // When `trouble` says, or the time that was known of it would be another.
            sleep_until(trouble.into()).await;
            make_trouble.await;
        };
        let (charges, ()) = tokio::join!(self.charge_for(time), make_trouble);
        let later: Vec<_> = charges.iter().filter(|charge| charge.sent > trouble + KNOWN_WITHIN).collect();
        assert!(later.len() > 100, "the load went on: {}", later.len());
        for charge in later {
            assert_eq!(charge.status, 200, "{:?} after the trouble", charge.sent - trouble);
            assert!(charge.took < AT_ONCE, "{:?} at {:?}", charge.took, charge.sent - trouble);
        }
        charges
    }

    /// Balances that are read for so long, a read for every four charges: when each was sent, its status and its time.
    async fn read_for(&self, time: Duration) -> Vec<(Instant, u16, Duration)> {
        let (until, mut reads) = (Instant::now() + time, Vec::new());
        while Instant::now() < until {
            let (client, user) = (self.client().clone(), self.users[reads.len() % self.users.len()]);
            reads.push(tokio::spawn(async move {
                let sent = Instant::now();
                let path = format!("/users/{user}/balance?currency=USD");
                (sent, client.get(&path).await.expect("an answer").status, sent.elapsed())
            }));
            // A pace, as that of the charges.
            sleep(PACE * 4).await;
        }
        join_all(reads).await.into_iter().map(Result::unwrap).collect()
    }

    /// Retries what was not answered, and checks that each was booked once. Each list began with the first user.
    async fn settle(&self, lists: &[&[TimedCharge]]) {
        let client = self.client();
        for charges in lists {
            for (position, charge) in charges.iter().enumerate() {
                assert!(matches!(charge.status, 200 | 503 | 504), "{}", charge.status);
                if charge.status != 200 {
                    let user = self.users[position % self.users.len()];
                    eventually("the answer to a retry", || async {
                        (client.charge(user, charge.key, "0.01").await.status == 200).then_some(())
                    })
                    .await;
                }
            }
        }
        let mut cents = 0;
        for user in &*self.users {
            cents += 100_000 - client.balance(*user).await.replace('.', "").parse::<usize>().unwrap();
        }
        assert_eq!(cents, lists.iter().map(|charges| charges.len()).sum::<usize>(), "a cent each");
    }
}

#[tokio::test]
async fn with_its_first_node_frozen_a_shard_stands_still_once_and_then_no_more() {
    let nodes = TwoNodes::start(ClusterSpec::one_shard()).await;
    let (node, trouble) = (nodes.shard().node(0), Instant::now() + BEFORE);
    let time = Duration::from_secs(9);
    let charges = nodes.charge_through(time, trouble, async { node.freeze() });
    let (charges, reads) = tokio::join!(charges, nodes.read_for(time));
    // A read changes nothing, so it goes on to the other node whatever became of it at the first.
    for (sent, status, took) in reads {
        assert_eq!(status, 200);
        assert!(sent < trouble + KNOWN_WITHIN || took < AT_ONCE, "{took:?}");
    }
    nodes.are(["silent", "ready"]).await;
    assert!(nodes.client().metric("picopay_gateway_breaker_state").await.abs() < f64::EPSILON, "closed");
    nodes.settle(&[&charges]).await;
    node.thaw();
    nodes.are(["ready", "ready"]).await;
    assert_eq!(nodes.client().charge(nodes.users[0], Uuid::new_v4(), "0.01").await.status, 200);
    nodes.test.stop().await;
}

#[tokio::test]
async fn with_its_first_node_killed_a_shard_goes_on() {
    let nodes = TwoNodes::start(ClusterSpec::one_shard()).await;
    let (node, trouble) = (nodes.shard().node(0), Instant::now() + BEFORE);
    let kill = async { node.kill().await.unwrap() };
    let charges = nodes.charge_through(Duration::from_secs(7), trouble, kill).await;
    let failed = charges.iter().filter(|charge| charge.status != 200).count();
    // The batch that it had is retried by its keys at the other node, at once.
    assert!(failed < 20, "{failed}");
    nodes.are(["silent", "ready"]).await;
    nodes.settle(&[&charges]).await;
    node.start().await.unwrap();
    nodes.are(["ready", "ready"]).await;
    nodes.test.stop().await;
}

#[tokio::test]
async fn with_its_first_node_cut_off_from_the_primary_a_shard_goes_on_at_the_second() {
    let nodes = TwoNodes::start(ClusterSpec::one_shard().with_proxies()).await;
    let (node, wire) = (nodes.shard().node(0), nodes.shard().primary_proxy_of_node(0));
    let trouble = Instant::now() + BEFORE;
    let cut = async { wire.set_weather(Weather::Silent) };
    let charges = nodes.charge_through(Duration::from_secs(7), trouble, cut).await;
    nodes.are(["not-ready", "ready"]).await;
    assert_eq!(nodes.client().get("/readyz").await.unwrap().status, 200);
    // One that is started without a way to its primary answers, and is never ready.
    node.kill().await.unwrap();
    nodes.are(["silent", "ready"]).await;
    node.start().await.unwrap();
    nodes.are(["not-ready", "ready"]).await;
    let more = nodes.charge_for(Duration::from_secs(2)).await;
    for charge in &more {
        assert_eq!(charge.status, 200);
    }
    wire.set_weather(Weather::Clear);
    nodes.are(["ready", "ready"]).await;
    nodes.settle(&[&charges, &more]).await;
    nodes.test.stop().await;
}

#[tokio::test]
async fn with_both_nodes_cut_off_from_the_primary_users_hear_so_and_both_are_taken_back() {
    let nodes = TwoNodes::start(ClusterSpec::one_shard().with_proxies()).await;
    let wire = nodes.shard().primary_proxy();
    wire.set_weather(Weather::Silent);
    let charges = nodes.charge_for(Duration::from_secs(5)).await;
    nodes.are(["not-ready", "not-ready"]).await;
    assert_eq!(nodes.client().get("/readyz").await.unwrap().status, 503);
    let (user, key) = (nodes.users[0], charges[0].key);
    let refused = nodes.client().charge(user, key, "0.01").await;
    assert_eq!((refused.status, code_of(&refused).as_str()), (503, "shard-unavailable"));
    wire.set_weather(Weather::Clear);
    eventually("the shard's return", || async {
        (nodes.client().charge(user, key, "0.01").await.status == 200).then_some(())
    })
    .await;
    nodes.are(["ready", "ready"]).await;
    nodes.settle(&[&charges]).await;
    nodes.test.stop().await;
}
