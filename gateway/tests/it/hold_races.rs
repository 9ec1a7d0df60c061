//! Holds over HTTP when several ask at once, and at the moment at which one ends.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use picopay_local::http_call::Answer;
use picopay_local::{ClusterSpec, LocalCluster, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::api::{Api, payment};

async fn start() -> (LocalCluster, Api) {
    let spec =
        ClusterSpec::one_shard().with_nodes_per_shard(2).with_node_toml("[testing]\nhas_no_sweeper = true");
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    (cluster, api)
}

async fn hold(api: &Api, user: i64, amount: &str, currency: &str) -> String {
    let answer = api.pay("/holds", user, amount, currency).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["hold"]["id"].as_str().unwrap().to_owned()
}

async fn step(api: &Api, hold: &str, word: &str) -> Answer {
    api.post_with(&format!("/holds/{hold}/{word}"), Uuid::new_v4(), &json!({})).await
}

/// Balance, held, available, and what became of the hold.
async fn seen(api: &Api, user: i64, hold: &str, currency: &str) -> [String; 4] {
    let balance = api.get(&format!("/users/{user}/balance?currency={currency}")).await.json();
    let hold = api.get(&format!("/holds/{hold}")).await.json();
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{balance} {hold}")).to_owned();
    [&balance["balance"], &balance["held"], &balance["available"], &hold["hold"]["status"]].map(text)
}

/// The newest first, from the primary or a replica that has them all.
async fn kinds(api: &Api, user: i64, session: &Answer) -> Vec<String> {
    let token = session.header("picopay-session").unwrap();
    let path = format!("/transactions?user_id={user}");
    let page = api.call(http::Method::GET, &path, &[("picopay-session", token)], "").await.json();
    page["data"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn of_two_ends_of_a_hold_at_once_one_is_done() {
    let (cluster, api) = start().await;
    for (currency, all, left) in [("USD", "60.00", "0.00"), ("JPY", "60", "0"), ("BHD", "60.000", "0.000")] {
        for round in 0..6 {
            let user = api.user_with("60", currency).await;
            let taken = hold(&api, user, "60", currency).await;
            let other = if round % 2 == 0 { "capture" } else { "void" };
            let pair = join_all([step(&api, &taken, "capture"), step(&api, &taken, other)]).await;
            let done: Vec<usize> = (0..2).filter(|number| pair[*number].status == 200).collect();
            assert_eq!(done.len(), 1, "{pair:?}");
            let refused = &pair[1 - done[0]];
            let problem = api.expect_problem(refused, 422, "hold-not-open");
            let (status, balance, kind) = match ["capture", other][done[0]] {
                "capture" => ("captured", left, "charge"),
                _ => ("voided", all, "void"),
            };
            assert_eq!(problem["hold_status"], status);
            assert_eq!(seen(&api, user, &taken, currency).await, [balance, left, balance, status]);
            assert_eq!(kinds(&api, user, &pair[done[0]]).await, [kind, "hold", "topup"]);
        }
    }
    cluster.stop().await;
}

/// No hold over HTTP lasts less than a minute, so the test moves the ends.
async fn end_at(cluster: &LocalCluster, end: Timestamp) {
    let database = cluster.connect_primary(0).await.unwrap();
    for sql in [
        "UPDATE holds SET expires_at = $1 WHERE state = 'open'",
        "UPDATE balances SET hold_due_at = $1 WHERE open_holds > 0",
    ] {
        database.execute(sql, &[&end]).await.unwrap();
    }
}

#[tokio::test]
async fn a_capture_at_the_millisecond_of_the_end_has_one_truth() {
    let (cluster, api) = start().await;
    let mut holds = Vec::new();
    for _ in 0..30 {
        let user = api.user_with("10", "USD").await;
        holds.push((user, hold(&api, user, "10", "USD").await));
    }
    let end = Timestamp::now() + SignedDuration::from_millis(1_500);
    let end = Timestamp::from_millisecond(end.as_millisecond()).unwrap();
    end_at(&cluster, end).await;
    let captures = holds.iter().zip(-15i64..).map(|((_, taken), offset_ms)| {
        let api = &api;
        async move {
            let wait = end.duration_since(Timestamp::now()) + SignedDuration::from_millis(offset_ms);
            // The end is a time of the primary's clock: no event says when it has come.
            sleep(Duration::try_from(wait).unwrap_or_default()).await;
            step(api, taken, "capture").await
        }
    });
    let answers = join_all(captures).await;
    for ((user, taken), answer) in holds.iter().zip(&answers) {
        let seen = seen(&api, *user, taken, "USD").await;
        if answer.status == 200 {
            let made: Timestamp =
                answer.json()["transaction"]["created_at"].as_str().unwrap().parse().unwrap();
            assert!(made < end, "captured at its end or later: {answer:?}");
            assert_eq!(seen, ["0.00", "0.00", "0.00", "captured"]);
            assert_eq!(kinds(&api, *user, answer).await, ["charge", "hold", "topup"]);
        } else {
            assert_eq!(api.expect_problem(answer, 422, "hold-not-open")["hold_status"], "expired");
            assert_eq!(seen, ["10.00", "0.00", "10.00", "expired"]);
            assert_eq!(kinds(&api, *user, answer).await, ["expiry", "hold", "topup"]);
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_hundred_holds_and_charges_at_once_take_exactly_what_is_there() {
    let (cluster, api) = start().await;
    let user = api.user_with("100", "USD").await;
    let paths = ["/holds", "/charge"];
    let asked = (0..100).map(|number| api.pay(paths[number % 2], user, "3", "USD"));
    let answers = join_all(asked).await;
    let done = |path: usize| (0..100).filter(|n| n % 2 == path && answers[*n].status == 200).count();
    let (held, charged) = (done(0), done(1));
    assert_eq!(held + charged, 33);
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        api.expect_problem(refused, 402, "insufficient-balance");
    }
    let body = api.get(&format!("/users/{user}/balance?currency=USD")).await.json();
    let (balance, held) = (format!("{}.00", 100 - 3 * charged), format!("{}.00", 3 * held));
    assert_eq!(
        (&body["balance"], &body["held"], &body["available"]),
        (&json!(balance), &json!(held), &json!("1.00"))
    );
    cluster.stop().await;
}

#[tokio::test]
async fn an_expired_holds_money_is_spent_though_nothing_has_swept_it_up() {
    let (cluster, api) = start().await;
    for (currency, all, left) in [("USD", "100.00", "0.00"), ("JPY", "100", "0"), ("BHD", "100.000", "0.000")]
    {
        let user = api.user_with("100", currency).await;
        let taken = hold(&api, user, "100", currency).await;
        let wish = payment(user, "100", currency);
        api.expect_problem(&api.post("/charge", &wish.to_string()).await, 402, "insufficient-balance");
        let key = Uuid::new_v4();
        let refused = api.post_with("/charge", key, &wish).await;
        end_at(&cluster, Timestamp::now()).await;
        eventually("the end", async || seen(&api, user, &taken, currency).await[3] == "expired").await;
        assert_eq!(seen(&api, user, &taken, currency).await, [all, left, all, "expired"]);
        // What was refused stays refused under its key.
        assert_eq!(api.post_with("/charge", key, &wish).await.body, refused.body);
        let charged = api.post("/charge", &wish.to_string()).await;
        assert_eq!((charged.status, &charged.json()["new_balance"]), (200, &json!(left)), "{charged:?}");
        assert_eq!(kinds(&api, user, &charged).await, ["charge", "expiry", "hold", "topup"]);
    }
    cluster.stop().await;
}
