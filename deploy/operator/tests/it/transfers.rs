//! A transfer that waits for a shard is shown with its reason for as long as it waits, and no longer.

use std::path::Path;

use picopay_local::{ClusterSpec, LocalCluster, eventually, http_call, metric_sum};
use picopay_shared::slot::UserId;
use serde_json::{Value, json};

use crate::command::{picopay, run};
use crate::users::make_user;

const USERS: std::ops::Range<i64> = 1..20;

/// A user of each of the two shards.
async fn users_of_both(cluster: &LocalCluster) -> [i64; 2] {
    let of = |shard: u16| {
        let mut users = USERS;
        users.find(|user| UserId::try_from(*user).unwrap().slot().get() / 2_048 == shard).unwrap()
    };
    let users = [of(0), of(1)];
    for user in users {
        make_user(cluster, user).await;
    }
    users
}

async fn transfers(file: &Path) -> Value {
    run(picopay(file, ["transfers", "--output", "json"])).await.success().json()
}

async fn problems(file: &Path) -> String {
    run(picopay(file, ["status", "--output", "json"])).await.json()["problems"].to_string()
}

async fn metric(cluster: &LocalCluster, line: &str) -> bool {
    let page = http_call::get(&format!("{}/metrics", cluster.node_url(0, 0))).await.unwrap().body;
    page.lines().any(|one| one == line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_transfer_is_listed_with_since_when_and_why_until_it_has_ended() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let file = cluster.cluster_file();
    let [from, to] = users_of_both(&cluster).await;
    assert_eq!(transfers(&file).await, json!({"in_transit": [], "pending": []}));
    let idle = run(picopay(&file, ["transfers"])).await.success();
    assert!(idle.out.contains("No transfer is pending."), "{idle:?}");

    let node = cluster.shard(1).node(0);
    node.kill().await.unwrap();
    let mut ids = Vec::new();
    for amount in ["7", "0.50"] {
        let wish = json!({"from_user_id": from, "to_user_id": to, "amount": amount, "currency": "USD"});
        let answer = cluster.post("/transfers", None, &wish).await.unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
        ids.push(answer.json()["transfer"].clone());
    }
    let now = eventually("what the courier says of each", async || {
        let now = transfers(&file).await;
        let listed = now["pending"].as_array().unwrap();
        let has_reason = |one: &Value| one["last_error"].is_string();
        if listed.len() == 2 && listed.iter().all(has_reason) { Ok(now) } else { Err(now.to_string()) }
    })
    .await;
    let in_transit = json!([{"shard": "shard-1", "currency": "USD", "transfers": 2, "amount": "7.50"}]);
    assert_eq!(now["in_transit"], in_transit);
    // The oldest first.
    for (one, made) in now["pending"].as_array().unwrap().iter().zip(&ids) {
        let expected = json!([made["id"], "shard-1", from, to, made["amount"], "USD"]);
        let found =
            ["id", "shard", "from_user_id", "to_user_id", "amount", "currency"].map(|name| &one[name]);
        assert_eq!(json!(found), expected);
        // To the second.
        assert_eq!(one["since"].as_str().unwrap()[..19], made["created_at"].as_str().unwrap()[..19], "{one}");
        assert!(one["tries"].as_u64().unwrap() >= 1 && one["next_try_in_s"].as_u64().unwrap() <= 15, "{one}");
        assert!(one["pending_s"].as_u64().unwrap() >= 4, "the courier leaves it to its gateway first: {one}");
        assert!(one["last_error"].as_str().unwrap().contains("shard-2"), "{one}");
    }
    let table = run(picopay(&file, ["transfers", "--limit", "1"])).await.success().out;
    assert!(table.contains("7.50") && table.contains("7.00 USD") && !table.contains("0.50 USD"), "{table}");
    eventually("the same as metrics", async || {
        metric(&cluster, "picopay_node_transfers_pending{currency=\"USD\",shard=\"shard-1\"} 2").await
            && metric(&cluster, "picopay_node_in_transit_minor_units{currency=\"USD\",shard=\"shard-1\"} 750")
                .await
    })
    .await;

    eventually("the age of the older one", async || {
        let page = http_call::get(&format!("{}/metrics", cluster.node_url(0, 0))).await.unwrap().body;
        // It was pending for as long before.
        let age = metric_sum(&page, "picopay_node_transfer_pending_seconds_max");
        if (4.0..120.0).contains(&age) { Ok(()) } else { Err(age.to_string()) }
    })
    .await;

    // Status says so after a minute.
    assert!(!problems(&file).await.contains("transfers of its users are pending"));
    let database = cluster.connect_primary(0).await.unwrap();
    let long_ago =
        "UPDATE transactions SET created_at = created_at - interval '2 minutes' WHERE kind = 'transfer_out'";
    assert_eq!(database.execute(long_ago, &[]).await.unwrap(), 2);
    let said = problems(&file).await;
    assert!(
        said.contains("shard-1: 2 transfers of its users are pending") && said.contains("picopay transfers"),
        "{said}"
    );

    node.start().await.unwrap();
    eventually("the end of both", async || {
        let now = transfers(&file).await;
        if now == json!({"in_transit": [], "pending": []}) { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    eventually("nothing in the metrics", async || {
        !metric(&cluster, "picopay_node_transfers_pending{currency=\"USD\",shard=\"shard-1\"} 2").await
            && metric(&cluster, "picopay_node_transfer_pending_seconds_max{shard=\"shard-1\"} 0").await
    })
    .await;
    assert!(!problems(&file).await.contains("transfers of its users are pending"));

    // Part of an answer would be taken for all of it.
    cluster.shard(1).primary().kill().await.unwrap();
    run(picopay(&file, ["transfers"])).await.failure("not known while a shard's primary does not answer");
    cluster.stop().await;
}
