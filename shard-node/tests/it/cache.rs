//! Redis only remembers: with it, without it and in the middle of its failing, the answers are the same.

use std::time::{Duration, Instant};

use picopay_shared::node_status::CacheState;

use crate::test_shard::{TestShard, charge, decided, eventually, is_completed, usd};

#[tokio::test]
async fn a_replay_comes_from_redis_and_is_the_same_without_it() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let command = charge(user, usd("10"));
    let first = shard.node.run(command.clone()).await;
    let hits = || shard.node.metric("picopay_node_cache_hits_total");
    eventually("a cache hit", || async {
        let again = shard.node.run(command.clone()).await;
        assert_eq!(decided(&again), (decided(&first).0, true));
        (hits().await > 0.0).then_some(())
    })
    .await;

    // Flushed: from Postgres again, word for word.
    flush(&shard).await;
    let again = shard.node.run(command.clone()).await;
    assert_eq!(decided(&again), (decided(&first).0, true));
    assert_eq!(shard.node.balance(user).await, "90.00");
    shard.stop().await;
}

#[tokio::test]
async fn a_redis_that_freezes_dies_and_comes_back_changes_no_answer_and_costs_one_short_wait() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("1000")).await;
    let redis = shard.cluster.redis();
    let state = || async { shard.node.status().await.unwrap().cache };
    let command = charge(user, usd("10"));
    let first = shard.node.run(command.clone()).await;

    redis.freeze();
    let mut slow = 0;
    for _ in 0..20 {
        let started = Instant::now();
        let again = shard.node.run(command.clone()).await;
        slow += usize::from(started.elapsed() >= Duration::from_millis(30));
        assert_eq!(decided(&again), (decided(&first).0, true));
        assert!(is_completed(&shard.node.run(charge(user, usd("1"))).await));
    }
    assert_eq!(state().await, CacheState::Skipped);
    // One wait for Redis; the others are what a noisy machine does.
    assert!(slow <= 10, "{slow} of 20 replays were slow");
    redis.thaw();
    eventually("redis in use", || async { (state().await == CacheState::Up).then_some(()) }).await;

    redis.kill().await.unwrap();
    assert!(is_completed(&shard.node.run(charge(user, usd("1"))).await));
    assert_eq!(decided(&shard.node.run(command.clone()).await), (decided(&first).0, true));
    redis.start().await.unwrap();
    eventually("redis in use again", || async {
        assert_eq!(decided(&shard.node.run(command.clone()).await), (decided(&first).0, true));
        (state().await == CacheState::Up).then_some(())
    })
    .await;
    assert_eq!(shard.node.balance(user).await, "969.00");
    shard.stop().await;
}

async fn flush(shard: &TestShard) {
    let client = redis::Client::open(shard.cluster.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
}
