//! No clock but the primary's says when something was booked, and none at all in which order.

use std::time::Duration;

use jiff::Timestamp;
use picopay_local::ClusterSpec;
use picopay_shared::command::Transaction;
use picopay_shared::id::{Stamp, TransactionId};
use picopay_shared::query::Found;
use picopay_shared::slot::UserId;

use crate::test_shard::{NodeClient, TestShard, charge, decided, is_completed, top_up, usd};

async fn history(node: &NodeClient, user: UserId) -> Vec<Transaction> {
    let Found::History { mut transactions, .. } = node.history_with(user, None).await.found else {
        panic!("no history")
    };
    transactions.reverse();
    transactions
}

/// By how many seconds the ledger's times of this user differ from what its clock says now, at most.
async fn seconds_off(shard: &TestShard, position: usize, user: UserId) -> f64 {
    let database = shard.cluster.connect_primary(position).await.unwrap();
    let sql = "SELECT max(abs(extract(epoch FROM clock_timestamp() - created_at)))::float8 FROM transactions WHERE user_id = $1";
    database.query_one(sql, &[&user.get()]).await.unwrap().get(0)
}

#[tokio::test]
async fn nodes_whose_clocks_are_ten_minutes_off_book_in_order_and_at_the_primarys_time() {
    let spec = ClusterSpec::one_shard()
        .with_nodes_per_shard(2)
        .with_toml_of_node(1, "[testing]\nclock_offset_seconds = 600")
        .with_toml_of_node(2, "[testing]\nclock_offset_seconds = -600");
    let shard = TestShard::start_with(spec).await;
    let began = Timestamp::now();
    let user = shard.user_with(usd("100")).await;
    let (ahead, behind) = (shard.node.clone(), shard.second_node());
    let mut booked = Vec::new();
    for round in 0..10 {
        let node = if round % 2 == 0 { &ahead } else { &behind };
        let sums = ["1", "1000", "0.01", "2"];
        let outcomes = node.write(sums.map(|sum| charge(user, usd(sum))).to_vec()).await;
        booked.extend(outcomes.iter().filter(|one| is_completed(one)).map(|one| decided(one).0.id));
    }
    assert_eq!(booked.len(), 30);
    assert!(booked.windows(2).all(|pair| pair[0] < pair[1]), "ids rise in the order of booking: {booked:?}");
    let seen: Vec<TransactionId> =
        history(&ahead, user).await.iter().skip(1).map(|transaction| transaction.id).collect();
    assert_eq!(seen, booked, "history is in the order of booking");
    // All of it was booked since this test began, by the one clock that this machine has for the primary and for the test.
    let off = seconds_off(&shard, 0, user).await;
    let now = Timestamp::now();
    let took = now.duration_since(began).as_secs_f64();
    assert!(off <= took, "created_at is {off} s off the primary's clock, and this test took {took} s");
    let meanwhile = began.as_millisecond()..=now.as_millisecond();
    assert!(booked.iter().all(|id| meanwhile.contains(&id.unix_ms())), "ids say the same time as created_at");
    shard.stop().await;
}

/// A database's clock cannot be set here. The same is to be seen from the other side: the ids that a user has lie ahead.
#[tokio::test]
async fn ids_rise_above_those_that_lie_ahead_of_the_primarys_clock() {
    let shard = TestShard::start().await;
    let (user, other) = (shard.user_with(usd("100")).await, shard.user_with(usd("100")).await);
    // Of the user's balances the highest counts, whichever currency is booked next.
    let euros =
        picopay_shared::money::Money::parse("5", picopay_shared::money::Currency::parse("EUR").unwrap())
            .unwrap();
    assert!(is_completed(&shard.node.run(top_up(user, euros)).await));
    let ahead = Timestamp::now() + Duration::from_mins(10);
    let database = shard.cluster.connect_primary(0).await.unwrap();
    let lift = "UPDATE balances SET last_stamp = $2 WHERE user_id = $1 AND currency = 'EUR'";
    let stamp = Stamp::at(ahead.as_microsecond()).to_ledger();
    assert_eq!(database.execute(lift, &[&user.get(), &stamp]).await.unwrap(), 1);
    let mut before = TransactionId::first_at(ahead.as_millisecond());
    for _ in 0..3 {
        let batch = vec![charge(user, usd("1")), charge(other, usd("1")), charge(user, usd("1"))];
        let outcomes = shard.node.write(batch).await;
        let ids: Vec<TransactionId> = outcomes.iter().map(|outcome| decided(outcome).0.id).collect();
        assert!(before < ids[0] && ids[0] < ids[2], "{before} {ids:?}");
        assert!(ids[1].unix_ms() < Timestamp::now().as_millisecond() + 1, "a neighbour goes by the clock");
        before = ids[2];
    }
    let kept = "SELECT last_stamp FROM balances WHERE user_id = $1 AND currency = 'USD'";
    let kept: i64 = database.query_one(kept, &[&user.get()]).await.unwrap().get(0);
    assert!(kept > stamp, "the row that was booked keeps the last one");
    let row = "SELECT id, created_at FROM transactions WHERE user_id = $1 ORDER BY id DESC LIMIT 1";
    let row = database.query_one(row, &[&user.get()]).await.unwrap();
    assert_eq!(TransactionId::from_uuid(row.get(0)).unix_ms(), row.get::<_, Timestamp>(1).as_millisecond());
    shard.stop().await;
}

#[tokio::test]
async fn ids_go_on_rising_at_a_shard_whose_clock_is_behind() {
    let first = TestShard::start_with(ClusterSpec::default()).await;
    let second = NodeClient::new(&first.cluster.node_url(1, 0), first.cluster.internal_secret());
    let user = first.user_in_first_half(usd("100")).await;
    let database = first.cluster.connect_primary(0).await.unwrap();
    let stamp = Stamp::at((Timestamp::now() + Duration::from_mins(10)).as_microsecond()).to_ledger();
    database
        .execute("UPDATE balances SET last_stamp = $2 WHERE user_id = $1", &[&user.get(), &stamp])
        .await
        .unwrap();
    let before = decided(&first.node.run(charge(user, usd("1"))).await).0.id;
    let mut moved = first.cluster.slot_move(user.slot(), 0, 1, 1).await.unwrap();
    moved.import().await.unwrap();
    moved.release().await.unwrap();
    moved.copy().await.unwrap();
    moved.own().await.unwrap();
    let after = decided(&second.run(charge(user, usd("1"))).await).0.id;
    assert!(before < after, "{before} {after}");
    first.stop().await;
}
