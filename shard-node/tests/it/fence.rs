//! The shard's own database decides who may write a slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use picopay_shared::command::{Attempt, Moved, Operation, Outcome};
use picopay_shared::query::{Found, Query};
use picopay_shared::slot::{FENCE_LOCK, UserId};
use tokio_postgres::Client;

use crate::test_shard::{TestShard, charge, command, decided, eventually, is_completed, refund, usd};

/// Changes the owner of a user's slot as a mover does: under the exclusive lock.
async fn set_owner(database: &mut Client, user: UserId, state: &str, owner: &str, epoch: i64) {
    let change = database.transaction().await.unwrap();
    change.execute("SELECT pg_advisory_xact_lock($1)", &[&FENCE_LOCK]).await.unwrap();
    let slot = user.slot().as_i16();
    change
        .execute(
            "UPDATE slot_owner SET state = $2, owner = $3, epoch = $4 WHERE slot = $1",
            &[&slot, &state, &owner, &epoch],
        )
        .await
        .unwrap();
    change.commit().await.unwrap();
}

#[tokio::test]
async fn a_node_that_lost_a_slot_refuses_and_says_where_it_went() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let charged = shard.node.run(charge(user, usd("10"))).await;
    let charge_id = decided(&charged).0.id;
    let mut database = shard.cluster.connect_primary(0).await.unwrap();
    set_owner(&mut database, user, "released", "shard-7", 2).await;

    let moved = Moved { slot: user.slot(), owner: Some("shard-7".to_owned()), epoch: 2 };
    let neighbour = loop {
        let other = shard.user_with(usd("5")).await;
        if other.slot() != user.slot() {
            break other;
        }
    };
    let new_user = (1_000_000..2_000_000)
        .map(|id| UserId::try_from(id).unwrap())
        .find(|id| id.slot() == user.slot())
        .unwrap();
    let outcomes = shard
        .node
        .write(vec![
            charge(user, usd("1")),
            refund(charge_id, None),
            command(Operation::CreateUser { user_id: new_user }),
            charge(neighbour, usd("1")),
        ])
        .await;
    assert_eq!(outcomes[..3], [(); 3].map(|()| Outcome::Moved(moved.clone())));
    assert!(is_completed(&outcomes[3]), "a neighbour in the same batch is served");
    assert_eq!(shard.node.history(user).await.found, Found::Moved(moved.clone()));
    assert_eq!(shard.node.read(Query::Lookup { id: charge_id }).await.found, Found::Moved(moved));
    let rows = database.query_one("SELECT count(*) FROM users WHERE user_id = $1", &[&new_user.get()]).await;
    assert_eq!(rows.unwrap().get::<_, i64>(0), 0);

    set_owner(&mut database, user, "owned", "shard-1", 3).await;
    assert!(is_completed(&shard.node.run(charge(user, usd("1"))).await));
    shard.stop().await;
}

#[tokio::test]
async fn a_database_that_lost_a_change_of_owners_refuses_and_raises_the_alarm() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let ahead = Attempt { command: charge(user, usd("1")), epoch: 5 };
    let reply = shard.node.try_attempts(vec![ahead]).await.unwrap();
    assert!(matches!(reply.outcomes[0], Outcome::Unavailable { .. }));
    assert!(shard.node.metric("picopay_node_state_lost_total").await > 0.0);
    assert_eq!(shard.node.balance(user).await, "100.00");
    shard.stop().await;
}

#[tokio::test]
async fn a_slot_is_not_released_under_a_charge_that_passed_the_fence() {
    let shard = TestShard::start_patient().await;
    let user = shard.user_with(usd("100")).await;
    let held = shard.hold_user(user).await;
    let (node, command) = (shard.node.clone(), charge(user, usd("10")));
    let asked = tokio::spawn(async move { node.run(command).await });
    shard.wait_for_blocked(1, "transactionid").await;

    let mut database = shard.cluster.connect_primary(0).await.unwrap();
    database.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    let change = database.transaction().await.unwrap();
    let locked = change.execute("SELECT pg_advisory_xact_lock($1)", &[&FENCE_LOCK]).await;
    assert!(locked.is_err(), "the slot could be released between the charge's check and its booking");
    drop(change);

    held.batch_execute("COMMIT").await.unwrap();
    assert!(is_completed(&asked.await.unwrap()));
    set_owner(&mut database, user, "released", "shard-7", 2).await;
    assert!(matches!(shard.node.run(charge(user, usd("10"))).await, Outcome::Moved(_)));
    shard.stop().await;
}

/// If lock and owner were read in one statement, or in REPEATABLE READ, the charge would see the owner from before
/// its wait.
#[tokio::test]
async fn a_charge_that_waited_for_a_release_sees_the_new_owner() {
    let shard = TestShard::start_patient().await;
    let user = shard.user_with(usd("100")).await;
    let mut database = shard.cluster.connect_primary(0).await.unwrap();
    let change = database.transaction().await.unwrap();
    change.execute("SELECT pg_advisory_xact_lock($1)", &[&FENCE_LOCK]).await.unwrap();
    let (node, command) = (shard.node.clone(), charge(user, usd("10")));
    let asked = tokio::spawn(async move { node.run(command).await });
    shard.wait_for_blocked(1, "advisory").await;
    let release = "UPDATE slot_owner SET state = 'released', owner = 'shard-7', epoch = 2 WHERE slot = $1";
    change.execute(release, &[&user.slot().as_i16()]).await.unwrap();
    change.commit().await.unwrap();
    let outcome = asked.await.unwrap();
    assert!(matches!(outcome, Outcome::Moved(_)), "{outcome:?}");
    assert_eq!(shard.row_count(user).await, 1);
    shard.stop().await;
}

/// The two tests above hold single moments; this one runs into whatever moments there are.
#[tokio::test]
async fn no_charge_is_booked_after_its_slot_was_released() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100000")).await;
    let mut database = shard.cluster.connect_primary(0).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let booked = Arc::new(AtomicU64::new(0));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (node, stop, booked) = (shard.node.clone(), Arc::clone(&stop), Arc::clone(&booked));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if is_completed(&node.run(charge(user, usd("0.01"))).await) {
                        booked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let booked = || booked.load(Ordering::Relaxed);
    for round in 0..30 {
        let before = booked();
        eventually("charges", async || booked() >= before + 10).await;
        set_owner(&mut database, user, "released", "shard-7", round * 2 + 2).await;
        let before = shard.row_count(user).await;
        // Several times as long as a batch takes: what passed the fence too late would be booked by then.
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(shard.row_count(user).await, before, "round {round}: booked in a slot that was released");
        set_owner(&mut database, user, "owned", "shard-1", round * 2 + 3).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    assert_eq!(u64::try_from(shard.row_count(user).await).unwrap(), booked() + 1);
    shard.stop().await;
}
