//! A gateway's map is a hint: one that is wrong leads to a redirect, never to a wrong write.

use picopay_local::ClusterSpec;
use picopay_shared::slot::{FENCE_LOCK, UserId};
use tokio_postgres::Client as Database;
use uuid::Uuid;

use crate::client::{TestCluster, eventually};

/// Hands a slot without rows from one shard to the other, as a mover would: released first, then owned.
async fn hand_over(from: &mut Database, to: &mut Database, slot: i16, epoch: i64) {
    for (database, sql) in [
        (from, "UPDATE slot_owner SET state = 'released', owner = 'shard-2', epoch = $2 WHERE slot = $1"),
        (to, "INSERT INTO slot_owner (slot, state, owner, epoch) VALUES ($1, 'owned', 'shard-2', $2)"),
    ] {
        let change = database.transaction().await.unwrap();
        change.execute("SELECT pg_advisory_xact_lock($1)", &[&FENCE_LOCK]).await.unwrap();
        change.execute(sql, &[&slot, &epoch]).await.unwrap();
        change.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_gateway_with_a_stale_map_reaches_the_right_shard() {
    let test = TestCluster::start(ClusterSpec::default()).await;
    let client = &test.client;
    let mut first = test.cluster.connect_primary(0).await.unwrap();
    let mut second = test.cluster.connect_primary(1).await.unwrap();
    for user in (5_000..6_000).filter(|id| UserId::try_from(*id).unwrap().slot().get() < 2048).take(5) {
        let slot = UserId::try_from(user).unwrap().slot().as_i16();
        // The gateway has the old map at this very moment, and is asked to write.
        hand_over(&mut first, &mut second, slot, 2).await;
        let created = client.post("/users", None, &serde_json::json!({"user_id": user})).await.unwrap();
        assert_eq!(created.status, 201, "{created:?}");
        assert_eq!(client.top_up(user, "10").await.status, 200);
        assert_eq!(client.charge(user, Uuid::new_v4(), "4").await.status, 200);
        assert_eq!(client.balance(user).await, "6.00");
        let count = "SELECT count(*) FROM transactions WHERE user_id = $1";
        for (database, expected) in [(&first, 0), (&second, 2)] {
            assert_eq!(database.query_one(count, &[&user]).await.unwrap().get::<_, i64>(0), expected);
        }
    }

    // A slot that nobody owns: 503 slot-moving, and nothing is written anywhere.
    let orphan = (6_000..7_000).find(|id| UserId::try_from(*id).unwrap().slot().get() < 2048).unwrap();
    let slot = UserId::try_from(orphan).unwrap().slot().as_i16();
    let release = "UPDATE slot_owner SET state = 'released', owner = 'shard-2', epoch = 2 WHERE slot = $1";
    first.execute(release, &[&slot]).await.unwrap();
    let answer = client.post("/users", None, &serde_json::json!({"user_id": orphan})).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (503, "slot-moving"), "{answer:?}");
    let own = "UPDATE slot_owner SET state = 'owned', owner = 'shard-1', epoch = 3 WHERE slot = $1";
    first.execute(own, &[&slot]).await.unwrap();
    eventually("the slot's return", || async {
        let answer = client.post("/users", None, &serde_json::json!({"user_id": orphan})).await.unwrap();
        (answer.status == 201).then_some(())
    })
    .await;
    test.stop().await;
}
