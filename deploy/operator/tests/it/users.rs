//! Users of a cluster, and what they ask of its gateway.

use picopay_local::LocalCluster;
use picopay_local::http_call::Answer;
use serde_json::json;

pub async fn make_user(cluster: &LocalCluster, user_id: i64) {
    let made = cluster.post("/users", None, &json!({"user_id": user_id})).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.body);
    let topup = json!({"user_id": user_id, "amount": "100.00", "currency": "USD"});
    let funded = cluster.post("/topup", None, &topup).await.unwrap();
    assert_eq!(funded.status, 200, "{}", funded.body);
}

pub async fn charge(cluster: &LocalCluster, user_id: i64, key: &str) -> Answer {
    let charge = json!({"user_id": user_id, "amount": "1.00", "currency": "USD"});
    cluster.post("/charge", Some(key), &charge).await.unwrap()
}
