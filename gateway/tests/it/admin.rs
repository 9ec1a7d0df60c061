//! What is for operators is on an address of its own, where there is one; and `gateway.toml` is taken over while it runs.

use std::net::TcpListener;

use picopay_local::{eventually, http_call};
use picopay_shared::running_config::CONFIG_PATH;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::gateway_process::{GatewayProcess, cluster_of, key_entry};
use crate::scripted_node::ScriptedNode;

const SECRET: &str = "an-internal-secret-for-this-test";

#[tokio::test]
async fn with_an_admin_address_metrics_and_configuration_leave_the_public_one() {
    let node = ScriptedNode::start(&[]).await;
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let toml = format!("drain = \"10m\"\n[admin]\nlisten = \"{admin}\"\n");
    let gateway = GatewayProcess::start(&cluster_of(&node.url), &toml).await;
    let api = &gateway.api;
    for path in ["/metrics", "/v1/metrics"] {
        api.expect_problem(&api.get(path).await, 404, "not-found");
    }
    api.expect_problem(&gateway.running_config(SECRET).await, 404, "not-found");
    assert_eq!((api.get("/health").await.status, api.get("/readyz").await.status), (200, 200));

    let ask = async |path: &str| http_call::get(&format!("http://{admin}{path}")).await.unwrap();
    assert!(ask("/metrics").await.body.contains("picopay_build_info{"));
    assert_eq!((ask("/health").await.status, ask("/readyz").await.status), (200, 200));
    assert_eq!(ask("/charge").await.status, 404, "the API is not there");
    assert_eq!(ask(CONFIG_PATH).await.status, 404, "without the secret there is nothing");
    let bearer = format!("Bearer {SECRET}");
    let url = format!("http://{admin}{CONFIG_PATH}");
    let told = http_call::call(http::Method::GET, &url, &[("authorization", &bearer)], "").await.unwrap();
    assert_eq!(told.json()["shards"][0]["name"], "shard-1");
    // While it drains, operators see it there too.
    gateway.terminate();
    eventually("the word of its end", async || ask("/readyz").await.status == 503).await;
    assert_eq!(ask("/readyz").await.json()["code"], "shutting-down");
    assert_eq!(ask("/metrics").await.status, 200);
}

#[tokio::test]
async fn rates_and_limits_of_a_changed_file_are_in_force_and_what_takes_a_restart_is_named() {
    let node = ScriptedNode::start(&[]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), "").await;
    let shop = |more: &str| key_entry("shop", "shop-key", &["read"], more);
    let ask = async || gateway.api.with_key("shop-key").get("/users/1/balance").await.status;
    gateway.replace_keys(&shop(""));
    eventually("the key", async || ask().await == 404).await;
    gateway.replace_keys(&shop("rate_per_second = 1\nburst = 1"));
    eventually("the rate", async || ask().await == 429).await;

    // What cannot change is named, and the whole file is refused: no half of it is in force.
    let reason = async || {
        let told = gateway.running_config(SECRET).await.json();
        told["refused"]["reason"].as_str().map(str::to_owned)
    };
    let fixed = "public_url = \"http://other\"\n[shard_client]\nqueue_max = 77\nreads_max = 78\n";
    gateway.replace_keys(&format!("{fixed}{}", key_entry("new", "new-key", &["read"], "")));
    eventually("the refusal", async || reason().await.is_some()).await;
    let told = reason().await.unwrap();
    for needle in ["public_url", "shard_client.queue_max", "shard_client.reads_max", "restart"] {
        assert!(told.contains(needle), "{needle} in {told}");
    }
    assert_eq!(gateway.api.with_key("new-key").get("/users/1/balance").await.status, 401);
    assert!(gateway.api.get("/metrics").await.body.contains("picopay_gateway_reload_refused 1\n"));

    gateway.replace_keys("[server]\nconnections_max = 2\n");
    eventually("the end of the refusal", async || reason().await.is_none()).await;
    assert!(gateway.api.get("/metrics").await.body.contains("picopay_gateway_limit{of=\"connections\"} 2\n"));
    let address = gateway.api.url.strip_prefix("http://").unwrap();
    let connect = async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let is_served = stream.read(&mut [0; 512]).await.is_ok_and(|length| length > 0);
        if is_served { Ok(stream) } else { Err("it was closed".to_owned()) }
    };
    // Those of the calls above may take a moment to end.
    let kept = [eventually("one", connect).await, eventually("another", connect).await];
    assert!(connect().await.is_err(), "as many as the file says now, and no more");
    drop(kept);
    let refused = "picopay_gateway_connections_refused_total ";
    eventually("the count of those who were closed", async || {
        let metrics = http_call::get(&format!("{}/metrics", gateway.api.url)).await.ok()?.body;
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(refused)?.parse::<u32>().ok())
            .filter(|count| *count > 0)
    })
    .await;
}
