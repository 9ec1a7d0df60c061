//! What rules and dashboards name is there, in a cluster that works.

use std::collections::BTreeSet;
use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster, eventually, eventually_within};
use picopay_observability::dashboards::Dashboard;
use picopay_observability::metric_names::metric_names;
use picopay_observability::rules::rule_files;
use picopay_observability::text_of;
use serde_json::Value;
use tokio::time::sleep;

use crate::monitor::{Prometheus, certificate, last_part, node_addresses, replaced, shipped};
use crate::tools::tools;
use crate::traffic;

/// Holds are counted every half minute, and a rate takes two scrapes more. The rest is for a busy machine.
const SEEN_WITHIN: Duration = Duration::from_mins(4);

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Over TLS, so that there are certificates to expire; and with totals, which nobody reads unless it is said.
#[tokio::test(flavor = "multi_thread")]
async fn every_panel_shows_something_and_every_metric_that_is_named_is_there() {
    let Some([program]) = tools(["prometheus"]) else { return };
    let spec = ClusterSpec::default().with_tls().with_gateway_toml("totals = { every = \"10s\" }");
    let cluster = LocalCluster::start(spec).await.unwrap();
    let prometheus = Prometheus::start(&cluster, &program, &hosts_config(&cluster)).await;
    eventually("each process is scraped", async || {
        let unreached = prometheus.unreached().await;
        if unreached.is_empty() { Ok(()) } else { Err(unreached.join("\n")) }
    })
    .await;

    let seen = eventually_within(SEEN_WITHIN, "what panels and rules name", async || {
        // Each look asks some hundred queries, and there is nothing new before the next scrape.
        sleep(LOOK_EVERY).await;
        let missing = missing(&prometheus).await;
        if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
    });
    tokio::select! {
        () = traffic::everything(&cluster) => unreachable!("it goes on"),
        () = seen => {}
    }
    no_rule_is_in_trouble(&prometheus).await;
    cluster.stop().await;
}

/// The example for hosts, with this machine's addresses.
fn hosts_config(cluster: &LocalCluster) -> String {
    let path = |name| certificate(cluster, name).display().to_string();
    let nodes = node_addresses(cluster);
    [
        (
            "'gateway-1.example:8080', 'gateway-2.example:8080'",
            format!("'{}'", last_part(&cluster.gateway_url())),
        ),
        (
            "'node-1.example:8081', 'node-2.example:8081', 'node-3.example:8081', 'node-4.example:8081'",
            format!("'{}'", nodes.join("', '")),
        ),
        ("certs/ca.pem", path("ca.pem")),
        ("certs/prometheus.pem", path("caller.pem")),
        ("certs/prometheus.key", path("caller.key")),
        // Nobody is called here.
        ("'monitor.example:9093'", String::new()),
    ]
    .iter()
    .fold(shipped("prometheus.hosts.yml"), |config, (before, after)| replaced(&config, before, after))
}

async fn missing(prometheus: &Prometheus) -> Vec<String> {
    let queries: Vec<_> = Dashboard::all().iter().flat_map(Dashboard::queries).collect();
    assert!(queries.len() > 60, "{}", queries.len());
    let mut named: BTreeSet<String> =
        rule_files().iter().flat_map(|file| metric_names(&text_of(file))).collect();
    assert!(named.len() > 20, "{named:?}");
    let mut missing = Vec::new();
    for query in &queries {
        named.extend(metric_names(&query.query));
        if !prometheus.shows(&query.query).await {
            missing.push(format!("{} shows nothing: {}", query.of, query.query));
        }
    }
    let scraped = prometheus.ask("label/__name__/values").await;
    let scraped: BTreeSet<&str> =
        scraped.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let unknown = named.iter().filter(|name| !scraped.contains(name.as_str()));
    missing.extend(unknown.map(|name| format!("nobody has the metric {name}")));
    missing
}

/// A rule can be well formed and still match many series with many.
async fn no_rule_is_in_trouble(prometheus: &Prometheus) {
    let groups = prometheus.ask("rules").await;
    let rules = groups["groups"].as_array().into_iter().flatten();
    let rules: Vec<&Value> =
        rules.flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
    assert!(rules.len() > 25, "{}", rules.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}
