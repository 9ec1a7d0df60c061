//! The primary changes, and nothing that was acknowledged does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use picopay_local::ClusterSpec;
use picopay_shared::cluster::Durability;
use picopay_shared::command::{Command, Outcome, Transaction};
use picopay_shared::slot::UserId;

use crate::test_shard::{NodeClient, TestShard, charge, decided, eventually, is_completed, usd};

#[derive(Default)]
struct Told {
    charges: Vec<(Command, Transaction)>,
    times: Vec<Instant>,
}

async fn charge_until(stop: Arc<AtomicBool>, node: NodeClient, user: UserId, said: Arc<Mutex<Told>>) {
    while !stop.load(Ordering::Relaxed) {
        let command = charge(user, usd("0.01"));
        let answer = eventually("an answer to this key", || async {
            let outcome = node.try_write(vec![command.clone()]).await.ok()?.outcomes.remove(0);
            matches!(outcome, Outcome::Decided { .. }).then_some(outcome)
        })
        .await;
        let mut said = said.lock().unwrap();
        said.times.push(Instant::now());
        said.charges.push((command, decided(&answer).0.clone()));
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_the_primary_was_killed_stands_and_charges_go_on() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2)).await;
    let (stop, said) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Told::default())));
    let (mut users, mut clients) = (Vec::new(), Vec::new());
    for position in 0..8 {
        let user = shard.user_with(usd("1000")).await;
        let node = if position % 2 == 0 { shard.node.clone() } else { shard.second_node() };
        clients.push(tokio::spawn(charge_until(Arc::clone(&stop), node, user, Arc::clone(&said))));
        users.push(user);
    }
    let count = || said.lock().unwrap().charges.len();
    eventually("some load", || async { (count() > 200).then_some(()) }).await;
    // What the primary takes from here on, the standby never gets, so it must acknowledge nothing. A frozen standby would
    // not do: what the primary had sent by then would still wait for it in the socket.
    shard.cluster.shard(0).replica().kill().await.unwrap();
    let before = count();
    eventually("a shard that stops", || async {
        let is_ready = shard.node.status().await.unwrap().is_ready;
        (!is_ready || count() > before + 200).then_some(())
    })
    .await;
    shard.cluster.shard(0).primary().kill().await.unwrap();
    let killed = Instant::now();
    shard.cluster.shard(0).replica().start().await.unwrap();
    let done = shard.cluster.failover(0).await.unwrap();
    let before = count();
    eventually("charges on the new primary", || async { (count() > before + 200).then_some(()) }).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    let said = Arc::into_inner(said).unwrap().into_inner().unwrap();
    let mut counts: HashMap<UserId, u32> = HashMap::new();
    for (command, transaction) in &said.charges {
        *counts.entry(transaction.user_id).or_default() += 1;
        let again = shard.node.run(command.clone()).await;
        assert_eq!(decided(&again), (transaction, true));
    }
    for user in users {
        assert_eq!(shard.row_count(user).await, i64::from(counts[&user]) + 1);
        let cents = 100_000 - counts[&user];
        assert_eq!(shard.node.balance(user).await, format!("{}.{:02}", cents / 100, cents % 100));
    }
    let first = said.times.iter().filter(|time| **time > killed).min().unwrap();
    println!(
        "{} charges; the first {:?} after the kill: promoted in {:?}, the new replica followed {:?} later",
        said.charges.len(),
        *first - killed,
        done.promoted_in,
        done.rebuilt_in
    );
    shard.stop().await;
}

#[tokio::test]
async fn a_replaced_primary_that_still_takes_writes_gets_none() {
    // Each server acknowledges alone, so that nothing but its timeline keeps the old one from taking charges.
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_durability(Durability::Local)).await;
    let user = shard.user_with(usd("100")).await;
    let (old, new) = (shard.cluster.shard(0).primary(), shard.cluster.shard(0).replica());
    let replicated = shard.cluster.connect_replica(0).await.unwrap();
    eventually("a standby that has the user", || async {
        let there = "SELECT FROM balances WHERE user_id = $1";
        replicated.query_opt(there, &[&user.get()]).await.unwrap().map(drop)
    })
    .await;
    old.freeze();
    let standby = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    standby.query_one("SELECT pg_promote()", &[]).await.unwrap();
    // The node finds the new primary behind a frozen one.
    let take_charges = || async {
        eventually("a charge on the new primary", || async {
            is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
        })
        .await;
    };
    take_charges().await;

    old.thaw();
    new.freeze();
    eventually("a look at the old primary", || async {
        assert!(
            !is_completed(&shard.node.run(charge(user, usd("1"))).await),
            "the old primary took a charge"
        );
        // Now and then it is the frozen one that was tried last.
        let reason = shard.node.status().await.unwrap().not_ready_reason.unwrap();
        let is_counted = shard.node.metric("picopay_node_older_timelines_total").await > 1.0;
        (is_counted && reason.contains("it was replaced")).then_some(())
    })
    .await;
    assert_eq!(shard.row_count(user).await, 1, "the old primary has the top-up alone");

    new.thaw();
    take_charges().await;
    shard.stop().await;
}

#[tokio::test]
async fn a_primary_that_takes_no_writes_any_more_loses_all_connections_and_its_successor_is_found() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    shard.node.balance(user).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    superuser.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
    eventually("a charge that is refused", || async {
        (!is_completed(&shard.node.run(charge(user, usd("1"))).await)).then_some(())
    })
    .await;
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'picopay-node %' AND \
                       application_name <> 'picopay-node gate'";
    eventually("no connection of the node's", || async {
        let left: i64 = superuser.query_one(connections, &[]).await.unwrap().get(0);
        (left == 0).then_some(())
    })
    .await;
    drop(superuser);

    shard.cluster.failover(0).await.unwrap();
    eventually("a charge on the new primary", || async {
        is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
    })
    .await;
    assert!(shard.node.metric("picopay_node_timeline").await > 1.0);
    shard.stop().await;
}
