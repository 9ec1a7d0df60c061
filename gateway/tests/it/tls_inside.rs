//! TLS on the hops behind the gateway: node to Redis, node to PostgreSQL, node to node. Who is refused, what is said, and
//! what clients see of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use picopay_certs::{Authority, Leaf, in_days};
use picopay_local::{ClusterSpec, Process, Proxy, Weather, eventually};
use serde_json::json;
use uuid::Uuid;

use crate::api::payment;
use crate::tls::{HOSTS, Secure};
use crate::tls_wires::{lead_redis_over, port_of, replay_from_redis};
use crate::transfers::{transfer, users_of_both};

/// Certificates that nobody may believe: who signed it, for which names, until when, and what is said of it.
fn unbelievable<'a>(
    own: &'a Authority,
    other: &'a Authority,
) -> [(&'a Authority, &'static [&'static str], SystemTime, &'static str); 3] {
    let over = SystemTime::now() - Duration::from_mins(1);
    [
        (other, &HOSTS, in_days(1), "no authority that is trusted here signed it"),
        (own, &["elsewhere.example"], in_days(1), "it is not for this name"),
        (own, &HOSTS, over, "it has expired"),
    ]
}

/// Starts it and waits for it as long as one that is believed would take: this one is not, not even by the test.
async fn start_unbelieved(process: &Process) {
    let _ = tokio::time::timeout(Duration::from_secs(3), process.start()).await;
}

#[tokio::test]
async fn a_redis_that_cannot_be_believed_is_skipped_in_one_clear_line_and_charges_go_on() {
    // "No answer in time" may be said on a busy machine, and is not what is looked for.
    let spec = ClusterSpec::one_shard().with_node_toml("[cache]\nlookup_timeout = \"3s\"\n");
    let secure = Secure::start(spec).await;
    let user = secure.api.user_with("100", "USD").await;
    let (own, other) = (secure.authority(), Authority::make(in_days(1)).unwrap());
    let (redis, node) = (secure.cluster.redis(), secure.cluster.shard(0).node(0));
    for (authority, hosts, expires, line) in unbelievable(&own, &other) {
        secure.replace(authority, "redis", hosts, expires);
        redis.kill().await.unwrap();
        start_unbelieved(&redis).await;
        eventually(line, async || {
            let asked = Instant::now();
            assert_eq!(secure.status_of_charge(user).await, 200, "with {line}");
            // One batch may wait for Redis, once.
            assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
            node.log_tail(400).contains(line)
        })
        .await;
        let log = node.log_tail(4_000);
        let told: Vec<_> = log.lines().filter(|told| told.contains(line)).collect();
        assert!(told.len() == 1 && told[0].contains("redis is"), "one line says it: {told:?}");
    }
    secure.replace(&own, "redis", &HOSTS, in_days(1));
    redis.kill().await.unwrap();
    redis.start().await.unwrap();
    eventually("Redis is believed again", async || node.log_tail(50).contains("redis answers again")).await;

    // A node without a certificate of its own, and one with another's.
    let file = secure.cluster.cluster_file();
    let good = std::fs::read_to_string(&file).unwrap();
    let anonymous: Vec<_> = good
        .lines()
        .filter(|line| !line.starts_with("redis_cert_file") && !line.starts_with("redis_key_file"))
        .collect();
    let pair = other.issue(&Leaf { name: "stranger", hosts: &[], expires: in_days(1) }).unwrap();
    pair.save(&secure.folder.join("stranger.pem"), &secure.folder.join("stranger.key")).unwrap();
    let strange: Vec<_> = (good.lines())
        .map(|line| {
            let is_of_redis = line.starts_with("redis_");
            if is_of_redis { line.replace("/picopay.", "/stranger.") } else { line.to_owned() }
        })
        .collect();
    for (text, line) in [(anonymous.join("\n"), "none was shown"), (strange.join("\n"), "signed ours")] {
        std::fs::write(&file, text).unwrap();
        node.reload();
        eventually(line, async || {
            assert_eq!(secure.status_of_charge(user).await, 200, "with {line}");
            node.log_tail(400).contains(line)
        })
        .await;
    }
    std::fs::write(&file, good).unwrap();
    node.reload();
    replay_from_redis(&secure.api, &secure.cluster, Uuid::new_v4(), &payment(user, "1", "USD")).await;
}

#[tokio::test]
async fn a_redis_that_is_some_way_off_is_connected_to_over_tls_and_used() {
    let spec = ClusterSpec::one_shard().with_node_toml("[cache]\nlookup_timeout = \"200ms\"\n");
    let secure = Secure::start(spec).await;
    let user = secure.api.user_with("100", "USD").await;
    let wire = Proxy::before(port_of(&secure.cluster.redis_url())).await.unwrap();
    // 120 ms there and back: less than a lookup has. A handshake and a login go as often each.
    wire.set_weather(Weather::Slow(Duration::from_millis(60)));
    lead_redis_over(&wire, &secure.cluster).await;
    replay_from_redis(&secure.api, &secure.cluster, Uuid::new_v4(), &payment(user, "1", "USD")).await;
}

async fn expect_unavailable(secure: &Secure, user: i64, what: &str) {
    let asked = Instant::now();
    let answer = secure.api.post_with("/charge", Uuid::new_v4(), &payment(user, "1", "USD")).await;
    secure.api.expect_problem(&answer, 503, "shard-unavailable");
    assert!(asked.elapsed() < Duration::from_secs(6), "{what} took {:?}", asked.elapsed());
}

#[tokio::test]
async fn a_database_that_cannot_be_believed_is_refused_in_one_clear_line_and_its_users_hear_unavailable() {
    let secure = Secure::start(ClusterSpec::one_shard()).await;
    let user = secure.api.user_with("100", "USD").await;
    let (own, other) = (secure.authority(), Authority::make(in_days(1)).unwrap());
    let node = secure.cluster.shard(0).node(0);
    // It stays connected, and could not connect again.
    let superuser = secure.cluster.connect_as_superuser(0).await.unwrap();
    let data: String = superuser.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
    let show_at_primary = async |pair: &picopay_certs::Pair| {
        // In the files that belong to the server's user.
        std::fs::write(PathBuf::from(&data).join("server.pem"), &pair.certificate).unwrap();
        std::fs::write(PathBuf::from(&data).join("server.key"), &pair.key).unwrap();
        superuser.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
    };
    for (authority, hosts, expires, line) in unbelievable(&own, &other) {
        let leaf = Leaf { name: "postgres", hosts, expires };
        show_at_primary(&authority.issue(&leaf).unwrap()).await;
        // What is connected stays connected.
        node.kill().await.unwrap();
        start_unbelieved(&node).await;
        eventually(line, async || node.log_tail(400).contains(line)).await;
        expect_unavailable(&secure, user, line).await;
    }
    let leaf = Leaf { name: "postgres", hosts: &HOSTS, expires: in_days(1) };
    show_at_primary(&own.issue(&leaf).unwrap()).await;

    // A node without a certificate of its own is refused by the server.
    let file = secure.cluster.cluster_file();
    let good = std::fs::read_to_string(&file).unwrap();
    let anonymous: Vec<String> = good
        .split("sslcert='")
        .enumerate()
        .map(|(number, part)| match part.split_once("sslkey='").and_then(|(_, rest)| rest.split_once('\'')) {
            Some((_, rest)) if number > 0 => rest.to_owned(),
            _ => part.to_owned(),
        })
        .collect();
    let anonymous = anonymous.concat();
    assert!(good.contains("sslcert") && !anonymous.contains("sslcert") && !anonymous.contains("sslkey"));
    std::fs::write(&file, anonymous).unwrap();
    node.kill().await.unwrap();
    start_unbelieved(&node).await;
    let line = "valid client certificate";
    eventually(line, async || node.log_tail(400).contains(line)).await;
    expect_unavailable(&secure, user, line).await;

    std::fs::write(&file, good).unwrap();
    node.kill().await.unwrap();
    node.start().await.unwrap();
    eventually("it is believed again", async || secure.status_of_charge(user).await == 200).await;
}

#[tokio::test]
async fn a_node_that_another_node_cannot_believe_gets_no_transfer_until_it_can() {
    let secure = Secure::start(ClusterSpec::default().with_proxies()).await;
    let [[sender, _], [recipient, _]] = users_of_both(&secure.api, "100", "USD").await;
    let (own, other) = (secure.authority(), Authority::make(in_days(1)).unwrap());
    let [first, second] = [0, 1].map(|shard| secure.cluster.shard(shard).node(0));
    let second_is_told = async |expires, times: usize| {
        secure.replace(&own, "node", &HOSTS, expires);
        second.reload();
        let taken = async || second.log_tail(4_000).matches("\"reloaded\"").count() >= times;
        eventually("a certificate in force", taken).await;
    };
    let send = async || {
        let body = transfer(sender, recipient, "1", "USD");
        let answer = secure.api.post_with("/transfers", Uuid::new_v4(), &body).await;
        let status = answer.json()["transfer"]["status"].clone();
        assert_eq!((answer.status, status), (202, json!("pending")), "{answer:?}");
    };
    let first_says = async |line: &str| {
        eventually(line, async || first.log_tail(1_000).contains(line)).await;
    };

    // One that expires while it is in force: what was connected before goes on, so the wire is cut.
    let over = SystemTime::now() + Duration::from_secs(8);
    second_is_told(over, 1).await;
    if let Ok(left) = over.duration_since(SystemTime::now()) {
        // It is good until then.
        tokio::time::sleep(left + Duration::from_secs(1)).await;
    }
    let second_wire = secure.cluster.shard(1).node_proxy(0);
    second_wire.reset();
    send().await;
    first_says("it has expired").await;
    for (authority, hosts, _, line) in unbelievable(&own, &other).into_iter().take(2) {
        secure.replace(authority, "node", hosts, in_days(1));
        second.kill().await.unwrap();
        start_unbelieved(&second).await;
        first_says(line).await;
        send().await;
    }
    // And a caller without a certificate of its own, who still has three transfers to bring there.
    let file = secure.cluster.cluster_file();
    let good = std::fs::read_to_string(&file).unwrap();
    let anonymous: Vec<_> =
        good.lines().filter(|line| !line.starts_with("cert_file") && !line.starts_with("key_file")).collect();
    std::fs::write(&file, anonymous.join("\n")).unwrap();
    first.take_over_cluster_file().await;
    secure.replace(&own, "node", &HOSTS, in_days(1));
    second.kill().await.unwrap();
    second.start().await.unwrap();
    let line = "it demands a certificate, and none was shown";
    let asked = AtomicU32::new(0);
    eventually(line, async || {
        // A connection that was made before the courier took the file over is a good one, and the next one is not. A second
        // or so lies between two cuts, so that there is a next one.
        if asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(64) {
            second_wire.reset();
        }
        first.log_tail(1_000).contains(line)
    })
    .await;

    std::fs::write(&file, &good).unwrap();
    for process in [&first, &secure.cluster.gateway()] {
        process.reload();
    }
    let balance = async |user: i64| {
        let answer = secure.api.get(&format!("/users/{user}/balance?currency=USD")).await;
        answer.json()["balance"].as_str().map(str::to_owned).unwrap_or_default()
    };
    eventually("all of the money, once", async || balance(recipient).await == "103.00").await;
    eventually("all of it is gone", async || balance(sender).await == "97.00").await;
}
