//! How a gateway begins and ends.

use std::process::Stdio;

use picopay_local::{ClusterSpec, LocalCluster, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::api::payment;
use crate::gateway_process::{GatewayProcess, cluster_of, prepare};
use crate::scripted_node::{ScriptedNode, Step};

#[tokio::test]
async fn a_gateway_starts_without_any_node_and_says_so() {
    let gateway = GatewayProcess::start(&cluster_of("http://127.0.0.1:1"), "").await;
    let api = &gateway.api;
    assert_eq!(api.get("/health").await.status, 200);
    let ready = api.get("/readyz").await;
    let body = api.expect_problem(&ready, 503, "shard-unavailable");
    assert_eq!(
        (&body["shards"][0]["shard"], &body["shards"][0]["is_ready"]),
        (&"shard-1".into(), &false.into())
    );
    for answer in [api.pay("/charge", 1, "1", "USD").await, api.get("/users/1/balance").await] {
        let body = api.expect_problem(&answer, 503, "shard-unavailable");
        assert_eq!(body["shard"], "shard-1", "the only one that can be its owner");
        assert!(answer.header("retry-after").is_some());
    }
}

#[tokio::test]
async fn a_stopping_gateway_finishes_what_it_accepted_and_takes_nothing_new() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard().without_gateway()).await.unwrap();
    // Nothing runs out while the node is frozen.
    let patient = "[server]\nshutdown_timeout = \"60s\"\n[shard_client]\nrequest_timeout = \"50s\"\ncall_timeout = \"40s\"\n";
    let mut gateway = GatewayProcess::start(&cluster.cluster_toml(), patient).await;
    let api = gateway.api.clone();
    let user = api.user_with("10", "USD").await;
    let node = cluster.shard(0).node(0);
    node.freeze();
    let accepted: Vec<_> = (0..10)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move {
                api.post_with("/charge", Uuid::new_v4(), &payment(user, "0.50", "USD")).await
            })
        })
        .collect();
    eventually("ten requests that have no answer", async || {
        api.get("/metrics").await.body.contains("picopay_gateway_requests 11\n")
    })
    .await;
    gateway.terminate();
    let address = api.url.strip_prefix("http://").unwrap();
    eventually("a gateway that takes nothing new", async || TcpStream::connect(address).await.is_err()).await;
    assert!(gateway.is_running() && accepted.iter().all(|request| !request.is_finished()));
    node.thaw();
    for answer in accepted {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(gateway.ended().await.success());
    let database = cluster.connect_primary(0).await.unwrap();
    let sql = "SELECT balance::text FROM balances WHERE user_id = $1";
    assert_eq!(database.query_one(sql, &[&user]).await.unwrap().get::<_, String>(0), "5.0000");
    cluster.stop().await;
}

#[tokio::test]
async fn idle_connections_and_hung_up_clients_do_not_hold_a_stopping_gateway() {
    let node = ScriptedNode::start(&[Step::Stall]).await;
    // Who waits for any of them waits longer than this test does.
    let patient =
        "[server]\nshutdown_timeout = \"5m\"\nidle_timeout = \"5m\"\nheader_read_timeout = \"5m\"\n";
    let mut gateway = GatewayProcess::start(&cluster_of(&node.url), patient).await;
    let address = gateway.api.url.strip_prefix("http://").unwrap().to_owned();
    let _idle = TcpStream::connect(&address).await.unwrap();
    let mut kept = TcpStream::connect(&address).await.unwrap();
    kept.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(kept.read(&mut [0; 512]).await.unwrap() > 0);
    let api = gateway.api.clone();
    let hung_up = tokio::spawn(async move { api.pay("/charge", 1, "5", "USD").await });
    eventually("a charge at the node", async || !node.seen().is_empty()).await;
    hung_up.abort();
    gateway.terminate();
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn a_gateway_that_cannot_start_says_why_and_what_to_do() {
    let running = GatewayProcess::start(&cluster_of("http://127.0.0.1:1"), "").await;
    let busy = running.api.url.strip_prefix("http://").unwrap();
    let (mut command, _folder, _) = prepare(&cluster_of("http://127.0.0.1:1"), "");
    let output = command.env("PICOPAY_GATEWAY__LISTEN", busy).stderr(Stdio::piped()).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for needle in [busy, "PICOPAY_GATEWAY__LISTEN", "in use"] {
        assert!(told.contains(needle), "{needle} in {told}");
    }
    for (cluster, config, needles) in [
        (
            "internal_secret = \"an-internal-secret-for-this-test\"".to_owned(),
            "",
            ["cluster.toml", "[[shards]]"],
        ),
        (cluster_of("http://127.0.0.1:1"), "lissen = 1", ["gateway.toml", "lissen"]),
        (
            cluster_of("http://127.0.0.1:1"),
            "[shard_client]\nbatch_max = 10000",
            ["gateway.toml", "batch_max"],
        ),
    ] {
        let (mut command, _folder, _) = prepare(&cluster, config);
        let output = command.stderr(Stdio::piped()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(needles.iter().all(|needle| told.contains(needle)), "{needles:?} in {told}");
    }
}
