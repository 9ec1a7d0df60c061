//! A process that is told to end says so, serves on for a moment, and is missed by nobody.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use picopay_local::{ClusterSpec, LocalCluster, eventually, eventually_within, http_call};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api::Api;
use crate::gateway_process::{GatewayProcess, cluster_of};
use crate::scripted_node::{ScriptedNode, Step};

/// Nothing in a test waits for its end.
const LONG: &str = "drain = \"10m\"\n";

/// One request on a connection that its client would keep. Returns the head of the answer.
pub async fn ask_on(connection: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    connection.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1024];
    let length = connection.read(&mut answer).await.unwrap();
    String::from_utf8(answer[..length].to_vec()).unwrap().to_lowercase()
}

#[tokio::test]
async fn a_gateway_that_is_told_to_end_says_so_and_serves_on() {
    let node = ScriptedNode::start(&[Step::Stall]).await;
    let patient = format!("{LONG}[server]\nshutdown_timeout = \"10m\"\n");
    let mut gateway = GatewayProcess::start(&cluster_of(&node.url), &patient).await;
    let api = gateway.api.clone();
    let mut kept = TcpStream::connect(api.url.strip_prefix("http://").unwrap()).await.unwrap();
    assert!(!ask_on(&mut kept).await.contains("connection: close"));
    assert_eq!(api.get("/readyz").await.status, 200);
    let stalled = tokio::spawn({
        let api = api.clone();
        async move {
            http_call::call(
                http::Method::POST,
                &format!("{}/charge", api.url),
                &[("x-api-key", "dev-key")],
                r#"{"user_id":1,"amount":1,"currency":"USD"}"#,
            )
            .await
        }
    });
    eventually("a charge at the node", async || !node.seen().is_empty()).await;

    gateway.terminate();
    eventually("the word of its end", async || api.get("/readyz").await.status == 503).await;
    api.expect_problem(&api.get("/readyz").await, 503, "shutting-down");
    assert_eq!(api.get("/health").await.status, 200, "it lives");
    assert_eq!(api.pay("/charge", 1, "5", "USD").await.status, 200, "and serves");
    // An idle connection is not cut: its next answer is its last.
    assert!(ask_on(&mut kept).await.contains("connection: close"));
    assert_eq!(kept.read(&mut [0; 64]).await.unwrap(), 0, "and the connection ends");
    assert!(gateway.is_running());

    // Told again: it waits for nothing, neither the rest of its drain nor the charge that is under way.
    gateway.terminate();
    let ended = tokio::time::timeout(Duration::from_secs(10), gateway.ended()).await.expect("at once");
    assert!(ended.success());
    assert!(stalled.await.unwrap().is_err() || !node.seen().is_empty());
}

#[tokio::test]
async fn a_drain_ends_by_itself() {
    let mut gateway = GatewayProcess::start(&cluster_of("http://127.0.0.1:1"), "drain = \"300ms\"\n").await;
    gateway.terminate();
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn a_drain_is_as_long_as_the_file_says_when_it_begins() {
    let mut gateway = GatewayProcess::start(&cluster_of("http://127.0.0.1:1"), LONG).await;
    gateway.replace_keys("drain = \"300ms\"\n");
    gateway.hang_up();
    let taken = "picopay_gateway_reloads_total{result=\"taken\"} 1\n";
    let metrics = format!("{}/metrics", gateway.api.url);
    eventually("the reload", async || http_call::get(&metrics).await.unwrap().body.contains(taken)).await;
    gateway.terminate();
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn gateways_ask_another_node_before_one_that_was_told_to_end_stops() {
    let spec = ClusterSpec::one_shard().with_nodes_per_shard(2).with_node_toml(LONG);
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("10", "USD").await;
    let wait_until = async |nodes: [&str; 2]| {
        eventually_within(Duration::from_secs(20), &format!("nodes that are {nodes:?}"), async || {
            let ready = api.get("/readyz").await.json();
            if ready["shards"][0]["nodes"] == json!(nodes) { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
    };
    wait_until(["ready", "ready"]).await;
    let node = cluster.shard(0).node(0);
    let terminate = || {
        let pid = i32::try_from(node.pid().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    };
    terminate();
    for _ in 0..10 {
        assert_eq!(api.pay("/charge", user, "0.10", "USD").await.status, 200, "before anybody has noticed");
    }
    wait_until(["not-ready", "ready"]).await;
    assert!(node.is_running(), "the gateway knows before it stops");
    assert_eq!(api.pay("/charge", user, "1", "USD").await.status, 200);
    terminate();
    eventually("the node's end", async || !node.is_running()).await;
    assert_eq!(api.pay("/charge", user, "1", "USD").await.status, 200);
    cluster.stop().await;
}
