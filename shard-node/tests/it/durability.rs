//! An acknowledged write is on two machines.

use std::time::Duration;

use picopay_shared::command::Outcome;
use tokio::time::sleep;

use crate::test_shard::{TestShard, charge, decided, eventually, is_completed, usd};

#[tokio::test]
async fn without_its_standby_a_shard_acknowledges_nothing_and_forgets_nothing() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let replica = shard.cluster.shard(0).replica();
    replica.freeze();

    // COMMIT is sent, and the standby does not confirm it: maybe done.
    let command = charge(user, usd("10"));
    assert_eq!(shard.node.run(command.clone()).await, Outcome::OutcomeUnknown);
    // The row is in the primary's log and visible, but no replay may promise it, and nothing new is promised.
    for _ in 0..5 {
        let again = shard.node.run(command.clone()).await;
        assert!(matches!(again, Outcome::OutcomeUnknown | Outcome::Unavailable { .. }), "{again:?}");
        let other = shard.node.run(charge(user, usd("1"))).await;
        assert!(matches!(other, Outcome::OutcomeUnknown | Outcome::Unavailable { .. }), "{other:?}");
        sleep(Duration::from_millis(300)).await;
    }
    let status = shard.node.status().await.unwrap();
    assert!(!status.is_ready && status.not_ready_reason.is_some(), "{status:?}");
    // No heap of backends waits for the standby: the lanes' and one probe at most.
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let waiting: i64 = superuser.query_one(waiting, &[]).await.unwrap().get(0);
    assert!(waiting <= 6, "{waiting} backends wait");

    replica.thaw();
    let resolved = eventually("the same key's answer", || async {
        let outcome = shard.node.run(command.clone()).await;
        is_completed(&outcome).then_some(outcome)
    })
    .await;
    assert!(decided(&resolved).1, "the first attempt was booked, so this is its replay");
    shard.stop().await;
}

#[tokio::test]
async fn a_commit_whose_wait_for_the_standby_was_cancelled_is_no_success() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let replica = shard.cluster.shard(0).replica();
    replica.freeze();
    let (node, command) = (shard.node.clone(), charge(user, usd("10")));
    let asked = tokio::spawn({
        let command = command.clone();
        async move { node.run(command).await }
    });
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("a backend that waits", || async {
        let cancelled: i64 = superuser.query_one(cancel, &[]).await.unwrap().get(0);
        (cancelled > 0).then_some(())
    })
    .await;
    assert_eq!(asked.await.unwrap(), Outcome::OutcomeUnknown);
    replica.thaw();
    eventually("the same key's answer", || async {
        is_completed(&shard.node.run(command.clone()).await).then_some(())
    })
    .await;
    assert_eq!(shard.node.balance(user).await, "90.00");
    shard.stop().await;
}
