//! The first answer again: same status, same body, byte for byte.

use http::Method;
use picopay_local::{ClusterSpec, LocalCluster};
use serde_json::json;
use uuid::Uuid;

use crate::api::{Api, payment};

#[tokio::test]
async fn every_kind_of_answer_is_replayed_byte_for_byte() {
    // Without Redis every replay comes from the ledger, with it most come from the cache: both must be the same.
    for spec in [ClusterSpec::default(), ClusterSpec::one_shard().without_redis()] {
        let cluster = LocalCluster::start(spec).await.unwrap();
        let api = Api::new(cluster.gateway_url(), cluster.api_key());
        let user = api.user_with("100", "USD").await;
        let charge = api.pay("/charge", user, "40", "USD").await.json();
        let id = &charge["transaction"]["id"];
        let rich = json!({
            "user_id": user, "amount": 12.5, "currency": "USD", "reference": "Ünïcode \"quoted\" \\ \u{1F4B8}",
            "metadata": {"z": 1.10, "a": {"c": [1, null, true], "b": "\u{0000}x"}, "n": 123_456_789_012_345_678_u64},
        });
        for (path, body, status) in [
            ("/topup", payment(user, "5.5", "USD"), 200),
            ("/charge", rich, 200),
            ("/charge", payment(user, "1", "USD"), 200),
            ("/refund", json!({"transaction_id": id, "amount": "1"}), 200),
            ("/refund", json!({"transaction_id": id, "amount": "1000"}), 422),
            ("/charge", payment(user, "100000", "USD"), 402),
            ("/charge", payment(user, "1", "EUR"), 402),
            ("/refund", json!({"transaction_id": id}), 200),
            ("/refund", json!({"transaction_id": id}), 422),
        ] {
            let key = Uuid::new_v4();
            let first = api.post_with(path, key, &body).await;
            assert_eq!(
                (first.status, first.header("idempotent-replayed")),
                (status, None),
                "{path} {body}: {first:?}"
            );
            api.pay("/topup", user, "1", "USD").await;
            for id in ["another-request", "and~another:one"] {
                let headers = [("idempotency-key", key.to_string()), ("x-request-id", id.to_owned())];
                let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
                let again = api.call(Method::POST, path, &headers, &body.to_string()).await;
                assert_eq!((again.status, &again.body), (first.status, &first.body), "{path} {body}");
                assert_eq!(again.header("idempotent-replayed"), Some("true"), "{path} {body}");
                assert_eq!(again.header("content-type"), first.header("content-type"));
                assert_eq!(again.header("x-request-id"), Some(id), "the request's own id is its own");
                assert_eq!(again.header("idempotency-key"), Some(key.to_string().as_str()));
            }
        }
        cluster.stop().await;
    }
}

#[tokio::test]
async fn what_a_request_means_counts_and_not_how_it_is_written() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("100", "USD").await;
    let key = Uuid::new_v4();
    let quoted = format!("\"{}\"", key.to_string().to_uppercase());
    let first = api
        .post_with(
            "/charge",
            key,
            &json!({"user_id": user, "amount": "10", "currency": "USD", "metadata": {"a": 1, "b": [2]}}),
        )
        .await;
    assert_eq!(first.status, 200);
    for body in [
        format!(r#"{{"currency":"USD","amount":10.00,"user_id":{user},"metadata":{{"b":[2],"a":1}}}}"#),
        format!(
            "{{ \"metadata\" : {{ \"a\" : 1 , \"\\u0062\" : [ 2 ] }},\n\"user_id\":{user},\"amount\":\"10.0\",\"currency\":\"\\u0055SD\" }}"
        ),
    ] {
        let again = api.call(Method::POST, "/v1/charge", &[("idempotency-key", &quoted)], &body).await;
        assert_eq!((again.status, &again.body), (200, &first.body), "{body}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }
    assert_eq!(api.balance(user, "USD").await, "90.00");
    cluster.stop().await;
}
