//! Nobody spends what is not there.

use futures_util::future::join_all;
use picopay_local::ClusterSpec;
use serde_json::json;
use uuid::Uuid;

use crate::client::{TestCluster, code_of};

#[tokio::test]
async fn a_hundred_clients_charge_exactly_what_is_there_and_refund_no_more_than_was_charged() {
    let test = TestCluster::start(ClusterSpec::default().with_nodes_per_shard(2)).await;
    let client = &test.client;
    let user = test.user_with("100").await;
    let answers = join_all((0..100).map(|_| client.charge(user, Uuid::new_v4(), "3"))).await;
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(402)), (33, 67));
    assert_eq!(client.balance(user).await, "1.00");

    let user = test.user_with("100").await;
    let charged = client.charge(user, Uuid::new_v4(), "100").await.json();
    let body = json!({"transaction_id": charged["transaction"]["id"], "amount": "60.00"});
    let refunds = join_all((0..2).map(|_| client.post("/refund", None, &body))).await;
    let mut refunds: Vec<_> = refunds.into_iter().flatten().collect();
    refunds.sort_by_key(|answer| answer.status);
    assert_eq!((refunds[0].status, refunds[1].status), (200, 422));
    assert_eq!(
        (code_of(&refunds[1]).as_str(), &refunds[1].json()["remaining"]),
        ("refund-exceeds-charge", &json!("40.00"))
    );
    assert_eq!(refunds[0].json()["transaction"]["charge_id"], charged["transaction"]["id"]);
    assert_eq!(client.balance(user).await, "60.00");
    test.stop().await;
}
