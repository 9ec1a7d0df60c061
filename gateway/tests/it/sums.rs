//! Sums, totals and balances at a time over HTTP: each user once, every shard named, and equal to what histories say.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use picopay_local::http_call::Answer;
use picopay_local::{ApiKey, ClusterSpec, LocalCluster, eventually};
use picopay_shared::slot::{Slot, UserId};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::api::{Api, payment};
use crate::gateway_process::{GatewayProcess, cluster_of};
use crate::scripted_node::ScriptedNode;

fn slot_of(user: i64) -> Slot {
    UserId::try_from(user).unwrap().slot()
}

/// A user of the first shard of two, and one of the second.
async fn users_of_both(api: &Api, amount: &str) -> [i64; 2] {
    let mut found = [None; 2];
    while found.contains(&None) {
        let user = api.user_with(amount, "USD").await;
        found[usize::from(slot_of(user).get() >= 2048)].get_or_insert(user);
    }
    found.map(Option::unwrap)
}

async fn sums(api: &Api, query: &Value) -> Value {
    let answer = api.post("/sums", &query.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn history(api: &Api, user: i64) -> Vec<Value> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/transactions?user_id={user}&limit=100{cursor}")).await.json();
        seen.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen,
        }
    }
}

fn decimal(value: &Value) -> Decimal {
    Decimal::from_str(value.as_str().unwrap()).unwrap()
}

/// Sums of transactions as histories list them.
fn add_up(transactions: &[Value]) -> Value {
    let mut sums: BTreeMap<(String, usize), (u64, Decimal)> = BTreeMap::new();
    let kinds = ["topup", "charge", "refund", "transfer_out", "transfer_in"];
    for one in transactions {
        if let Some(place) = kinds.iter().position(|kind| one["kind"] == *kind) {
            let currency = one["currency"].as_str().unwrap().to_owned();
            let sum = sums.entry((currency, place)).or_default();
            *sum = (sum.0 + 1, sum.1 + decimal(&one["amount"]));
        }
    }
    let sums = sums.into_iter().map(|((currency, place), (count, amount))| {
        json!({"currency": currency, "kind": kinds[place], "count": count, "amount": amount.to_string()})
    });
    sums.collect()
}

async fn make_history(api: &Api, user: i64) {
    assert_eq!(api.pay("/topup", user, "1000", "JPY").await.status, 200);
    let charge = api.pay("/charge", user, "7.25", "USD").await.json();
    let refund = json!({"transaction_id": charge["transaction"]["id"], "amount": "2.05"});
    assert_eq!(api.post("/refund", &refund.to_string()).await.status, 200);
    for (step, body) in [("capture", json!({"amount": "3"})), ("void", json!({}))] {
        let hold = api.pay("/holds", user, "4", "USD").await.json();
        let path = format!("/holds/{}/{step}", hold["hold"]["id"].as_str().unwrap());
        assert_eq!(api.post(&path, &body.to_string()).await.status, 200);
    }
    assert_eq!(api.pay("/holds", user, "1.50", "USD").await.status, 200);
    assert_eq!(api.pay("/charge", user, "1000000", "USD").await.status, 402);
}

#[tokio::test]
async fn sums_are_what_the_histories_of_their_users_add_up_to() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard().with_shards(2)).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let users = users_of_both(&api, "100").await;
    for user in users {
        make_history(&api, user).await;
    }
    let transfer =
        json!({"from_user_id": users[0], "to_user_id": users[1], "amount": "2", "currency": "USD"});
    assert_eq!(api.post("/transfers", &transfer.to_string()).await.status, 200);
    let all = eventually("replicas that have it all", async || {
        let mut all = history(&api, users[0]).await;
        all.extend(history(&api, users[1]).await);
        let found = sums(&api, &json!({"user_ids": [users[0], users[1], users[0], 987_654_321]})).await;
        let is_of_replicas = found["shards"].as_array().unwrap().iter().all(|one| one["source"] == "replica");
        let is_equal = all.len() == 20 && found["sums"] == add_up(&all) && is_of_replicas;
        if is_equal { Ok((all, found)) } else { Err(format!("{} of {found}", all.len())) }
    })
    .await;
    let (all, found) = all;
    let named: Vec<&str> =
        found["shards"].as_array().unwrap().iter().map(|one| one["shard"].as_str().unwrap()).collect();
    assert_eq!(named, ["shard-1", "shard-2"]);
    for shard in found["shards"].as_array().unwrap() {
        assert!(shard["lag_ms"].is_u64(), "{found}");
    }

    // Of one shard's user alone every shard still has an entry.
    let one = sums(&api, &json!({"user_ids": [users[0]]})).await;
    assert_eq!(one["shards"].as_array().unwrap().len(), 2);
    assert_eq!(sums(&api, &json!({"user_ids": [987_654_321]})).await["sums"], json!([]));

    // By time and kind as histories.
    let mut times: Vec<&str> = all.iter().map(|one| one["created_at"].as_str().unwrap()).collect();
    times.sort_unstable();
    for (from, to) in [(times[3], times[12]), (times[0], times[17]), (times[9], times[9])] {
        for kind in [None, Some("charge"), Some("transfer_in")] {
            let is_in = |one: &&Value| {
                let time = one["created_at"].as_str().unwrap();
                from <= time && time < to && kind.is_none_or(|kind| one["kind"] == kind)
            };
            let expected: Vec<Value> = all.iter().filter(is_in).cloned().collect();
            let mut query = json!({"user_ids": users, "from": from, "to": to});
            if let Some(kind) = kind {
                query["kind"] = json!(kind);
            }
            assert_eq!(sums(&api, &query).await["sums"], add_up(&expected), "{query}");
        }
    }
    for body in [json!({"user_ids": []}), json!({"user_ids": vec![1; 1_001]})] {
        let refused = api.post("/sums", &body.to_string()).await;
        let problem = api.expect_problem(&refused, 400, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], "/user_ids");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn totals_are_all_balances_and_a_shard_that_is_down_is_named_and_never_left_out() {
    let spec = ClusterSpec::one_shard().with_shards(2).with_gateway_toml("[totals]\nevery = \"1s\"\n");
    let spec = spec.with_api_key(ApiKey::new("reader", "r-key", &["read"]));
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let users = users_of_both(&api, "100").await;
    let before = totals(&api, "USD").await;
    let reader = api.with_key("r-key");
    assert_eq!(sums(&reader, &json!({"user_ids": users})).await["sums"].as_array().unwrap().len(), 1);
    assert_eq!(reader.expect_problem(&reader.get("/totals").await, 403, "forbidden")["scope"], "admin");
    for user in users {
        make_history(&api, user).await;
    }
    // 100 − 7.25 + 2.05 − 3 each; 1.50 is held.
    eventually("replicas that have it all", async || {
        let (now, yen) = (totals(&api, "USD").await, totals(&api, "JPY").await);
        let moved = decimal(&before["balance"]) - decimal(&now["balance"]);
        let is_right = moved == Decimal::new(1640, 2)
            && (&now["held"], &now["in_transit"], &now["users"])
                == (&json!("3.00"), &json!("0.00"), &before["users"])
            && yen
                == json!({"currency": "JPY", "users": 2, "balance": "2000", "held": "0", "in_transit": "0"});
        if is_right { Ok(()) } else { Err(format!("{before}, {now}, {yen}")) }
    })
    .await;
    // A hold that has run out is not held, whether or not that was written down.
    let primary = cluster.connect_primary(0).await.unwrap();
    let past = "UPDATE holds SET expires_at = now() - interval '1 s' WHERE state = 'open'";
    primary.execute(past, &[]).await.unwrap();
    let due = "UPDATE balances SET hold_due_at = now() - interval '1 s' WHERE open_holds > 0";
    primary.execute(due, &[]).await.unwrap();
    eventually("one hold that is left", async || {
        let held = totals(&api, "USD").await["held"].clone();
        if held == "1.50" { Ok(()) } else { Err(held.to_string()) }
    })
    .await;

    eventually("the figures as metrics", async || {
        let metrics = api.get("/metrics").await.body;
        let names = ["picopay_totals_held{currency=\"USD\"} 1.5", "picopay_totals_users{currency=\"JPY\"} 2"];
        if names.iter().all(|name| metrics.contains(name)) { Ok(()) } else { Err(metrics) }
    })
    .await;

    let node = cluster.shard(1).node(0);
    // One that says nothing holds up nobody for longer than a request may take: 5 s, and what a busy machine adds.
    node.freeze();
    let asked = Instant::now();
    let sums = json!({"user_ids": [users[0]]}).to_string();
    for answer in <[Answer; 2]>::from(tokio::join!(api.post("/sums", &sums), api.get("/totals"))) {
        let problem = api.expect_problem(&answer, 503, "shard-unavailable");
        assert_eq!((&problem["shard"], answer.header("retry-after").is_some()), (&json!("shard-2"), true));
    }
    assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());

    node.kill().await.unwrap();
    eventually("the shard in the problems", async || {
        let (sums, totals) = (api.post("/sums", &sums).await, api.get("/totals").await);
        let of = |answer: &Answer| (answer.status, answer.json()["shard"].clone());
        let expected = (503, json!("shard-2"));
        if of(&sums) == expected && of(&totals) == expected {
            Ok(())
        } else {
            Err(format!("{sums:?} {totals:?}"))
        }
    })
    .await;
    cluster.stop().await;
}

/// Somebody holds the recipient's row: his shard can be read, and gives him nothing.
#[tokio::test]
async fn totals_say_what_is_in_transit_and_nothing_of_it_is_missing() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard().with_shards(2)).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let [from, to] = users_of_both(&api, "100").await;
    let database = cluster.connect_as_superuser(1).await.unwrap();
    let hold = format!("BEGIN; SELECT FROM users WHERE user_id = {to} FOR UPDATE");
    database.batch_execute(&hold).await.unwrap();
    let wish = json!({"from_user_id": from, "to_user_id": to, "amount": "7", "currency": "USD"});
    let begun = api.post("/transfers", &wish.to_string()).await;
    assert_eq!((begun.status, &begun.json()["new_balance"]), (202, &json!("93.00")), "{begun:?}");
    let in_transit = eventually("the money in transit", async || {
        let now = totals(&api, "USD").await;
        if now["in_transit"] == "7.00" { Ok(now) } else { Err(now.to_string()) }
    })
    .await;
    database.batch_execute("ROLLBACK").await.unwrap();
    eventually("the money at its recipient", async || {
        let now = totals(&api, "USD").await;
        let arrived = decimal(&now["balance"]) - decimal(&in_transit["balance"]);
        let is_there = now["in_transit"] == "0.00" && arrived == Decimal::new(700, 2);
        if is_there { Ok(()) } else { Err(format!("{in_transit}, {now}")) }
    })
    .await;
    cluster.stop().await;
}

async fn totals(api: &Api, currency: &str) -> Value {
    let answer = api.get("/totals").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let totals = answer.json();
    assert_eq!(totals["shards"].as_array().unwrap().len(), 2);
    let found = totals["totals"].as_array().unwrap().iter().find(|one| one["currency"] == currency);
    found.cloned().unwrap_or(Value::Null)
}

/// The gateway does not hear of the move by itself. It asks the source, whose rows of the slot are still there.
#[tokio::test]
async fn a_slot_that_moves_between_the_answers_of_two_shards_is_counted_once() {
    let spec = ClusterSpec::one_shard().with_shards(2);
    let spec = spec.with_gateway_toml("[shard_client]\npoll_interval = \"1h\"\n");
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let users = users_of_both(&api, "100").await;
    let query = json!({"user_ids": users});
    let (before, total) = (sums(&api, &query).await["sums"].clone(), totals(&api, "USD").await);
    assert_eq!(before, json!([{"currency": "USD", "kind": "topup", "count": 2, "amount": "200.00"}]));
    let slot = slot_of(users[0]);
    let mut epoch = 1;
    // The old owner's replica answers as of before the move, while the new owner has the slot; or the new owner's does.
    for (from, to, behind) in [(0, 1, None), (1, 0, None), (0, 1, Some(0)), (1, 0, Some(0))] {
        let replica = cluster.shard(behind.unwrap_or(from)).connect_replica_as_superuser().await.unwrap();
        if behind.is_some() {
            replica.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
        }
        let mut moving = cluster.slot_move(slot, from, to, epoch).await.unwrap();
        moving.import().await.unwrap();
        // While the target has copies, and while nobody owns the slot.
        moving.copy().await.unwrap();
        assert_eq!(sums(&api, &query).await["sums"], before);
        assert_eq!(totals(&api, "USD").await, total);
        moving.release().await.unwrap();
        let own = async {
            // The pause of a move, in which both requests begin.
            tokio::time::sleep(Duration::from_millis(200)).await;
            moving.own().await.unwrap();
            epoch = moving.epoch();
        };
        let ((), during, total_during) = tokio::join!(own, sums(&api, &query), totals(&api, "USD"));
        assert_eq!((&during["sums"], &total_during), (&before, &total));
        assert_eq!(sums(&api, &query).await["sums"], before);
        assert_eq!(totals(&api, "USD").await, total);
        replica.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    }
    cluster.stop().await;
}

/// It would refuse a batch of reads as a whole, and be passed over for that.
#[tokio::test]
async fn a_node_of_an_older_release_is_not_asked_what_it_does_not_know() {
    let node = ScriptedNode::start(&[]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), "").await;
    let api = &gateway.api;
    for answer in [
        api.post("/sums", r#"{"user_ids":[1]}"#).await,
        api.get("/totals").await,
        api.get("/users/1/balance?at=2026-11-22T12:00:00Z").await,
    ] {
        let problem = api.expect_problem(&answer, 503, "shard-unavailable");
        assert_eq!((&problem["shard"], answer.header("retry-after").is_some()), (&json!("shard-1"), true));
    }
    assert!(node.reads().is_empty());
    // The node knows nobody.
    assert_eq!(api.get("/transactions?user_id=1").await.status, 404);
}

#[tokio::test]
async fn a_balance_at_a_time_is_what_the_last_transaction_of_its_millisecond_left() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("100", "USD").await;
    make_history(&api, user).await;
    // Many in one database transaction, so that they share milliseconds.
    let charge = json!({"operation": "charge", "body": payment(user, "0.01", "USD")});
    let batch = json!({"operations": vec![charge; 100]}).to_string();
    let answer = api.post("/batch", &batch).await;
    let session = answer.header("picopay-session").unwrap().to_owned();
    let all = eventually("a replica that has it all", async || {
        let all = history(&api, user).await;
        if all.len() == 109 { Ok(all) } else { Err(all.len().to_string()) }
    })
    .await;
    let at = async |time: &str, more: &str| {
        let answer = api.get(&format!("/users/{user}/balance?at={time}{more}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let mut times: Vec<&str> = all.iter().map(|one| one["created_at"].as_str().unwrap()).collect();
    times.dedup();
    assert!(times.len() < all.len(), "some share a millisecond");
    for time in &times {
        for (currency, zero) in [("USD", "0.00"), ("JPY", "0")] {
            let last = all
                .iter()
                .find(|one| one["currency"] == currency && one["created_at"].as_str().unwrap() <= *time);
            let expected = last.map_or(json!(zero), |last| last["balance_after"].clone());
            let found = at(time, &format!("&currency={currency}")).await;
            let body = json!({"user_id": user, "at": time, "currency": currency, "balance": expected});
            assert_eq!(found, body);
        }
    }
    let ms = times[0].strip_suffix('Z').unwrap();
    assert_eq!(at(&format!("{ms}999Z"), "").await["at"], times[0], "the millisecond in which it lies");
    let long_ago = at("2001-01-01T01:00:00%2B01:00", "").await;
    let zeros = json!([{"currency": "JPY", "balance": "0"}, {"currency": "USD", "balance": "0.00"}]);
    assert_eq!(long_ago, json!({"user_id": user, "at": "2001-01-01T00:00:00.000Z", "balances": zeros}));
    assert_eq!(at("2001-01-01T00:00:00Z", "&currency=EUR").await["balance"], "0.00");
    let now = api.get(&format!("/users/{user}/balance?currency=USD")).await.json();
    assert_eq!(at("9999-12-31T23:59:59Z", "&currency=USD").await["balance"], now["balance"]);

    let path = format!("/users/{user}/balance?at={}", times[0]);
    let answer = api.call(http::Method::GET, &path, &[("picopay-session", &session)], "").await;
    assert!(answer.header("picopay-source").is_some(), "{answer:?}");
    for query in ["at=now", "at=2026-11-22", "at=2026-11-22T00:00:00Z&consistency=strong", "at=&currency=USD"]
    {
        let refused = api.get(&format!("/users/{user}/balance?{query}")).await;
        api.expect_problem(&refused, 400, "invalid-request");
    }
    let nobody = api.get("/users/987654321/balance?at=2026-11-22T00:00:00Z").await;
    api.expect_problem(&nobody, 404, "user-not-found");
    cluster.stop().await;
}

#[tokio::test]
async fn more_than_a_million_transactions_are_refused_and_what_one_seldom_has_is_found_among_them() {
    // A million rows take a second, and much longer on a busy machine.
    let spec = ClusterSpec::one_shard().with_gateway_toml("[shard_client]\nrequest_timeout = \"30s\"\n");
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("100", "USD").await;
    assert_eq!(api.pay("/topup", user, "5", "EUR").await.status, 200);
    // Behind those two: one each millisecond, in USD.
    let insert = "INSERT INTO transactions (slot, user_id, id, idempotency_key, fingerprint, created_at, amount,
            balance_after, kind, currency)
        SELECT $1, $2, (lpad(to_hex(1900000000000 + n), 12, '0') || '80008000000000000000')::uuid, gen_random_uuid(),
               '\\x00000000000000000000000000000000', now(), 0.01, 100, 'charge', 'USD'
        FROM generate_series(1, 1000000) n";
    let primary = cluster.connect_primary(0).await.unwrap();
    primary.execute(insert, &[&slot_of(user).as_i16(), &user]).await.unwrap();
    let query = json!({"user_ids": [user]});
    eventually("a refusal", async || {
        let refused = api.post("/sums", &query.to_string()).await;
        if refused.status == 422 { Ok(()) } else { Err(format!("{refused:?}")) }
    })
    .await;
    let refused = api.post("/sums", &query.to_string()).await;
    api.expect_problem(&refused, 422, "range-too-large");
    let shorter = json!({"user_ids": [user], "to": "2030-01-01T00:00:00Z"});
    assert_eq!(sums(&api, &shorter).await["sums"].as_array().unwrap().len(), 2);
    // 2030-03-17T17:46:40Z is 1,900,000,000. Eight minutes later 500,000 are on either side, and no EUR since long.
    let in_the_middle = "2030-03-17T17:55:00Z";
    let at = async |time: &str| {
        let answer = api.get(&format!("/users/{user}/balance?at={time}&currency=EUR")).await;
        (answer.status, answer.json()["balance"].clone())
    };
    assert_eq!(at(in_the_middle).await, (200, json!("5.00")));
    assert_eq!(at("2020-01-01T00:00:00Z").await, (200, json!("0.00")));

    // One more behind them all: the balance of now is no longer that of then, and only what is near tells it.
    let more = "INSERT INTO transactions (slot, user_id, id, idempotency_key, fingerprint, created_at, amount,
            balance_after, kind, currency)
        SELECT $1, $2, (lpad(to_hex(1900001000001), 12, '0') || '80008000000000000000')::uuid, gen_random_uuid(),
               '\\x00000000000000000000000000000000', now(), 2, 7, 'topup', 'EUR'";
    primary.execute(more, &[&slot_of(user).as_i16(), &user]).await.unwrap();
    let now = "UPDATE balances SET balance = 7, last_stamp = 1900001000001 << 16 WHERE user_id = $1 AND currency = 'EUR'";
    assert_eq!(primary.execute(now, &[&user]).await.unwrap(), 1);
    eventually("a replica that has it", async || {
        let found = at("2031-01-01T00:00:00Z").await;
        if found == (200, json!("7.00")) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    assert_eq!(at("2030-03-17T18:03:00Z").await, (200, json!("5.00")));
    assert_eq!(at(in_the_middle).await, (422, Value::Null), "nothing near says it");
    cluster.stop().await;
}
