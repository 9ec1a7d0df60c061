//! A shard goes on without its standby by an operator's word, and comes back by another.

use std::path::PathBuf;

use picopay_local::http_call::{Answer, get};
use picopay_local::{ClusterSpec, LocalCluster, eventually, metric_sum};
use serde_json::{Value, json};

use crate::command::{picopay, run};
use crate::users::{charge, make_user};

struct DegradedShard {
    cluster: LocalCluster,
    file: PathBuf,
}

impl DegradedShard {
    async fn start() -> Self {
        let cluster = LocalCluster::start(ClusterSpec::one_shard().with_nodes_per_shard(2)).await.unwrap();
        let file = cluster.cluster_file();
        let stand = Self { cluster, file };
        make_user(&stand.cluster, 1).await;
        stand
    }

    async fn charge(&self, key: &str) -> Answer {
        charge(&self.cluster, 1, key).await
    }

    async fn degrade(&self) -> Value {
        let said =
            ["shard", "degrade", "shard-1", "--reason", "disk of b", "--by", "ann", "--output", "json"];
        run(picopay(&self.file, said)).await.success().json()
    }

    async fn ready(&self) -> Value {
        self.cluster.get("/readyz").await.unwrap().json()["shards"][0].clone()
    }

    async fn metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for number in 0..2 {
            sum += sum_of(&format!("{}/metrics", self.cluster.node_url(0, number)), name).await;
        }
        sum
    }
}

async fn sum_of(url: &str, name: &str) -> f64 {
    metric_sum(&get(url).await.unwrap().body, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_degraded_shard_charges_without_its_standby_and_everybody_is_told() {
    let stand = DegradedShard::start().await;
    let (file, cluster) = (&stand.file, &stand.cluster);
    run(picopay(file, ["shard", "degrade", "shard-9", "--reason", "x"])).await.failure("names shard-1");
    run(picopay(file, ["shard", "restore", "shard-1"])).await.failure("is not degraded");

    let replica = cluster.shard(0).replica();
    replica.kill().await.unwrap();
    eventually("a shard that takes no charges", async || stand.ready().await["is_ready"] == false).await;
    assert_eq!(stand.charge("00000000-0000-4000-8000-000000000001").await.status, 503);

    let degraded = stand.degrade().await;
    assert_eq!((&degraded["by"], &degraded["reason"]), (&json!("ann"), &json!("disk of b")));
    let key = "00000000-0000-4000-8000-000000000002";
    eventually("a charge", async || stand.charge(key).await.status == 200).await;
    eventually("a gateway that knows", async || stand.ready().await["degraded_since"] == degraded["since"])
        .await;
    assert!(stand.metric("picopay_node_degraded").await > 1.9);
    let gateway = format!("{}/metrics", cluster.gateway_url());
    assert!(sum_of(&gateway, "picopay_gateway_shard_degraded").await > 0.9);
    let status = run(picopay(file, ["status", "--output", "json"])).await;
    assert_eq!(status.json()["shards"][0]["degraded"]["reason"], "disk of b");
    assert!(status.out.contains("shard-1 is degraded since") && status.code == Some(1), "{}", status.out);
    // What a failover could lose is in no cache.
    let hits = stand.metric("picopay_node_cache_hits_total").await;
    let replayed = stand.charge(key).await;
    assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (200, Some("true")));
    assert!((stand.metric("picopay_node_cache_hits_total").await - hits).abs() < 0.1);

    let twice = run(picopay(file, ["shard", "degrade", "shard-1", "--reason", "y"])).await;
    twice.failure("is degraded already").failure("by ann (disk of b)");
    run(picopay(file, ["shard", "restore", "shard-1"])).await.failure("no standby follows its primary");
    assert_eq!(stand.charge(key).await.status, 200);

    replica.start().await.unwrap();
    run(picopay(file, ["shard", "restore", "shard-1"])).await.success();
    let after = stand.charge("00000000-0000-4000-8000-000000000003").await;
    assert_eq!(after.status, 200, "{}", after.body);
    eventually("a gateway that knows", async || stand.ready().await["degraded_since"].is_null()).await;
    run(picopay(file, ["status"])).await.success();

    // All of it was on the standby when `restore` came back.
    cluster.shard(0).primary().kill().await.unwrap();
    cluster.failover(0).await.unwrap();
    cluster.wait_until_ready().await.unwrap();
    assert_eq!(stand.charge(key).await.body, replayed.body);
    stand.cluster.wait_until_ready().await.unwrap();
    stand.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn charges_that_hang_on_a_frozen_standby_are_let_go_and_their_keys_answered() {
    let stand = DegradedShard::start().await;
    let (replica, key) = (stand.cluster.shard(0).replica(), "00000000-0000-4000-8000-000000000004");
    replica.freeze();
    assert_eq!(stand.charge(key).await.status, 504);
    let degraded = stand.degrade().await;
    assert!(degraded["released"].as_i64().unwrap() > 0, "{degraded}");
    eventually("the key's answer", async || stand.charge(key).await.status == 200).await;
    let superuser = stand.cluster.connect_as_superuser(0).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    assert_eq!(superuser.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0), 0);
    replica.thaw();
    run(picopay(&stand.file, ["shard", "restore", "shard-1"])).await.success();
    let balance = stand.cluster.get("/users/1/balance?currency=USD").await.unwrap().json();
    assert_eq!(balance["balance"], "99.00");
    stand.cluster.stop().await;
}

#[tokio::test]
async fn a_shard_that_waits_for_no_standby_has_nothing_to_degrade() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.toml");
    let text = "internal_secret = \"an-internal-secret-for-this-test\"\n[[shards]]\nname = \"shard-1\"\nnodes = [\"http://127.0.0.1:1\"]\n\
                primary = \"host=127.0.0.1\"\ndurability = \"local\"\n";
    std::fs::write(&file, text).unwrap();
    let said = run(picopay(&file, ["shard", "degrade", "shard-1", "--reason", "x"])).await;
    said.failure("there is nothing to degrade");
}
