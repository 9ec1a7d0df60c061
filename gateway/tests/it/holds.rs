//! Holds over HTTP: each step, its refusals, its replays.

use http::Method;
use picopay_local::http_call::{self, Answer};
use picopay_local::{ApiKey, ClusterSpec, LocalCluster, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{Api, payment};

async fn hold(api: &Api, user: i64, amount: &str, currency: &str) -> Value {
    let answer = api.pay("/holds", user, amount, currency).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["hold"].clone()
}

fn path_of(hold: &Value, step: &str) -> String {
    format!("/v1/holds/{}{step}", hold["id"].as_str().unwrap())
}

async fn balances(api: &Api, user: i64, currency: &str) -> [String; 3] {
    let body = api.get(&format!("/users/{user}/balance?currency={currency}")).await.json();
    ["balance", "held", "available"]
        .map(|name| body[name].as_str().unwrap_or_else(|| panic!("{body}")).to_owned())
}

#[tokio::test]
async fn money_is_reserved_captured_in_part_and_given_back() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    for (currency, all, first, part, left, after) in [
        ("USD", "100.00", "30.00", "10.50", ["70.00", "50.00", "0.00"], ["89.50", "20.00", "69.50"]),
        ("JPY", "100", "30", "10", ["70", "50", "0"], ["90", "20", "70"]),
        ("BHD", "100.000", "30.000", "10.125", ["70.000", "50.000", "0.000"], ["89.875", "20.000", "69.875"]),
    ] {
        let user = api.user_with(all, currency).await;
        let mut wish = payment(user, first, currency);
        wish["reference"] = json!("room 7");
        wish["expires_in"] = json!(3_600);
        let answer = api.post("/v1/holds", &wish.to_string()).await;
        let held = answer.json()["hold"].clone();
        assert_eq!(
            (&held["status"], &held["amount"], &held["reference"]),
            (&json!("open"), &json!(first), &json!("room 7"))
        );
        assert_eq!(answer.json()["available"], left[0]);
        let lasts = |name: &str| held[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!((lasts("expires_at") - lasts("created_at")).get_seconds(), 3_600, "{held}");

        let other = hold(&api, user, "20", currency).await;
        let refused = api.pay("/charge", user, "51", currency).await;
        let problem = api.expect_problem(&refused, 402, "insufficient-balance");
        assert_eq!((&problem["balance"], &problem["available"]), (&json!(all), &json!(left[1])));

        let captured = api.post(&path_of(&held, "/capture"), &json!({"amount": part}).to_string()).await;
        let charge = captured.json()["transaction"].clone();
        assert_eq!(
            (&charge["kind"], &charge["hold_id"], &charge["amount"]),
            (&json!("charge"), &held["id"], &json!(part))
        );
        assert_eq!(charge["reference"], "room 7", "the hold's own");
        assert_eq!(balances(&api, user, currency).await, after);
        let seen = api.get(&path_of(&held, "")).await.json();
        assert_eq!((&seen["hold"]["status"], &seen["hold"]["captured"]), (&json!("captured"), &json!(part)));
        assert_eq!(seen["available"], json!(after[2]));

        // Nothing, an empty object: both void.
        let voided = api.post(&path_of(&other, "/void"), "").await;
        assert_eq!((voided.status, &voided.json()["hold"]["status"]), (200, &json!("voided")), "{voided:?}");
        // A capture is refunded like any charge.
        let refund = json!({"transaction_id": charge["id"]}).to_string();
        assert_eq!(api.post("/refund", &refund).await.status, 200);
        assert_eq!(balances(&api, user, currency).await, [all, left[2], all]);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn every_step_is_replayed_byte_for_byte_and_its_key_is_of_no_other_step() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("100", "USD").await;
    let [first, second] = [hold(&api, user, "10", "USD").await, hold(&api, user, "10", "USD").await];
    let steps = [
        ("/v1/holds".to_owned(), payment(user, "5", "USD"), 200),
        ("/v1/holds".to_owned(), payment(user, "500", "USD"), 402),
        (path_of(&first, "/capture"), json!({"amount": "10.01"}), 422),
        (path_of(&first, "/capture"), json!({"amount": "4"}), 200),
        (path_of(&first, "/void"), json!({}), 422),
        (path_of(&second, "/void"), json!({}), 200),
        (path_of(&second, "/capture"), json!({}), 422),
    ];
    let codes = [
        None,
        Some("insufficient-balance"),
        Some("capture-exceeds-hold"),
        None,
        Some("hold-not-open"),
        None,
        Some("hold-not-open"),
    ];
    let mut answered: Vec<(Uuid, Answer)> = Vec::new();
    for ((path, body, status), code) in steps.iter().zip(codes) {
        let key = Uuid::new_v4();
        let answer = api.post_with(path, key, body).await;
        assert_eq!(
            (answer.status, answer.header("idempotent-replayed")),
            (*status, None),
            "{path} {body}: {answer:?}"
        );
        assert_eq!(answer.json()["code"].as_str(), code, "{path} {body}");
        assert!(answer.header("picopay-session").is_some(), "{path} {body}");
        answered.push((key, answer));
    }
    assert_eq!(answered[2].1.json()["remaining"], "10.00");
    assert_eq!(answered[4].1.json()["hold_status"], "captured");
    assert_eq!(answered[6].1.json()["hold_status"], "voided");
    // The hold is captured by now, and its own answer still shows it open.
    for ((path, body, status), (key, first)) in steps.iter().zip(&answered) {
        let again = api.post_with(path, *key, body).await;
        assert_eq!((again.status, &again.body), (*status, &first.body), "{path} {body}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{path} {body}");
    }
    // A used key is judged before the state of the hold.
    let (key, _) = answered[0];
    for (path, body) in [
        (path_of(&first, "/capture"), json!({})),
        (path_of(&second, "/void"), json!({})),
        ("/charge".to_owned(), payment(user, "5", "USD")),
        (
            "/v1/holds".to_owned(),
            json!({"user_id": user, "amount": "5", "currency": "USD", "expires_in": 60}),
        ),
    ] {
        let answer = api.post_with(&path, key, &body).await;
        let problem = api.expect_problem(&answer, 422, "idempotency-key-reused");
        let expected = if body.get("expires_in").is_some() { "expires_in" } else { "operation" };
        assert_eq!(problem["differs"][0], expected, "{path}: {problem}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_step_is_told() {
    let spec = ClusterSpec::one_shard()
        .with_api_key(ApiKey::new("till", "till-key", &["charge"]))
        .with_api_key(ApiKey::new("reader", "r-key", &["read"]));
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("100", "USD").await;
    let (till, reader) = (api.with_key("till-key"), api.with_key("r-key"));
    let held = hold(&till, user, "10", "USD").await;
    for (path, answer) in [
        ("", reader.pay("/holds", user, "1", "USD").await),
        ("/capture", reader.post(&path_of(&held, "/capture"), "{}").await),
        ("/void", reader.post(&path_of(&held, "/void"), "{}").await),
        ("GET", till.get(&path_of(&held, "")).await),
    ] {
        let problem = api.expect_problem(&answer, 403, "forbidden");
        assert_eq!(problem["scope"], if path == "GET" { "read" } else { "charge" });
    }
    let problem = api.post("/v1/holds/x/capture?y=1", r#"{"amount":-1,"note":1}"#).await;
    let problem = api.expect_problem(&problem, 400, "invalid-request");
    let places: Vec<&Value> = (problem["errors"].as_array().unwrap().iter())
        .map(|error| error.get("pointer").unwrap_or(&error["parameter"]))
        .collect();
    assert_eq!(places, ["y", "id", "/note", "/amount"]);
    let answer = api.post(&path_of(&held, "/void"), r#"{"amount":"1"}"#).await;
    assert_eq!(api.expect_problem(&answer, 400, "invalid-request")["errors"][0]["pointer"], "/amount");
    for amount in ["0", "null", "\"1.234\""] {
        let answer = api.post(&path_of(&held, "/capture"), &format!("{{\"amount\":{amount}}}")).await;
        assert_eq!(
            api.expect_problem(&answer, 400, "invalid-request")["errors"][0]["pointer"],
            "/amount",
            "{amount}"
        );
    }
    // An id that no hold can have, one that none has, and one of a transaction that is none.
    let charge = api.pay("/charge", user, "1", "USD").await.json()["transaction"]["id"].clone();
    let another = format!("{}f", &held["id"].as_str().unwrap()[..35]);
    let another = if held["id"] == json!(another) { another.replace('f', "e") } else { another };
    for id in ["550e8400-e29b-41d4-a716-446655440000", &another, charge.as_str().unwrap()] {
        for answer in [
            api.post(&format!("/holds/{id}/capture"), "{}").await,
            api.post(&format!("/holds/{id}/void"), "{}").await,
            api.get(&format!("/holds/{id}")).await,
        ] {
            api.expect_problem(&answer, 404, "hold-not-found");
        }
    }
    // Without a body it needs no headers that describe one; with one it does.
    let url = format!("{}{}", api.url, path_of(&held, "/capture"));
    let bare = [("x-api-key", api.key.as_str())];
    let described =
        http_call::call(Method::POST, &url, &[bare[0], ("content-type", "text/plain")], "{}").await.unwrap();
    api.expect_problem(&described, 415, "unsupported-media-type");
    let answer = http_call::call(Method::POST, &url, &bare, "").await.unwrap();
    assert_eq!(answer.json()["transaction"]["amount"], "10.00", "all of it: {answer:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn holds_are_listed_in_any_state_and_their_steps_are_history() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("100", "USD").await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let held = hold(&api, user, "2", "USD").await;
        match number {
            1 => assert_eq!(api.post(&path_of(&held, "/capture"), "{}").await.status, 200),
            3 => assert_eq!(api.post(&path_of(&held, "/void"), "{}").await.status, 200),
            _ => {}
        }
        ids.insert(0, held["id"].clone());
    }
    let list = async |query: &str| {
        let answer = api.get(&format!("/holds?user_id={user}{query}")).await;
        assert_eq!((answer.status, answer.header("picopay-source")), (200, Some("primary")), "{answer:?}");
        answer.json()
    };
    let ids_of = |page: &Value| {
        page["data"].as_array().unwrap().iter().map(|hold| hold["id"].clone()).collect::<Vec<_>>()
    };
    let all = list("").await;
    assert_eq!((ids_of(&all), &all["next_cursor"]), (ids.clone(), &Value::Null));
    assert_eq!(ids_of(&list("&status=captured").await), [ids[3].clone()]);
    assert_eq!(ids_of(&list("&status=voided").await), [ids[1].clone()]);
    assert_eq!(ids_of(&list("&status=open").await), [ids[0].clone(), ids[2].clone(), ids[4].clone()]);
    assert_eq!(ids_of(&list("&status=expired").await), Vec::<Value>::new());
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("&limit=2{cursor}")).await;
        paged.extend(ids_of(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, ids);
    let wrong = api.get(&format!("/holds?user_id={user}&limit=2&status=open{cursor}")).await;
    api.expect_problem(&wrong, 400, "invalid-request");
    api.expect_problem(&api.get("/holds?user_id=99999999").await, 404, "user-not-found");

    let kinds = async |query: &str| {
        let page = api.get(&format!("/transactions?user_id={user}{query}")).await.json();
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["kind"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let expected = ["hold", "void", "hold", "hold", "charge", "hold", "hold", "topup"];
    eventually("the history at a replica", async || kinds("").await == expected).await;
    assert_eq!(kinds("&kind=void").await, ["void"]);
    assert_eq!(kinds("&kind=hold").await.len(), 5);
    let void = api.get(&format!("/transactions?user_id={user}&kind=void")).await.json()["data"][0].clone();
    assert_eq!((&void["hold_id"], &void["balance_after"]), (&ids[1], &json!("98.00")), "{void}");
    cluster.stop().await;
}

#[tokio::test]
async fn holds_captures_and_voids_go_in_a_batch() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("10", "USD").await;
    let [one, two, three] = [
        hold(&api, user, "2", "USD").await,
        hold(&api, user, "2", "USD").await,
        hold(&api, user, "2", "USD").await,
    ];
    let operation = |word: &str, body: Value| json!({"operation": word, "body": body});
    let of = |hold: &Value| json!({"hold_id": hold["id"]});
    let body = json!({"operations": [
        operation("charge", payment(user, "5", "USD")),
        operation("void", of(&one)),
        operation("charge", payment(user, "5", "USD")),
        operation("capture", json!({"hold_id": two["id"], "amount": "1.50"})),
        operation("hold", payment(user, "2", "USD")),
        operation("capture", of(&two)),
        operation("void", json!({"hold_id": "x", "note": 1})),
        operation("capture", json!({})),
        operation("void", of(&three)),
    ]});
    let results = api.post("/batch", &body.to_string()).await.json()["results"].clone();
    let results = results.as_array().unwrap();
    let statuses: Vec<&Value> = results.iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, [402, 200, 200, 200, 402, 422, 400, 400, 200], "{results:#?}");
    // Each sees what those before it left.
    assert_eq!(results[0]["body"]["available"], "4.00");
    assert_eq!(
        (&results[1]["body"]["hold"]["status"], &results[1]["body"]["available"]),
        (&json!("voided"), &json!("6.00"))
    );
    assert_eq!(results[2]["body"]["new_balance"], "5.00");
    assert_eq!(results[3]["body"]["transaction"]["hold_id"], two["id"]);
    assert_eq!(results[5]["body"]["hold_status"], "captured");
    assert_eq!(results[6]["body"]["errors"].as_array().unwrap().len(), 2);
    assert_eq!(results[7]["body"]["errors"][0]["pointer"], "/hold_id");
    assert_eq!(balances(&api, user, "USD").await, ["3.50", "0.00", "3.50"]);
    cluster.stop().await;
}
