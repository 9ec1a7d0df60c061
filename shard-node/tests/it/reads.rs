//! Reads come from a replica while it is fresh, else from the primary, and say which.

use std::time::{Duration, Instant};

use picopay_local::ClusterSpec;
use picopay_shared::cluster::Durability;
use picopay_shared::command::{Kind, Outcome};
use picopay_shared::query::{Consistency, Found, HistoryQuery, Query, Source};
use picopay_shared::slot::UserId;

use crate::test_shard::{TestShard, charge, decided, eventually, is_completed, is_replica, refund, usd};

#[tokio::test]
async fn history_comes_from_the_replica_and_from_the_primary_when_that_is_gone() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let (charged, session) = shard.node.run_with_session(charge(user, usd("10"))).await;
    let expected = decided(&charged).0.clone();
    let from_replica = eventually("a history from the replica", || async {
        let answer = shard.node.history(user).await;
        let is_whole =
            matches!(&answer.found, Found::History { transactions, .. } if transactions.len() == 2);
        (is_replica(answer.source) && is_whole).then_some(answer.found)
    })
    .await;
    let lookup = shard.node.read(Query::Lookup { id: expected.id }).await;
    assert_eq!(lookup.found, Found::Transaction(Box::new(expected)));

    let replica = shard.cluster.shard(0).replica();
    for stop in ["kill", "freeze"] {
        match stop {
            "kill" => replica.kill().await.unwrap(),
            _ => replica.freeze(),
        }
        let failures = || shard.node.metric("picopay_node_replicas_passed_over_total{reason=\"failed\"");
        let before = failures().await;
        for session in [None, Some(session), None, Some(session), None, Some(session)] {
            let answer = shard.node.history_with(user, session).await;
            assert_eq!(answer.found, from_replica, "after {stop}, with {session:?}");
        }
        // Three in a row find it out for all, or fewer when a look came first; and one more when a beat was under way.
        assert!(failures().await - before <= 4.0, "after {stop}");
        eventually("a history from the primary", || async {
            let answer = shard.node.history(user).await;
            assert_eq!(answer.found, from_replica);
            (answer.source == Source::Primary).then_some(())
        })
        .await;
        match stop {
            "kill" => replica.start().await.unwrap(),
            _ => replica.thaw(),
        }
        eventually("a history from the replica again", || async {
            is_replica(shard.node.history(user).await.source).then_some(())
        })
        .await;
    }
    shard.stop().await;
}

#[tokio::test]
async fn reads_are_spread_over_all_replicas_and_one_that_is_frozen_costs_those_that_it_has() {
    // On a busy machine, a read may take as long as one that meets a frozen replica is to wait otherwise.
    let node = "[reads]\nreplica_timeout = \"2s\"\nreplica_lag_max = \"1m\"\n";
    let shard =
        TestShard::start_with(ClusterSpec::one_shard().with_more_replicas(2).with_node_toml(node)).await;
    let user = shard.user_with(usd("100")).await;
    let of_shard = shard.cluster.shard(0);
    let databases = [
        of_shard.connect_replica_as_superuser().await.unwrap(),
        of_shard.connect_more_replica_as_superuser(0).await.unwrap(),
        of_shard.connect_more_replica_as_superuser(1).await.unwrap(),
    ];
    let connected = async || {
        let mut all = Vec::new();
        for database in &databases {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'picopay-node reads'";
            all.push(database.query_one(sql, &[]).await.unwrap().get::<_, i64>(0));
        }
        all
    };
    eventually("reads from each of the three", || async {
        assert!(matches!(shard.node.history(user).await.found, Found::History { .. }));
        connected().await.iter().all(|count| *count > 0).then_some(())
    })
    .await;
    // By turns, where all are idle.
    let committed = async || {
        let mut all = Vec::new();
        for database in &databases {
            let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'picopay'";
            all.push(database.query_one(sql, &[]).await.unwrap().get::<_, i64>(0));
        }
        all
    };
    let before = committed().await;
    for _ in 0..300 {
        assert!(is_replica(shard.node.history(user).await.source));
    }
    eventually("a third of the reads at each", || async {
        // The statistics come a moment later; the node's looks at each are among them.
        let after = committed().await;
        after.iter().zip(&before).all(|(after, before)| after - before >= 90).then_some(())
    })
    .await;

    // With all the connections that they need: to make one takes longer than a read.
    let many = async || {
        let reads = (0..60).map(|_| shard.node.history(user));
        for answer in futures_util::future::join_all(reads).await {
            assert!(matches!(answer.found, Found::History { .. }), "{answer:?}");
        }
    };
    eventually("three replicas in use", || async {
        let before = committed().await;
        many().await;
        // A backend reports what it did at most once a second.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        committed().await.iter().zip(&before).all(|(after, before)| after - before >= 15).then_some(())
    })
    .await;
    of_shard.more_replica(1).freeze();
    let primary = async || shard.node.metric("picopay_node_reads_total{source=\"primary\"").await;
    let before = primary().await;
    many().await;
    // Those that wait for it count as its, so the next go elsewhere.
    let from_primary = primary().await - before;
    assert!(from_primary <= 25.0, "{from_primary}");
    for _ in 0..20 {
        assert!(matches!(shard.node.history(user).await.found, Found::History { .. }));
    }
    of_shard.more_replica(1).thaw();
    shard.stop().await;
}

#[tokio::test]
async fn a_replica_that_is_too_far_behind_is_not_asked() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let eventual = Query::Balance { user_id: user, currency: None, consistency: Consistency::Eventual };
    eventually("a fresh replica", || async {
        is_replica(shard.node.read(eventual.clone()).await.source).then_some(())
    })
    .await;
    let replica = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    replica.execute("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    // The standby still flushes what it gets, so charges go on; it only does not show it.
    shard.node.run(charge(user, usd("10"))).await;
    eventually("a replica that is two seconds behind", || async {
        shard.node.status().await.unwrap().replica_lag_ms.is_some_and(|lag| lag > 2_000)
    })
    .await;
    let answer = shard.node.read(eventual.clone()).await;
    assert_eq!(answer.source, Source::Primary);
    assert_eq!(answer.found, Found::Balances(vec![usd("90").into()]));
    replica.execute("SELECT pg_wal_replay_resume()", &[]).await.unwrap();
    eventually("a fresh replica again", || async {
        let answer = shard.node.read(eventual.clone()).await;
        (is_replica(answer.source) && answer.found == Found::Balances(vec![usd("90").into()])).then_some(())
    })
    .await;
    shard.stop().await;
}

#[tokio::test]
async fn history_is_filtered_and_paged_without_gaps_and_hides_refusals() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let mut made = Vec::new();
    for cents in 1..=9 {
        let outcome = shard.node.run(charge(user, usd(&format!("0.0{cents}")))).await;
        made.push(decided(&outcome).0.id);
    }
    shard.node.run(charge(user, usd("1000"))).await;
    shard.node.run(refund(made[0], None)).await;
    let page = |limit, before, kind| {
        let query = HistoryQuery {
            user_id: user,
            limit,
            before,
            kind,
            from_ms: None,
            to_ms: None,
            takes_short_pages: true,
        };
        async { shard.node.read(Query::History(query)).await.found }
    };
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let Found::History { transactions, has_more, .. } = page(4, before, Some(Kind::Charge)).await else {
            panic!("no history")
        };
        assert!(transactions.len() == 4 || !has_more);
        seen.extend(transactions.iter().map(|one| one.id));
        before = seen.last().copied();
        if !has_more {
            break;
        }
    }
    made.reverse();
    assert_eq!(seen, made);
    let Found::History { transactions, .. } = page(100, None, None).await else { panic!("no history") };
    assert_eq!(transactions.len(), 11, "a top-up, nine charges, a refund, and not the refusal");

    let nobody = UserId::try_from(i64::MAX).unwrap();
    assert_eq!(shard.node.history(nobody).await.found, Found::UserNotFound);
    let unknown = Query::Lookup { id: picopay_shared::id::TransactionId::from_uuid(uuid::Uuid::new_v4()) };
    assert_eq!(shard.node.read(unknown).await.found, Found::TransactionNotFound);
    assert_eq!(shard.node.run(charge(nobody, usd("1"))).await, Outcome::UserNotFound);
    shard.stop().await;
}

#[tokio::test]
async fn a_replica_that_was_promoted_is_not_taken_for_one_any_more() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_durability(Durability::Local)).await;
    let user = shard.user_with(usd("100")).await;
    shard.replica_in_use(user).await;
    shard.cluster.shard(0).primary().freeze();
    let standby = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    standby.query_one("SELECT pg_promote()", &[]).await.unwrap();
    eventually("a charge on the new primary", || async {
        is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
    })
    .await;
    // The connections from before the promotion are alive, and would show all that the new primary has.
    eventually("a history from the primary", || async {
        let answer = shard.node.history(user).await;
        assert!(matches!(answer.found, Found::History { transactions, .. } if transactions.len() == 2));
        answer.source == Source::Primary
    })
    .await;
    // And it stays so.
    let looks_end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < looks_end {
        assert_eq!(shard.node.history(user).await.source, Source::Primary);
        // In two seconds there are four more looks at the replicas.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    shard.stop().await;
}
