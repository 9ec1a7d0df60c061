//! A changed `cluster.toml` is taken over while requests go on, and a wrong one changes nothing.
//!
//! Interleavings: a request waits for a shard, or travels to it, while the shard is replaced or removed. A request comes
//! between two files. Gateway and node learn of a secret in either order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use picopay_local::eventually;
use picopay_shared::slot::UserId;
use serde_json::Value;
use uuid::Uuid;

use crate::api::{Api, payment};
use crate::gateway_process::{GatewayProcess, key_entry};
use crate::scripted_node::{ScriptedNode, Step};

const SECRET: &str = "an-internal-secret-for-this-test";
const OLD: &str = "the-old-secret-of-32-characters-";
const NEW: &str = "the-new-secret-of-32-characters-";

fn cluster(shards: &[(&str, &ScriptedNode)]) -> String {
    cluster_with(SECRET, shards)
}

fn cluster_with(secret: &str, shards: &[(&str, &ScriptedNode)]) -> String {
    let shard = |(name, node): &(&str, &ScriptedNode)| {
        format!("[[shards]]\nname = {name:?}\nnodes = [{:?}]\nprimary = \"host=none\"\n", node.url)
    };
    format!("internal_secret = {secret:?}\n{}", shards.iter().map(shard).collect::<String>())
}

fn user_in(half: u16) -> i64 {
    (1..100).find(|id| UserId::try_from(*id).unwrap().slot().get() / 2048 == half).unwrap()
}

async fn charge(api: &Api, user: i64) -> picopay_local::http_call::Answer {
    api.post_with("/charge", Uuid::new_v4(), &payment(user, "1", "USD")).await
}

async fn shard_names(gateway: &GatewayProcess) -> Vec<String> {
    let told = gateway.running_config(SECRET).await.json();
    let shards = told["shards"].as_array().cloned().unwrap_or_default();
    shards.iter().map(|shard| shard["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn users_of_a_removed_shard_hear_that_it_is_unavailable_and_those_of_a_new_one_are_served() {
    let first = ScriptedNode::start_as("shard-1", 0..=2047, &[]).await;
    let second = ScriptedNode::start_as("shard-2", 2048..=4094, &[]).await;
    let both = cluster(&[("shard-1", &first), ("shard-2", &second)]);
    let gateway = GatewayProcess::start(&cluster(&[("shard-1", &first)]), "").await;
    let (api, user) = (&gateway.api, user_in(1));
    api.expect_problem(&charge(api, user).await, 503, "slot-moving");

    gateway.replace_cluster(&both);
    eventually("the new shard", async || shard_names(&gateway).await == ["shard-1", "shard-2"]).await;
    assert_eq!(charge(api, user).await.status, 200);
    assert!(api.get("/metrics").await.body.contains("shard=\"shard-2\""));

    // The other one takes its place in the file; it must not take it in the map.
    let third = ScriptedNode::start_as("shard-3", 4095..=4095, &[]).await;
    gateway.replace_cluster(&cluster(&[("shard-1", &first), ("shard-3", &third)]));
    eventually("the removal", async || shard_names(&gateway).await == ["shard-1", "shard-3"]).await;
    let sent = (first.seen().len(), third.seen().len());
    for answer in [charge(api, user).await, api.get(&format!("/users/{user}/balance")).await] {
        let body = api.expect_problem(&answer, 503, "shard-unavailable");
        assert_eq!(body["shard"], "shard-2");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!((first.seen().len(), third.seen().len()), sent, "nobody else was asked to write");
    assert_eq!(charge(api, user_in(0)).await.status, 200);
    let ready = api.get("/readyz").await.json();
    let shown: Vec<&Value> =
        ready["shards"].as_array().unwrap().iter().map(|shard| &shard["shard"]).collect();
    assert_eq!(shown, ["shard-1", "shard-3"]);
    let metrics = api.get("/metrics").await.body;
    assert!(!metrics.contains("shard-2"), "{metrics}");

    gateway.replace_cluster(&both);
    eventually("its return", async || shard_names(&gateway).await == ["shard-1", "shard-2"]).await;
    assert_eq!(charge(api, user).await.status, 200);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_refused_and_the_old_one_stays_in_force() {
    let node = ScriptedNode::start(&[]).await;
    let good = cluster(&[("shard-1", &node)]);
    let gateway = GatewayProcess::start(&good, "").await;
    let refused =
        async || gateway.running_config(SECRET).await.json()["refused"]["reason"].as_str().map(str::to_owned);
    let metric = async |line: &str| gateway.api.get("/metrics").await.body.contains(line);
    for (text, needle) in [
        ("shards = = 1", "line 1"),
        ("internal_secret = \"an-internal-secret-for-this-test\"", "there is no [[shards]]"),
        ("shrads = 1", "shrads"),
    ] {
        gateway.replace_cluster(text);
        eventually(needle, async || refused().await.is_some_and(|reason| reason.contains(needle))).await;
        assert_eq!(charge(&gateway.api, 1).await.status, 200);
    }
    assert!(metric("picopay_gateway_reload_refused 1\n").await);
    assert!(metric("picopay_gateway_reloads_total{result=\"refused\"} 3\n").await);
    gateway.replace_cluster(&good);
    eventually("the end of the refusal", async || refused().await.is_none()).await;
    assert!(metric("picopay_gateway_reload_refused 0\n").await);
    assert!(metric("picopay_gateway_reloads_total{result=\"taken\"} 0\n").await, "it was in force all along");
    // Nobody else than who knows the secret learns that there is something to ask for.
    for secret in ["", "x"] {
        gateway.api.expect_problem(&gateway.running_config(secret).await, 404, "not-found");
    }
}

#[tokio::test]
async fn what_a_shard_has_accepted_is_finished_where_it_was_accepted() {
    // One batch at a time, of one command: the others wait in the lane when the way is replaced.
    let slow = [Step::BookAfter(Duration::from_millis(150)); 10];
    let (before, after) = (ScriptedNode::start(&slow).await, ScriptedNode::start(&[]).await);
    let gateway =
        GatewayProcess::start(&cluster(&[("shard-1", &before)]), "[shard_client]\nbatch_max = 1\n").await;
    let accepted: Vec<_> = (0..8)
        .map(|_| {
            let api = gateway.api.clone();
            tokio::spawn(async move { charge(&api, 1).await })
        })
        .collect();
    eventually("a queue", async || {
        gateway.api.get("/metrics").await.body.lines().any(|line| {
            let length = line.strip_prefix("picopay_gateway_queue_length{shard=\"shard-1\"} ");
            length.is_some_and(|length| length.parse::<u32>().unwrap() >= 3)
        })
    })
    .await;
    gateway.replace_cluster(&cluster(&[("shard-1", &after)]));
    gateway.hang_up();
    eventually("the new way", async || {
        assert_eq!(charge(&gateway.api, 1).await.status, 200);
        !after.seen().is_empty()
    })
    .await;
    for answer in accepted {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    assert!(before.seen().len() >= 8, "each of them where it waited");
}

#[tokio::test]
async fn reloads_under_load_fail_no_request() {
    let nodes = [
        ScriptedNode::start_as("shard-1", 0..=2047, &[]).await,
        ScriptedNode::start_as("shard-2", 2048..=4094, &[]).await,
        // Another node of the second shard, and a third shard, with one slot of its own.
        ScriptedNode::start_as("shard-2", 2048..=4094, &[]).await,
        ScriptedNode::start_as("shard-3", 4095..=4095, &[]).await,
    ];
    let [first, second, other_second, third] = &nodes;
    let files = [
        cluster(&[("shard-1", first), ("shard-2", second)]),
        cluster(&[("shard-1", first), ("shard-2", second), ("shard-3", third)]),
        cluster(&[("shard-3", third), ("shard-2", other_second), ("shard-1", first)]),
        cluster(&[("shard-2", other_second), ("shard-1", first)]),
    ];
    let gateway = GatewayProcess::start(&files[0], "").await;
    let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (api, is_over, answered) = (gateway.api.clone(), Arc::clone(&is_over), Arc::clone(&answered));
            let user = user_in(number % 2);
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let answer = charge(&api, user).await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let taken = async |count: usize| {
        let line = format!("picopay_gateway_reloads_total{{result=\"taken\"}} {count}\n");
        gateway.api.get("/metrics").await.body.contains(&line)
    };
    for (count, file) in (1..).zip(files.iter().cycle().skip(1).take(24)) {
        let before = answered.load(Ordering::Relaxed);
        gateway.replace_cluster(file);
        gateway.hang_up();
        eventually("the reload", async || taken(count).await).await;
        eventually("an answer", async || answered.load(Ordering::Relaxed) > before).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(!second.seen().is_empty() && !other_second.seen().is_empty(), "both served");
}

#[tokio::test]
async fn a_changed_secret_stops_nobody_whoever_hears_of_it_first() {
    let node = ScriptedNode::start(&[]).await;
    node.want(OLD);
    let gateway = GatewayProcess::start(&cluster_with(OLD, &[("shard-1", &node)]), "").await;
    assert_eq!(charge(&gateway.api, 1).await.status, 200);
    gateway.replace_cluster(&cluster_with(NEW, &[("shard-1", &node)]));
    eventually("the new secret", async || gateway.running_config(NEW).await.status == 200).await;
    assert_eq!(charge(&gateway.api, 1).await.status, 200, "the node has not heard of it yet");
    assert_eq!(gateway.running_config(OLD).await.status, 200, "nor has every operator");
    node.want(NEW);
    assert_eq!(charge(&gateway.api, 1).await.status, 200);
}

async fn ask(gateway: &GatewayProcess, key: &str) -> u16 {
    gateway.api.with_key(key).get("/users/1/balance").await.status
}

#[tokio::test]
async fn keys_are_added_expire_and_are_taken_away_while_the_gateway_runs() {
    let node = ScriptedNode::start(&[]).await;
    let gateway = GatewayProcess::start(&cluster(&[("shard-1", &node)]), "").await;
    let entry = |name: &str, more: &str| key_entry(name, &format!("{name}-key"), &["read"], more);
    let in_force = async |what: &str, key: &str, status: u16| {
        let changed = Instant::now();
        eventually(what, async || ask(&gateway, key).await == status).await;
        // The contract says 2 s; the rest is for a machine that is busy.
        assert!(changed.elapsed() < Duration::from_secs(4), "{what} took {:?}", changed.elapsed());
    };
    assert_eq!(ask(&gateway, "shop-key").await, 401);
    gateway.replace_keys(&entry("shop", ""));
    in_force("the new key", "shop-key", 404).await;
    assert_eq!(ask(&gateway, "dev-key").await, 404, "the others stay");

    // A file that cannot be used is refused as a whole, and the old one stays.
    let is_refused = async |bit: u8| {
        let line = format!("picopay_gateway_reload_refused {bit}\n");
        gateway.api.get("/metrics").await.body.contains(&line)
    };
    for bad in [
        entry("other", "expires_at = \"soon\""),
        key_entry("other", "other-key", &["everything"], ""),
        "[[keys]".to_owned(),
    ] {
        gateway.replace_keys(&bad);
        eventually("the refusal", async || is_refused(1).await).await;
        assert_eq!((ask(&gateway, "shop-key").await, ask(&gateway, "other-key").await), (404, 401), "{bad}");
        gateway.replace_keys(&entry("shop", ""));
        eventually("the end of the refusal", async || is_refused(0).await).await;
    }
    gateway.replace_keys(&entry("shop", "expires_at = \"2000-01-01T00:00:00Z\""));
    in_force("the expiry", "shop-key", 401).await;
    gateway.replace_keys(&entry("shop", ""));
    in_force("its end", "shop-key", 404).await;
    gateway.replace_keys("");
    in_force("the removal", "shop-key", 401).await;
    assert_eq!(ask(&gateway, "dev-key").await, 404);
}

#[tokio::test]
async fn a_key_moves_money_in_the_ways_that_its_scopes_name() {
    let node = ScriptedNode::start(&[]).await;
    let scopes = ["topup", "charge", "refund", "transfer", "write", "read", "admin"];
    let keys = scopes.map(|scope| key_entry(scope, &format!("{scope}-key"), &[scope], "")).concat();
    let gateway = GatewayProcess::start(&cluster(&[("shard-1", &node)]), &keys).await;
    for scope in scopes {
        let api = gateway.api.with_key(&format!("{scope}-key"));
        for (path, needed) in [("/topup", "topup"), ("/charge", "charge"), ("/refund", "refund")] {
            // A body that is wrong is looked at only for who may call.
            let answer = api.post(path, "{}").await;
            if [needed, "write", "admin"].contains(&scope) {
                api.expect_problem(&answer, 400, "invalid-request");
            } else {
                assert_eq!(api.expect_problem(&answer, 403, "forbidden")["scope"], needed);
            }
        }
        let made = api.post("/users", r#"{"user_id":1}"#).await.status;
        assert_eq!(made, if scope == "read" { 403 } else { 201 }, "{scope} makes a user");
        let read = api.get("/users/1/balance").await.status;
        assert_eq!(read, if ["read", "admin"].contains(&scope) { 404 } else { 403 }, "{scope} reads");
    }
}
