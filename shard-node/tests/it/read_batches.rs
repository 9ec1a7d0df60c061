//! Reads that come together: each has its own answer, and none waits for another one's.

use std::time::Duration;

use picopay_local::ClusterSpec;
use picopay_shared::cluster::Durability;
use picopay_shared::id::TransactionId;
use picopay_shared::money::Money;
use picopay_shared::query::{Consistency, Found, Query, Source};
use picopay_shared::session::{LogPosition, SessionToken};
use picopay_shared::slot::UserId;

use crate::test_shard::{TestShard, Told, charge, decided, eventually, history_of, is_replica, usd};

/// A row that takes half as long is looked at twice: a page that is not full looks how far it has looked.
const SLOWLY: Duration = Duration::from_millis(2_800);

fn balance_of(user_id: UserId, consistency: Consistency) -> Query {
    Query::Balance { user_id, currency: None, consistency }
}

/// Nobody here shows a token.
async fn read_all(shard: &TestShard, queries: &[Query]) -> Vec<Told> {
    let reads: Vec<_> = queries.iter().map(|query| (query.clone(), None)).collect();
    shard.node.read_together(&reads).await
}

async fn users(shard: &TestShard, count: usize) -> Vec<UserId> {
    let mut users = Vec::new();
    for _ in 0..count {
        users.push(shard.user_with(usd("100")).await);
    }
    users
}

#[tokio::test]
async fn reads_of_all_kinds_are_answered_each_as_it_would_be_alone() {
    let shard = TestShard::start().await;
    let users = users(&shard, 3).await;
    let mut queries = Vec::new();
    for (user, count) in users.iter().zip([0, 2, 30]) {
        let mut last = None;
        for _ in 0..count {
            last = Some(decided(&shard.node.run(charge(*user, usd("1"))).await).0.id);
        }
        queries.extend(last.map(|id| Query::Lookup { id }));
        queries.push(history_of(*user));
        for consistency in [Consistency::Strong, Consistency::Eventual] {
            queries.push(balance_of(*user, consistency));
        }
    }
    let nobody = UserId::try_from(i64::MAX).unwrap();
    queries.extend([history_of(nobody), balance_of(nobody, Consistency::Strong)]);
    queries.push(Query::Lookup { id: TransactionId::from_uuid(uuid::Uuid::new_v4()) });
    shard.replica_in_use(users[0]).await;
    eventually("the same answers, alone and together", || async {
        let mut alone = Vec::new();
        for query in &queries {
            alone.push(shard.node.read(query.clone()).await);
        }
        for count in [1, 2, queries.len()] {
            for (told, alone) in read_all(&shard, &queries[..count]).await.iter().zip(&alone) {
                let is_same = told.answer.found == alone.found;
                if !is_same || is_replica(told.answer.source) != is_replica(alone.source) {
                    return None;
                }
            }
        }
        alone.iter().any(|answer| is_replica(answer.source)).then_some(())
    })
    .await;
    shard.stop().await;
}

#[tokio::test]
async fn a_read_that_waits_for_replay_shows_its_write_and_holds_up_no_other() {
    // Longer than a busy machine takes for a read.
    let node = "[reads]\nsession_wait = \"2s\"\nreplica_timeout = \"10s\"\nreplica_lag_max = \"1m\"\n\
                [postgres]\nstatement_timeout = \"11s\"\nflight_timeout = \"12s\"\n";
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(node)).await;
    let users = users(&shard, 3).await;
    let (_, old) = shard.node.run_with_session(charge(users[0], usd("1"))).await;
    eventually("a replica that has the first charge", || async {
        is_replica(shard.node.history_with(users[0], Some(old)).await.source)
    })
    .await;
    let replica = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    replica.execute("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    let (_, new) = shard.node.run_with_session(charge(users[1], usd("1"))).await;
    let beyond = LogPosition { lsn: new.position.lsn + (1 << 40), ..new.position };
    let other_timeline = LogPosition { timeline: 99, ..new.position };
    let told = shard
        .node
        .read_together(&[
            (history_of(users[1]), Some(new)),
            (history_of(users[0]), Some(old)),
            (history_of(users[2]), None),
            (history_of(users[1]), Some(SessionToken::new("shard-1", beyond))),
            (history_of(users[1]), Some(SessionToken::new("shard-1", other_timeline))),
            (history_of(users[1]), Some(SessionToken::new("shard-9", new.position))),
        ])
        .await;
    let counts: Vec<usize> = (told.iter())
        .map(|told| match &told.answer.found {
            Found::History { transactions, .. } => transactions.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [2, 2, 1, 2, 2, 2], "nobody misses his write");
    let from_replica: Vec<bool> = told.iter().map(|told| is_replica(told.answer.source)).collect();
    assert_eq!(from_replica, [false, true, true, false, false, false]);
    assert!(told[0].after >= Duration::from_secs(2), "it waited: {:?}", told[0].after);
    for told in &told[1..3] {
        assert!(told.after < Duration::from_secs(2), "{:?}", told.after);
    }
    replica.execute("SELECT pg_wal_replay_resume()", &[]).await.unwrap();
    shard.stop().await;
}

#[tokio::test]
async fn a_slow_user_holds_up_nobody_else_and_what_was_given_up_is_cancelled() {
    let node = "[reads]\nreplica_timeout = \"10s\"\nreplica_lag_max = \"1m\"\n\
                [postgres]\nstatement_timeout = \"11s\"\nflight_timeout = \"12s\"\n";
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(node)).await;
    let users = users(&shard, 16).await;
    shard.replica_in_use(users[0]).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let slow = users[5];
    // Longer than a busy machine takes for the others, whose reads find no connections at first.
    let slowly = "pg_sleep(1.4)::text = ''";
    let policy = format!(
        "ALTER TABLE transactions ENABLE ROW LEVEL SECURITY;
         ALTER TABLE transactions FORCE ROW LEVEL SECURITY;
         CREATE POLICY slow ON transactions
             USING (CASE WHEN user_id = {} THEN {slowly} ELSE true END)",
        slow.get()
    );
    superuser.batch_execute(&policy).await.unwrap();
    eventually("a slow user at the replica", || async {
        let began = std::time::Instant::now();
        let answer = shard.node.read(history_of(slow)).await;
        (is_replica(answer.source) && began.elapsed() >= SLOWLY).then_some(())
    })
    .await;
    // Nobody knows it of him in a new process.
    shard.cluster.shard(0).node(0).kill().await.unwrap();
    shard.cluster.shard(0).node(0).start().await.unwrap();
    eventually("a replica in use again", || async {
        shard.node.status().await.ok()?;
        is_replica(shard.node.history(users[0]).await.source).then_some(())
    })
    .await;
    let queries: Vec<Query> = users.iter().map(|user| history_of(*user)).collect();
    for round in 0..3 {
        let told = read_all(&shard, &queries).await;
        for (user, told) in users.iter().zip(told) {
            assert!(matches!(told.answer.found, Found::History { .. }), "{told:?}");
            if *user == slow {
                assert!(told.after >= SLOWLY);
            } else {
                assert!(told.after < SLOWLY, "round {round}: {:?}", told.after);
            }
        }
    }
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let replica = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    // What was given up was cancelled.
    let waiting: i64 = replica.query_one(waits, &[]).await.unwrap().get(0);
    assert_eq!(waiting, 0);
    shard.stop().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_its_own_user_alone() {
    let shard = TestShard::start().await;
    let users = users(&shard, 3).await;
    shard.replica_in_use(users[0]).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let spoil = "ALTER TABLE balances DROP CONSTRAINT IF EXISTS balance_is_a_number;
                 ALTER TABLE transactions DROP CONSTRAINT IF EXISTS amounts_are_numbers";
    superuser.batch_execute(spoil).await.unwrap();
    for spoil in ["UPDATE balances SET balance = 'NaN'", "UPDATE transactions SET amount = 'NaN'"] {
        let spoil = format!("{spoil} WHERE user_id = $1");
        assert_eq!(superuser.execute(&spoil, &[&users[1].get()]).await.unwrap(), 1);
    }
    for query in [
        history_of,
        |user| balance_of(user, Consistency::Strong),
        |user| balance_of(user, Consistency::Eventual),
    ] {
        let queries: Vec<Query> = users.iter().map(|user| query(*user)).collect();
        eventually("the rows at the replica", || async {
            let told = read_all(&shard, &queries).await;
            for place in [0, 2] {
                let found = &told[place].answer.found;
                assert!(matches!(found, Found::History { .. } | Found::Balances(_)), "{found:?}");
            }
            matches!(told[1].answer.found, Found::Corrupt { .. }).then_some(())
        })
        .await;
        let told = read_all(&shard, &queries[1..2]).await;
        assert!(matches!(told[0].answer.found, Found::Corrupt { .. }), "alone too: {told:?}");
    }
    shard.stop().await;
}

#[tokio::test]
async fn a_replica_that_dies_with_reads_on_it_costs_no_answer() {
    let node = "[reads]\nreplica_timeout = \"10s\"\nreplica_lag_max = \"1m\"\n\
                [postgres]\nstatement_timeout = \"11s\"\nflight_timeout = \"12s\"\n";
    // The replica is no standby here: without one the primary would not be read.
    let spec = ClusterSpec::one_shard().with_durability(Durability::Local).with_node_toml(node);
    let shard = TestShard::start_with(spec).await;
    let users = users(&shard, 12).await;
    shard.replica_in_use(users[0]).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser.batch_execute("BEGIN; LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let replica = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE application_name = 'picopay-node reads' AND wait_event_type = 'Lock'";
    let node = shard.node.clone();
    let reads: Vec<_> = users.iter().map(|user| (history_of(*user), None::<SessionToken>)).collect();
    eventually("the lock on the replica", || async {
        let locked = "SELECT count(*) FROM pg_locks WHERE relation = 'transactions'::regclass AND mode = 'AccessExclusiveLock'";
        (replica.query_one(locked, &[]).await.unwrap().get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    let reading = tokio::spawn(async move { node.read_together(&reads).await });
    eventually("reads that wait on the replica", || async {
        (replica.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 1).then_some(())
    })
    .await;
    shard.cluster.shard(0).replica().kill().await.unwrap();
    superuser.batch_execute("ROLLBACK").await.unwrap();
    for (user, told) in users.iter().zip(reading.await.unwrap()) {
        assert_eq!(told.answer.source, Source::Primary);
        let Found::History { transactions, .. } = told.answer.found else { panic!("{:?}", told.answer) };
        let owners: Vec<(UserId, Money)> =
            transactions.iter().map(|one| (one.user_id, one.balance_after)).collect();
        assert_eq!(owners, [(*user, usd("100"))]);
    }
    shard.stop().await;
}
