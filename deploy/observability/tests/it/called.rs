//! Somebody is called when a standby dies, and told when it is over.

use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster, eventually, eventually_within};
use picopay_observability::runbooks;

use crate::monitor::{Prometheus, last_part, node_addresses, replaced, shipped, start_alertmanager};
use crate::receiver::Receiver;
use crate::tools::tools;

/// How often the copy of this test scrapes and evaluates, and how often the shipped file does.
const PACE: Duration = Duration::from_secs(1);
const SHIPPED_PACE: Duration = Duration::from_secs(10);

/// From the trouble to the call. The rule's `for` and the route's `group_wait` are the shipped ones.
const CALLED_WITHIN: Duration = promised(Duration::from_secs(90));

/// The end is told with the next message of its group, and nobody promised when. Shipped, that is a minute later.
const GROUP_INTERVAL: &str = "group_interval: 5s";

/// Whatever the copy is faster by is taken from the time that it has: one scrape and one evaluation, at worst.
const fn promised(within: Duration) -> Duration {
    Duration::from_secs(within.as_secs() - 2 * (SHIPPED_PACE.as_secs() - PACE.as_secs()))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_call_hears_of_a_dead_standby_within_90_seconds_and_that_it_is_back() {
    let Some([prometheus, alertmanager]) = tools(["prometheus", "prometheus-alertmanager"]) else { return };
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let receiver = Receiver::start().await;
    let route = replaced(&shipped("alertmanager.yml"), "alert-receiver:9095", &receiver.address);
    let route = replaced(&route, "group_interval: 1m", GROUP_INTERVAL);
    let port = start_alertmanager(&cluster, &alertmanager, &route).await;
    let config = replaced(&shipped("prometheus.yml"), "alertmanager:9093", &format!("127.0.0.1:{port}"));
    let config = ["scrape", "evaluation"].iter().fold(config, |config, what| {
        let paced = |pace: Duration| format!("{what}_interval: {}s", pace.as_secs());
        replaced(&config, &paced(SHIPPED_PACE), &paced(PACE))
    });
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
    eventually("that it is over", async || {
        receiver.told("PicoPayShardNotReady", "resolved").ok_or_else(|| receiver.heard().join("\n"))
    })
    .await;
    assert!(receiver.told("PicoPayTargetDown", "firing").is_none(), "{:?}", receiver.heard());
    cluster.stop().await;
}
