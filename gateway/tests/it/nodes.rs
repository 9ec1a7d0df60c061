//! Two nodes serve one shard: which of them is asked, and what becomes of what one of them does not do.

use std::time::{Duration, Instant};

use picopay_local::http_call::Answer;
use picopay_local::{eventually, eventually_within};
use serde_json::json;

use crate::api::payment;
use crate::gateway_process::{GatewayProcess, cluster_of_nodes};
use crate::scripted_node::{ScriptedNode, Step};

/// Polls that are over soon, and nodes that are given up soon.
const HASTY: &str = "[shard_client]\nrequest_timeout = \"3s\"\ncall_timeout = \"600ms\"\nconnect_timeout = \"100ms\"\n\
                     move_wait = \"500ms\"\npoll_interval = \"100ms\"\npoll_timeout = \"300ms\"\n";

struct Pair {
    first: ScriptedNode,
    second: ScriptedNode,
    gateway: GatewayProcess,
}

impl Pair {
    async fn start(first: &[Step], second: &[Step]) -> Self {
        let (first, second) = (ScriptedNode::start(first).await, ScriptedNode::start(second).await);
        let cluster = cluster_of_nodes(&[&first.url, &second.url]);
        let pair = Self { gateway: GatewayProcess::start(&cluster, HASTY).await, first, second };
        pair.wait_until(&["ready", "ready"]).await;
        pair
    }

    async fn charge(&self) -> Answer {
        self.gateway.api.pay("/charge", 1, "5", "USD").await
    }

    async fn wait_until(&self, nodes: &[&str]) {
        eventually_within(Duration::from_secs(20), &format!("nodes that are {nodes:?}"), async || {
            let ready = self.gateway.api.get("/readyz").await.json();
            if ready["shards"][0]["nodes"] == json!(nodes) { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_whose_gate_is_closed_is_not_asked_while_another_is_ready() {
    let pair = Pair::start(&[Step::Unavailable; 100], &[]).await;
    pair.first.close_gate();
    pair.wait_until(&["not-ready", "ready"]).await;
    for _ in 0..10 {
        assert_eq!(pair.charge().await.status, 200);
    }
    assert_eq!((pair.first.seen().len(), pair.second.seen().len()), (0, 10));
    assert_eq!(pair.gateway.api.get("/readyz").await.status, 200);
    let metrics = pair.gateway.api.get("/metrics").await.body;
    for (node, state) in [(0, 2), (1, 0)] {
        let line = format!("picopay_gateway_node_state{{node=\"{node}\",shard=\"shard-1\"}} {state}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    pair.first.open_gate();
    pair.wait_until(&["ready", "ready"]).await;
    assert_eq!(pair.charge().await.status, 200);
    assert_eq!(pair.first.seen().len(), 1);
}

#[tokio::test]
async fn what_nothing_happened_of_goes_on_to_the_next_node_in_the_same_request() {
    for refusal in [Step::Unavailable, Step::Reject(503), Step::Reject(404)] {
        let pair = Pair::start(&[refusal; 100], &[]).await;
        // The first says so when it is asked; the poll before had found it ready.
        let answer = pair.charge().await;
        assert_eq!(answer.status, 200, "{refusal:?}: {answer:?}");
        let (first, second) = (pair.first.seen(), pair.second.seen());
        assert_eq!((first.len(), second.len()), (1, 1), "{refusal:?}: each was asked once");
        assert_eq!(first[0].attempts, second[0].attempts);
        assert_eq!(pair.gateway.api.get("/readyz").await.json()["shards"][0]["breaker"], "closed");
    }
}

#[tokio::test]
async fn what_was_not_answered_is_retried_by_its_key_at_the_other_node() {
    for lost in [Step::HangUp, Step::Stall, Step::HalfAnswer, Step::OnTheWay(503), Step::Unknown] {
        let pair = Pair::start(&[lost; 100], &[Step::Replay]).await;
        let answer = pair.charge().await;
        assert_eq!(answer.status, 200, "{lost:?}: {answer:?}");
        assert_eq!(answer.header("idempotent-replayed"), None, "{lost:?}");
        let (first, second) = (pair.first.seen(), pair.second.seen());
        assert_eq!((first.len(), second.len()), (1, 1), "{lost:?}: each was asked once");
        assert_eq!(first[0].attempts, second[0].attempts);
        // Then the other one says that nothing happened there: nobody knows of the first.
        let pair = Pair::start(&[lost; 100], &[Step::Unavailable; 100]).await;
        pair.gateway.api.expect_problem(&pair.charge().await, 504, "outcome-unknown");
    }
}

#[tokio::test]
async fn while_both_refuse_the_client_hears_that_nothing_happened() {
    let pair = Pair::start(&[Step::Unavailable; 100], &[Step::Unavailable; 100]).await;
    for _ in 0..3 {
        let answer = pair.charge().await;
        let body = pair.gateway.api.expect_problem(&answer, 503, "shard-unavailable");
        assert_eq!(body["shard"], "shard-1");
    }
    pair.first.close_gate();
    pair.second.close_gate();
    pair.wait_until(&["not-ready", "not-ready"]).await;
    let before = pair.first.seen().len();
    pair.gateway.api.expect_problem(&pair.charge().await, 503, "shard-unavailable");
    // The order of the file decides, and one refusal is enough: the other would say the same.
    assert!(pair.first.seen().len() > before);
    assert_eq!(pair.gateway.api.get("/readyz").await.status, 503);
}

/// Interleaving: the frozen node has a batch when it freezes, and its failed calls and polls are told to the breaker.
#[tokio::test]
async fn a_frozen_node_costs_one_call_and_opens_no_breaker() {
    let pair = Pair::start(&[], &[]).await;
    assert_eq!(pair.charge().await.status, 200);
    assert_eq!(pair.first.seen().len(), 1);
    pair.first.freeze();
    assert_eq!(pair.charge().await.status, 200, "the retry meets the other node");
    // Longer than any pause: no user is sent to a node that answers no poll.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(pair.charge().await.status, 200);
        assert!(pair.first.seen().len() <= 2, "{}", pair.first.seen().len());
    }
    let shard = &pair.gateway.api.get("/readyz").await.json()["shards"][0];
    assert_eq!((&shard["is_ready"], &shard["breaker"]), (&json!(true), &json!("closed")));
    assert_eq!(shard["nodes"], json!(["silent", "ready"]));
    pair.first.thaw();
    pair.wait_until(&["ready", "ready"]).await;
}

#[tokio::test]
async fn reads_go_to_nodes_that_are_ready_and_on_from_one_that_froze() {
    let pair = Pair::start(&[], &[]).await;
    pair.first.freeze();
    // Both nodes in turn: those that meet the frozen one are asked again at the other.
    let reads = (0..20).map(|_| {
        let api = pair.gateway.api.clone();
        tokio::spawn(async move { api.get("/users/1/balance").await })
    });
    for answer in futures_util::future::join_all(reads).await {
        pair.gateway.api.expect_problem(&answer.unwrap(), 404, "user-not-found");
    }
    pair.wait_until(&["silent", "ready"]).await;
    let met = pair.first.reads().len();
    assert!(met > 0, "some of them");
    for _ in 0..10 {
        assert_eq!(pair.gateway.api.get("/users/1/balance").await.status, 404);
    }
    assert_eq!(pair.first.reads().len(), met, "nobody is sent to it any more");
}

#[tokio::test]
async fn a_node_says_nothing_of_slots_that_hides_what_the_other_says() {
    // Cut off from its primary, a node knows of no slots; its gate is closed then.
    let (first, second) = (
        ScriptedNode::start_as("shard-1", std::ops::RangeInclusive::new(1, 0), &[]).await,
        ScriptedNode::start(&[]).await,
    );
    first.close_gate();
    let cluster = cluster_of_nodes(&[&first.url, &second.url]);
    let pair = Pair { gateway: GatewayProcess::start(&cluster, HASTY).await, first, second };
    pair.wait_until(&["not-ready", "ready"]).await;
    for _ in 0..5 {
        assert_eq!(pair.charge().await.status, 200);
        // In all, longer than two polls of each node take, whose answers could hide each other's.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn every_request_says_until_when_it_is_waited_for_by_the_nodes_own_clock() {
    let node = ScriptedNode::start(&[]).await;
    let gateway = GatewayProcess::start(&cluster_of_nodes(&[&node.url]), HASTY).await;
    let body = payment(1, "5", "USD").to_string();
    // The first answers have told the gateway what the clock shows.
    eventually("a ready gateway", async || gateway.api.get("/readyz").await.status == 200).await;
    let (_, began) = node.deadlines_at();
    assert_eq!(gateway.api.post("/charge", &body).await.status, 200);
    assert_eq!(gateway.api.get("/users/1/balance").await.status, 404);
    let (said, ended) = node.deadlines_at();
    assert_eq!(said.len(), 2);
    for moment in said {
        let moment = moment.expect("a moment of this node's clock");
        assert_eq!(moment.process, ended.process);
        // 600 ms from when it was sent, and never later.
        assert!((began.ms + 300..=ended.ms + 600).contains(&moment.ms), "{began} {moment} {ended}");
    }
}
