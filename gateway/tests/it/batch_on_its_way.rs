//! How the operations of a batch travel: together, in order, and whatever becomes of the client.

use picopay_local::eventually;
use picopay_shared::command::WriteBatch;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::api::{Api, payment};
use crate::gateway_process::{GatewayProcess, cluster_of, key_entry};
use crate::scripted_node::{ScriptedNode, Step};

fn charges(users: impl Iterator<Item = i64>) -> (Vec<Uuid>, String) {
    let (mut keys, mut operations) = (Vec::new(), Vec::new());
    for user in users {
        let key = Uuid::new_v4();
        keys.push(key);
        operations
            .push(json!({"operation": "charge", "idempotency_key": key, "body": payment(user, "5", "USD")}));
    }
    (keys, json!({"operations": operations}).to_string())
}

async fn send(api: &Api, body: &str) -> Vec<Value> {
    let answer = api.post("/batch", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["results"].as_array().unwrap().clone()
}

fn codes(results: &[Value]) -> Vec<&str> {
    results.iter().map(|result| result["body"]["code"].as_str().unwrap_or("booked")).collect()
}

fn keys_of(batch: &WriteBatch) -> Vec<Uuid> {
    batch.attempts.iter().map(|attempt| attempt.command.idempotency_key).collect()
}

#[tokio::test]
async fn all_operations_of_a_shard_are_one_batch_and_an_idle_shard_takes_it_however_small_its_queue_is() {
    let first = ScriptedNode::start_as("shard-1", 0..=2047, &[]).await;
    let second = ScriptedNode::start_as("shard-2", 2048..=4095, &[]).await;
    let shard = |name: &str, node: &ScriptedNode| {
        format!("[[shards]]\nname = {name:?}\nnodes = [{:?}]\nprimary = \"host=none\"\n", node.url)
    };
    let cluster = format!(
        "internal_secret = \"an-internal-secret-for-this-test\"\n{}{}",
        shard("shard-1", &first),
        shard("shard-2", &second)
    );
    let config = "[shard_client]\nbatch_max = 10\nqueue_max = 20\n";
    let gateway = GatewayProcess::start(&cluster, config).await;
    let (keys, body) = charges(1..=500);
    let results = send(&gateway.api, &body).await;
    assert_eq!(codes(&results), vec!["booked"; 500]);
    for (result, key) in results.iter().zip(&keys) {
        assert_eq!(result["body"]["transaction"]["idempotency_key"], key.to_string());
    }
    let [first, second] = [&first, &second].map(ScriptedNode::seen);
    assert_eq!((first.len(), second.len()), (1, 1), "one batch for each shard");
    let [first, second] = [&first[0], &second[0]].map(keys_of);
    assert_eq!(first.len() + second.len(), 500);
    for of_shard in [&first, &second] {
        let expected: Vec<Uuid> = keys.iter().copied().filter(|key| of_shard.contains(key)).collect();
        assert_eq!(*of_shard, expected, "in their order");
    }
}

#[tokio::test]
async fn batches_of_500_at_once_refuse_nobody_and_leave_single_requests_their_turn() {
    let node = ScriptedNode::start(&[Step::BookWhenTold]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), "").await;
    let (_, body) = charges(1..=500);
    let batches: Vec<_> = (0..3)
        .map(|_| {
            let (api, body) = (gateway.api.clone(), body.clone());
            tokio::spawn(async move { send(&api, &body).await })
        })
        .collect();
    eventually("a batch on its way", async || node.seen().len() == 1).await;
    let api = gateway.api.clone();
    let single = tokio::spawn(async move { api.pay("/charge", 1, "5", "USD").await });
    eventually("all that wait", async || {
        let metrics = gateway.api.get("/metrics").await.body;
        metrics.contains("picopay_gateway_queue_length{shard=\"shard-1\"} 1001\n")
    })
    .await;
    node.book_now();
    assert_eq!(single.await.unwrap().status, 200);
    for batch in batches {
        assert_eq!(codes(&batch.await.unwrap()), vec!["booked"; 500]);
    }
    let sizes: Vec<usize> = node.seen().iter().map(|batch| batch.attempts.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 1_501, "{sizes:?}");
}

#[tokio::test]
async fn what_was_not_done_is_sent_again_once_all_of_it_together() {
    for lost in [Step::HangUp, Step::Unavailable, Step::Unknown, Step::Moved] {
        let node = ScriptedNode::start(&[lost]).await;
        let gateway = GatewayProcess::start(&cluster_of(&node.url), "").await;
        let (keys, body) = charges((1..=50).map(|user| user % 7 + 1));
        let results = send(&gateway.api, &body).await;
        assert_eq!(codes(&results), vec!["booked"; 50], "{lost:?}");
        let seen: Vec<Vec<Uuid>> = node.seen().iter().map(keys_of).collect();
        assert_eq!(seen, [keys.clone(), keys], "{lost:?}");
    }
    // After an unanswered attempt nobody says that nothing happened.
    let node = ScriptedNode::start(&[Step::HangUp, Step::Unavailable]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), "").await;
    let (_, body) = charges(1..=3);
    assert_eq!(codes(&send(&gateway.api, &body).await), ["outcome-unknown"; 3]);
}

/// A node may leave out a part of a batch. Who was overtaken by a later operation of the same user stays behind.
#[tokio::test]
async fn the_operations_of_a_user_never_change_places_by_a_retry() {
    let node = ScriptedNode::start(&[Step::UnavailableBefore(3)]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), "").await;
    let (keys, body) = charges([1, 2, 3, 1, 3, 4].into_iter());
    let results = send(&gateway.api, &body).await;
    let expected = ["shard-unavailable", "booked", "shard-unavailable", "booked", "booked", "booked"];
    assert_eq!(codes(&results), expected);
    let seen: Vec<Vec<Uuid>> = node.seen().iter().map(keys_of).collect();
    assert_eq!(seen, [keys.clone(), vec![keys[1]]]);
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_nothing_of_its_batch() {
    let node = ScriptedNode::start(&[Step::BookWhenTold]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), "").await;
    let address = gateway.api.url.strip_prefix("http://").unwrap().to_owned();
    // One is on its way, so that the batch waits behind it.
    let api = gateway.api.clone();
    let single = tokio::spawn(async move { api.pay("/charge", 1, "5", "USD").await });
    eventually("a charge on its way", async || node.seen().len() == 1).await;
    let (keys, body) = charges(1..=50);
    let request = format!(
        "POST /batch HTTP/1.1\r\nhost: x\r\nx-api-key: dev-key\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = TcpStream::connect(&address).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let metrics = async || gateway.api.get("/metrics").await.body;
    eventually("the batch to wait", async || {
        metrics().await.contains("picopay_gateway_queue_length{shard=\"shard-1\"} 50\n")
    })
    .await;
    drop(client);
    eventually("a client that is gone", async || metrics().await.contains("picopay_gateway_connections 2\n"))
        .await;
    node.book_now();
    assert_eq!(single.await.unwrap().status, 200);
    eventually("the batch to be sent", async || node.seen().len() == 2).await;
    assert_eq!(keys_of(&node.seen()[1]), keys);
    // Counted by how they ended, and not as failures.
    eventually("the charges to be counted", async || {
        metrics().await.contains("charge_requests_total{status=\"success\"} 51\n")
    })
    .await;
}

#[tokio::test]
async fn the_rate_counts_operations() {
    let node = ScriptedNode::start(&[]).await;
    let slow = key_entry("slow", "slow-key", &["charge"], "rate_per_second = 1\nburst = 3");
    let gateway = GatewayProcess::start(&cluster_of(&node.url), &slow).await;
    let (_, body) = charges(1..=5);
    let results = send(&gateway.api.with_key("slow-key"), &body).await;
    // A slow machine may earn one more meanwhile.
    let limited = codes(&results).into_iter().filter(|code| *code == "rate-limited").count();
    assert!(codes(&results).starts_with(&["booked"; 3]) && limited >= 1, "{results:?}");
}
