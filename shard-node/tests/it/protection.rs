//! A node in trouble says so in time, to everybody, and takes no more than it can hold.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use picopay_local::ClusterSpec;
use picopay_shared::command::Outcome;
use picopay_shared::query::{Consistency, Found, Query};

use crate::test_shard::{TestShard, charge, eventually, is_completed, usd};

/// What a gateway waits by default before an outcome counts as unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Less than the timeout of a connection to a frozen server (1 s) and of a statement on one (1.5 s). A request that is
/// refused sooner waited for neither.
const AT_ONCE: Duration = Duration::from_millis(800);
/// How long a node waits for the primary by itself (`flight_timeout`).
const PRIMARY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Interleavings: a batch that is under way when the primary freezes; those that come later, which must not each find out
/// for themselves.
#[tokio::test]
async fn writes_to_a_frozen_primary_are_answered_in_time_and_then_at_once() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let primary = shard.cluster.shard(0).primary();
    primary.freeze();
    let first = charge(user, usd("1"));
    let asked = Instant::now();
    let outcome = shard.node.run(first.clone()).await;
    assert!(matches!(outcome, Outcome::Unavailable { .. } | Outcome::OutcomeUnknown), "{outcome:?}");
    assert!(asked.elapsed() < CALL_TIMEOUT, "{:?}", asked.elapsed());
    // Eventually: a machine that is busy with other tests may need a moment for anything.
    eventually("five refusals at once", || async {
        let mut slowest = Duration::ZERO;
        for _ in 0..5 {
            let asked = Instant::now();
            let outcome = shard.node.run(charge(user, usd("1"))).await;
            assert!(matches!(outcome, Outcome::Unavailable { .. }), "{outcome:?}");
            slowest = slowest.max(asked.elapsed());
        }
        (slowest < AT_ONCE).then_some(())
    })
    .await;
    primary.thaw();
    eventually("a charge", || async { is_completed(&shard.node.run(first.clone()).await).then_some(()) })
        .await;
    assert_eq!(shard.node.balance(user).await, "99.00");
    shard.stop().await;
}

#[tokio::test]
async fn reads_of_a_frozen_primary_are_answered_by_their_deadline_and_soon_at_once() {
    let shard = TestShard::start().await;
    let user_id = shard.user_with(usd("100")).await;
    let balance = || Query::Balance { user_id, currency: None, consistency: Consistency::Strong };
    let primary = shard.cluster.shard(0).primary();
    primary.freeze();
    let asked = Instant::now();
    let answer = shard.node.read_within(balance(), Duration::from_millis(300)).await;
    assert!(matches!(answer.found, Found::Unavailable { .. }), "{answer:?}");
    assert!(asked.elapsed() < PRIMARY_TIMEOUT, "the deadline was 300 ms: {:?}", asked.elapsed());
    eventually("a refusal at once", || async {
        let asked = Instant::now();
        let answers = join_all((0..20).map(|_| shard.node.read(balance()))).await;
        assert!(
            answers.iter().all(|answer| matches!(answer.found, Found::Unavailable { .. })),
            "{answers:?}"
        );
        // Shorter than the wait for a free connection, let alone for an answer.
        (asked.elapsed() < Duration::from_millis(100)).then_some(())
    })
    .await;
    primary.thaw();
    eventually("a balance", || async {
        matches!(shard.node.read(balance()).await.found, Found::Balances(_)).then_some(())
    })
    .await;
    shard.stop().await;
}

#[tokio::test]
async fn a_connection_that_was_cut_costs_a_moment_and_no_charge() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let cut =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'picopay-node lane'";
    superuser.execute(cut, &[]).await.unwrap();
    let command = charge(user, usd("1"));
    eventually("a charge", || async { is_completed(&shard.node.run(command.clone()).await).then_some(()) })
        .await;
    assert_eq!(shard.node.balance(user).await, "99.00");
    shard.stop().await;
}

#[tokio::test]
async fn what_a_full_node_cannot_take_is_refused_at_once_as_overload() {
    let narrow = "[lanes]\nbatch_max = 1\nqueue_max = 1\n\
                  [postgres]\nlock_timeout = \"10s\"\nstatement_timeout = \"11s\"\nflight_timeout = \"12s\"\n";
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(narrow)).await;
    let user = shard.user_with(usd("100")).await;
    let held = shard.hold_user(user).await;
    let begin = || {
        let node = shard.node.clone();
        tokio::spawn(async move { node.run(charge(user, usd("1"))).await })
    };
    let under_way = begin();
    shard.wait_for_blocked(1, "transactionid").await;
    let waiting = begin();
    eventually("one that waits", || async {
        (shard.node.metric("picopay_node_queue_length").await > 0.0).then_some(())
    })
    .await;
    // The node is asked, not the lane: while one waits there is room for nobody.
    assert!(matches!(shard.node.run(charge(user, usd("1"))).await, Outcome::Overloaded));
    held.batch_execute("COMMIT").await.unwrap();
    for accepted in [under_way, waiting] {
        assert!(is_completed(&accepted.await.unwrap()));
    }
    assert_eq!(shard.node.balance(user).await, "98.00");
    shard.stop().await;
}
