//! `picopay migrate --finish` waits for older programs, and lets holds in once there are none.

use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster, eventually, eventually_within, http_call};
use picopay_shared::node_status::{NodeStatus, STATUS_PATH, WIRE_BEFORE_HOLDS, WIRE_HEADER, WIRE_VERSION};

use super::command::{picopay, run};

async fn status_of(cluster: &LocalCluster, shard: usize, version: Option<u16>) -> NodeStatus {
    let url = format!("{}{STATUS_PATH}", cluster.node_url(shard, 0));
    let (secret, version) =
        (format!("Bearer {}", cluster.internal_secret()), version.map(|version| version.to_string()));
    let mut headers = vec![("authorization", secret.as_str())];
    headers.extend(version.as_deref().map(|version| (WIRE_HEADER, version)));
    let answer = http_call::call(http::Method::GET, &url, &headers, "").await.unwrap();
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn finishing_waits_for_an_older_gateway_and_then_holds_are_taken() {
    let cluster = LocalCluster::start(ClusterSpec::default().with_shards(2)).await.unwrap();
    let file = cluster.cluster_file();
    for shard in 0..2 {
        // As after `picopay migrate` of a cluster that has served with an older release.
        let database = cluster.connect_primary(shard).await.unwrap();
        database.batch_execute("UPDATE schema_version SET oldest_known = 5").await.unwrap();
        eventually("a node that has seen it", || async {
            (status_of(&cluster, shard, Some(WIRE_VERSION)).await.finished == WIRE_BEFORE_HOLDS).then_some(())
        })
        .await;
    }
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
    // It asks no more.
    let finished = eventually_within(Duration::from_mins(1), "the end of the older gateway", async || {
        let said = run(picopay(&file, ["migrate", "--finish", "--output", "json"])).await;
        if said.code == Some(0) { Ok(said) } else { Err(said.err) }
    })
    .await;
    assert_eq!(finished.json()["shards"][1]["is_finished"], true);
    for shard in 0..2 {
        eventually("a node that takes holds", || async {
            (status_of(&cluster, shard, Some(WIRE_VERSION)).await.finished == WIRE_VERSION).then_some(())
        })
        .await;
    }
    cluster.stop().await;
}
