//! A node takes over a changed entry of its shard while it serves, and no other.
//!
//! Interleavings: commands wait in a lane, or their COMMIT is under way, while the service behind them is replaced. The
//! new entry leads nowhere, or to another shard. All servers of the shard are gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use picopay_local::ClusterSpec;
use picopay_shared::slot::UserId;
use uuid::Uuid;

use crate::test_shard::{NodeClient, TestShard, charge, decided, eventually, is_completed, usd};

async fn has_taken(node: &NodeClient, count: u32) -> bool {
    let taken = node.metric("picopay_node_reloads_total{result=\"taken\"").await;
    (taken - f64::from(count)).abs() < 0.5
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_entry_is_taken_over_under_load_and_no_command_fails() {
    let shard = TestShard::start().await;
    let file = shard.cluster.cluster_file();
    let original = std::fs::read_to_string(&file).unwrap();
    let line = |key: &str| original.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    let variants = [
        original.replace(&line("redis"), ""),
        original.replace(&line("replicas"), "replicas = []"),
        original.replace("dbname=picopay", "dbname=picopay connect_timeout=1"),
        original.clone(),
    ];
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    // Of what a service has one each of. Those for reads come and go with the reads.
    let connections = async || -> Vec<(String, i64)> {
        let sql = "SELECT application_name, count(*) FROM pg_stat_activity \
                   WHERE application_name ~ '^picopay-node (gate|lane|heartbeat)$' GROUP BY 1 ORDER BY 1";
        superuser.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
    };

    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let user = shard.user_with(usd("100000")).await;
        let (node, is_over) = (shard.node.clone(), Arc::clone(&is_over));
        clients.push(tokio::spawn(async move { charge_until(&node, user, &is_over).await }));
    }
    for (count, text) in (1..).zip(variants.iter().cycle().take(8)) {
        shard.replace_cluster_file(text);
        shard.cluster.shard(0).node(0).reload();
        eventually("the reload", || async { has_taken(&shard.node, count).await.then_some(()) }).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        let (user, charged) = client.await.unwrap();
        assert_eq!(shard.node.balance(user).await, format!("{}.00", 100_000 - charged));
    }
    // What the old services had is given back.
    let one_each = ["gate", "heartbeat", "lane"].map(|task| (format!("picopay-node {task}"), 1));
    eventually("the end of the old connections", || async {
        (connections().await == one_each).then_some(())
    })
    .await;
    shard.stop().await;
}

/// Charges 1.00 at a time, each of which must be booked, later than the one before.
async fn charge_until(node: &NodeClient, user: UserId, is_over: &AtomicBool) -> (UserId, u32) {
    let (mut charged, mut last) = (0, Uuid::nil());
    while !is_over.load(Ordering::Relaxed) {
        let outcome = node.run(charge(user, usd("1"))).await;
        assert!(is_completed(&outcome), "{outcome:?}");
        let id = decided(&outcome).0.id.as_uuid();
        assert!(id > last, "{id} after {last}");
        (charged, last) = (charged + 1, id);
    }
    (user, charged)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_leads_elsewhere_or_nowhere_is_refused_and_charges_go_on() {
    let shard = TestShard::start_with(ClusterSpec::default().with_shards(2)).await;
    let file = shard.cluster.cluster_file();
    let original = std::fs::read_to_string(&file).unwrap();
    let user = shard.user_in_first_half(usd("100")).await;
    let primary = |number: usize| {
        original.lines().filter(|line| line.starts_with("primary")).nth(number).unwrap().to_owned()
    };
    let nowhere = "primary = \"host=127.0.0.1 port=1 dbname=picopay user=picopay\"";
    for (text, needle) in [
        (original.replace(&primary(0), &primary(1)), "swapped"),
        (original.replace(&primary(0), nowhere), "writes go on with the entry in force"),
        (original.replace(&primary(0), "primary = \"hots=x\""), "connection string"),
        (original.replace("name = \"shard-1\"", "name = \"shard-9\""), "which this node serves, is not in"),
        ("shards = = 1".to_owned(), "line 1"),
    ] {
        shard.replace_cluster_file(&text);
        shard.cluster.shard(0).node(0).reload();
        eventually(needle, || async {
            shard.node.refused_file().await.filter(|reason| reason.contains(needle))
        })
        .await;
        assert!(is_completed(&shard.node.run(charge(user, usd("1"))).await), "{needle}");
    }
    assert!(shard.node.metric("picopay_node_reload_refused").await > 0.5);
    shard.replace_cluster_file(&original);
    eventually("the end of the refusal", || async {
        shard.node.refused_file().await.is_none().then_some(())
    })
    .await;
    assert!(has_taken(&shard.node, 0).await);
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_down_takes_over_a_changed_entry_and_serves_by_it_when_it_is_back() {
    let shard = TestShard::start().await;
    let file = shard.cluster.cluster_file();
    let user = shard.user_with(usd("100")).await;
    let primary = shard.cluster.shard(0).primary();
    primary.kill().await.unwrap();
    eventually("that it is noticed", || async {
        (!shard.node.status().await.unwrap().is_ready).then_some(())
    })
    .await;
    let original = std::fs::read_to_string(&file).unwrap();
    shard.replace_cluster_file(&original.replace("durability = \"replicated\"", "durability = \"local\""));
    eventually("the reload", || async { has_taken(&shard.node, 1).await.then_some(()) }).await;
    // With the durability of before, nothing would be booked now: there is no standby.
    shard.cluster.shard(0).replica().kill().await.unwrap();
    primary.start().await.unwrap();
    eventually("a charge", || async {
        is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
    })
    .await;
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_accepts_the_secret_before_the_newest_and_no_other() {
    let shard = TestShard::start().await;
    let file = shard.cluster.folder().join("secrets/internal");
    std::fs::write(&file, "another-secret-of-32-characters-\n").unwrap();
    shard.cluster.shard(0).node(0).reload();
    let with = |secret: &str| NodeClient::new(&shard.cluster.node_url(0, 0), secret);
    let newest = with("another-secret-of-32-characters-");
    eventually("the new secret", || async { newest.status().await.ok() }).await;
    assert!(shard.node.status().await.is_ok(), "gateways may not have heard of it yet");
    assert!(with("a third").status().await.is_err());
    assert!(with("").status().await.is_err());
    shard.stop().await;
}
