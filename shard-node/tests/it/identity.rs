//! A node never serves a database that is not its shard.

use picopay_local::ClusterSpec;
use picopay_shared::query::Source;

use crate::test_shard::{TestShard, charge, eventually, is_completed, usd};

/// A cluster of two shards. The second one's database is the first one of another cluster, as when a connection string
/// leads to another environment.
async fn with_a_stranger() -> (TestShard, String, [String; 2]) {
    let shard = TestShard::start_with(ClusterSpec::default().with_shards(2)).await;
    shard.cluster.shard(1).node(0).stop().await.unwrap();
    let stranger = shard.cluster.connect_primary(1).await.unwrap();
    let rename = "UPDATE shard_identity SET shard_name = 'shard-1', cluster_id = gen_random_uuid()";
    stranger.batch_execute(rename).await.unwrap();
    let file = std::fs::read_to_string(shard.cluster.cluster_file()).unwrap();
    let primary = |number: usize| {
        file.lines().filter(|line| line.starts_with("primary")).nth(number).unwrap().to_owned()
    };
    let primaries = [primary(0), primary(1)];
    (shard, file, primaries)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_cluster_is_served_neither_from_the_start_nor_after_a_reload() {
    let (shard, file, [own, strange]) = with_a_stranger().await;
    let user = shard.user_in_first_half(usd("100")).await;
    let node = shard.cluster.shard(0).node(0);
    shard.replace_cluster_file(&file.replace(&own, &strange));
    node.reload();
    let reason = eventually("the refusal", || shard.node.refused_file()).await;
    assert!(reason.contains("says cluster") && reason.contains("another environment"), "{reason}");
    assert!(is_completed(&shard.node.run(charge(user, usd("1"))).await));

    let id = file.lines().find(|line| line.starts_with("cluster_id")).unwrap();
    let other = "cluster_id = \"0192f7a0-5c3e-7c11-9a55-0d2f6f1f2a3b\"";
    shard.replace_cluster_file(&file.replace(id, other));
    node.reload();
    eventually("the refusal of another cluster's file", || async {
        shard.node.refused_file().await.filter(|reason| reason.contains("the file is of 0192f7a0"))
    })
    .await;

    node.stop().await.unwrap();
    shard.replace_cluster_file(&file.replace(&own, &strange));
    let _ = node.start().await;
    let status = eventually("its exit", || async { node.died() }).await;
    assert_eq!(status.code(), Some(1));
    assert!(node.log_tail(5).contains("says cluster"), "{}", node.log_tail(5));
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_another_cluster_is_passed_over() {
    let (shard, file, _) = with_a_stranger().await;
    let user = shard.user_in_first_half(usd("100")).await;
    shard.replica_in_use(user).await;
    let replicas = |number: usize| {
        file.lines().filter(|line| line.starts_with("replicas")).nth(number).unwrap().to_owned()
    };
    shard.replace_cluster_file(&file.replacen(&replicas(0), &replicas(1), 1));
    let node = shard.cluster.shard(0).node(0);
    node.reload();
    eventually("the reload", || async {
        (shard.node.metric("picopay_node_reloads_total{result=\"taken\"").await > 0.5).then_some(())
    })
    .await;
    eventually("an error in the log", || async {
        let log = node.log_tail(50);
        let is_told = log.contains("not used") && log.contains("replica") && log.contains("says cluster");
        is_told.then_some(())
    })
    .await;
    for _ in 0..40 {
        let answer = shard.node.history(user).await;
        assert_eq!(answer.source, Source::Primary, "{:?}", answer.found);
        // Two seconds in all, in which a replica that is used has four heartbeats.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_line_the_first_cluster_that_is_seen_is_kept_for_life() {
    let (shard, file, [own, strange]) = with_a_stranger().await;
    let user = shard.user_in_first_half(usd("100")).await;
    let id = file.lines().find(|line| line.starts_with("cluster_id")).unwrap();
    let silent = file.replace(id, "");
    let node = shard.cluster.shard(0).node(0);
    node.stop().await.unwrap();
    shard.replace_cluster_file(&silent);
    node.start().await.unwrap();
    eventually("a charge", || async {
        let reply = shard.node.try_write(vec![charge(user, usd("1"))]).await.ok()?;
        is_completed(&reply.outcomes[0]).then_some(())
    })
    .await;
    let log = node.log_tail(50);
    let warnings = log.lines().filter(|line| line.contains("Add the line")).count();
    assert_eq!(warnings, 1, "{log}");

    shard.replace_cluster_file(&silent.replace(&own, &strange));
    node.reload();
    let reason = eventually("the refusal", || shard.node.refused_file()).await;
    assert!(reason.contains("says cluster"), "{reason}");
    assert!(is_completed(&shard.node.run(charge(user, usd("1"))).await));

    let database = shard.cluster.connect_primary(0).await.unwrap();
    database.batch_execute("UPDATE shard_identity SET cluster_id = gen_random_uuid()").await.unwrap();
    eventually("the node's exit", || async { node.died() }).await;
    assert!(node.log_tail(20).contains("says cluster"), "{}", node.log_tail(20));
    shard.stop().await;
}

#[tokio::test]
async fn a_node_refuses_to_serve_another_shards_database() {
    let shard = TestShard::start().await;
    shard.user_with(usd("1")).await;
    let node = shard.cluster.shard(0).node(0);
    let database = shard.cluster.connect_primary(0).await.unwrap();
    database.execute("UPDATE shard_identity SET shard_name = 'shard-9'", &[]).await.unwrap();

    // Running, it notices within its next look; started again, it does not come up.
    eventually("the node's exit", || async { node.died() }).await;
    assert!(node.log_tail(20).contains("shard-9"), "{}", node.log_tail(20));
    let _ = node.start().await;
    let status = eventually("the second exit", || async { node.died() }).await;
    assert_eq!(status.code(), Some(1));

    database
        .execute("UPDATE shard_identity SET shard_name = 'shard-1', slot_count = 1024", &[])
        .await
        .unwrap();
    let _ = node.start().await;
    eventually("the third exit", || async { node.died() }).await;
    assert!(node.log_tail(5).contains("slot count 1024"), "{}", node.log_tail(5));
    shard.stop().await;
}
