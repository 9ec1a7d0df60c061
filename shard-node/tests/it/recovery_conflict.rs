//! What replay does to reads: a replica that cancels a query, and the cap under which the primary takes over.

use picopay_local::ClusterSpec;
use picopay_shared::query::{Found, Source};

use crate::test_shard::{TestShard, eventually, usd};

/// Waits that a test holds up itself, not the ones of a busy machine.
const PATIENT: &str = "[reads]\nreplica_lag_max = \"1m\"\nreplica_timeout = \"10s\"\n\
    [postgres]\nstatement_timeout = \"11s\"\nflight_timeout = \"12s\"\n";

/// A read on the replica holds a lock that replay needs, and waits for one that replay has. In this order:
///
/// 1. the primary locks `users`, and the replica has replayed that;
/// 2. replay pauses; the primary locks `slot_owner`, and lets go of both;
/// 3. a read on the replica holds `slot_owner` and waits for `users`, which only replay can let go;
/// 4. replay goes on, finds `slot_owner` held and, as it is told not to wait for queries, cancels the read.
#[tokio::test]
async fn a_read_that_the_replica_cancels_is_answered_by_the_primary() {
    let spec = ClusterSpec::one_shard()
        .with_replica_setting("max_standby_streaming_delay", "0")
        .with_node_toml(PATIENT);
    let shard = TestShard::start_with(spec).await;
    let user = shard.user_with(usd("100")).await;
    shard.replica_in_use(user).await;
    let replica = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    let count = async |query: &str| -> i64 { replica.query_one(query, &[]).await.unwrap().get(0) };

    let primary = shard.cluster.connect_as_superuser(0).await.unwrap();
    primary.batch_execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await.unwrap();
    eventually("the lock on the replica", || async {
        let locks = count("SELECT count(*) FROM pg_locks WHERE relation = 'users'::regclass AND mode = 'AccessExclusiveLock'");
        (locks.await > 0).then_some(())
    })
    .await;
    replica.execute("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    eventually("paused replay", || async {
        (count("SELECT (pg_get_wal_replay_pause_state() = 'paused')::int::bigint").await == 1).then_some(())
    })
    .await;
    let other = shard.cluster.connect_as_superuser(0).await.unwrap();
    other.batch_execute("BEGIN; LOCK TABLE slot_owner IN ACCESS EXCLUSIVE MODE; COMMIT").await.unwrap();
    primary.batch_execute("COMMIT").await.unwrap();

    let reading = tokio::spawn({
        let node = shard.node.clone();
        async move { node.history(user).await }
    });
    eventually("a read that waits on the replica", || async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'picopay-node%'";
        (count(waiting).await > 0).then_some(())
    })
    .await;
    replica.execute("SELECT pg_wal_replay_resume()", &[]).await.unwrap();
    let answer = reading.await.unwrap();
    assert_eq!(answer.source, Source::Primary);
    assert!(matches!(answer.found, Found::History { transactions, .. } if transactions.len() == 1));
    // The statistics follow a moment later.
    eventually("a conflict, as the replica counts them", || async {
        (count("SELECT confl_lock FROM pg_stat_database_conflicts WHERE datname = 'picopay'").await > 0)
            .then_some(())
    })
    .await;
    assert!(matches!(shard.node.history(user).await.source, Source::Replica { .. }));
    shard.stop().await;
}

#[tokio::test]
async fn reads_that_no_replica_answers_are_capped_on_the_primary() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(PATIENT)).await;
    let user = shard.user_with(usd("100")).await;
    shard.cluster.shard(0).replica().kill().await.unwrap();
    eventually("a history from the primary", || async {
        (shard.node.history(user).await.source == Source::Primary).then_some(())
    })
    .await;
    let primary = shard.cluster.connect_as_superuser(0).await.unwrap();
    primary.batch_execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let reads: Vec<_> = (0..12)
        .map(|_| {
            let node = shard.node.clone();
            tokio::spawn(async move { node.history(user).await })
        })
        .collect();
    // The default of `primary_fallback_max`, half of the connections for reads.
    shard.wait_for_blocked(4, "relation").await;
    let strong = tokio::spawn({
        let node = shard.node.clone();
        async move { node.balance(user).await }
    });
    // A strong balance has no replica to come from, and finds a connection all the same.
    shard.wait_for_blocked(5, "relation").await;
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'relation'";
    let blocked: i64 = primary.query_one(blocked, &[]).await.unwrap().get(0);
    assert_eq!(blocked, 5, "four histories and the balance");
    primary.batch_execute("ROLLBACK").await.unwrap();
    for read in reads {
        let answer = read.await.unwrap();
        assert!(matches!(answer.found, Found::History { .. }), "{answer:?}");
        assert_eq!(answer.source, Source::Primary);
    }
    assert_eq!(strong.await.unwrap(), "100.00");
    shard.stop().await;
}
