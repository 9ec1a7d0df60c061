//! A client that shows the token of its write sees that write, however far the replica is. Without a token it may see
//! an older state, but never older than `replica_lag_max`.

use picopay_local::ClusterSpec;
use picopay_postgres::Standing;
use picopay_shared::command::Transaction;
use picopay_shared::query::{Answer, Consistency, Found, Query, Source};
use picopay_shared::session::{LogPosition, SessionToken};
use picopay_shared::slot::UserId;

use crate::test_shard::{
    NodeClient, TestShard, charge, command_with_key, decided, eventually, is_replica, usd,
};

/// Lags far beyond those that these tests make count as fresh, so that only a token keeps a read off the replica.
const ANY_LAG: &str = "[reads]\nreplica_lag_max = \"1m\"\n";

fn shows(answer: &Answer, wanted: &Transaction) -> bool {
    match &answer.found {
        Found::History { transactions, .. } => transactions.first() == Some(wanted),
        Found::Balances(balances) => balances.contains(&wanted.balance_after.into()),
        Found::Transaction(found) => **found == *wanted,
        other => panic!("{other:?}"),
    }
}

/// The three kinds of read that may come from a replica.
async fn read_all(node: &NodeClient, wanted: &Transaction, session: Option<SessionToken>) -> [Answer; 3] {
    let (user_id, consistency) = (wanted.user_id, Consistency::Eventual);
    [
        node.history_with(user_id, session).await,
        node.read_with(Query::Balance { user_id, currency: None, consistency }, session).await,
        node.read_with(Query::Lookup { id: wanted.id }, session).await,
    ]
}

/// Charges a cent, and gives the record and its token.
async fn charge_a_cent(shard: &TestShard, user: UserId) -> (Transaction, SessionToken) {
    let (outcome, session) = shard.node.run_with_session(charge(user, usd("0.01"))).await;
    (decided(&outcome).0.clone(), session)
}

#[tokio::test]
async fn a_read_with_its_token_is_never_stale_while_the_replica_is_held_back() {
    // Longer than a read waits for the replica.
    let spec = ClusterSpec::one_shard()
        .with_replica_setting("recovery_min_apply_delay", "400ms")
        .with_node_toml(ANY_LAG);
    let shard = TestShard::start_with(spec).await;
    let user = shard.user_with(usd("100")).await;
    shard.replica_in_use(user).await;
    let mut stale = 0;
    for _ in 0..20 {
        let (charged, session) = charge_a_cent(&shard, user).await;
        for answer in read_all(&shard.node, &charged, None).await {
            if !shows(&answer, &charged) {
                stale += 1;
                assert!(is_replica(answer.source), "what is stale says where it is from: {answer:?}");
            }
        }
        for answer in read_all(&shard.node, &charged, Some(session)).await {
            assert!(shows(&answer, &charged), "stale with {session:?}: {answer:?}");
        }
    }
    assert!(stale > 0, "the replica was held back");
    assert!(shard.node.metric("picopay_node_replicas_passed_over_total{reason=\"behind\"").await > 0.0);
    shard.stop().await;
}

#[tokio::test]
async fn a_read_with_its_token_waits_for_a_replica_that_is_a_little_behind() {
    // The real wait is 100 ms; here all is slower, so that a busy machine does not pass for the replica's delay.
    let patient = format!("{ANY_LAG}session_wait = \"8s\"\nreplica_timeout = \"10s\"\n");
    let spec = ClusterSpec::one_shard()
        .with_replica_setting("recovery_min_apply_delay", "800ms")
        .with_node_toml(&patient);
    let shard = TestShard::start_with(spec).await;
    let user = shard.user_with(usd("100")).await;
    shard.replica_in_use(user).await;
    let (charged, session) = eventually("a replica that is behind", || async {
        let (charged, session) = charge_a_cent(&shard, user).await;
        let is_behind = !shows(&shard.node.history(user).await, &charged);
        let answer = shard.node.history_with(user, Some(session)).await;
        assert!(shows(&answer, &charged) && is_replica(answer.source), "{answer:?}");
        is_behind.then_some((charged, session))
    })
    .await;
    // The token stays good, and stays cheap, for as long as its client keeps it.
    for answer in read_all(&shard.node, &charged, Some(session)).await {
        assert!(shows(&answer, &charged) && is_replica(answer.source), "{answer:?}");
    }
    shard.stop().await;
}

#[tokio::test]
async fn a_replay_gives_a_token_with_which_the_first_write_is_seen() {
    let shard =
        TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2).with_node_toml(ANY_LAG)).await;
    let user = shard.user_with(usd("100")).await;
    // The second node writes once, so that it has a place in the log in mind: one from before the charge.
    let second = shard.second_node();
    let other = shard.user_with(usd("1")).await;
    second.run_with_session(charge(other, usd("0.01"))).await;
    shard.replica_in_use(user).await;
    let replica = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    replica.execute("SELECT pg_wal_replay_pause()", &[]).await.unwrap();

    let command = charge(user, usd("10"));
    let (outcome, first) = shard.node.run_with_session(command.clone()).await;
    let charged = decided(&outcome).0.clone();
    let from_redis = eventually("a replay from redis by a node that knows nothing of it", || async {
        let (outcome, session) = second.run_with_session(command.clone()).await;
        assert_eq!(decided(&outcome), (&charged, true));
        (second.metric("picopay_node_cache_hits_total").await > 0.0).then_some(session)
    })
    .await;
    let client = redis::Client::open(shard.cluster.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
    let (outcome, from_ledger) = second.run_with_session(command.clone()).await;
    assert_eq!(decided(&outcome), (&charged, true));

    for (session, origin) in [(from_redis, "redis"), (from_ledger, "the ledger")] {
        assert!(session.position >= first.position, "from {origin}: {session:?} < {first:?}");
        for answer in read_all(&second, &charged, Some(session)).await {
            assert!(
                shows(&answer, &charged) && answer.source == Source::Primary,
                "from {origin}: {answer:?}"
            );
        }
    }
    // A refusal is recorded at its place too.
    let too_much = command_with_key(uuid::Uuid::new_v4(), charge(user, usd("1000")).operation);
    let (_, refused) = shard.node.run_with_session(too_much).await;
    assert!(refused.position > first.position);
    shard.stop().await;
}

#[tokio::test]
async fn a_token_of_another_shard_or_timeline_is_answered_by_the_primary() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(ANY_LAG)).await;
    let user = shard.user_with(usd("100")).await;
    let (_, session) = charge_a_cent(&shard, user).await;
    let SessionToken { position: LogPosition { timeline, lsn }, .. } = session;
    let source = async |shard_name: &str, timeline, lsn| {
        let session = SessionToken::new(shard_name, LogPosition { timeline, lsn });
        shard.node.history_with(user, Some(session)).await.source
    };
    eventually("a replica that has it", || async {
        is_replica(source("shard-1", timeline, lsn).await).then_some(())
    })
    .await;
    // Each of these is long past by its number.
    for _ in 0..5 {
        assert_eq!(source("shard-2", timeline, 1).await, Source::Primary);
        assert_eq!(source("shard-1", timeline + 1, 1).await, Source::Primary);
        assert_eq!(source("shard-1", timeline - 1, 1).await, Source::Primary);
    }
    eventually("the replica again", || async {
        is_replica(source("shard-1", timeline, 1).await).then_some(())
    })
    .await;
    shard.stop().await;
}

#[tokio::test]
async fn a_promoted_replica_writes_a_timeline_of_its_own_from_its_first_moment() {
    let shard = TestShard::start_with(ClusterSpec::one_shard()).await;
    let primary = shard.cluster.connect_primary(0).await.unwrap();
    let before = Standing::read(&primary).await.unwrap().timeline.unwrap();
    shard.cluster.shard(0).primary().kill().await.unwrap();
    let promoted = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    promoted.execute("SELECT pg_promote(true, 30)", &[]).await.unwrap();
    let after = shard.cluster.shard(0).connect_replica().await.unwrap();
    assert_eq!(Standing::read(&after).await.unwrap().timeline.unwrap(), before + 1);
    shard.stop().await;
}

#[tokio::test]
async fn a_token_outlives_a_failover_and_the_next_one_is_of_the_new_timeline() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(ANY_LAG)).await;
    let user = shard.user_with(usd("100")).await;
    let (charged, before) = charge_a_cent(&shard, user).await;
    shard.cluster.shard(0).primary().kill().await.unwrap();
    shard.cluster.failover(0).await.unwrap();
    eventually("a read on the new primary", || async {
        let answer = shard.node.history_with(user, Some(before)).await;
        let is_answered = !matches!(answer.found, Found::Unavailable { .. });
        assert!(!is_answered || (shows(&answer, &charged) && answer.source == Source::Primary), "{answer:?}");
        is_answered.then_some(())
    })
    .await;
    let command = charge(user, usd("0.01"));
    let (charged, after) = eventually("a charge on the new primary", || async {
        let mut reply = shard.node.try_write(vec![command.clone()]).await.ok()?;
        let position = reply.position?;
        let charged = decided(&reply.outcomes.remove(0)).0.clone();
        Some((charged, SessionToken::new("shard-1", position)))
    })
    .await;
    assert_eq!(after.position.timeline, before.position.timeline + 1);
    assert!(after.position > before.position);
    eventually("a read on the new replica", || async {
        let answer = shard.node.history_with(user, Some(after)).await;
        assert!(shows(&answer, &charged), "{answer:?}");
        is_replica(answer.source).then_some(())
    })
    .await;
    shard.stop().await;
}
