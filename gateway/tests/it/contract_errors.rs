//! Every error of the contract, over HTTP, on a real cluster.

use http::Method;
use picopay_local::{ApiKey, ClusterSpec, LocalCluster};
use serde_json::json;
use uuid::Uuid;

use crate::api::{Api, payment};
use crate::gateway_process::key_entry;

#[tokio::test]
async fn every_error_of_the_contract_is_problem_json() {
    let slow_key = key_entry("slow", "slow-key", &["read"], "rate_per_second = 1\nburst = 2");
    let spec = ClusterSpec::one_shard()
        .with_api_key(ApiKey::new("reader", "r-key", &["read"]))
        .with_api_key(ApiKey::new("writer", "w-key", &["write"]))
        .with_gateway_toml(&slow_key);
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    what_is_wrong_with_a_request_is_told(&api).await;
    callers_are_told_what_they_may_not_do(&api).await;
    refusals_are_told_with_what_helps(&api).await;
    cluster.stop().await;
}

async fn what_is_wrong_with_a_request_is_told(api: &Api) {
    let user = api.user_with("10", "USD").await;
    let body = payment(user, "1", "USD").to_string();
    for path in
        ["/", "/chargee", "/v1", "/v1/", "/v2/charge", "/charge/", "/users/1", "/problems/none", "/docs/none"]
    {
        api.expect_problem(&api.get(path).await, 404, "not-found");
    }
    for (method, path, allow) in [
        (Method::GET, "/charge", "POST"),
        (Method::DELETE, "/v1/charge", "POST"),
        (Method::PUT, "/v1/users/1/balance", "GET,HEAD"),
        (Method::POST, "/health", "GET,HEAD"),
        (Method::OPTIONS, "/transactions", "GET,HEAD"),
    ] {
        let answer = api.call(method, path, &[], "").await;
        api.expect_problem(&answer, 405, "method-not-allowed");
        assert_eq!(answer.header("allow"), Some(allow), "{path}");
    }
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"]
    {
        let url = format!("{}/charge", api.url);
        let headers = [("x-api-key", api.key.as_str()), ("content-type", content_type)];
        let request = raw_post(&url, &headers, &body).await;
        api.expect_problem(&request, 415, "unsupported-media-type");
    }
    let large = format!("{{\"user_id\":1,\"x\":\"{}\"}}", "x".repeat(70_000));
    api.expect_problem(&api.post("/v1/charge", &large).await, 413, "too-large");
    for key in ["x", "550e8400e29b41d4a716446655440000", "\"550e8400-e29b-41d4-a716-446655440000"] {
        let answer = api.call(Method::POST, "/charge", &[("idempotency-key", key)], &body).await;
        api.expect_problem(&answer, 400, "invalid-idempotency-key");
    }
    for broken in ["{", "[]", "null", "{}x", "\u{feff}", "{\"user_id\":1,}"] {
        let problem = api.expect_problem(&api.post("/charge", broken).await, 400, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], "", "{broken}");
    }
    let many = r#"{"user_id":"1","amount":1e3,"currency":"usd","reference":7,"metadata":[],"no/te":1}"#;
    let problem = api.expect_problem(&api.post("/charge", many).await, 400, "invalid-request");
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!(
        json!(pointers),
        json!(["/no~1te", "/user_id", "/amount", "/currency", "/reference", "/metadata"])
    );
    // The key is told even when the body is wrong: the corrected request may keep it.
    let key = Uuid::new_v4();
    let answer = api.post_with("/charge", key, &json!({})).await;
    assert_eq!(answer.header("idempotency-key"), Some(key.to_string().as_str()));
    let answer = api.post_with("/charge", key, &payment(user, "1", "USD")).await;
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None), "nothing was recorded");
    for (path, parameter) in [
        ("/transactions", "user_id"),
        ("/transactions?user_id=x", "user_id"),
        ("/transactions?user_id=1&limit=101", "limit"),
        ("/transactions?user_id=1&cursor=abc", "cursor"),
        ("/transactions?user_id=1&page=2", "page"),
        ("/transactions?user_id=%zz", "user_id"),
        ("/users/0/balance", "user_id"),
        ("/users/x/balance", "user_id"),
        ("/users/%ff/balance", "user_id"),
        ("/users/1/balance?currency=usd", "currency"),
        ("/users/1/balance?consistency=maybe", "consistency"),
        ("/transactions/1", "id"),
        ("/transactions/550e8400e29b41d4a716446655440000", "id"),
        ("/transactions/550e8400-e29b-41d4-a716-446655440000?x=1", "x"),
    ] {
        let problem = api.expect_problem(&api.get(path).await, 400, "invalid-request");
        assert_eq!(problem["errors"][0]["parameter"], parameter, "{path}");
    }
}

async fn callers_are_told_what_they_may_not_do(api: &Api) {
    for key in ["", "wrong", "dev-key2"] {
        let answer = api.with_key(key).get("/users/1/balance").await;
        api.expect_problem(&answer, 401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let keyless = api.with_key("");
    let bearer =
        keyless.call(Method::GET, "/users/1/balance", &[("authorization", "bearer dev-key")], "").await;
    assert_ne!(bearer.status, 401);
    let body = payment(1, "1", "USD").to_string();
    let problem = api.expect_problem(&api.with_key("r-key").post("/charge", &body).await, 403, "forbidden");
    assert_eq!(problem["scope"], "charge");
    let problem = api.expect_problem(&api.with_key("w-key").get("/users/1/balance").await, 403, "forbidden");
    assert_eq!(problem["scope"], "read");
    // Who may not call learns nothing of what is wrong with the request.
    api.expect_problem(&api.with_key("").post("/charge", "{").await, 401, "unauthorized");
    let slow = api.with_key("slow-key");
    // More than a machine could be slow enough for: its bucket gets one more in each second.
    let answers = [(); 20].map(|()| slow.get("/users/1/balance"));
    let answers = futures_util::future::join_all(answers).await;
    let limited: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!((1..=18).contains(&limited.len()), "{answers:?}");
    api.expect_problem(limited[0], 429, "rate-limited");
    assert_eq!(limited[0].header("retry-after"), Some("1"));
    for path in ["/health", "/readyz", "/metrics", "/openapi.json", "/docs", "/problems/overloaded"] {
        assert_eq!(api.with_key("").get(path).await.status, 200, "{path} needs no key");
    }
}

async fn refusals_are_told_with_what_helps(api: &Api) {
    let user = api.user_with("10", "USD").await;
    let nobody = 9_999_999;
    for path in ["/charge", "/topup"] {
        let answer = api.pay(path, nobody, "1", "USD").await;
        api.expect_problem(&answer, 404, "user-not-found");
        assert!(answer.header("idempotency-key").is_some());
    }
    api.expect_problem(&api.get(&format!("/users/{nobody}/balance")).await, 404, "user-not-found");
    let unknown = "01a203a0-6621-892e-9356-4db70000d924";
    for id in [unknown, "550e8400-e29b-41d4-a716-446655440000"] {
        let answer = api.get(&format!("/transactions/{id}")).await;
        api.expect_problem(&answer, 404, "transaction-not-found");
        let answer = api.post("/refund", &json!({"transaction_id": id}).to_string()).await;
        api.expect_problem(&answer, 404, "transaction-not-found");
    }
    let poor =
        api.expect_problem(&api.pay("/charge", user, "10.01", "USD").await, 402, "insufficient-balance");
    assert_eq!(
        (&poor["balance"], &poor["required"], &poor["currency"]),
        (&json!("10.00"), &json!("10.01"), &json!("USD"))
    );
    let none = api.expect_problem(&api.pay("/charge", user, "1", "JPY").await, 402, "insufficient-balance");
    assert_eq!((&none["balance"], &none["required"]), (&json!("0"), &json!("1")));
    let key = Uuid::new_v4();
    let charge = api.post_with("/charge", key, &payment(user, "4", "USD")).await.json();
    let reused = api.post_with("/charge", key, &payment(user, "5", "USD")).await;
    assert_eq!(api.expect_problem(&reused, 422, "idempotency-key-reused")["differs"], json!(["amount"]));
    let id = &charge["transaction"]["id"];
    let too_much = api.post("/refund", &json!({"transaction_id": id, "amount": "4.01"}).to_string()).await;
    assert_eq!(api.expect_problem(&too_much, 422, "refund-exceeds-charge")["remaining"], "4.00");
    let too_fine = api.post("/refund", &json!({"transaction_id": id, "amount": "1.001"}).to_string()).await;
    assert_eq!(api.expect_problem(&too_fine, 400, "invalid-request")["errors"][0]["pointer"], "/amount");
    let refund = api.post("/refund", &json!({"transaction_id": id}).to_string()).await.json();
    assert_eq!(&refund["transaction"]["charge_id"], id);
    let twice =
        api.post("/refund", &json!({"transaction_id": refund["transaction"]["id"]}).to_string()).await;
    assert_eq!(api.expect_problem(&twice, 422, "not-refundable")["remaining"], "0.00");
}

/// With exactly these headers: `http_call` adds a content type of its own.
async fn raw_post(url: &str, headers: &[(&str, &str)], body: &str) -> picopay_local::http_call::Answer {
    let bytes = crate::connections::exchange(url, headers, body.as_bytes()).await;
    crate::connections::read_answer(&bytes)
}

#[tokio::test]
async fn a_shard_that_is_gone_or_frozen_costs_only_time_and_never_money() {
    let spec = ClusterSpec::one_shard().with_gateway_toml(
        "[shard_client]\nrequest_timeout = \"3s\"\ncall_timeout = \"1s\"\nconnect_timeout = \"200ms\"",
    );
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("10", "USD").await;
    let node = cluster.shard(0).node(0);
    // Frozen: it has the request, and nobody knows.
    node.freeze();
    let key = Uuid::new_v4();
    let answer = api.post_with("/charge", key, &payment(user, "3", "USD")).await;
    api.expect_problem(&answer, 504, "outcome-unknown");
    assert_eq!(answer.header("idempotency-key"), Some(key.to_string().as_str()));
    node.thaw();
    cluster.wait_until_ready().await.unwrap();
    let resolved = api.post_with("/charge", key, &payment(user, "3", "USD")).await;
    assert_eq!((resolved.status, resolved.json()["new_balance"].as_str()), (200, Some("7.00")));
    assert_eq!(api.balance(user, "USD").await, "7.00");
    // Gone: nothing was sent, and the client hears that nothing happened.
    node.kill().await.unwrap();
    let answer = api.post_with("/charge", Uuid::new_v4(), &payment(user, "3", "USD")).await;
    let body = api.expect_problem(&answer, 503, "shard-unavailable");
    assert_eq!(body["shard"], "shard-1");
    assert!(answer.header("retry-after").is_some());
    api.expect_problem(&api.get(&format!("/users/{user}/balance")).await, 503, "shard-unavailable");
    node.start().await.unwrap();
    cluster.wait_until_ready().await.unwrap();
    assert_eq!(api.balance(user, "USD").await, "7.00");
    cluster.stop().await;
}
