//! Transfers over HTTP: between shards and within one, refusals, replays, histories.

use futures_util::future::join_all;
use http::Method;
use picopay_local::http_call::{self, Answer};
use picopay_local::{ApiKey, ClusterSpec, LocalCluster, eventually, metric_sum, programs};
use picopay_shared::slot::UserId;
use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

use crate::api::{Api, payment};

pub fn transfer(from: i64, to: i64, amount: &str, currency: &str) -> Value {
    json!({"from_user_id": from, "to_user_id": to, "amount": amount, "currency": currency})
}

/// Two users with as much on each of the two shards, whose slots were dealt out in halves.
pub async fn users_of_both(api: &Api, amount: &str, currency: &str) -> [[i64; 2]; 2] {
    let mut users = [Vec::new(), Vec::new()];
    while users.iter().any(|users| users.len() < 2) {
        let user = api.user_with(amount, currency).await;
        users[usize::from(UserId::try_from(user).unwrap().slot().get() / 2_048)].push(user);
    }
    users.map(|users| [users[0], users[1]])
}

/// A user who does not exist, whose shard would be this one.
pub fn nobody_of(shard: u16) -> i64 {
    (900_000..910_000).find(|id| UserId::try_from(*id).unwrap().slot().get() / 2_048 == shard).unwrap()
}

/// The operator's own proof: nothing doubled, nothing lost, and the books of each shard add up.
pub async fn verify(cluster: &LocalCluster) {
    let mut verify = Command::new(programs::find_picopay("picopay").unwrap());
    verify.arg("verify").arg("--cluster").arg(cluster.cluster_file());
    let said = verify.output().await.unwrap();
    assert!(said.status.success(), "{said:?}");
}

async fn history(api: &Api, user: i64, query: &str, session: Option<&Answer>) -> Vec<Value> {
    let token = session.and_then(|answer| answer.header("picopay-session")).unwrap_or_default();
    let path = format!("/transactions?user_id={user}{query}");
    let page = api.call(Method::GET, &path, &[("picopay-session", token)], "").await.json();
    page["data"].as_array().unwrap_or_else(|| panic!("{page}")).clone()
}

#[tokio::test]
async fn money_goes_to_a_user_of_the_same_shard_and_of_another_once() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    for (currency, all, amount, left, more) in [
        ("USD", "100.00", "30.50", "69.50", "130.50"),
        ("JPY", "100", "30", "70", "130"),
        ("BHD", "100.000", "30.125", "69.875", "130.125"),
    ] {
        let [[one, same], [other, _]] = users_of_both(&api, all, currency).await;
        let newcomer = api.user_with("1", "EUR").await;
        for (from, to, to_has) in [(one, same, more), (other, newcomer, amount)] {
            let key = Uuid::new_v4();
            let mut wish = transfer(from, to, amount, currency);
            wish["reference"] = json!("rent");
            wish["metadata"] = json!({"b": 1, "a": []});
            let answer = api.post_with("/v1/transfers", key, &wish).await;
            let body = answer.json();
            let made = body["transfer"].clone();
            assert_eq!((answer.status, &body["new_balance"]), (200, &json!(left)), "{answer:?}");
            assert!(answer.header("picopay-session").is_some() && made["reason"].is_null(), "{answer:?}");
            assert_eq!(answer.header("idempotency-key"), Some(key.to_string().as_str()));
            for (name, value) in [
                ("status", json!("completed")),
                ("from_user_id", json!(from)),
                ("to_user_id", json!(to)),
                ("amount", json!(amount)),
                ("currency", json!(currency)),
                ("idempotency_key", json!(key)),
                ("reference", json!("rent")),
                ("metadata", json!({"a": [], "b": 1})),
            ] {
                assert_eq!(made[name], value, "{name} in {body}");
            }
            assert!(
                made["created_at"].as_str() <= made["completed_at"].as_str()
                    && made["completed_at"].is_string()
            );
            let id = made["id"].as_str().unwrap();
            let seen = api.get(&format!("/transfers/{id}")).await;
            assert_eq!(
                (seen.json(), seen.header("picopay-source")),
                (json!({"transfer": made}), Some("primary"))
            );
            assert_eq!([api.balance(from, currency).await, api.balance(to, currency).await], [left, to_has]);

            let again = api.post_with("/transfers", key, &wish).await;
            assert_eq!((again.status, &again.body), (200, &answer.body));
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(api.balance(from, currency).await, left);

            let out = history(&api, from, "&kind=transfer_out", Some(&answer)).await;
            assert_eq!(out.len(), 1);
            for (name, value) in [
                ("id", json!(id)),
                ("transfer_id", json!(id)),
                ("to_user_id", json!(to)),
                ("balance_after", json!(left)),
                ("idempotency_key", json!(key)),
                ("reference", json!("rent")),
            ] {
                assert_eq!(out[0][name], value, "{name} in {}", out[0]);
            }
            assert!(out[0]["from_user_id"].is_null() && out[0]["made_by"].is_string());
            let came = eventually("the recipient's history at a replica", async || {
                history(&api, to, "&kind=transfer_in", None).await.first().cloned()
            })
            .await;
            for (name, value) in [
                ("transfer_id", json!(id)),
                ("from_user_id", json!(from)),
                ("balance_after", json!(to_has)),
                ("idempotency_key", Value::Null),
                ("reference", json!("rent")),
            ] {
                assert_eq!(came[name], value, "{name} in {came}");
            }
            assert!(came["to_user_id"].is_null() && came["id"] != json!(id) && came["made_by"].is_string());
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn what_moves_nothing_is_told() {
    let spec = ClusterSpec::default()
        .with_api_key(ApiKey::new("till", "till-key", &["charge", "topup", "refund", "read"]))
        .with_api_key(ApiKey::new("sender", "s-key", &["transfer"]));
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let [[one, _], [other, third]] = users_of_both(&api, "100", "USD").await;
    let send = async |key: Uuid, wish: &Value| api.post_with("/transfers", key, wish).await;

    // Held money is not there for a transfer. The refusal is kept under its key, whatever comes later.
    assert_eq!(api.pay("/holds", one, "60", "USD").await.status, 200);
    let (key, wish) = (Uuid::new_v4(), transfer(one, other, "50", "USD"));
    let refused = send(key, &wish).await;
    let problem = api.expect_problem(&refused, 402, "insufficient-balance");
    assert_eq!((&problem["available"], &problem["required"]), (&json!("40.00"), &json!("50.00")));
    assert!(problem["detail"].as_str().unwrap().contains("the transfer needs"), "{problem}");
    assert!(refused.header("picopay-session").is_some());
    assert_eq!(api.pay("/topup", one, "100", "USD").await.status, 200);
    let again = send(key, &wish).await;
    assert_eq!((again.status, &again.body), (402, &refused.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));

    // Nobody: nothing is recorded, and the same key moves the money once there is somebody.
    for (from, to, absent) in [
        (one, nobody_of(0), nobody_of(0)),
        (one, nobody_of(1), nobody_of(1)),
        (nobody_of(0), one, nobody_of(0)),
    ] {
        let key = Uuid::new_v4();
        for _ in 0..2 {
            let answer = send(key, &transfer(from, to, "1", "USD")).await;
            assert_eq!(api.expect_problem(&answer, 404, "user-not-found")["user_id"], absent);
        }
        let answer = api.post("/transfers", &transfer(from, to, "1", "USD").to_string()).await;
        api.expect_problem(&answer, 404, "user-not-found");
        assert_eq!(api.balance(one, "USD").await, "200.00");
    }
    let (key, newcomer) = (Uuid::new_v4(), nobody_of(1));
    assert_eq!(send(key, &transfer(one, newcomer, "1", "USD")).await.status, 404);
    assert_eq!(api.post("/users", &json!({"user_id": newcomer}).to_string()).await.status, 201);
    let moved = send(key, &transfer(one, newcomer, "1", "USD")).await;
    assert_eq!((moved.status, moved.header("idempotent-replayed")), (200, None), "{moved:?}");

    // The key for anything else, also for a recipient who does not exist.
    for (wish, differs) in [
        (transfer(one, third, "1", "USD"), "to_user_id"),
        (transfer(one, nobody_of(0), "1", "USD"), "to_user_id"),
        (transfer(one, newcomer, "2", "USD"), "amount"),
        (transfer(one, newcomer, "1", "EUR"), "currency"),
    ] {
        let problem = api.expect_problem(&send(key, &wish).await, 422, "idempotency-key-reused");
        assert_eq!(problem["differs"], json!([differs]), "{wish}");
    }
    let charge = api.post_with("/charge", key, &payment(one, "1", "USD")).await;
    assert_eq!(api.expect_problem(&charge, 422, "idempotency-key-reused")["differs"][0], "operation");

    for (wish, pointer) in [
        (transfer(one, one, "1", "USD"), "/to_user_id"),
        (transfer(one, other, "1", "HRK"), "/currency"),
        (transfer(one, other, "1.234", "USD"), "/amount"),
    ] {
        let problem = api.expect_problem(&send(Uuid::new_v4(), &wish).await, 400, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{wish}");
    }
    let answer =
        api.with_key("till-key").post("/transfers", &transfer(one, other, "1", "USD").to_string()).await;
    assert_eq!(api.expect_problem(&answer, 403, "forbidden")["scope"], "transfer");
    let sender = api.with_key("s-key");
    assert_eq!(sender.post("/transfers", &transfer(one, other, "1", "USD").to_string()).await.status, 200);
    api.expect_problem(&sender.get(&format!("/transfers/{}", Uuid::new_v4())).await, 403, "forbidden");

    // An id that no transfer can have, and one of another transaction.
    let charge = api.pay("/charge", one, "1", "USD").await.json()["transaction"]["id"].clone();
    for id in ["550e8400-e29b-41d4-a716-446655440000", charge.as_str().unwrap()] {
        api.expect_problem(&api.get(&format!("/transfers/{id}")).await, 404, "transfer-not-found");
    }
    api.expect_problem(&api.get("/transfers/x").await, 400, "invalid-request");
    assert_eq!([api.balance(one, "USD").await, api.balance(other, "USD").await], ["197.00", "101.00"]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_balance_that_would_be_too_large_sends_the_money_back_with_the_reason() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let [[one, _], [other, _]] = users_of_both(&api, "100", "USD").await;
    // It would take a million top-ups.
    let database = cluster.connect_primary(1).await.unwrap();
    let full = "UPDATE balances SET balance = 99999999999999999999.00 WHERE user_id = $1";
    assert_eq!(database.execute(full, &[&other]).await.unwrap(), 1);
    let (key, wish) = (Uuid::new_v4(), transfer(one, other, "30", "USD"));
    let answer = api.post_with("/transfers", key, &wish).await;
    let made = answer.json()["transfer"].clone();
    assert_eq!((answer.status, &answer.json()["new_balance"]), (200, &json!("70.00")), "{answer:?}");
    assert_eq!((&made["status"], &made["reason"]), (&json!("reversed"), &json!("balance-too-large")));
    assert!(made["completed_at"].is_null(), "{made}");
    assert_eq!(api.balance(one, "USD").await, "100.00");
    let kinds: Vec<Value> =
        history(&api, one, "", Some(&answer)).await.iter().map(|row| row["kind"].clone()).collect();
    assert_eq!(kinds, ["transfer_back", "transfer_out", "topup"]);
    let back = &history(&api, one, "&kind=transfer_back", Some(&answer)).await[0];
    assert_eq!(
        (&back["transfer_id"], &back["to_user_id"], &back["balance_after"], &back["idempotency_key"]),
        (&made["id"], &json!(other), &json!("100.00"), &Value::Null)
    );
    // The balance after the debit, in a replay too.
    let again = api.post_with("/transfers", key, &wish).await;
    assert_eq!((again.status, &again.body), (200, &answer.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(api.balance(one, "USD").await, "100.00");

    let page = api.get("/metrics").await.body;
    let nodes = [0, 1].map(async |shard| {
        let page = http_call::get(&format!("{}/metrics", cluster.node_url(shard, 0))).await.unwrap().body;
        metric_sum(&page, "picopay_node_transfers_reversed_total")
    });
    for (what, found, expected) in [
        ("told", metric_sum(&page, "transfer_requests_total{status=\"reversed\""), 1.0),
        ("told again", metric_sum(&page, "transfer_requests_total{status=\"idempotent_hit\""), 1.0),
        ("all", metric_sum(&page, "transfer_requests_total"), 2.0),
        ("done", join_all(nodes).await.iter().sum(), 1.0),
    ] {
        assert!((found - expected).abs() < f64::EPSILON, "{what}: {found}");
    }
    cluster.stop().await;
}
