//! Somebody is called when a standby dies, and told when it is over.

use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster, eventually, eventually_within};
use picopay_observability::runbooks;

use crate::monitor::{Prometheus, last_part, node_addresses, replaced, shipped, start_alertmanager};
use crate::receiver::Receiver;
use crate::tools::tools;

/// From the trouble to the call.
const CALLED_WITHIN: Duration = Duration::from_secs(90);

/// The end is told with the next message of its group: `group_interval` more.
const ENDED_WITHIN: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_call_hears_of_a_dead_standby_within_90_seconds_and_that_it_is_back() {
    let Some([prometheus, alertmanager]) = tools(["prometheus", "prometheus-alertmanager"]) else { return };
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let receiver = Receiver::start().await;
    let port = start_alertmanager(&cluster, &alertmanager, &receiver.address).await;
    let config = replaced(&shipped("prometheus.yml"), "alertmanager:9093", &format!("127.0.0.1:{port}"));
    let config = replaced(&config, "gateway:8080", last_part(&cluster.gateway_url()));
    let nodes = node_addresses(&cluster);
    let config = replaced(&config, "shard-1-node:8081", &nodes[0]);
    let config = replaced(&config, "shard-2-node:8081", &nodes[1]);
    let prometheus = Prometheus::start(&cluster, &prometheus, &config).await;
    eventually("each process is scraped", async || prometheus.unreached().await.is_empty()).await;
    eventually("both shards are seen as ready", async || {
        let ready = prometheus.ask("query?query=sum(picopay_gateway_shard_ready)").await;
        if ready["result"][0]["value"][1] == "2" { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;

    let standby = cluster.shard(0).replica();
    standby.kill().await.unwrap();
    let (who, alert) = eventually_within(CALLED_WITHIN, "a call about shard-1", async || {
        receiver.told("PicoPayShardNotReady", "firing").ok_or_else(|| receiver.heard().join("\n"))
    })
    .await;
    assert_eq!(
        (who, &alert["labels"]["shard"], &alert["labels"]["severity"]),
        ("page", &"shard-1".into(), &"critical".into())
    );
    let runbook = alert["annotations"]["runbook_url"].as_str().unwrap();
    assert!(runbooks().join(last_part(runbook)).is_file(), "{runbook}");

    standby.start().await.unwrap();
    eventually_within(ENDED_WITHIN, "that it is over", async || {
        receiver.told("PicoPayShardNotReady", "resolved").ok_or_else(|| receiver.heard().join("\n"))
    })
    .await;
    assert!(receiver.told("PicoPayTargetDown", "firing").is_none(), "{:?}", receiver.heard());
    cluster.stop().await;
}
