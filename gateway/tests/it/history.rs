//! Pages of history: nothing twice, nothing missing, whatever is written meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use picopay_local::{ApiKey, ClusterSpec, LocalCluster, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{Api, payment};

async fn pages(api: &Api, query: &str) -> (Vec<Value>, usize) {
    let (mut seen, mut count, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let answer = api.get(&format!("/transactions?{query}{cursor}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        seen.extend(page["data"].as_array().unwrap().iter().cloned());
        count += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (seen, count),
        }
    }
}

fn ids(transactions: &[Value]) -> Vec<String> {
    transactions.iter().map(|transaction| transaction["id"].as_str().unwrap().to_owned()).collect()
}

async fn wait_for_history(api: &Api, user: i64, count: usize) -> Vec<Value> {
    eventually(&format!("{count} transactions of user {user}"), async || {
        let (seen, _) = pages(api, &format!("user_id={user}&limit=100")).await;
        if seen.len() >= count { Ok(seen) } else { Err(format!("{} are there", seen.len())) }
    })
    .await
}

#[tokio::test]
async fn pages_repeat_nothing_and_leave_nothing_out_while_others_write() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard().with_nodes_per_shard(2)).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("1000", "USD").await;
    let charges = (0..60).map(|_| api.pay("/charge", user, "0.01", "USD"));
    futures_util::future::join_all(charges).await;
    let before = ids(&wait_for_history(&api, user, 61).await);
    assert_eq!(before.len(), 61);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (api, stop) = (api.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut made = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = api.pay("/charge", user, "0.01", "USD").await.json();
                    made.push(answer["transaction"]["id"].as_str().unwrap().to_owned());
                }
                made
            })
        })
        .collect();
    for limit in [1, 7, 100] {
        let (seen, count) = pages(&api, &format!("user_id={user}&limit={limit}")).await;
        let seen = ids(&seen);
        let distinct: HashSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "nothing twice with pages of {limit}");
        assert!(before.iter().all(|id| distinct.contains(id)), "nothing missing with pages of {limit}");
        assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "newest first");
        assert!(count >= 61_usize.div_ceil(limit), "{count} pages of {limit}");
    }
    stop.store(true, Ordering::Relaxed);
    let mut made: HashSet<String> = before.into_iter().collect();
    for writer in writers {
        made.extend(writer.await.unwrap());
    }
    let after = ids(&wait_for_history(&api, user, made.len()).await);
    assert_eq!(after.into_iter().collect::<HashSet<_>>(), made, "in the end every acknowledged one is there");
    cluster.stop().await;
}

#[tokio::test]
async fn a_history_is_narrowed_by_kind_and_time_and_a_cursor_belongs_to_its_query() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("100", "USD").await;
    for _ in 0..3 {
        api.pay("/charge", user, "1", "USD").await;
        // A refused one is recorded, and is not history.
        api.pay("/charge", user, "1000", "USD").await;
        // So that each has a millisecond of its own: `from` and `to` know no smaller time.
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    let all = wait_for_history(&api, user, 4).await;
    assert_eq!(all.len(), 4);
    let kinds = |seen: &[Value]| -> Vec<String> {
        seen.iter().map(|transaction| transaction["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&all), ["charge", "charge", "charge", "topup"]);
    for (kind, count) in [("charge", 3), ("topup", 1), ("refund", 0)] {
        let (seen, _) = pages(&api, &format!("user_id={user}&kind={kind}&limit=2")).await;
        assert_eq!(seen.len(), count, "{kind}");
    }
    let times: Vec<&str> =
        all.iter().map(|transaction| transaction["created_at"].as_str().unwrap()).collect();
    let (seen, _) = pages(&api, &format!("user_id={user}&from={}&to={}", times[1], times[0])).await;
    assert_eq!(ids(&seen), ids(&all[1..2]));
    let (seen, _) = pages(&api, &format!("user_id={user}&to={}", times[1])).await;
    assert_eq!(ids(&seen), ids(&all[2..]));
    let page = api.get(&format!("/transactions?user_id={user}&limit=1")).await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    for query in [format!("user_id={}", user + 1), format!("user_id={user}&kind=charge")] {
        let answer = api.get(&format!("/transactions?{query}&cursor={cursor}")).await;
        let problem = api.expect_problem(&answer, 400, "invalid-request");
        assert_eq!(problem["errors"][0]["parameter"], "cursor");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn who_made_a_transaction_is_shown_to_who_looks_and_not_in_the_answer() {
    let spec = ClusterSpec::one_shard().with_api_key(ApiKey::new(
        "the shop's \"till\"",
        "till-key",
        &["charge", "refund"],
    ));
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let till = api.with_key("till-key");
    let user = api.user_with("100", "USD").await;
    let (key, body) = (Uuid::new_v4(), payment(user, "10", "USD"));
    let charge = till.post_with("/charge", key, &body).await;
    // Whoever asks once more: it was made once, by the first.
    assert_eq!(api.post_with("/charge", key, &body).await.body, charge.body);
    let id = charge.json()["transaction"]["id"].as_str().unwrap().to_owned();
    let refund = till.post("/refund", &json!({"transaction_id": id}).to_string()).await;
    assert!(!charge.body.contains("made_by") && !refund.body.contains("made_by"));
    // As a release does that does not know of it.
    let database = cluster.connect_as_superuser(0).await.unwrap();
    database.batch_execute("UPDATE transactions SET made_by = NULL WHERE kind = 'topup'").await.unwrap();

    let seen = wait_for_history(&api, user, 3).await;
    let makers: Vec<&Value> = seen.iter().map(|transaction| &transaction["made_by"]).collect();
    assert_eq!(makers[..2], ["the shop's \"till\"", "the shop's \"till\""]);
    let found = api.get(&format!("/transactions/{id}")).await.json();
    assert_eq!(found["transaction"]["made_by"], "the shop's \"till\"");
    // The replica may not have the UPDATE yet.
    eventually("a transaction that nobody is known to have made", async || {
        let seen = wait_for_history(&api, user, 3).await;
        seen[2]["kind"] == "topup" && seen[2].get("made_by").is_none()
    })
    .await;
    cluster.stop().await;
}
