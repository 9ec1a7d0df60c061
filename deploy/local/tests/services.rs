//! What a cluster promises of PicoPay's own processes. They have to be built: `cargo build --workspace --bins`.

use std::collections::HashSet;

use picopay_local::{ClusterSpec, LocalCluster, LocalError, Weather, eventually};
use serde_json::json;
use uuid::Uuid;

const KEY: &str = "550e8400-e29b-41d4-a716-446655440000";

async fn cluster(spec: ClusterSpec) -> LocalCluster {
    LocalCluster::start(spec).await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_cluster_serves_every_shard_once_it_is_started() {
    let cluster = cluster(ClusterSpec::default()).await;
    // 4096 slots in two halves: of twenty users in a row, some are in each.
    for user_id in 1..=20 {
        let made = cluster.post("/users", None, &json!({"user_id": user_id})).await.unwrap();
        assert_eq!(made.status, 201, "{}", made.body);
    }
    let ready = cluster.get("/readyz").await.unwrap().json();
    assert_eq!(ready["shards"].as_array().unwrap().len(), 2);
    cluster.stop().await;
}

#[tokio::test]
async fn two_clusters_are_never_one_though_both_may_be_copies_of_one_template() {
    let spec = ClusterSpec::one_shard().without_redis().without_gateway();
    let (one, other) = tokio::join!(cluster(spec.clone()), cluster(spec));
    let mut seen = HashSet::new();
    for cluster in [&one, &other] {
        let primary = cluster.connect_primary(0).await.unwrap();
        let row =
            primary.query_one("SELECT cluster_id, generation_id FROM shard_identity", &[]).await.unwrap();
        let (cluster_id, generation_id): (Uuid, Uuid) = (row.get(0), row.get(1));
        assert!(cluster.cluster_toml().contains(&format!("cluster_id = \"{cluster_id}\"")));
        assert!(seen.insert(cluster_id) && seen.insert(generation_id));
        let owned = "SELECT count(*) FROM slot_owner WHERE state = 'owned' AND owner = 'shard-1'";
        assert_eq!(primary.query_one(owned, &[]).await.unwrap().get::<_, i64>(0), 4096);
    }
    tokio::join!(one.stop(), other.stop());
}

#[tokio::test]
async fn a_killed_node_starts_again_on_its_port_and_the_gateway_finds_it() {
    let cluster = cluster(ClusterSpec::one_shard()).await;
    let (node, url) = (cluster.shard(0).node(0), cluster.node_url(0, 0));
    node.kill().await.unwrap();
    assert!(!node.is_running());
    node.start().await.unwrap();
    cluster.wait_until_ready().await.unwrap();
    assert_eq!(cluster.node_url(0, 0), url);
    assert_eq!(cluster.post("/users", Some(KEY), &json!({"user_id": 1})).await.unwrap().status, 201);
    cluster.stop().await;
}

#[tokio::test]
async fn a_second_node_serves_the_same_shard() {
    let cluster = cluster(ClusterSpec::one_shard().without_gateway()).await;
    let second = cluster.add_node(0).await.unwrap();
    assert!(second.is_running() && cluster.shard(0).node_count() == 2);
    assert_ne!(cluster.node_url(0, 0), cluster.node_url(0, 1));
    cluster.stop().await;
}

#[tokio::test]
async fn a_process_that_does_not_start_is_named_with_the_end_of_its_log() {
    let spec = ClusterSpec::one_shard().without_gateway().with_node_toml("no_such_key = 1");
    let error = LocalCluster::start(spec).await.unwrap_err();
    let LocalError::Ended { name, log, .. } = &error else { panic!("{error}") };
    assert_eq!(name, "shard-1-node-1");
    assert!(log.contains("no_such_key"), "{log}");
}

#[tokio::test]
async fn a_kept_cluster_has_its_money_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let spec = ClusterSpec::one_shard().kept_in(folder.path().join("kept"));
    let topup = json!({"user_id": 1, "amount": "10.00", "currency": "USD"});

    let first = cluster(spec.clone()).await;
    first.post("/users", None, &json!({"user_id": 1})).await.unwrap();
    let booked = first.post("/topup", Some(KEY), &topup).await.unwrap();
    assert_eq!(booked.status, 200, "{}", booked.body);
    first.stop().await;

    let second = cluster(spec).await;
    let again = second.post("/topup", Some(KEY), &topup).await.unwrap();
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &booked.body));
    let balance = second.get("/users/1/balance").await.unwrap().json();
    assert_eq!(balance["balances"][0]["balance"], "10.00");
    second.stop().await;
}

#[tokio::test]
async fn services_reach_each_other_over_proxies_that_can_be_cut() {
    let cluster = cluster(ClusterSpec::one_shard().with_proxies()).await;
    let make_user =
        async |user_id: u64| cluster.post("/users", Some(KEY), &json!({"user_id": user_id})).await.unwrap();
    assert_eq!(make_user(1).await.status, 201);
    for proxy in [cluster.shard(0).node_proxy(0), cluster.shard(0).primary_proxy()] {
        proxy.set_weather(Weather::Silent);
        proxy.reset();
        let cut = make_user(2).await;
        assert!([503, 504].contains(&cut.status), "{}", cut.body);
        proxy.set_weather(Weather::Clear);
        cluster.wait_until_ready().await.unwrap();
        assert_eq!(make_user(1).await.status, 200);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn one_node_of_two_can_be_cut_off_from_its_primary_alone() {
    let spec = ClusterSpec::one_shard().with_nodes_per_shard(2).with_proxies().without_gateway();
    let cluster = cluster(spec).await;
    let shard = cluster.shard(0);
    let wire = shard.primary_proxy_of_node(0);
    wire.set_weather(Weather::Silent);
    wire.reset();
    eventually("a node without a primary says that it is not ready", async || !is_ready(&cluster, 0).await)
        .await;
    assert!(is_ready(&cluster, 1).await, "the other one has its primary");
    wire.set_weather(Weather::Clear);
    cluster.wait_until_ready().await.unwrap();
    cluster.stop().await;
}

async fn is_ready(cluster: &LocalCluster, node: usize) -> bool {
    cluster.node_status(cluster.shard(0), node).await.unwrap().is_ready
}

#[tokio::test]
async fn one_node_can_have_lines_of_its_own() {
    let cluster = cluster(ClusterSpec::one_shard().with_nodes_per_shard(2).without_gateway()).await;
    let shard = cluster.shard(0);
    cluster.configure_node(shard, 1, "no_such_setting = 1\n").unwrap();
    for number in [0, 1] {
        shard.node(number).stop().await.unwrap();
    }
    shard.node(0).start().await.unwrap();
    shard.node(1).start().await.unwrap_err();
    cluster.configure_node(shard, 1, "").unwrap();
    shard.node(1).start().await.unwrap();
    cluster.wait_until_ready().await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_that_was_added_can_be_dismissed() {
    let cluster = cluster(ClusterSpec::one_shard().without_gateway()).await;
    let second = cluster.add_node(0).await.unwrap();
    cluster.shard(0).dismiss_node(1).await.unwrap();
    assert!(!second.is_running() && cluster.shard(0).node_count() == 1);
    cluster.wait_until_ready().await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_shard_joins_a_cluster_that_runs_and_leaves_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let spec = ClusterSpec::one_shard().kept_in(folder.path().join("kept"));
    let first = cluster(spec.clone()).await;
    first.post("/users", Some(KEY), &json!({"user_id": 1})).await.unwrap();
    let taken = first.add_shard_named("shard-1").await.unwrap_err().to_string();
    assert!(taken.contains("already"), "{taken}");

    let added = first.add_shard().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((added.name(), first.shards().len()), ("shard-2", 2));
    let file = std::fs::read_to_string(first.cluster_file()).unwrap();
    assert!(file.contains(&first.shard_toml(added).unwrap()), "{file}");
    let ready = first.get("/readyz").await.unwrap().json();
    assert!(ready["shards"].as_array().unwrap().iter().all(|shard| shard["is_ready"] == true), "{ready}");
    let refused = first.remove_shard("shard-1").await.unwrap_err().to_string();
    assert!(refused.contains("owns 4096 slots") && first.shards().len() == 2, "{refused}");
    first.stop().await;

    // The folder remembers who is a member, whatever the spec of a new cluster would say.
    let kept = folder.path().join("kept");
    assert_eq!(LocalCluster::shards_kept_in(&kept), Some(2));
    let told = LocalCluster::start(spec.clone()).await.unwrap_err().to_string();
    assert!(told.contains("a cluster of 2 shards") && told.contains("picopay shard"), "{told}");

    // As a folder of the release before has it: which cluster it is, the databases say.
    let id = |file: &str| file.lines().find(|line| line.starts_with("cluster_id")).unwrap().to_owned();
    std::fs::remove_file(kept.join("cluster-id")).unwrap();
    let second = cluster(spec.clone().with_shards(2)).await;
    let file_now = std::fs::read_to_string(second.cluster_file()).unwrap();
    assert_eq!(id(&file_now), id(&file));
    let (node, primary) = (second.shard(1).node(0), second.shard(1).primary());
    second.remove_shard("shard-2").await.unwrap_or_else(|error| panic!("{error}"));
    assert!(!node.is_running() && !primary.is_running() && second.shards().len() == 1);
    assert!(!kept.join("databases/shard-2").exists());
    let ready = second.get("/readyz").await.unwrap().json();
    assert_eq!(ready["shards"].as_array().unwrap().len(), 1, "{ready}");
    second.stop().await;
    assert_eq!(LocalCluster::shards_kept_in(&kept), Some(1));
}

#[tokio::test]
async fn a_joining_that_broke_off_is_completed_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let spec = ClusterSpec::one_shard().kept_in(folder.path().join("kept"));
    let first = cluster(spec.clone()).await;
    first.add_shard().await.unwrap_or_else(|error| panic!("{error}"));
    // As if the owner had been killed before `picopay shard add` was done.
    let identity = "TRUNCATE shard_identity";
    first.shard(1).connect_primary().await.unwrap().batch_execute(identity).await.unwrap();
    std::fs::write(folder.path().join("kept/databases/shard-2/joining"), "").unwrap();
    drop(first);

    let second = cluster(spec.with_shards(2)).await;
    let client = second.connect_primary(1).await.unwrap();
    let name: String = client.query_one("SELECT shard_name FROM shard_identity", &[]).await.unwrap().get(0);
    assert_eq!(name, "shard-2");
    assert!(!folder.path().join("kept/databases/shard-2/joining").exists());
    second.stop().await;
}
