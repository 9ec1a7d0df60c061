//! `picopay migrate --finish` waits for older programs, and lets holds and transfers in once there are none.

use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster, eventually, eventually_within, http_call};
use picopay_shared::node_status::{
    HOLDS, NodeStatus, STATUS_PATH, WIRE_BEFORE_HOLDS, WIRE_HEADER, WIRE_VERSION,
};
use serde_json::json;

use super::command::{picopay, run};
use super::users::make_user;

async fn status_of(cluster: &LocalCluster, shard: usize, version: Option<u16>) -> NodeStatus {
    let url = format!("{}{STATUS_PATH}", cluster.node_url(shard, 0));
    let (secret, version) =
        (format!("Bearer {}", cluster.internal_secret()), version.map(|version| version.to_string()));
    let mut headers = vec![("authorization", secret.as_str())];
    headers.extend(version.as_deref().map(|version| (WIRE_HEADER, version)));
    let answer = http_call::call(http::Method::GET, &url, &headers, "").await.unwrap();
    serde_json::from_str(&answer.body).unwrap()
}

/// As after `picopay migrate` of a cluster that has served with an older release, whose last migration this was.
async fn go_back_to(cluster: &LocalCluster, oldest_known: i32, finished: u16) {
    for shard in 0..2 {
        let database = cluster.connect_primary(shard).await.unwrap();
        let update = "UPDATE schema_version SET oldest_known = $1";
        assert_eq!(database.execute(update, &[&oldest_known]).await.unwrap(), 1);
        eventually("a node that has seen it", || async {
            (status_of(cluster, shard, Some(WIRE_VERSION)).await.finished == finished).then_some(())
        })
        .await;
    }
}

/// What a charge, a hold and a transfer are answered.
async fn answers(cluster: &LocalCluster) -> [u16; 3] {
    let payment = json!({"user_id": 1, "amount": "1", "currency": "USD"});
    let transfer = json!({"from_user_id": 1, "to_user_id": 2, "amount": "1", "currency": "USD"});
    let mut all = [0; 3];
    for (place, (path, body)) in
        [("/charge", &payment), ("/holds", &payment), ("/transfers", &transfer)].into_iter().enumerate()
    {
        let answer = cluster.post(path, None, body).await.unwrap();
        let is_as_promised = answer.status == 200 || answer.json()["code"] == "shard-unavailable";
        assert!(is_as_promised, "{path}: {answer:?}");
        all[place] = answer.status;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn finishing_waits_for_an_older_gateway_and_then_holds_and_transfers_are_taken() {
    let cluster = LocalCluster::start(ClusterSpec::default().with_shards(2)).await.unwrap();
    let file = cluster.cluster_file();
    for user in [1, 2] {
        make_user(&cluster, user).await;
    }
    go_back_to(&cluster, 5, WIRE_BEFORE_HOLDS).await;
    assert_eq!(answers(&cluster).await, [200, 503, 503]);
    let plain = run(picopay(&file, ["migrate"])).await.success();
    assert!(!plain.out.contains("yes"), "{plain:?}");
    assert_eq!(status_of(&cluster, 0, Some(WIRE_VERSION)).await.finished, WIRE_BEFORE_HOLDS);

    // An older gateway names no version.
    status_of(&cluster, 1, None).await;
    let refused = run(picopay(&file, ["migrate", "--finish"])).await.failure("an older gateway or command");
    assert!(refused.err.contains("shard-2, node "), "{refused:?}");
    for shard in 0..2 {
        assert_eq!(status_of(&cluster, shard, Some(WIRE_VERSION)).await.finished, WIRE_BEFORE_HOLDS);
    }
    // The release that had holds, and nothing that came after them.
    go_back_to(&cluster, 12, HOLDS).await;
    eventually("holds, and no transfers", async || {
        let found = answers(&cluster).await;
        if found == [200, 200, 503] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    // It asks no more.
    let finished = eventually_within(Duration::from_mins(1), "the end of the older gateway", async || {
        let said = run(picopay(&file, ["migrate", "--finish", "--output", "json"])).await;
        if said.code == Some(0) { Ok(said) } else { Err(said.err) }
    })
    .await;
    assert_eq!(finished.json()["shards"][1]["is_finished"], true);
    eventually("holds and transfers", async || {
        let found = answers(&cluster).await;
        if found == [200, 200, 200] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    for shard in 0..2 {
        assert_eq!(status_of(&cluster, shard, Some(WIRE_VERSION)).await.finished, WIRE_VERSION);
    }
    cluster.stop().await;
}
