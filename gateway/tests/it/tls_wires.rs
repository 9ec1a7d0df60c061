//! What somebody who listens on a wire between two parts reads: nothing of what is paid, by whom, or under which key.
//!
//! The same requests go over the wires without TLS too, where all of it is found. So the look can find it.

use picopay_local::{ClusterSpec, LocalCluster, Proxy, eventually, http_call};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::Api;

const USER: i64 = 7_351_246_813_579;
const AMOUNT: &str = "1357.91";
const REFERENCE: &str = "an-order-that-nobody-may-see";

/// PostgreSQL's `numeric`, as it goes over the wire: digits to the base of 10,000.
const DIGITS: [u8; 4] = [0x05, 0x4d, 0x23, 0x8c];

/// A recording wire of each hop, in this order.
const HOPS: [&str; 5] =
    ["client to gateway", "gateway to node", "node to PostgreSQL", "node to Redis", "primary to standby"];

pub fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

/// Puts this wire between the first node and its Redis.
pub async fn lead_redis_over(wire: &Proxy, cluster: &LocalCluster) {
    let file = cluster.cluster_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let port = port_of(&cluster.redis_url());
    let changed = text.replace(&format!("127.0.0.1:{port}\""), &format!("127.0.0.1:{}\"", wire.port()));
    assert_ne!(changed, text);
    std::fs::write(&file, changed).unwrap();
    cluster.shard(0).node(0).take_over_cluster_file().await;
}

/// A cluster with all of its wires through proxies.
async fn record(cluster: &LocalCluster) -> [Proxy; 5] {
    let shard = cluster.shard(0);
    let client = Proxy::before(port_of(&cluster.gateway_url())).await.unwrap();
    let redis = Proxy::before(port_of(&cluster.redis_url())).await.unwrap();
    let standby = Proxy::before(shard.primary_port()).await.unwrap();
    let wires = [client, shard.node_proxy(0), shard.primary_proxy(), redis, standby];
    for wire in &wires {
        wire.record();
        // So that a login is on the wire too.
        wire.reset();
    }

    let [.., redis, standby] = &wires;
    lead_redis_over(redis, cluster).await;

    let replica = shard.connect_replica_as_superuser().await.unwrap();
    let now: String = replica.query_one("SHOW primary_conninfo", &[]).await.unwrap().get(0);
    let port = |port: u16| format!(" port={port} ");
    let changed = now.replace(&port(shard.primary_port()), &port(standby.port())).replace('\'', "''");
    assert_ne!(changed, now);
    replica.batch_execute(&format!("ALTER SYSTEM SET primary_conninfo = '{changed}'")).await.unwrap();
    replica.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    eventually("a standby that is on its wire", async || !standby.recorded().is_empty()).await;
    cluster.wait_until_ready().await.unwrap();
    wires
}

/// Everything that is looked for on each wire: what it is, its bytes, and on which wires it is where nothing is hidden.
fn needles(key: Uuid, cluster: &LocalCluster) -> Vec<(&'static str, Vec<u8>, &'static [usize])> {
    vec![
        ("the reference", REFERENCE.as_bytes().to_vec(), &[0, 1, 2, 3, 4]),
        ("the key", key.as_bytes().to_vec(), &[1, 2, 3, 4]),
        ("the key as text", key.to_string().into_bytes(), &[0]),
        ("the user as text", USER.to_string().into_bytes(), &[0]),
        ("the user", USER.to_be_bytes().to_vec(), &[2]),
        ("the user in the log", USER.to_le_bytes().to_vec(), &[4]),
        ("the amount as text", AMOUNT.as_bytes().to_vec(), &[0]),
        ("the amount", DIGITS.to_vec(), &[2]),
        ("the API key", cluster.api_key().as_bytes().to_vec(), &[0]),
        ("the internal secret", cluster.internal_secret().as_bytes().to_vec(), &[1]),
    ]
}

/// Repeats a charge until Redis has answered one.
pub async fn replay_from_redis(api: &Api, cluster: &LocalCluster, key: Uuid, body: &Value) {
    let metrics = format!("{}/metrics", cluster.node_url(0, 0));
    let hits = "picopay_node_cache_hits_total{shard=\"shard-1\"} ";
    eventually("an answer from Redis", async || {
        let charged = api.post_with("/charge", key, body).await;
        assert_eq!(charged.status, 200, "{charged:?}");
        let told = http_call::get(&metrics).await.unwrap().body;
        let line = told.lines().find_map(|line| line.strip_prefix(hits)).map(str::to_owned);
        if line.as_deref().is_some_and(|value| value != "0") { Ok(()) } else { Err(format!("{line:?}")) }
    })
    .await;
}

#[tokio::test]
async fn no_amount_key_user_or_secret_is_seen_on_any_wire() {
    // An answer of Redis may take its time on a busy machine.
    let spec = ClusterSpec::one_shard().with_proxies().with_node_toml("[cache]\nlookup_timeout = \"5s\"\n");
    for is_secure in [false, true] {
        let spec = if is_secure { spec.clone().with_tls() } else { spec.clone() };
        let cluster = LocalCluster::start(spec).await.unwrap();
        let wires = record(&cluster).await;
        let scheme = if is_secure { "https" } else { "http" };
        let api = Api::new(format!("{scheme}://127.0.0.1:{}", wires[0].port()), cluster.api_key());
        let made = api.post("/users", &json!({"user_id": USER}).to_string()).await;
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(api.pay("/topup", USER, "7351.24", "USD").await.status, 200);
        let key = Uuid::new_v4();
        let body = json!({"user_id": USER, "amount": AMOUNT, "currency": "USD", "reference": REFERENCE});
        // So the entry went over its wire, both ways.
        replay_from_redis(&api, &cluster, key, &body).await;

        let seen = wires.each_ref().map(Proxy::recorded);
        for (what, needle, shown_on) in needles(key, &cluster) {
            for (number, (wire, hop)) in seen.iter().zip(HOPS).enumerate() {
                let is_seen = wire.windows(needle.len()).any(|part| part == needle);
                assert!(!(is_secure && is_seen), "{what} on the wire from {hop}");
                let is_expected = !is_secure && shown_on.contains(&number);
                assert!(is_seen || !is_expected, "{what} is not even on the plain wire from {hop}");
            }
        }
        cluster.stop().await;
    }
}
