//! Nobody spends what is not there, however many try at once.

use futures_util::future::join_all;
use picopay_local::ClusterSpec;
use picopay_shared::command::{Outcome, Refusal};

use crate::test_shard::{TestShard, charge, decided, is_completed, refund, refusal, usd};

/// Interleavings: charges in one batch, in batches of one lane, and on two node processes at once, where only the
/// user's row lock keeps them apart.
#[tokio::test]
async fn a_hundred_concurrent_charges_take_exactly_what_is_there() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2)).await;
    let user = shard.user_with(usd("100")).await;
    let nodes = [shard.node.clone(), shard.second_node()];
    let outcomes = join_all((0..100).map(|position| nodes[position % 2].run(charge(user, usd("3"))))).await;
    let succeeded = outcomes.iter().filter(|outcome| is_completed(outcome)).count();
    let refused = outcomes
        .iter()
        .filter(|outcome| !is_completed(outcome) && refusal(outcome) == Some(Refusal::InsufficientBalance))
        .count();
    assert_eq!((succeeded, refused), (33, 67));
    assert_eq!(shard.node.balance(user).await, "1.00");
    shard.stop().await;
}

/// Interleaving: both nodes have begun before either has decided, and both wait for the same row.
#[tokio::test]
async fn two_nodes_that_wait_for_one_user_decide_one_after_the_other() {
    let shard = TestShard::start_patient().await;
    let user = shard.user_with(usd("100")).await;
    let held = shard.hold_user(user).await;
    let asked = [shard.node.clone(), shard.second_node()].map(|node| {
        let commands = (0..10).map(|_| charge(user, usd("10"))).collect();
        tokio::spawn(async move { node.write(commands).await })
    });
    shard.wait_for_blocked(1, "transactionid").await;
    // The first of them has the row's queue, in which the other one waits.
    shard.wait_for_blocked(1, "tuple").await;
    held.batch_execute("COMMIT").await.unwrap();
    let mut succeeded = 0;
    for outcomes in asked {
        succeeded += outcomes.await.unwrap().iter().filter(|outcome| is_completed(outcome)).count();
    }
    assert_eq!(succeeded, 10);
    assert_eq!(shard.node.balance(user).await, "0.00");
    shard.stop().await;
}

#[tokio::test]
async fn two_concurrent_refunds_never_give_back_more_than_was_charged() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2)).await;
    let nodes = [shard.node.clone(), shard.second_node()];
    for _ in 0..10 {
        let user = shard.user_with(usd("100")).await;
        let charged = shard.node.run(charge(user, usd("100"))).await;
        let charge_id = decided(&charged).0.id;
        let outcomes: [Outcome; 2] =
            join_all(nodes.iter().map(|node| node.run(refund(charge_id, Some("60")))))
                .await
                .try_into()
                .unwrap();
        let remaining = Refusal::RefundExceedsCharge { remaining: usd("40") };
        let mut refusals = [refusal(&outcomes[0]), refusal(&outcomes[1])];
        refusals.sort_by_key(Option::is_some);
        assert_eq!(refusals, [None, Some(remaining)]);
        assert_eq!(shard.node.balance(user).await, "60.00");
        let rest = shard.node.run(refund(charge_id, None)).await;
        assert_eq!(decided(&rest).0.money, usd("40"));
        assert!(refusal(&shard.node.run(refund(charge_id, Some("0.01"))).await).is_some());
    }
    shard.stop().await;
}

#[tokio::test]
async fn many_lanes_and_processes_on_the_same_users_neither_deadlock_nor_lose_a_cent() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2)).await;
    let users = join_all((0..20).map(|_| shard.user_with(usd("1000")))).await;
    let nodes = [shard.node.clone(), shard.second_node()];
    // Every batch holds every user, in another order each time: only the lock order keeps them from deadlock.
    let batches = (0..40).map(|batch| {
        let mut commands: Vec<_> = users.iter().map(|user| charge(*user, usd("1"))).collect();
        commands.rotate_left(batch % users.len());
        if batch % 3 == 0 {
            commands.reverse();
        }
        nodes[batch % 2].write(commands)
    });
    let outcomes: Vec<Outcome> = join_all(batches).await.into_iter().flatten().collect();
    assert!(outcomes.iter().all(is_completed), "{:?}", outcomes.iter().find(|one| !is_completed(one)));
    for user in users {
        assert_eq!(shard.node.balance(user).await, "960.00");
    }
    shard.stop().await;
}

/// A wait longer than the gateway's patience would turn "nothing happened" into "maybe".
#[tokio::test]
async fn a_user_whom_somebody_holds_is_refused_in_time_and_charged_later() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let held = shard.hold_user(user).await;
    let command = charge(user, usd("10"));
    let started = std::time::Instant::now();
    let outcome = shard.node.run(command.clone()).await;
    assert!(matches!(outcome, Outcome::Unavailable { .. }), "{outcome:?}");
    assert!(started.elapsed() < std::time::Duration::from_millis(1_900), "{:?}", started.elapsed());
    held.batch_execute("COMMIT").await.unwrap();
    let outcome = shard.node.run(command).await;
    assert!(is_completed(&outcome) && !decided(&outcome).1, "{outcome:?}");
    assert_eq!(shard.node.balance(user).await, "90.00");
    shard.stop().await;
}
