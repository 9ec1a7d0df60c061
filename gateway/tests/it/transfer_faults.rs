//! Transfers when something breaks in the middle: whoever is killed, the money arrives once, or is back, and none is missing.
//!
//! The gateway dies after the first step, after the second, and after the third; a shard is gone or frozen; clients hang up.

use std::time::{Duration, Instant};

use http::Method;
use picopay_local::http_call::{self, Answer};
use picopay_local::{ClusterSpec, LocalCluster, eventually};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use uuid::Uuid;

use crate::api::Api;
use crate::gateway_process::GatewayProcess;
use crate::transfers::{nobody_of, transfer, users_of_both, verify};

/// Contract, "Transfers", with what a busy machine adds.
const ANSWER_MAX: Duration = Duration::from_millis(2_500);

async fn start() -> (LocalCluster, Api) {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    (cluster, api)
}

async fn status_of(api: &Api, made: &Value) -> String {
    let answer = api.get(&format!("/transfers/{}", made["id"].as_str().unwrap())).await;
    answer.json()["transfer"]["status"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

fn is_taken(answer: &Answer, status: u16, word: &str) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, &body["transfer"]["status"]), (status, &json!(word)), "{answer:?}");
    body["transfer"].clone()
}

#[tokio::test]
async fn a_gateway_that_dies_in_the_middle_leaves_a_transfer_that_ends_by_itself_once() {
    let (cluster, api) = start().await;
    for step in ["credit", "settle", "answer"] {
        let [[one, same], [other, _]] = users_of_both(&api, "100", "USD").await;
        for to in [same, other] {
            let config = format!("[testing]\ndies_before = \"{step}\"");
            let mut dying = GatewayProcess::start(&cluster.cluster_toml(), &config).await;
            let key = Uuid::new_v4();
            let text = key.to_string();
            let headers = [("x-api-key", "dev-key"), ("idempotency-key", text.as_str())];
            let url = format!("{}/transfers", dying.api.url);
            let body = transfer(one, to, "10", "USD").to_string();
            let lost = http_call::call(Method::POST, &url, &headers, &body).await;
            assert!(lost.is_err(), "{step}: {lost:?}");
            assert_eq!(dying.ended().await.code(), Some(9), "{step}");
            // Nobody asks: the courier of the sender's shard comes by.
            eventually("the recipient's money", async || api.balance(to, "USD").await == "110.00").await;
            let answer = api.post_with("/transfers", key, &transfer(one, to, "10", "USD")).await;
            assert_eq!(answer.header("idempotent-replayed"), Some("true"), "{step}: {answer:?}");
            let made = is_taken(&answer, 200, "completed");
            assert_eq!(status_of(&api, &made).await, "completed");
            let after = if to == same { "90.00" } else { "80.00" };
            assert_eq!(api.balance(one, "USD").await, after);
            assert_eq!(api.balance(to, "USD").await, "110.00", "once");
        }
    }
    verify(&cluster).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_recipients_shard_that_is_gone_costs_the_sender_two_seconds_and_gets_the_money_when_it_is_back() {
    let (cluster, api) = start().await;
    let [[one, same], [other, _]] = users_of_both(&api, "100", "USD").await;
    let node = cluster.shard(1).node(0);
    for (round, left, there) in [(0, "90.00", "110.00"), (1, "80.00", "120.00")] {
        if round == 0 {
            node.kill().await.unwrap();
        } else {
            node.freeze();
        }
        let (key, wish) = (Uuid::new_v4(), transfer(one, other, "10", "USD"));
        let asked = Instant::now();
        let answer = api.post_with("/transfers", key, &wish).await;
        assert!(asked.elapsed() < ANSWER_MAX, "{:?}", asked.elapsed());
        let made = is_taken(&answer, 202, "pending");
        assert_eq!(answer.json()["new_balance"], left);
        assert!(made["completed_at"].is_null() && answer.header("picopay-session").is_some(), "{answer:?}");
        assert_eq!(
            (api.balance(one, "USD").await.as_str(), status_of(&api, &made).await),
            (left, "pending".to_owned())
        );
        // Others of the sender's shard do not wait behind it.
        for _ in 0..5 {
            let asked = Instant::now();
            is_taken(
                &api.post("/transfers", &transfer(same, one, "1", "USD").to_string()).await,
                200,
                "completed",
            );
            is_taken(
                &api.post("/transfers", &transfer(one, same, "1", "USD").to_string()).await,
                200,
                "completed",
            );
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        }
        let again = api.post_with("/transfers", key, &wish).await;
        assert_eq!(is_taken(&again, 202, "pending")["id"], made["id"]);
        assert_eq!(
            (again.header("idempotent-replayed"), again.json()["new_balance"].as_str()),
            (Some("true"), Some(left))
        );
        if round == 0 {
            node.start().await.unwrap();
        } else {
            node.thaw();
        }
        eventually("the end", async || status_of(&api, &made).await == "completed").await;
        assert_eq!([api.balance(one, "USD").await.as_str(), &api.balance(other, "USD").await], [left, there]);
        let again = api.post_with("/transfers", key, &wish).await;
        assert_eq!(is_taken(&again, 200, "completed")["id"], made["id"]);
        assert_eq!(
            (again.header("idempotent-replayed"), again.json()["new_balance"].as_str()),
            (Some("true"), Some(left))
        );
    }
    verify(&cluster).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_recipient_whom_nobody_could_look_up_and_who_does_not_exist_gets_nothing() {
    let (cluster, api) = start().await;
    let [[one, _], _] = users_of_both(&api, "100", "USD").await;
    let node = cluster.shard(1).node(0);
    node.kill().await.unwrap();
    let (key, wish) = (Uuid::new_v4(), transfer(one, nobody_of(1), "10", "USD"));
    let refused = (Uuid::new_v4(), transfer(one, nobody_of(1), "1000", "USD"));
    let poor = api.post_with("/transfers", refused.0, &refused.1).await;
    api.expect_problem(&poor, 402, "insufficient-balance");
    let made = is_taken(&api.post_with("/transfers", key, &wish).await, 202, "pending");
    assert_eq!(api.balance(one, "USD").await, "90.00");
    node.start().await.unwrap();
    eventually("the reversal", async || status_of(&api, &made).await == "reversed").await;
    assert_eq!(api.balance(one, "USD").await, "100.00");
    // The look at the recipient says by now that there is nobody. What was decided stands all the same.
    eventually("a gateway that reaches the shard", async || {
        api.get(&format!("/users/{}/balance", nobody_of(1))).await.status == 404
    })
    .await;
    let again = api.post_with("/transfers", key, &wish).await;
    let replayed = is_taken(&again, 200, "reversed");
    assert_eq!((&replayed["id"], &replayed["reason"]), (&made["id"], &json!("user-not-found")));
    assert_eq!(
        (again.json()["new_balance"].as_str(), again.header("idempotent-replayed")),
        (Some("90.00"), Some("true"))
    );
    let again = api.post_with("/transfers", refused.0, &refused.1).await;
    assert_eq!((again.status, &again.body), (402, &poor.body));
    let other = api.post_with("/transfers", key, &transfer(one, nobody_of(1), "11", "USD")).await;
    assert_eq!(api.expect_problem(&other, 422, "idempotency-key-reused")["differs"], json!(["amount"]));
    verify(&cluster).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_nothing() {
    let (cluster, api) = start().await;
    let [[one, _], [other, _]] = users_of_both(&api, "100", "USD").await;
    let address = api.url.strip_prefix("http://").unwrap().to_owned();
    for number in 1..=20 {
        let body = transfer(one, other, "1", "USD").to_string();
        let request = format!(
            "POST /transfers HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            api.key,
            body.len()
        );
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        // At every moment of the way: no event on the client's side says where the transfer is.
        sleep(Duration::from_millis(3 * number)).await;
        drop(stream);
    }
    let both = async || {
        let [left, there] = [api.balance(one, "USD").await, api.balance(other, "USD").await];
        left.trim_end_matches(".00").parse::<i64>().unwrap()
            + there.trim_end_matches(".00").parse::<i64>().unwrap()
    };
    // Some were gone before the gateway had read them; of the others none is left half done.
    eventually("nothing in transit", async || both().await == 200).await;
    assert_ne!(api.balance(other, "USD").await, "100.00");
    verify(&cluster).await;
    cluster.stop().await;
}
