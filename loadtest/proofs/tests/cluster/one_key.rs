//! One idempotency key, one transaction, one answer.

use futures_util::future::join_all;
use picopay_local::ClusterSpec;
use serde_json::json;
use uuid::Uuid;

use crate::client::{TestCluster, code_of};

/// Interleavings: in one batch, in several, on two node processes, before and after the cache is filled.
async fn fifty_clients(spec: ClusterSpec) {
    let test = TestCluster::start(spec.with_nodes_per_shard(2)).await;
    let user = test.user_with("100").await;
    let key = Uuid::new_v4();
    let answers = join_all((0..50).map(|_| test.client.charge(user, key, "10"))).await;
    assert!(answers.iter().all(|answer| (answer.status, &answer.body) == (200, &answers[0].body)));
    assert_eq!(answers.iter().filter(|answer| answer.is_replayed()).count(), 49);
    assert_eq!(test.client.balance(user).await, "90.00");
    assert_eq!(test.client.history(user).await.len(), 2);
    test.stop().await;
}

#[tokio::test]
async fn fifty_clients_with_one_key_get_fifty_equal_bodies() {
    fifty_clients(ClusterSpec::default()).await;
}

#[tokio::test]
async fn fifty_clients_with_one_key_get_fifty_equal_bodies_without_redis() {
    fifty_clients(ClusterSpec::default().without_redis()).await;
}

async fn one_key_of_many_users(spec: ClusterSpec) {
    let test = TestCluster::start(spec).await;
    let key = Uuid::new_v4();
    let mut users = Vec::new();
    for _ in 0..8 {
        users.push(test.user_with("100").await);
    }
    let mut first_bodies = Vec::new();
    for round in 0..3 {
        let answers = join_all(users.iter().map(|user| test.client.charge(*user, key, "10"))).await;
        for (position, (user, answer)) in users.iter().zip(answers).enumerate() {
            assert_eq!(answer.json()["transaction"]["user_id"], json!(user));
            assert_eq!(answer.is_replayed(), round > 0);
            if round == 0 {
                first_bodies.push(answer.body);
            } else {
                assert_eq!(answer.body, first_bodies[position]);
            }
        }
    }
    test.stop().await;
}

#[tokio::test]
async fn no_user_ever_sees_anothers_answer() {
    one_key_of_many_users(ClusterSpec::default()).await;
}

#[tokio::test]
async fn no_user_ever_sees_anothers_answer_without_redis() {
    one_key_of_many_users(ClusterSpec::default().without_redis()).await;
}

#[tokio::test]
async fn a_key_stands_for_its_first_request_whatever_its_answer_was() {
    let test = TestCluster::start(ClusterSpec::default().with_shards(1)).await;
    let client = &test.client;
    let user = test.user_with("5").await;
    let key = Uuid::new_v4();
    let refused = client.charge(user, key, "10").await;
    assert_eq!((refused.status, code_of(&refused).as_str()), (402, "insufficient-balance"));
    client.top_up(user, "100").await;
    // Also by a client that writes the same amount another way, with another request id.
    for amount in ["10", "10.0", "10.00"] {
        let again = client.charge(user, key, amount).await;
        assert_eq!((again.status, again.is_replayed()), (402, true));
        assert_eq!(again.body, refused.body, "byte for byte");
    }
    for (path, body, differs) in [
        ("/charge", json!({"user_id": user, "amount": "11", "currency": "USD"}), json!(["amount"])),
        ("/charge", json!({"user_id": user, "amount": "10", "currency": "EUR"}), json!(["currency"])),
        ("/topup", json!({"user_id": user, "amount": "10", "currency": "USD"}), json!(["operation"])),
    ] {
        let answer = client.post(path, Some(key), &body).await.unwrap();
        assert_eq!((answer.status, code_of(&answer).as_str()), (422, "idempotency-key-reused"));
        assert_eq!(answer.json()["differs"], differs);
    }
    assert_eq!(client.balance(user).await, "105.00");
    test.stop().await;
}
