//! A gateway's map is a hint: one that is wrong leads to a redirect, never to a wrong write.

use futures_util::future::join_all;
use picopay_local::ClusterSpec;
use picopay_shared::slot::UserId;
use uuid::Uuid;

use crate::client::{TestCluster, code_of, eventually};
use crate::load::{UserLoad, settle};

#[tokio::test]
async fn a_gateway_with_a_stale_map_reaches_the_right_shard() {
    let test = TestCluster::start(ClusterSpec::default()).await;
    let client = &test.client;
    let first = test.cluster.connect_primary(0).await.unwrap();
    let second = test.cluster.connect_primary(1).await.unwrap();
    for user in (5_000..6_000).filter(|id| UserId::try_from(*id).unwrap().slot().get() < 2048).take(5) {
        let slot = UserId::try_from(user).unwrap().slot();
        let mut moving = test.cluster.slot_move(slot, 0, 1, 1).await.unwrap();
        moving.import().await.unwrap();
        moving.release().await.unwrap();
        moving.own().await.unwrap();
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
    assert_eq!((answer.status, code_of(&answer).as_str()), (503, "slot-moving"), "{answer:?}");
    let own = "UPDATE slot_owner SET state = 'owned', owner = 'shard-1', epoch = 3 WHERE slot = $1";
    first.execute(own, &[&slot]).await.unwrap();
    eventually("the slot's return", || async {
        let answer = client.post("/users", None, &serde_json::json!({"user_id": orphan})).await.unwrap();
        (answer.status == 201).then_some(())
    })
    .await;
    test.stop().await;
}

/// The gateway polls no shard meanwhile, so its map is wrong after every move until it is redirected.
#[tokio::test]
async fn a_gateway_whose_map_is_always_old_never_writes_to_the_wrong_shard() {
    let config = "[shard_client]\npoll_interval = \"5s\"\nmove_wait = \"20s\"\nrequest_timeout = \"30s\"\n";
    let test = TestCluster::start(ClusterSpec::default().with_gateway_toml(config)).await;
    let databases =
        [test.cluster.connect_primary(0).await.unwrap(), test.cluster.connect_primary(1).await.unwrap()];
    let mut users = Vec::new();
    for _ in 0..4 {
        users.push(test.user_of_first_shard("1000").await);
    }
    let loads: Vec<UserLoad> = users.iter().map(|user| UserLoad::start(&test.client, *user)).collect();
    let mut epochs = vec![1; users.len()];
    for round in 0..5 {
        let (from, to) = (round % 2, (round + 1) % 2);
        for (user, epoch) in users.iter().zip(&mut epochs) {
            let slot = UserId::try_from(*user).unwrap().slot();
            let mut moving = test.cluster.slot_move(slot, from, to, *epoch).await.unwrap();
            moving.import().await.unwrap();
            moving.release().await.unwrap();
            moving.copy().await.unwrap();
            moving.own().await.unwrap();
            moving.purge().await.unwrap();
            *epoch = moving.epoch();
        }
    }
    let charges = join_all(loads.into_iter().map(UserLoad::end)).await;
    assert!(test.client.metric("picopay_gateway_moved_total").await >= 4.0, "it was redirected");
    for (user, charges) in users.iter().zip(charges) {
        assert!(!charges.problems.contains(&"slot-moving".to_owned()), "{:?}", charges.problems);
        settle(&test.client, *user, 100_000, charges).await;
        let count = "SELECT count(*) FROM transactions WHERE user_id = $1";
        assert_eq!(databases[0].query_one(count, &[user]).await.unwrap().get::<_, i64>(0), 0);
    }
    test.stop().await;
}
