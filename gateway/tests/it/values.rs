//! The contract's "Values", over HTTP.

use picopay_local::{ClusterSpec, LocalCluster, eventually};
use serde_json::json;

use crate::api::Api;

#[tokio::test]
async fn amounts_users_and_currencies_are_what_the_contract_says() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("1", "USD").await;
    for (amount, currency, told) in [
        ("\"50.00\"", "USD", "50.00"),
        ("50", "USD", "50.00"),
        ("50.5", "USD", "50.50"),
        ("0.01", "USD", "0.01"),
        // No float has this value.
        ("12345678901234.56", "EUR", "12345678901234.56"),
        ("99999999999999.99", "CHF", "99999999999999.99"),
        ("\"1\"", "JPY", "1"),
        ("1.234", "BHD", "1.234"),
        ("1.2", "KWD", "1.200"),
        ("0.1", "UYW", "0.1000"),
    ] {
        let body = format!(r#"{{"user_id":{user},"amount":{amount},"currency":"{currency}"}}"#);
        let answer = api.post("/topup", &body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        assert_eq!(answer.json()["transaction"]["amount"], told, "{body}");
    }
    for (amount, currency) in [
        ("\"1_000\"", "USD"),
        ("\"+5\"", "USD"),
        ("1e3", "USD"),
        ("1.0e0", "USD"),
        ("\"1.234\"", "USD"),
        ("\"1.100\"", "USD"),
        ("1.100", "USD"),
        ("-1", "USD"),
        ("NaN", "USD"),
        ("\"NaN\"", "USD"),
        ("Infinity", "USD"),
        ("\"0\"", "USD"),
        ("0.00", "USD"),
        ("\"00.5\"", "USD"),
        ("01", "USD"),
        ("\"1.\"", "USD"),
        ("\" 1\"", "USD"),
        ("\"１\"", "USD"),
        ("\"100000000000000\"", "USD"),
        ("\"1.0\"", "JPY"),
        ("\"1.2345\"", "BHD"),
        ("null", "USD"),
        ("[1]", "USD"),
        ("1", "usd"),
        ("1", "US"),
        ("1", "XXZ"),
        ("1", "USDT"),
        ("1", ""),
    ] {
        let body = format!(r#"{{"user_id":{user},"amount":{amount},"currency":"{currency}"}}"#);
        api.expect_problem(&api.post("/topup", &body).await, 400, "invalid-request");
    }
    for id in ["0", "-1", "1.0", "1e0", "\"1\"", "9223372036854775808", "null", "true"] {
        let answer = api.post("/users", &format!("{{\"user_id\":{id}}}")).await;
        api.expect_problem(&answer, 400, "invalid-request");
    }
    let largest = i64::MAX;
    for status in [201, 200] {
        let answer = api.post("/v1/users", &json!({"user_id": largest}).to_string()).await;
        assert_eq!((answer.status, answer.body), (status, format!("{{\"user_id\":{largest}}}")));
    }
    cluster.stop().await;
}

#[tokio::test]
async fn balances_and_transactions_read_as_the_contract_shows_them() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("1000", "USD").await;
    let key = "550e8400-e29b-41d4-a716-446655440000";
    let answer = api
        .call(
            http::Method::POST,
            "/charge",
            &[("idempotency-key", key), ("x-request-id", "mine")],
            &format!(r#"{{"user_id":{user},"amount":50,"currency":"USD"}}"#),
        )
        .await;
    let charge = answer.json();
    let (id, created_at) = (&charge["transaction"]["id"], &charge["transaction"]["created_at"]);
    let transaction = format!(
        r#"{{"id":{id},"user_id":{user},"kind":"charge","status":"completed","amount":"50.00","currency":"USD","balance_after":"950.00","idempotency_key":"{key}","created_at":{created_at}}}"#
    );
    assert_eq!(answer.body, format!(r#"{{"transaction":{transaction},"new_balance":"950.00"}}"#));
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(created_at.as_str().unwrap().len(), "2026-11-22T12:00:00.123Z".len());
    let id = id.as_str().unwrap();
    let lookup = eventually("the charge, looked up", async || {
        Some(api.get(&format!("/transactions/{id}")).await).filter(|answer| answer.status == 200)
    })
    .await;
    let seen = transaction.strip_suffix('}').unwrap();
    assert_eq!(lookup.body, format!(r#"{{"transaction":{seen},"made_by":"dev"}}}}"#));
    api.pay("/topup", user, "7", "EUR").await;
    for (query, body) in [
        (
            "",
            format!(
                r#"{{"user_id":{user},"balances":[{{"currency":"EUR","balance":"7.00","held":"0.00","available":"7.00"}},{{"currency":"USD","balance":"950.00","held":"0.00","available":"950.00"}}]}}"#
            ),
        ),
        (
            "?currency=USD",
            format!(
                r#"{{"user_id":{user},"currency":"USD","balance":"950.00","held":"0.00","available":"950.00"}}"#
            ),
        ),
        (
            "?currency=JPY&consistency=strong",
            format!(r#"{{"user_id":{user},"currency":"JPY","balance":"0","held":"0","available":"0"}}"#),
        ),
    ] {
        let answer = api.get(&format!("/users/{user}/balance{query}")).await;
        assert_eq!(answer.body, body);
        assert_eq!(answer.header("picopay-source"), Some("primary"));
    }
    let eventual = api.get(&format!("/users/{user}/balance?consistency=eventual")).await;
    match eventual.header("picopay-source") {
        Some("replica") => assert!(eventual.header("picopay-lag-ms").is_some()),
        source => assert_eq!(source, Some("primary")),
    }
    let head = api.call(http::Method::HEAD, &format!("/users/{user}/balance"), &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    cluster.stop().await;
}
