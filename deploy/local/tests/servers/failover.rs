//! What a cluster promises when the two servers of a shard change their roles.

use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster};

use crate::{start, text};

async fn write_letter(cluster: &LocalCluster, letter: &str) {
    let client = cluster.connect_primary(0).await.unwrap();
    client.batch_execute("CREATE TABLE IF NOT EXISTS letters (letter text)").await.unwrap();
    client.execute("INSERT INTO letters VALUES ($1)", &[&letter]).await.unwrap();
}

async fn letters(cluster: &LocalCluster) -> String {
    let client = cluster.connect_primary(0).await.unwrap();
    text(&client, "SELECT string_agg(letter, '' ORDER BY letter) FROM letters").await
}

#[tokio::test]
async fn what_a_killed_primary_acknowledged_is_on_the_new_one_and_the_roles_change_back_too() {
    let cluster = start(ClusterSpec::one_shard()).await;
    let shard = cluster.shard(0);
    let (first, second) = (shard.primary(), shard.replica());
    let ports = (shard.primary_port(), shard.replica_port());
    write_letter(&cluster, "a").await;
    first.kill().await.unwrap();

    let done = cluster.failover(0).await.unwrap();
    assert_eq!(done.primary, second.name());
    assert_eq!((shard.primary().name(), shard.replica().name()), (second.name(), first.name()));
    assert_eq!((shard.primary_port(), shard.replica_port()), (ports.1, ports.0));
    let replica = cluster.connect_replica(0).await.unwrap();
    assert_eq!(text(&replica, "SELECT pg_is_in_recovery()::text").await, "true");
    assert_eq!(letters(&cluster).await, "a");
    write_letter(&cluster, "b").await;

    let done = cluster.failover(0).await.unwrap();
    assert_eq!(done.primary, first.name());
    write_letter(&cluster, "c").await;
    assert_eq!(letters(&cluster).await, "abc");
    cluster.stop().await;
}

#[tokio::test]
async fn a_promoted_standby_acknowledges_nothing_before_the_other_follows_it() {
    let cluster = start(ClusterSpec::one_shard()).await;
    let shard = cluster.shard(0);
    shard.primary().kill().await.unwrap();
    let standby = shard.connect_replica_as_superuser().await.unwrap();
    assert!(standby.query_one("SELECT pg_promote()", &[]).await.unwrap().get::<_, bool>(0));
    let commit = standby.batch_execute("CREATE TABLE acknowledged ()");
    assert!(tokio::time::timeout(Duration::from_millis(500), commit).await.is_err());
    cluster.stop().await;
}

#[tokio::test]
async fn a_frozen_primary_is_replaced_too() {
    let cluster = start(ClusterSpec::one_shard()).await;
    write_letter(&cluster, "a").await;
    cluster.shard(0).primary().freeze();
    cluster.failover(0).await.unwrap();
    write_letter(&cluster, "b").await;
    assert_eq!(letters(&cluster).await, "ab");
    cluster.stop().await;
}

#[tokio::test]
async fn without_a_replica_that_follows_nothing_changes() {
    let cluster = start(ClusterSpec::one_shard()).await;
    let (primary, replica) = (cluster.shard(0).primary(), cluster.shard(0).replica());
    replica.kill().await.unwrap();
    let message = cluster.failover(0).await.unwrap_err().to_string();
    assert!(message.contains("nothing to fail over to") && message.contains(replica.name()), "{message}");
    assert!(primary.is_running() && cluster.shard(0).primary().name() == primary.name());

    replica.start().await.unwrap();
    write_letter(&cluster, "a").await;
    cluster.failover(0).await.unwrap();
    assert_eq!(letters(&cluster).await, "a");
    cluster.stop().await;
}

#[tokio::test]
async fn the_roles_are_kept_with_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let kept = ClusterSpec::one_shard().kept_in(folder.path().join("kept"));
    let cluster = start(kept.clone()).await;
    write_letter(&cluster, "a").await;
    let promoted = cluster.failover(0).await.unwrap().primary;
    write_letter(&cluster, "b").await;
    cluster.stop().await;

    let cluster = start(kept).await;
    assert_eq!(cluster.shard(0).primary().name(), promoted);
    write_letter(&cluster, "c").await;
    assert_eq!(letters(&cluster).await, "abc");
    cluster.stop().await;
}

#[tokio::test]
async fn a_failover_that_was_interrupted_is_finished_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let kept = ClusterSpec::one_shard().kept_in(folder.path().join("kept"));
    let cluster = start(kept.clone()).await;
    write_letter(&cluster, "a").await;
    let (old, new) = (cluster.shard(0).primary(), cluster.shard(0).replica());
    old.kill().await.unwrap();
    // Promoted, and then the owner of the cluster is gone: neither server is a standby now.
    let standby = cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    assert!(standby.query_one("SELECT pg_promote()", &[]).await.unwrap().get::<_, bool>(0));
    drop(standby);
    drop(cluster);

    let cluster = start(kept).await;
    assert_eq!(cluster.shard(0).primary().name(), new.name());
    assert_eq!(cluster.shard(0).replica().name(), old.name());
    write_letter(&cluster, "b").await;
    assert_eq!(letters(&cluster).await, "ab");
    cluster.stop().await;
}

#[tokio::test]
async fn a_standby_promoted_beside_its_primary_leaves_two_that_take_writes_until_the_old_one_is_replaced() {
    let cluster = start(ClusterSpec::one_shard()).await;
    let shard = cluster.shard(0);
    write_letter(&cluster, "a").await;
    let (old, new) = (shard.primary(), shard.replica());

    cluster.promote_beside(shard).await.unwrap();
    assert_eq!((shard.primary().name(), shard.replica().name()), (new.name(), old.name()));
    let (on_new, on_old) =
        (shard.connect_as_superuser().await.unwrap(), shard.connect_replica_as_superuser().await.unwrap());
    for client in [&on_new, &on_old] {
        // Neither has a standby, so neither commit would come back.
        client
            .batch_execute("SET synchronous_commit = local; INSERT INTO letters VALUES ('b')")
            .await
            .unwrap();
    }
    on_old
        .batch_execute("SET synchronous_commit = local; INSERT INTO letters VALUES ('lost')")
        .await
        .unwrap();

    cluster.replace_old_primary(shard).await.unwrap();
    write_letter(&cluster, "c").await;
    assert_eq!(letters(&cluster).await, "abc");
    let replica = cluster.connect_replica(0).await.unwrap();
    assert_eq!(text(&replica, "SELECT pg_is_in_recovery()::text").await, "true");
    cluster.stop().await;
}
