//! While a slot changes hands, and after, every answer shows all of its user's rows or says that they are elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use picopay_local::{ClusterSpec, LocalCluster};
use picopay_shared::query::{Consistency, Found, HistoryQuery, Query, Source};
use picopay_shared::session::{LogPosition, SessionToken};
use picopay_shared::slot::UserId;

use crate::test_shard::{NodeClient, TestShard, charge, decided, eventually, is_completed, refund, usd};

async fn two_shards_and_a_user() -> (TestShard, NodeClient, UserId) {
    let first = TestShard::start_with(ClusterSpec::default()).await;
    let second = NodeClient::new(&first.cluster.node_url(1, 0), first.cluster.internal_secret());
    let user = (1_000_000..2_000_000)
        .map(|id| UserId::try_from(id).unwrap())
        .find(|id| id.slot().get() < 2_048)
        .unwrap();
    first.fund(user, usd("100")).await;
    for _ in 0..4 {
        assert!(is_completed(&first.node.run(charge(user, usd("1"))).await));
    }
    (first, second, user)
}

const ROWS: usize = 5;

fn row_count(found: &Found) -> Option<usize> {
    match found {
        Found::History { transactions, .. } => Some(transactions.len()),
        // Or no answer in time, on a machine that is busy: then nothing is claimed.
        Found::Moved(_) | Found::Unavailable { .. } => None,
        other => panic!("{other:?}"),
    }
}

/// A token with which only the primary may answer, as every token of the shard that a slot came from.
fn token_of_another_shard() -> SessionToken {
    SessionToken::new("shard-7", LogPosition { timeline: 1, lsn: 1 })
}

/// Interleaving: the owner is read, the slot is released, its rows are purged, the rows are read. The last step is held
/// back here by a lock on the tables of the rows.
#[tokio::test]
async fn a_read_that_meets_a_purge_does_not_show_half_a_history() {
    let shard = TestShard::start_patient().await;
    for what in ["history", "balance", "lookup"] {
        let user = shard.user_with(usd("100")).await;
        let id = decided(&shard.node.run(charge(user, usd("10"))).await).0.id;
        let query = match what {
            "history" => Query::History(HistoryQuery {
                user_id: user,
                limit: 100,
                before: None,
                kind: None,
                from_ms: None,
                to_ms: None,
                takes_short_pages: true,
            }),
            "balance" => Query::Balance { user_id: user, currency: None, consistency: Consistency::Strong },
            _ => Query::Lookup { id },
        };
        let mut database = shard.cluster.connect_primary(0).await.unwrap();
        let purge = database.transaction().await.unwrap();
        // Only what holds the rows: a read that asks for the owner first is to get that far.
        let table = if what == "balance" { "balances" } else { "transactions" };
        purge.batch_execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await.unwrap();
        let node = shard.node.clone();
        let asked = tokio::spawn(async move { node.read_with(query, Some(token_of_another_shard())).await });
        shard.wait_for_blocked(1, "relation").await;
        let slot = user.slot().as_i16();
        for step in [
            "UPDATE slot_owner SET state = 'released', owner = 'shard-2', epoch = 2 WHERE slot = $1",
            "DELETE FROM transactions WHERE slot = $1",
            "DELETE FROM balances WHERE slot = $1",
        ] {
            purge.execute(step, &[&slot]).await.unwrap();
        }
        purge.commit().await.unwrap();
        let answer = asked.await.unwrap();
        assert!(matches!(answer.found, Found::Moved(_)), "{what}: {answer:?}");
        assert_eq!(answer.source, Source::Primary);
    }
    shard.stop().await;
}

#[tokio::test]
async fn a_replica_of_the_target_answers_once_its_own_copy_says_owned() {
    let (first, second, user) = two_shards_and_a_user().await;
    let mut moving = first.cluster.slot_move(user.slot(), 0, 1, 1).await.unwrap();
    moving.import().await.unwrap();
    moving.copy().await.unwrap();
    // The replica has all rows, and will not hear of the new owner.
    let replica = first.cluster.shard(1).connect_replica_as_superuser().await.unwrap();
    eventually("the rows on the replica", || async {
        let count = "SELECT count(*) FROM transactions WHERE user_id = $1";
        let rows: i64 = replica.query_one(count, &[&user.get()]).await.unwrap().get(0);
        (usize::try_from(rows).unwrap() == ROWS).then_some(())
    })
    .await;
    replica.execute("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    eventually("a replay that stands still", || async {
        let state: String =
            replica.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await.unwrap().get(0);
        (state == "paused").then_some(())
    })
    .await;
    assert_eq!(row_count(&second.history(user).await.found), None, "owned by nobody yet");
    moving.release().await.unwrap();
    moving.own().await.unwrap();
    let answer = second.history(user).await;
    assert_eq!((row_count(&answer.found), answer.source), (Some(ROWS), Source::Primary));

    // What its clients wrote before, they see: a token of the old shard leads past every replica of the new one.
    replica.execute("SELECT pg_wal_replay_resume()", &[]).await.unwrap();
    eventually("a history from the target's replica", || async {
        let answer = second.history(user).await;
        assert_eq!(row_count(&answer.found), Some(ROWS));
        matches!(answer.source, Source::Replica { .. }).then_some(())
    })
    .await;
    let token = SessionToken::new("shard-1", LogPosition { timeline: 1, lsn: 1 });
    let answer = second.history_with(user, Some(token)).await;
    assert_eq!((row_count(&answer.found), answer.source), (Some(ROWS), Source::Primary));
    first.stop().await;
}

#[tokio::test]
async fn an_id_made_before_the_move_finds_its_transaction_and_can_be_refunded_once() {
    let (first, second, user) = two_shards_and_a_user().await;
    let charged = first.node.run(charge(user, usd("10"))).await;
    let charged = decided(&charged).0.clone();
    let half = refund(charged.id, Some("5"));
    assert!(is_completed(&first.node.run(half.clone()).await));
    let mut moving = first.cluster.slot_move(user.slot(), 0, 1, 1).await.unwrap();
    moving.import().await.unwrap();
    moving.release().await.unwrap();
    moving.copy().await.unwrap();
    moving.own().await.unwrap();
    let lookup = second.read(Query::Lookup { id: charged.id }).await;
    assert_eq!(lookup.found, Found::Transaction(Box::new(charged.clone())));
    // The refund from before, again, is a replay there, and the bound of refunds has moved with the charge.
    let again = second.run(half).await;
    assert!(decided(&again).1, "{again:?}");
    assert!(is_completed(&second.run(refund(charged.id, Some("5"))).await));
    assert!(!is_completed(&second.run(refund(charged.id, Some("0.01"))).await));
    assert_eq!(second.balance(user).await, "96.00");
    first.stop().await;
}

/// The tests above stop at single moments. This one runs through many: moves in both directions, replicas held back at
/// different times, and the source's rows purged at once.
#[tokio::test]
async fn wherever_a_slot_is_its_history_is_whole() {
    let (first, second, user) = two_shards_and_a_user().await;
    let stop = Arc::new(AtomicBool::new(false));
    let whole = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..6)
        .map(|number| {
            let node = if number % 2 == 0 { first.node.clone() } else { second.clone() };
            let (stop, whole) = (Arc::clone(&stop), Arc::clone(&whole));
            let token = (number < 2).then(token_of_another_shard);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = node.history_with(user, token).await;
                    if let Some(rows) = row_count(&answer.found) {
                        assert_eq!(rows, ROWS, "reader {number}: {answer:?}");
                        whole.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let mut epoch = 1;
    for round in 0..12 {
        let (from, to) = (round % 2, (round + 1) % 2);
        let held = hold_replay(&first.cluster, [None, Some(from), Some(to)][round % 3]).await;
        let mut moving = first.cluster.slot_move(user.slot(), from, to, epoch).await.unwrap();
        moving.import().await.unwrap();
        moving.release().await.unwrap();
        moving.copy().await.unwrap();
        moving.own().await.unwrap();
        moving.purge().await.unwrap();
        epoch = moving.epoch();
        if let Some(replica) = held {
            replica.execute("SELECT pg_wal_replay_resume()", &[]).await.unwrap();
        }
        let before = whole.load(Ordering::Relaxed);
        eventually("reads at the new place", || async {
            (whole.load(Ordering::Relaxed) > before + 20).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    first.stop().await;
}

async fn hold_replay(cluster: &LocalCluster, shard: Option<usize>) -> Option<tokio_postgres::Client> {
    let replica = cluster.shard(shard?).connect_replica_as_superuser().await.unwrap();
    replica.execute("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    Some(replica)
}
