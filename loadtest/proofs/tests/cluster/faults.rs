//! Faults in the middle of load: what was acknowledged stays, once; what was not can be retried.

use std::collections::HashMap;
use std::time::Duration;

use picopay_local::ClusterSpec;
use uuid::Uuid;

use crate::client::{TestCluster, code_of, eventually, source_of};
use crate::load::{UserLoad, settle};

#[tokio::test]
async fn a_node_killed_under_load_loses_and_doubles_nothing() {
    let test = TestCluster::start(ClusterSpec::default().with_shards(1)).await;
    let user = test.user_with("1000").await;
    let load = UserLoad::start(&test.client, user);
    for _ in 0..2 {
        load.goes_on().await;
        let node = test.cluster.shard(0).node(0);
        node.kill().await.unwrap();
        load.is_in_trouble().await;
        node.start().await.unwrap();
    }
    load.goes_on().await;
    settle(&test.client, user, 100_000, load.end().await).await;
    test.stop().await;
}

#[tokio::test]
async fn redis_stopped_frozen_flushed_and_restarted_under_load_changes_no_answer() {
    let test = TestCluster::start(ClusterSpec::default().with_shards(1)).await;
    let user = test.user_with("1000").await;
    let load = UserLoad::start(&test.client, user);
    let redis = test.cluster.redis();
    load.goes_on().await;
    redis.freeze();
    load.goes_on().await;
    redis.thaw();
    load.goes_on().await;
    // A Redis that keeps nothing comes back empty: flushed as well as restarted.
    redis.kill().await.unwrap();
    load.goes_on().await;
    redis.start().await.unwrap();
    load.goes_on().await;
    let charges = load.end().await;
    assert_eq!(charges.unanswered(), Vec::<Uuid>::new(), "no charge needs Redis");
    settle(&test.client, user, 100_000, charges).await;
    test.stop().await;
}

#[tokio::test]
async fn with_its_replica_gone_history_comes_from_the_primary_and_says_so() {
    let test = TestCluster::start(ClusterSpec::default().with_shards(1)).await;
    let user = test.user_with("100").await;
    let path = format!("/transactions?user_id={user}");
    let from = |source: &'static str| {
        let (client, path) = (test.client.clone(), path.clone());
        move || {
            let (client, path) = (client.clone(), path.clone());
            async move {
                let answer = client.get(&path).await?;
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(answer.json()["data"].as_array().unwrap().len(), 1);
                (source_of(&answer) == Some(source)).then_some(())
            }
        }
    };
    eventually("a history from the replica", from("replica")).await;
    test.cluster.shard(0).replica().kill().await.unwrap();
    eventually("a history from the primary", from("primary")).await;
    test.cluster.shard(0).replica().start().await.unwrap();
    eventually("a history from the replica again", from("replica")).await;
    test.stop().await;
}

#[tokio::test]
async fn a_dead_shard_costs_only_its_own_users_and_answers_them_fast() {
    let test = TestCluster::start(ClusterSpec::default()).await;
    let client = &test.client;
    let mut users: HashMap<String, i64> = HashMap::new();
    while users.len() < 2 {
        let user = test.user_with("100").await;
        let slot = picopay_shared::slot::UserId::try_from(user).unwrap().slot().get();
        users.insert(if slot < 2048 { "shard-1" } else { "shard-2" }.to_owned(), user);
    }
    test.cluster.shard(0).node(0).kill().await.unwrap();
    let refused = eventually("the breaker's answer", || async {
        let started = std::time::Instant::now();
        let answer = client.charge(users["shard-1"], Uuid::new_v4(), "1").await;
        assert!(matches!(answer.status, 503 | 504), "{answer:?}");
        assert_eq!(client.charge(users["shard-2"], Uuid::new_v4(), "0.01").await.status, 200);
        (answer.status == 503 && started.elapsed() < Duration::from_millis(100)).then_some(answer)
    })
    .await;
    assert_eq!(
        (code_of(&refused).as_str(), &refused.json()["shard"]),
        ("shard-unavailable", &"shard-1".into())
    );
    assert_eq!(client.get("/readyz").await.unwrap().status, 200);
    test.cluster.shard(0).node(0).start().await.unwrap();
    eventually("the shard's return", || async {
        (client.charge(users["shard-1"], Uuid::new_v4(), "1").await.status == 200).then_some(())
    })
    .await;
    test.stop().await;
}
