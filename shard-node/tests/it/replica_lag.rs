//! How far behind a replica is: a position, and never a difference of clocks.

use std::time::{Duration, Instant};

use picopay_local::ClusterSpec;
use picopay_shared::cluster::Durability;
use picopay_shared::query::{Answer, Source};

use crate::test_shard::{TestShard, charge, eventually, is_completed, usd};

fn lag_of(answer: &Answer) -> Option<u32> {
    match answer.source {
        Source::Replica { lag_ms } => Some(lag_ms),
        Source::Primary => None,
    }
}

async fn lacks_nothing(shard: &TestShard) {
    eventually("a status without lag", || async {
        (shard.node.status().await.unwrap().replica_lag_ms == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_idle_replica_that_lacks_nothing_is_not_behind() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    shard.replica_in_use(user).await;
    lacks_nothing(&shard).await;
    let mut lags = Vec::new();
    for _ in 0..40 {
        lags.push(lag_of(&shard.node.history(user).await));
        // Two seconds in all, with four heartbeats of the node.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A checkpoint or the like may come in between.
    let at_zero = lags.iter().filter(|lag| **lag == Some(0)).count();
    assert!(at_zero >= 36, "{lags:?}");
    lacks_nothing(&shard).await;
    shard.stop().await;
}

/// Whole pages of the log are flushed by themselves, the rest of a record only when somebody asks for it. No replica can
/// replay half a record.
#[tokio::test]
async fn a_log_that_ends_within_a_record_leaves_no_replica_behind() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    shard.replica_in_use(user).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    for _ in 0..3 {
        // In no database transaction, hence without a commit that would flush it.
        let half = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 12000))";
        superuser.execute(half, &[]).await.unwrap();
        let until = Instant::now() + Duration::from_secs(4);
        let mut at_zero = 0;
        while Instant::now() < until {
            let lag = lag_of(&shard.node.history(user).await);
            assert!(lag.is_some(), "reads went to the primary");
            at_zero += u32::from(lag == Some(0));
            // Twice as long as a replica may be behind: one that seems to lack half a record is not asked by then.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(at_zero > 20, "{at_zero}");
    }
    shard.stop().await;
}

#[tokio::test]
async fn a_stuck_replica_is_never_fresh_while_writes_go_on_whatever_the_heartbeat_says() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    shard.replica_in_use(user).await;
    let replica = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    replica.execute("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    // From here on the primary's clock is an hour behind, as far as a heartbeat shows it: the beat that the replica still has is
    // the younger one.
    let primary = shard.cluster.connect_primary(0).await.unwrap();
    let step = "CREATE FUNCTION step_back() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN new.beat_at := clock_timestamp() - interval '1 hour'; RETURN new; END $$;
                CREATE TRIGGER step_back BEFORE INSERT OR UPDATE ON heartbeat FOR EACH ROW EXECUTE FUNCTION step_back()";
    primary.batch_execute(step).await.unwrap();
    let paused = Instant::now();
    let mut replica_answers = 0;
    while paused.elapsed() < Duration::from_secs(6) {
        assert!(is_completed(&shard.node.run(charge(user, usd("0.01"))).await));
        let beat = "INSERT INTO heartbeat (beat_at) VALUES (now())
                    ON CONFLICT (only_row) DO UPDATE SET beat_at = excluded.beat_at";
        primary.execute(beat, &[]).await.unwrap();
        let asked = paused.elapsed();
        if let Some(lag) = lag_of(&shard.node.history(user).await) {
            replica_answers += 1;
            assert!(asked < Duration::from_millis(2_600), "fresh after {asked:?}, lag {lag} ms");
            if asked > Duration::from_millis(1_700) {
                assert!(lag > 0, "after {asked:?}");
            }
        }
        // Six seconds in all: three times as long as a replica may be behind.
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(replica_answers > 0, "at first, what it shows is young enough");
    assert!(shard.node.status().await.unwrap().replica_lag_ms.is_none_or(|lag| lag > 4_000));
    replica.execute("SELECT pg_wal_replay_resume()", &[]).await.unwrap();
    shard.replica_in_use(user).await;
    shard.stop().await;
}

#[tokio::test]
async fn a_stuck_replica_that_lacks_nothing_is_not_behind() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    shard.replica_in_use(user).await;
    lacks_nothing(&shard).await;
    let replica = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    replica.execute("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    // Longer than a replica may be behind (2 s).
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(lag_of(&shard.node.history(user).await), Some(0));
    shard.stop().await;
}

#[tokio::test]
async fn while_the_primary_is_silent_nothing_is_known_of_its_replica() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    shard.replica_in_use(user).await;
    shard.cluster.shard(0).primary().freeze();
    // Longer than a replica may be behind (2 s), and a heartbeat more.
    tokio::time::sleep(Duration::from_millis(2_600)).await;
    assert!(shard.node.status().await.unwrap().replica_lag_ms.is_none_or(|lag| lag > 2_000));
    assert_eq!(lag_of(&shard.node.history(user).await), None);
    shard.cluster.shard(0).primary().thaw();
    shard.replica_in_use(user).await;
    shard.stop().await;
}

/// A standby is promoted, and the old primary stays up with a replica's role of its own: what it has is another log.
#[tokio::test]
async fn a_replica_of_another_timeline_or_of_nobody_has_no_lag_at_all() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_durability(Durability::Local)).await;
    let user = shard.user_with(usd("100")).await;
    shard.replica_in_use(user).await;
    // It receives nothing any more, and so nobody says whose log it has: equal numbers may be other bytes.
    let replica = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    replica.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
    replica.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    eventually("an unknown lag", || async {
        shard.node.status().await.unwrap().replica_lag_ms.is_none().then_some(())
    })
    .await;
    assert_eq!(lag_of(&shard.node.history(user).await), None);
    replica.batch_execute("ALTER SYSTEM RESET primary_conninfo").await.unwrap();
    replica.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    shard.replica_in_use(user).await;
    shard.stop().await;
}
