//! A shard's database goes back to an earlier moment, and nobody replays what it answered since.
//!
//! Redis is kept, and the restored primary is on its old timeline: only the generation tells one past from the other.

use std::path::PathBuf;

use picopay_local::http_call::{Answer, get};
use picopay_local::{ClusterSpec, LocalCluster, eventually, metric_sum};
use serde_json::{Value, json};

use crate::command::{picopay, run};
use crate::users::{charge, make_user};

/// What is shown here is no matter of time.
const PATIENT: &str = "[postgres]\nconnect_timeout = \"10s\"\n[cache]\nlookup_timeout = \"1s\"\n";

struct RestoredShard {
    cluster: LocalCluster,
    file: PathBuf,
}

impl RestoredShard {
    async fn start() -> Self {
        let cluster = LocalCluster::start(ClusterSpec::one_shard().with_node_toml(PATIENT)).await.unwrap();
        let file = cluster.cluster_file();
        let stand = Self { cluster, file };
        make_user(&stand.cluster, 1).await;
        stand
    }

    async fn charge(&self, number: u32) -> (String, bool) {
        let answer = eventually("an answer", async || {
            let answer = self.try_charge(number).await;
            // On a busy machine a shard may be unavailable for a moment. What may have been charged is no matter for this.
            let is_refused = answer.status == 503 && !answer.body.contains("outcome-unknown");
            if is_refused { Err(answer.body) } else { Ok(answer) }
        })
        .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let is_replayed = answer.header("idempotent-replayed") == Some("true");
        (answer.json()["new_balance"].as_str().unwrap().to_owned(), is_replayed)
    }

    async fn try_charge(&self, number: u32) -> Answer {
        let key = format!("00000000-0000-4000-8000-{number:012}");
        charge(&self.cluster, 1, &key).await
    }

    async fn see_in_redis(&self, number: u32) {
        let before = self.hits().await;
        eventually("a hit in Redis", async || {
            assert!(self.charge(number).await.1);
            self.hits().await > before
        })
        .await;
    }

    async fn hits(&self) -> f64 {
        self.metric("picopay_node_cache_hits_total").await
    }

    async fn metric(&self, name: &str) -> f64 {
        metric_sum(&get(&format!("{}/metrics", self.cluster.node_url(0, 0))).await.unwrap().body, name)
    }

    async fn raise(&self, command: &str) -> Value {
        let args =
            ["shard", command, "shard-1", "--reason", "a lost disk", "--by", "ann", "--output", "json"];
        run(picopay(&self.file, args)).await.success().json()
    }

    /// The nodes serve it only when its generation is raised.
    async fn restore(&self) -> Value {
        let node = self.cluster.shard(0).node(0);
        node.stop().await.unwrap();
        self.cluster.restore_backup(0).await.unwrap();
        let said = self.raise("restored").await;
        node.start().await.unwrap();
        self.cluster.wait_until_ready().await.unwrap();
        let timeline = self.metric("picopay_node_timeline").await;
        assert!((timeline - 1.0).abs() < f64::EPSILON, "it goes on as if nothing had happened: {timeline}");
        said
    }
}

fn node_state(said: &Value) -> &str {
    said["nodes"][0]["state"].as_str().unwrap()
}

fn charged(balance: &str) -> (String, bool) {
    (balance.to_owned(), false)
}

fn replayed(balance: &str) -> (String, bool) {
    (balance.to_owned(), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_from_after_the_moment_that_a_database_was_restored_to_is_replayed() {
    let stand = RestoredShard::start().await;
    assert_eq!(stand.charge(1).await, charged("99.00"));
    stand.cluster.back_up(0).await.unwrap();
    assert_eq!(stand.charge(2).await, charged("98.00"));
    assert_eq!(stand.charge(3).await, charged("97.00"));
    stand.see_in_redis(2).await;
    stand.see_in_redis(3).await;

    let said = stand.restore().await;
    assert_eq!((&said["generation"], &said["standby"]), (&json!(2), &json!("confirmed")));
    assert_eq!(node_state(&said), "not-reached");
    // The ledger has the first charge alone, so the others are charged, and each once.
    assert_eq!(stand.charge(3).await, charged("98.00"));
    assert_eq!(stand.charge(3).await, replayed("98.00"));
    assert_eq!(stand.charge(1).await, replayed("99.00"));
    stand.see_in_redis(3).await;
    stand.see_in_redis(1).await;

    // The same backup again: its own number is raised to 2 once more, and what was kept in that 2 is no answer of this one.
    assert_eq!(stand.restore().await["generation"], 2);
    for (number, balance) in [(2, "98.00"), (3, "97.00")] {
        assert_eq!(stand.charge(number).await, charged(balance));
        assert_eq!(stand.charge(number).await, replayed(balance));
    }
    assert_eq!(stand.charge(1).await, replayed("99.00"));
    run(picopay(&stand.file, ["verify"])).await.success();
    stand.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_is_raised_with_a_reason_whatever_the_shard_is_like_and_its_nodes_follow() {
    let stand = RestoredShard::start().await;
    let file = &stand.file;
    let said = run(picopay(file, ["shard", "restored", "shard-9", "--reason", "x"])).await;
    said.failure("there is no shard \"shard-9\"");
    assert_eq!(run(picopay(file, ["shard", "restored", "shard-1"])).await.code, Some(2), "no reason");

    // While it serves: when the command is back, nobody replays what was kept before.
    assert_eq!(stand.charge(1).await, charged("99.00"));
    stand.see_in_redis(1).await;
    let said = stand.raise("restored").await;
    assert_eq!((&said["generation"], node_state(&said)), (&json!(2), "follows"));
    let hits = stand.hits().await;
    assert_eq!(stand.charge(1).await, replayed("99.00"));
    assert!((stand.hits().await - hits).abs() < f64::EPSILON, "from the ledger");
    stand.see_in_redis(1).await;

    let replica = stand.cluster.shard(0).replica();
    replica.kill().await.unwrap();
    eventually("a shard that takes no charges", async || stand.try_charge(2).await.status == 503).await;
    let said = stand.raise("accept-loss").await;
    assert_eq!((&said["generation"], &said["kind"]), (&json!(3), &json!("loss-accepted")));
    assert!(said["standby"]["not-confirmed"].as_str().unwrap().contains("is the synchronous standby up?"));
    assert_eq!(node_state(&said), "follows");
    let screen = run(picopay(file, ["shard", "accept-loss", "shard-1", "--reason", "x"])).await.success().out;
    assert!(screen.contains("in generation 4") && screen.contains("no standby has confirmed it"), "{screen}");

    replica.start().await.unwrap();
    eventually("a charge", async || stand.try_charge(2).await.status == 200).await;
    assert_eq!(stand.charge(1).await, replayed("99.00"));
    let standby = stand.cluster.connect_replica(0).await.unwrap();
    let log = "SELECT string_agg(concat_ws(' ', generation, kind, by_name, reason), '; ' ORDER BY generation)
               FROM restore_generations WHERE generation < 4";
    let log: String = standby.query_one(log, &[]).await.unwrap().get(0);
    assert_eq!(log, "2 restored ann a lost disk; 3 loss-accepted ann a lost disk");
    stand.cluster.stop().await;
}
