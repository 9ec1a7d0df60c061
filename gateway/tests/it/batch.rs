//! Many operations in one request, each as if it had been sent alone.

use http::Method;
use picopay_local::http_call::Answer;
use picopay_local::{ApiKey, ClusterSpec, LocalCluster};
use picopay_shared::slot::UserId;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{Api, payment};

/// A result, with its body as the bytes that came.
#[derive(Debug, serde::Deserialize)]
struct Ended {
    status: u16,
    replayed: bool,
    idempotency_key: Option<Uuid>,
    body: Box<RawValue>,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(self.body.get()).unwrap()
    }
}

fn operation(word: &str, key: Uuid, body: &Value) -> Value {
    json!({"operation": word, "idempotency_key": key, "body": body})
}

async fn send(api: &Api, operations: &[Value]) -> Vec<Ended> {
    let answer = api.post("/v1/batch", &json!({"operations": operations}).to_string()).await;
    ends_of(&answer)
}

fn ends_of(answer: &Answer) -> Vec<Ended> {
    #[derive(serde::Deserialize)]
    struct Results {
        results: Vec<Ended>,
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_str::<Results>(&answer.body)
        .unwrap_or_else(|error| panic!("{error}: {answer:?}"))
        .results
}

fn statuses(ends: &[Ended]) -> Vec<u16> {
    ends.iter().map(|end| end.status).collect()
}

/// Two users on two shards, whose slots were dealt out in halves.
async fn two_users(api: &Api) -> [i64; 2] {
    let mut users = [0; 2];
    while users.contains(&0) {
        let user = api.user_with("100", "USD").await;
        let is_of_first = UserId::try_from(user).unwrap().slot().get() < 2_048;
        users[usize::from(!is_of_first)] = user;
    }
    users
}

#[tokio::test]
async fn each_operation_has_the_answer_that_it_would_have_alone() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let [one, other] = two_users(&api).await;
    let charge = api.pay("/charge", one, "40", "USD").await.json()["transaction"]["id"].clone();
    let rich = json!({"user_id": other, "amount": 12.5, "currency": "USD", "reference": "Ü \"q\"", "metadata": {"z": 1.10}});
    let of = |transaction: &Value| json!({"transaction_id": transaction});
    let nobody = payment(88_888_888, "1", "USD");
    let [ours, theirs] =
        [Uuid::new_v4().hyphenated(), Uuid::new_v4().hyphenated()].map(|id| json!(id.to_string()));
    let wishes = [
        ("topup", payment(one, "5.5", "USD"), 200),
        ("charge", rich, 200),
        ("charge", payment(one, "-1", "USD"), 400),
        ("refund", json!({"transaction_id": charge, "amount": "1"}), 200),
        ("refund", json!({"transaction_id": charge, "amount": "1000"}), 422),
        ("charge", payment(other, "100000", "USD"), 402),
        ("charge", payment(other, "1", "EUR"), 402),
        ("charge", nobody, 404),
        ("refund", of(&ours), 404),
        ("refund", json!([theirs]), 400),
        ("topup", json!({"user_id": "x", "note": 1}), 400),
        ("refund", of(&charge), 200),
        ("refund", of(&charge), 422),
    ];
    let keys: Vec<Uuid> = wishes.iter().map(|_| Uuid::new_v4()).collect();
    let operations: Vec<Value> =
        wishes.iter().zip(&keys).map(|((word, body, _), key)| operation(word, *key, body)).collect();
    let first = send(&api, &operations).await;
    assert_eq!(statuses(&first), wishes.iter().map(|(.., status)| *status).collect::<Vec<_>>(), "{first:#?}");
    let again = send(&api, &operations).await;
    for ((((word, body, status), key), first), again) in wishes.iter().zip(&keys).zip(&first).zip(&again) {
        assert_eq!((first.idempotency_key, first.replayed), (Some(*key), false), "{word} {body}");
        let alone = api.post_with(&format!("/{word}"), *key, body).await;
        assert_eq!(alone.status, *status, "{word} {body}");
        let is_recorded = matches!(status, 200 | 402 | 422);
        assert_eq!(alone.header("idempotent-replayed").is_some(), is_recorded, "{word} {body}");
        assert_eq!(again.replayed, is_recorded, "{word} {body}");
        if is_recorded {
            assert_eq!(first.body.get(), alone.body, "byte for byte");
            assert_eq!(first.body.get(), again.body.get(), "byte for byte");
        } else {
            // Another request, hence another id.
            let (mut first, mut alone) = (first.json(), alone.json());
            assert_ne!(first["instance"], alone["instance"]);
            (first["instance"], alone["instance"]) = (Value::Null, Value::Null);
            assert_eq!(first, alone, "{word} {body}");
        }
    }
    assert_eq!(first[2].json()["errors"][0]["pointer"], "/amount", "as its route would say");
    // 100 - 40 + 5.5 + 1 + 39, and 100 - 12.5.
    assert_eq!([api.balance(one, "USD").await, api.balance(other, "USD").await], ["105.50", "87.50"]);
    cluster.stop().await;
}

#[tokio::test]
async fn what_stands_twice_in_a_batch_is_judged_as_if_one_came_after_the_other() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let (user, other) = (api.user_with("10", "USD").await, api.user_with("10", "USD").await);
    let [key, refused, of_both] = [(); 3].map(|()| Uuid::new_v4());
    let charge = |user, key, amount| operation("charge", key, &payment(user, amount, "USD"));
    let ends = send(
        &api,
        &[
            charge(user, key, "4"),
            charge(user, key, "4.00"),
            charge(user, key, "5"),
            operation("topup", key, &payment(user, "4", "USD")),
            charge(user, refused, "100"),
            charge(user, refused, "100"),
            // A key is its user's own.
            charge(user, of_both, "1"),
            charge(other, of_both, "1"),
        ],
    )
    .await;
    assert_eq!(statuses(&ends), [200, 200, 422, 422, 402, 402, 200, 200], "{ends:#?}");
    let replayed: Vec<bool> = ends.iter().map(|end| end.replayed).collect();
    assert_eq!(replayed, [false, true, false, false, false, true, false, false]);
    assert_eq!(ends[0].body.get(), ends[1].body.get());
    assert_eq!(ends[2].json()["differs"], json!(["amount"]));
    assert_eq!(ends[3].json()["code"], "idempotency-key-reused");
    assert_eq!([api.balance(user, "USD").await, api.balance(other, "USD").await], ["5.00", "9.00"]);
    cluster.stop().await;
}

#[tokio::test]
async fn the_operations_of_a_user_happen_in_their_order_among_hundreds() {
    let toml = "[shard_client]\nlanes = 3\npipes = 2\nbatch_max = 64\n";
    let cluster = LocalCluster::start(ClusterSpec::default().with_gateway_toml(toml)).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(api.user_with("1", "USD").await);
    }
    // Each has 1, and charges of 1.
    let round = ["charge", "charge", "topup", "charge"];
    let operations: Vec<Value> = (0..500)
        .map(|number| {
            operation(round[number / 5 % 4], Uuid::new_v4(), &payment(users[number % 5], "1", "USD"))
        })
        .collect();
    let ends = send(&api, &operations).await;
    for (number, end) in ends.iter().enumerate() {
        // First: taken, refused, topped up, taken. Then: refused, refused, topped up, taken.
        let expected = match (number / 5 % 4, number / 20) {
            (0, 0) | (2 | 3, _) => 200,
            _ => 402,
        };
        assert_eq!(end.status, expected, "operation {number}: {end:?}");
    }
    let made: Vec<Option<Uuid>> = ends.iter().map(|end| end.idempotency_key).collect();
    let sent: Vec<Option<Uuid>> = operations
        .iter()
        .map(|operation| serde_json::from_value(operation["idempotency_key"].clone()).unwrap())
        .collect();
    assert_eq!(made, sent, "results in the order of the operations");
    cluster.stop().await;
}

#[tokio::test]
async fn scope_is_each_operations_own() {
    let spec = ClusterSpec::one_shard().with_api_key(ApiKey::new("till", "till-key", &["charge"]));
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("100", "USD").await;
    let charge = |key| operation("charge", key, &payment(user, "1", "USD"));
    let ends = send(
        &api.with_key("till-key"),
        &[
            charge(Uuid::new_v4()),
            operation("topup", Uuid::new_v4(), &payment(user, "1", "USD")),
            operation("refund", Uuid::new_v4(), &json!({})),
        ],
    )
    .await;
    assert_eq!(statuses(&ends), [200, 403, 403]);
    assert_eq!((&ends[1].json()["code"], &ends[1].json()["scope"]), (&json!("forbidden"), &json!("topup")));
    assert_eq!(api.balance(user, "USD").await, "99.00");
    let answer = api.with_key("wrong").post("/batch", "{}").await;
    api.expect_problem(&answer, 401, "unauthorized");
    cluster.stop().await;
}

#[tokio::test]
async fn a_request_that_is_no_batch_is_refused_as_a_whole_and_nothing_of_it_happens() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("100", "USD").await;
    let good = operation("charge", Uuid::new_v4(), &payment(user, "1", "USD"));
    let body = json!({"operations": [good, {"operation": "gift", "body": {}}, good, 7], "x": 1}).to_string();
    let problem = api.expect_problem(&api.post("/batch?y=1", &body).await, 400, "invalid-request");
    let places: Vec<&Value> = (problem["errors"].as_array().unwrap().iter())
        .map(|error| error.get("pointer").unwrap_or(&error["parameter"]))
        .collect();
    assert_eq!(places, ["y", "/x", "/operations/1/operation", "/operations/3"]);
    let operations = vec![&good; 501];
    let answer = api.post("/batch", &json!({"operations": operations}).to_string()).await;
    api.expect_problem(&answer, 400, "invalid-request");

    let valid = json!({"operations": [good]}).to_string();
    for key in ["x", "00000000-0000-0000-0000-000000000000"] {
        let answer = api.call(Method::POST, "/batch", &[("idempotency-key", key)], &valid).await;
        api.expect_problem(&answer, 400, "invalid-idempotency-key");
    }
    let mebibyte = 1024 * 1024;
    let too_large = format!("{valid}{}", " ".repeat(mebibyte + 1 - valid.len()));
    let problem = api.expect_problem(&api.post("/batch", &too_large).await, 413, "too-large");
    assert!(problem["detail"].as_str().unwrap().contains("1048576"), "{problem}");
    assert_eq!(api.balance(user, "USD").await, "100.00");

    // The key of the whole is checked and has no effect.
    let key = Uuid::new_v4();
    let operations = [&valid, &valid.replace("\"1\"", "\"2\"")];
    for (body, expected) in operations.into_iter().zip([200, 422]) {
        let answer = api.call(Method::POST, "/batch", &[("idempotency-key", &key.to_string())], body).await;
        assert_eq!(ends_of(&answer)[0].status, expected);
        assert_eq!((answer.header("idempotency-key"), answer.header("idempotent-replayed")), (None, None));
    }
    let answer = api.post("/batch", &too_large[..mebibyte]).await;
    assert!(ends_of(&answer)[0].replayed, "as large as it may be");
    let session = answer.header("picopay-session").expect("of the one shard that it is about");
    let seen = api
        .call(Method::GET, &format!("/transactions?user_id={user}"), &[("picopay-session", session)], "")
        .await;
    assert_eq!(seen.json()["data"].as_array().unwrap().len(), 2, "{seen:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_shard_that_is_down_fails_its_own_operations_only() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let users = two_users(&api).await;
    cluster.shard(1).node(0).kill().await.unwrap();
    let operations: Vec<Value> = (0..40)
        .map(|number| operation("charge", Uuid::new_v4(), &payment(users[number % 2], "1", "USD")))
        .collect();
    let ends = send(&api, &operations).await;
    for (number, end) in ends.iter().enumerate() {
        if number % 2 == 0 {
            assert_eq!(end.status, 200, "{end:?}");
        } else {
            let body = end.json();
            assert_eq!(
                (end.status, &body["code"], &body["shard"]),
                (503, &json!("shard-unavailable"), &json!("shard-2"))
            );
        }
    }
    cluster.shard(1).node(0).start().await.unwrap();
    cluster.wait_until_ready().await.unwrap();
    // With their keys: what was done is replayed, what was not is done.
    let ends = send(&api, &operations).await;
    assert!(
        ends.iter().enumerate().all(|(number, end)| (end.status, end.replayed) == (200, number % 2 == 0)),
        "{ends:?}"
    );
    assert_eq!([api.balance(users[0], "USD").await, api.balance(users[1], "USD").await], ["80.00", "80.00"]);
    cluster.stop().await;
}

#[tokio::test]
async fn each_charge_of_a_batch_is_counted_by_how_it_ended() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("10", "USD").await;
    let key = Uuid::new_v4();
    let charge = |key, amount| operation("charge", key, &payment(user, amount, "USD"));
    let operations = [
        charge(key, "1"),
        charge(key, "1"),
        charge(Uuid::new_v4(), "1"),
        charge(Uuid::new_v4(), "100"),
        charge(Uuid::new_v4(), "-1"),
        operation("topup", Uuid::new_v4(), &payment(user, "1", "USD")),
    ];
    send(&api, &operations).await;
    let text = api.get("/metrics").await.body;
    for (status, count) in [("success", 2), ("insufficient_balance", 1), ("idempotent_hit", 1), ("failed", 1)]
    {
        let line = format!("charge_requests_total{{status=\"{status}\"}} {count}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert!(text.contains("charge_request_latency_seconds_count 5\n"), "{text}");
    cluster.stop().await;
}
