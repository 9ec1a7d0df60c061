//! One idempotency key, one transaction.

use futures_util::future::join_all;
use picopay_local::ClusterSpec;
use picopay_shared::command::Outcome;
use uuid::Uuid;

use crate::test_shard::{TestShard, charge, decided, refund, refusal, top_up, usd};

/// Interleavings: two requests are in one batch, or in two batches of one lane. Or they are on two node processes, where
/// the second waits for the user's row. Or the second comes after COMMIT, before or after the cache is filled.
async fn fifty_equal_requests(spec: ClusterSpec) {
    let shard = TestShard::start_with(spec.with_nodes_per_shard(2)).await;
    let user = shard.user_with(usd("100")).await;
    let command = charge(user, usd("10"));
    let nodes = [shard.node.clone(), shard.second_node()];
    let outcomes = join_all((0..50).map(|position| nodes[position % 2].run(command.clone()))).await;
    let first = decided(&outcomes[0]).0;
    assert!(outcomes.iter().all(|outcome| decided(outcome).0 == first), "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| decided(outcome).1).count(), 49);
    assert_eq!(shard.node.balance(user).await, "90.00");
    assert_eq!(shard.row_count(user).await, 2);
    shard.stop().await;
}

#[tokio::test]
async fn fifty_clients_with_one_key_make_one_transaction() {
    fifty_equal_requests(ClusterSpec::one_shard()).await;
}

#[tokio::test]
async fn fifty_clients_with_one_key_make_one_transaction_without_redis() {
    fifty_equal_requests(ClusterSpec::one_shard().without_redis()).await;
}

#[tokio::test]
async fn a_key_belongs_to_its_user_and_its_first_request() {
    let shard = TestShard::start().await;
    let (first, second) = (shard.user_with(usd("100")).await, shard.user_with(usd("100")).await);
    let key = Uuid::new_v4();
    let with_key = |mut command: picopay_shared::command::Command| {
        command.idempotency_key = key;
        command
    };

    let first_charge = with_key(charge(first, usd("10")));
    let second_charge = with_key(charge(second, usd("20")));
    for is_replayed in [false, true] {
        for (command, user) in [(&first_charge, first), (&second_charge, second)] {
            let outcome = shard.node.run(command.clone()).await;
            assert_eq!((decided(&outcome).0.user_id, decided(&outcome).1), (user, is_replayed));
        }
    }

    let charge_id = decided(&shard.node.run(first_charge.clone()).await).0.id;
    for (command, differs) in [
        (charge(first, usd("11")), "amount"),
        (top_up(first, usd("10")), "operation"),
        (refund(charge_id, None), "operation"),
    ] {
        let outcome = shard.node.run(with_key(command)).await;
        assert_eq!(outcome, Outcome::KeyReused { differs: vec![differs.to_owned()] });
    }

    let twice = charge(first, usd("1"));
    let outcomes = shard.node.write(vec![twice.clone(), twice]).await;
    assert_eq!(decided(&outcomes[0]).0, decided(&outcomes[1]).0);
    assert_eq!([decided(&outcomes[0]).1, decided(&outcomes[1]).1], [false, true]);

    // A refusal is an answer: after a top-up the same key is still refused, word for word.
    let too_much = charge(first, usd("500"));
    let refused = shard.node.run(too_much.clone()).await;
    assert!(refusal(&refused).is_some());
    shard.node.run(top_up(first, usd("1000"))).await;
    let again = shard.node.run(too_much).await;
    assert_eq!(decided(&again), (decided(&refused).0, true));

    assert_eq!(shard.node.balance(first).await, "1089.00");
    assert_eq!(shard.node.balance(second).await, "80.00");
    shard.stop().await;
}

/// Keys are taken as new until the database says otherwise. So a lane that does not look keys up must still find each
/// kind of answer, also where a second decision would differ or would write nothing.
#[tokio::test]
async fn a_replay_is_found_by_a_lane_that_takes_its_key_as_new() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().without_redis()).await;
    let user = shard.user_with(usd("100")).await;
    // Room for one more such top-up, and not for two.
    let rich = shard.user_with(usd("1")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let nearly_full = "UPDATE balances SET balance = 99999900000000000000 WHERE user_id = $1";
    assert_eq!(superuser.execute(nearly_full, &[&rich.get()]).await.unwrap(), 1);
    let filled = top_up(rich, usd("99999999999999.99"));
    let everything = charge(user, usd("100"));
    let too_much = charge(user, usd("1"));
    let mut firsts = vec![];
    for command in [filled, everything, too_much] {
        let first = decided(&shard.node.run(command.clone()).await).0.clone();
        firsts.push((command, first));
    }
    let back = refund(firsts[1].1.id, None);
    let first = decided(&shard.node.run(back.clone()).await).0.clone();
    firsts.push((back, first));

    let neighbour = shard.user_with(usd("1000")).await;
    let mut spent = 0;
    for (position, (command, first)) in firsts.into_iter().enumerate() {
        // The lane forgets that it met a key before.
        for _ in 0..=100 {
            shard.node.run(charge(neighbour, usd("0.01"))).await;
            spent += 1;
        }
        let repeated = shard.node.metric("picopay_node_repeated_batches_total").await;
        let batch = vec![charge(neighbour, usd("0.01")), command, charge(neighbour, usd("0.01"))];
        let outcomes = shard.node.write(batch).await;
        spent += 2;
        assert_eq!(decided(&outcomes[1]), (&first, true));
        assert!([0, 2].iter().all(|position| !decided(&outcomes[*position]).1), "{outcomes:?}");
        let repeated = shard.node.metric("picopay_node_repeated_batches_total").await - repeated;
        assert!((repeated - 1.0).abs() < f64::EPSILON, "command {position} was run again {repeated} times");
    }
    assert_eq!(shard.node.balance(user).await, "100.00");
    assert_eq!(
        shard.node.balance(neighbour).await,
        format!("{}.{:02}", (100_000 - spent) / 100, (100_000 - spent) % 100)
    );
    assert_eq!(shard.row_count(neighbour).await, spent + 1);
    shard.stop().await;
}
