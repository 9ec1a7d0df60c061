//! What a client may be told when an answer got lost between node and gateway.
//!
//! Interleavings: the reply is lost before, in the middle of or after the node's work. The gateway's own retry meets a
//! node that booked the first attempt, that did not, that is gone, or that no longer owns the slot.

use std::collections::HashSet;
use std::time::Instant;

use futures_util::future::join_all;
use picopay_local::eventually;
use picopay_local::http_call::Answer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::api::payment;
use crate::gateway_process::{GatewayProcess, cluster_of};
use crate::scripted_node::{ScriptedNode, Step};

/// Short, so that a stalled node costs a test no seconds.
const HASTY: &str =
    "[shard_client]\nrequest_timeout = \"1500ms\"\ncall_timeout = \"300ms\"\nconnect_timeout = \"100ms\"\n";

/// So long that nothing runs out while a test holds a reply back, whatever else the machine does.
const PATIENT: &str = "[shard_client]\nrequest_timeout = \"50s\"\ncall_timeout = \"40s\"\n";

async fn charge_once(script: &[Step]) -> (Answer, ScriptedNode, GatewayProcess) {
    let node = ScriptedNode::start(script).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), HASTY).await;
    let answer = gateway.api.post_with("/charge", Uuid::new_v4(), &payment(1, "5", "USD")).await;
    (answer, node, gateway)
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_with_the_same_key() {
    let on_the_way = [400, 401, 404, 429, 502, 503, 504, 200].map(Step::OnTheWay);
    let own = [Step::HangUp, Step::Stall, Step::HalfAnswer, Step::Reject(500), Step::Unknown, Step::Nonsense];
    for lost in own.into_iter().chain(on_the_way) {
        // Whether the first attempt was booked or not, the client sees one charge and its first answer.
        for second in [Step::Replay, Step::Book] {
            let (answer, node, _gateway) = charge_once(&[lost, second]).await;
            assert_eq!(answer.status, 200, "{lost:?}, {second:?}: {answer:?}");
            assert_eq!(answer.header("idempotent-replayed"), None, "{lost:?}, {second:?}");
            let seen = node.seen();
            assert_eq!(seen.len(), 2, "{lost:?}, {second:?}");
            assert_eq!(seen[0].attempts, seen[1].attempts, "the same key and the same request");
            assert!(seen.iter().all(|batch| batch.deadline_ms <= 300));
        }
    }
}

#[tokio::test]
async fn after_a_lost_reply_nobody_says_that_nothing_happened() {
    for lost in [Step::HangUp, Step::Stall, Step::Unknown] {
        for second in [Step::HangUp, Step::Stall, Step::Unavailable, Step::Reject(503), Step::Unknown] {
            let (answer, node, gateway) = charge_once(&[lost, second]).await;
            gateway.api.expect_problem(&answer, 504, "outcome-unknown");
            assert!(answer.header("idempotency-key").is_some(), "the key that resolves it");
            assert_eq!(node.seen().len(), 2, "{lost:?}, {second:?}: one retry and no more");
        }
    }
    let (answer, _node, gateway) = charge_once(&[Step::HangUp, Step::Moved, Step::Moved, Step::Moved]).await;
    gateway.api.expect_problem(&answer, 504, "outcome-unknown");
}

/// A proxy answers 503 or 404 when it has lost its own way to the node, before or after the node had the request.
#[tokio::test]
async fn what_something_on_the_way_says_is_no_word_of_the_node() {
    for status in [401, 404, 502, 503, 504] {
        let (answer, node, gateway) = charge_once(&[Step::OnTheWay(status); 2]).await;
        gateway.api.expect_problem(&answer, 504, "outcome-unknown");
        assert_eq!(node.seen().len(), 2, "{status}");
    }
}

#[tokio::test]
async fn where_nothing_happened_the_client_hears_so() {
    for refusal in [Step::Unavailable, Step::Reject(503), Step::Reject(401)] {
        let (answer, node, gateway) = charge_once(&[refusal, refusal]).await;
        let body = gateway.api.expect_problem(&answer, 503, "shard-unavailable");
        assert_eq!(body["shard"], "shard-1");
        assert!(answer.header("retry-after").is_some());
        assert_eq!(node.seen().len(), 2, "{refusal:?}");
        // A replay after a certain "nothing happened" is a replay.
        let (answer, _node, _gateway) = charge_once(&[refusal, Step::Replay]).await;
        assert_eq!(answer.header("idempotent-replayed"), Some("true"), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_slot_that_keeps_moving_is_tried_three_times_in_all() {
    let (answer, node, gateway) = charge_once(&[Step::Moved; 5]).await;
    gateway.api.expect_problem(&answer, 503, "slot-moving");
    assert_eq!(node.seen().len(), 3);
    let (answer, node, _gateway) = charge_once(&[Step::Moved, Step::Moved, Step::Book]).await;
    assert_eq!((answer.status, node.seen().len()), (200, 3));
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_nothing() {
    // One batch is under way, and the others wait behind it when their clients hang up.
    let node = ScriptedNode::start(&[Step::BookWhenTold]).await;
    let config = format!("{PATIENT}pipes = 1\n");
    let gateway = GatewayProcess::start(&cluster_of(&node.url), &config).await;
    let address = gateway.api.url.strip_prefix("http://").unwrap().to_owned();
    let body = payment(1, "5", "USD").to_string();
    let length = body.len();
    let request = format!(
        "POST /charge HTTP/1.1\r\nhost: x\r\nx-api-key: dev-key\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        clients.push(stream);
    }
    let written = || node.seen().iter().map(|batch| batch.attempts.len()).sum::<usize>();
    eventually("commands that wait", async || {
        let metrics = gateway.api.get("/metrics").await.body;
        let waiting = 20 - written();
        metrics.contains(&format!("picopay_gateway_queue_length{{shard=\"shard-1\"}} {waiting}\n"))
            && waiting < 20
    })
    .await;
    assert!(written() < 20, "some wait");
    drop(clients);
    eventually("clients that are gone", async || {
        gateway.api.get("/metrics").await.body.contains("picopay_gateway_connections 1\n")
    })
    .await;
    node.book_now();
    eventually("the commands to be sent", async || written() >= 20).await;
    // Not one of them twice: nobody waits, so nobody retries.
    let seen = node.seen();
    let keys = seen.iter().flat_map(|batch| &batch.attempts).map(|attempt| attempt.command.idempotency_key);
    assert_eq!(keys.collect::<HashSet<_>>().len(), 20);
    assert_eq!(written(), 20);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let node = ScriptedNode::start(&[Step::Stall]).await;
    let config = "[shard_client]\npipes = 1\nbatch_max = 1\nqueue_max = 2\n";
    let gateway = GatewayProcess::start(&cluster_of(&node.url), config).await;
    let charges = (0..8).map(|_| {
        let api = gateway.api.clone();
        tokio::spawn(async move { (api.pay("/charge", 1, "5", "USD").await, Instant::now()) })
    });
    let answers: Vec<_> = join_all(charges).await.into_iter().map(Result::unwrap).collect();
    let (refused, others): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(answer, _)| answer.json()["code"] == "overloaded");
    assert!(refused.len() >= 4, "{refused:?}");
    let first = others.iter().map(|(_, at)| *at).min().expect("one is on its way, and two wait");
    for (answer, at) in refused {
        let body = gateway.api.expect_problem(&answer, 503, "overloaded");
        assert_eq!(body["shard"], "shard-1");
        assert!(answer.header("retry-after").is_some());
        assert!(at < first, "at once: while the others wait for the node");
    }
}

#[tokio::test]
async fn a_shard_that_does_not_answer_is_left_alone_for_a_while() {
    let node = ScriptedNode::start(&[Step::Stall; 100]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), HASTY).await;
    // Five failures in a row, retries among them, and the breaker opens.
    for _ in 0..5 {
        let _ = gateway.api.pay("/charge", 1, "5", "USD").await;
    }
    // The node answers the gateway's polls, so one of these may be the probe, or two on a slow machine. The others never
    // reach the node.
    let before = node.seen().len();
    let answers = join_all((0..10).map(|_| gateway.api.pay("/charge", 1, "5", "USD"))).await;
    let seen = node.seen();
    let reached = seen[before..].iter().flat_map(|batch| &batch.attempts);
    let reached: HashSet<_> = reached.map(|attempt| attempt.command.idempotency_key).collect();
    assert!(reached.len() <= 2, "{reached:?}");
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(refused.len() >= 10 - reached.len(), "{answers:?}");
    for answer in refused {
        gateway.api.expect_problem(answer, 503, "shard-unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    let metrics = gateway.api.get("/metrics").await.body;
    let state = metrics.lines().find(|line| line.starts_with("picopay_gateway_breaker_state{")).unwrap();
    assert!(!state.ends_with(" 0"), "{state}");
    let ready = gateway.api.get("/readyz").await;
    gateway.api.expect_problem(&ready, 503, "shard-unavailable");
    assert_eq!(ready.json()["shards"][0]["breaker"], "open");
}
