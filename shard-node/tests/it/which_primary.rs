//! Two servers take writes: only the one on the highest timeline is the primary, and only with what was acknowledged.

use picopay_local::ClusterSpec;
use picopay_shared::cluster::Durability;
use picopay_shared::command::Outcome;
use picopay_shared::query::{Consistency, Found, Query};
use picopay_shared::slot::UserId;
use tokio_postgres::Client;

use crate::test_shard::{TestShard, charge, eventually, is_completed, usd};

/// Each server acknowledges alone, so that nothing but its timeline keeps the old one from taking charges.
fn on_its_own() -> ClusterSpec {
    ClusterSpec::one_shard().with_durability(Durability::Local)
}

async fn rows_of(server: &Client, user: UserId) -> i64 {
    let count = "SELECT count(*) FROM transactions WHERE user_id = $1";
    server.query_one(count, &[&user.get()]).await.unwrap().get(0)
}

/// Waits until the standby has as many rows of this user as the primary.
async fn caught_up(shard: &TestShard, user: UserId) {
    let rows = shard.row_count(user).await;
    let standby = shard.cluster.connect_replica(0).await.unwrap();
    eventually("a standby that has all", || async { (rows_of(&standby, user).await == rows).then_some(()) })
        .await;
}

async fn promote_standby(shard: &TestShard) {
    let standby = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    standby.query_one("SELECT pg_promote()", &[]).await.unwrap();
}

async fn charge_once(shard: &TestShard, user: UserId) {
    eventually("a charge", || async {
        is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
    })
    .await;
}

async fn strong_balance(shard: &TestShard, user: UserId) -> Found {
    let query = Query::Balance { user_id: user, currency: None, consistency: Consistency::Strong };
    shard.node.read(query).await.found
}

#[tokio::test]
async fn charges_and_strong_reads_go_to_the_server_that_was_promoted_while_the_old_one_lives_on() {
    let shard = TestShard::start_with(on_its_own()).await;
    let user = shard.user_with(usd("100")).await;
    caught_up(&shard, user).await;
    let old = shard.cluster.connect_primary(0).await.unwrap();
    promote_standby(&shard).await;
    eventually("a node on the new timeline", || async {
        (shard.node.metric("picopay_node_timeline").await > 1.5).then_some(())
    })
    .await;
    let before = rows_of(&old, user).await;
    charge_once(&shard, user).await;
    // A read from the old one would not show it.
    let Found::Balances(balances) = strong_balance(&shard, user).await else { panic!("no balance") };
    assert_eq!(balances[0].balance.to_string(), "99.00");
    assert_eq!(rows_of(&old, user).await, before, "the old primary got a charge");
    assert!(shard.node.metric("picopay_node_older_timelines_total").await > 0.5, "nobody is alarmed");
    shard.stop().await;
}

#[tokio::test]
async fn a_node_that_is_started_now_does_not_charge_an_old_primary_that_is_back() {
    let shard = TestShard::start_with(on_its_own()).await;
    let user = shard.user_with(usd("100")).await;
    caught_up(&shard, user).await;
    let node = shard.cluster.shard(0).node(0);
    node.kill().await.unwrap();
    let old = shard.cluster.connect_primary(0).await.unwrap();
    promote_standby(&shard).await;
    node.start().await.unwrap();
    charge_once(&shard, user).await;
    assert_eq!(rows_of(&old, user).await, 1, "the old primary has the top-up alone");
    shard.stop().await;
}

#[tokio::test]
async fn a_standby_that_was_promoted_without_what_was_acknowledged_keeps_the_gate_shut_and_is_named() {
    let shard = TestShard::start_with(on_its_own()).await;
    let user = shard.user_with(usd("100")).await;
    caught_up(&shard, user).await;
    // What comes from here on, the standby never gets.
    let standby = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    standby.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
    standby.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
    eventually("a standby that follows nobody", || async {
        let receivers = "SELECT count(*) FROM pg_stat_wal_receiver";
        (standby.query_one(receivers, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    charge_once(&shard, user).await;
    shard.cluster.shard(0).primary().kill().await.unwrap();
    promote_standby(&shard).await;
    eventually("a gate that says what is missing", || async {
        let refused = shard.node.run(charge(user, usd("1"))).await;
        assert!(!is_completed(&refused), "a charge on a server that lacks what was acknowledged");
        let reason = shard.node.status().await.unwrap().not_ready_reason?;
        (reason.contains(&format!("of user {user}")) && reason.contains("accept-loss")).then_some(())
    })
    .await;
    assert!(shard.node.metric("picopay_node_acknowledged_lost").await > 0.5);
    // Nor does a node that has seen none of it forget what Redis kept.
    let node = shard.cluster.shard(0).node(0);
    node.kill().await.unwrap();
    node.start().await.unwrap();
    eventually("a gate that says what is missing", || async {
        let reason = shard.node.status().await.ok()?.not_ready_reason?;
        reason.contains("accept-loss").then_some(())
    })
    .await;
    // A balance without the charge is no balance.
    assert!(matches!(strong_balance(&shard, user).await, Found::Unavailable { .. }));
    // What `picopay shard accept-loss` does.
    let accept = "UPDATE shard_identity SET generation = generation + 1, generation_id = gen_random_uuid()";
    let promoted = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    promoted.batch_execute(accept).await.unwrap();
    charge_once(&shard, user).await;
    shard.stop().await;
}

#[tokio::test]
async fn without_a_standby_strong_reads_go_on_only_while_every_other_server_says_that_it_is_no_primary() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let replica = shard.cluster.shard(0).replica();
    replica.freeze();
    let unknown = shard.node.run(charge(user, usd("1"))).await;
    assert_eq!(unknown, Outcome::OutcomeUnknown);
    // Whether it was promoted elsewhere, nobody says.
    eventually("a strong read that is refused", || async {
        matches!(strong_balance(&shard, user).await, Found::Unavailable { .. }).then_some(())
    })
    .await;
    // Nobody listens there any more.
    replica.kill().await.unwrap();
    eventually("strong reads again", || async {
        matches!(strong_balance(&shard, user).await, Found::Balances(_)).then_some(())
    })
    .await;
    assert!(!shard.node.status().await.unwrap().is_ready);
    shard.stop().await;
}
