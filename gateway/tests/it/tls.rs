//! TLS on the hops around the gateway: who is refused and what is said then, certificates that change, and clients that
//! connect and say nothing. The hops behind the nodes are in `tls_inside.rs`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use picopay_certs::{Authority, Leaf, in_days};
use picopay_local::{ClusterSpec, LocalCluster, eventually, http_call};
use picopay_tls::{Authorities, Caller, Identity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::api::{Api, payment};
use crate::drain::ask_on;

pub const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// A cluster over TLS, and the files of its certificates.
pub struct Secure {
    pub cluster: LocalCluster,
    pub api: Api,
    pub folder: PathBuf,
}

impl Secure {
    pub async fn start(spec: ClusterSpec) -> Self {
        let cluster = LocalCluster::start(spec.with_tls()).await.unwrap();
        let api = Api::new(cluster.gateway_url(), cluster.api_key());
        let folder = cluster.authority_file().unwrap().parent().unwrap().to_owned();
        Self { cluster, api, folder }
    }

    pub fn authority(&self) -> Authority {
        Authority::read(&self.folder).unwrap()
    }

    pub fn replace(&self, authority: &Authority, name: &str, hosts: &[&str], expires: SystemTime) {
        let pair = authority.issue(&Leaf { name, hosts, expires }).unwrap();
        let file = |end: &str| self.folder.join(format!("{name}.{end}"));
        pair.replace(&file("pem"), &file("key")).unwrap();
    }

    /// A client that shows this certificate, or none.
    fn client(&self, identity: Option<Identity>) -> Caller {
        Caller { authorities: Authorities::read(&self.folder.join("ca.pem")).unwrap(), identity }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.api.url.strip_prefix("https://").unwrap()).await.unwrap()
    }

    pub async fn status_of_charge(&self, user: i64) -> u16 {
        self.api.post_with("/charge", Uuid::new_v4(), &payment(user, "1", "USD")).await.status
    }

    pub fn gateway_says(&self, text: &str) -> bool {
        self.cluster.gateway().log_tail(400).contains(text)
    }
}

#[tokio::test]
async fn a_node_that_cannot_be_believed_is_refused_in_one_clear_line_and_its_clients_hear_unavailable() {
    let secure = Secure::start(ClusterSpec::one_shard().with_proxies()).await;
    let user = secure.api.user_with("100", "USD").await;
    let (own, other) = (secure.authority(), Authority::make(in_days(1)).unwrap());
    let node = secure.cluster.shard(0).node(0);
    for (authority, hosts, expires, line) in [
        // First: the others take long, and this one must still be good when its node starts.
        (&own, &HOSTS[..], SystemTime::now() + Duration::from_secs(8), "it has expired"),
        (&other, &HOSTS, in_days(1), "no authority that is trusted here signed it"),
        (&own, &["node.example"], in_days(1), "it is not for this name"),
    ] {
        secure.replace(authority, "node", hosts, expires);
        node.kill().await.unwrap();
        // It is there at once. Whether it is ready nobody can ask who does not believe it.
        let _ = timeout(Duration::from_secs(5), node.start()).await;
        if let Ok(left) = expires.duration_since(SystemTime::now())
            && left < Duration::from_mins(1)
        {
            // It is good until then, and what was connected before stays connected.
            tokio::time::sleep(left + Duration::from_secs(1)).await;
            secure.cluster.shard(0).node_proxy(0).reset();
        }
        eventually(line, async || secure.gateway_says(line)).await;
        let asked = Instant::now();
        let body = payment(user, "1", "USD");
        let answer = secure.api.post_with("/charge", Uuid::new_v4(), &body).await;
        secure.api.expect_problem(&answer, 503, "shard-unavailable");
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    }
    secure.replace(&own, "node", &HOSTS, in_days(1));
    node.kill().await.unwrap();
    node.start().await.unwrap();
    eventually("the node is believed again", async || secure.status_of_charge(user).await == 200).await;
}

#[tokio::test]
async fn a_caller_whom_a_node_does_not_let_in_hears_that_nothing_happened() {
    let secure = Secure::start(ClusterSpec::one_shard().with_proxies()).await;
    let user = secure.api.user_with("100", "USD").await;
    let node = secure.cluster.shard(0).node(0);
    let file = secure.cluster.cluster_file();
    let good = std::fs::read_to_string(&file).unwrap();
    let other = Authority::make(in_days(1)).unwrap();
    let anonymous: String = good
        .lines()
        .filter(|line| !line.starts_with("cert_file") && !line.starts_with("key_file"))
        .collect::<Vec<_>>()
        .join("\n");
    let pair = other.issue(&Leaf { name: "stranger", hosts: &[], expires: in_days(1) }).unwrap();
    pair.save(&secure.folder.join("stranger.pem"), &secure.folder.join("stranger.key")).unwrap();
    let strange = good.replace("/caller.", "/stranger.");
    for (text, line) in
        [(&good, "ours has expired"), (&anonymous, "none was shown"), (&strange, "signed ours")]
    {
        let over = SystemTime::now() + Duration::from_secs(8);
        if text == &good {
            // One that expires while it is in force.
            secure.replace(&secure.authority(), "caller", &[], over);
        }
        std::fs::write(&file, text).unwrap();
        secure.cluster.gateway().take_over_cluster_file().await;
        if text == &good
            && let Ok(left) = over.duration_since(SystemTime::now())
        {
            // It is good until then.
            tokio::time::sleep(left + Duration::from_secs(1)).await;
        }
        // Its open connections were let in before. A node would not start with a certificate that has expired.
        secure.cluster.shard(0).node_proxy(0).reset();
        eventually(line, async || secure.gateway_says(line)).await;
        let body = payment(user, "1", "USD");
        let answer = secure.api.post_with("/charge", Uuid::new_v4(), &body).await;
        secure.api.expect_problem(&answer, 503, "shard-unavailable");
        assert!(node.log_tail(400).contains("no TLS connection with a caller"), "{}", node.log_tail(20));
    }
    secure.replace(&secure.authority(), "caller", &[], in_days(1));
    std::fs::write(&file, &good).unwrap();
    secure.cluster.gateway().reload();
    eventually("the caller is let in again", async || secure.status_of_charge(user).await == 200).await;
    assert_eq!(secure.api.balance(user, "USD").await, "99.00", "nothing happened before");
}

/// Whether the certificate in force is one that is good for so many days.
fn is_good_for(metrics: &str, service: &str, certificate: &str, days: u32) -> bool {
    let start = format!("picopay_{service}_certificate_seconds_to_expiry{{certificate=\"{certificate}\"");
    let line = metrics.lines().find(|line| line.starts_with(&start));
    let seconds: i64 = line.expect(certificate).rsplit(' ').next().unwrap().parse().unwrap();
    (i64::from(days) * 86_400 - seconds).abs() < 600
}

#[tokio::test]
async fn three_rotations_under_load_fail_no_request_and_a_bad_certificate_changes_nothing() {
    let secure = Arc::new(Secure::start(ClusterSpec::one_shard()).await);
    let (own, is_over, done) =
        (secure.authority(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let user = secure.api.user_with("100000", "USD").await;
        let (secure, is_over, done) = (Arc::clone(&secure), Arc::clone(&is_over), Arc::clone(&done));
        clients.push(tokio::spawn(async move {
            let mut failed = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let body = payment(user, "1", "USD");
                let answer = secure.api.post_with("/charge", Uuid::new_v4(), &body).await;
                done.fetch_add(1, Ordering::Relaxed);
                if answer.status != 200 {
                    failed.push(answer);
                }
            }
            failed
        }));
    }
    let expires_of = async |days: u32| {
        let metrics = secure.api.get("/metrics").await.body;
        is_good_for(&metrics, "gateway", "tls.cert_file", days)
    };
    let expires_at_node = async |days: u32| {
        let metrics =
            http_call::get(&format!("{}/metrics", secure.cluster.node_url(0, 0))).await.unwrap().body;
        let database = format!("postgres {}", secure.folder.join("picopay.pem").display());
        ["tls.cert_file", "cluster tls.cert_file", &database]
            .iter()
            .all(|name| is_good_for(&metrics, "node", name, days))
    };
    let file = |end: &str| secure.folder.join(format!("caller.{end}"));
    let caller = || secure.client(Some(Identity::read(&file("pem"), &file("key")).unwrap()));
    let patience = Duration::from_secs(5);
    let gateway_port = secure.api.url.rsplit(':').next().unwrap().parse().unwrap();
    let node_port = secure.cluster.shard(0).node_port(0);
    let mut kept = caller().shake_hands("localhost", secure.connect().await, patience).await.unwrap();
    // A connection that was used may be idle for longer than a first head may take.
    ask_on(&mut kept).await;
    for round in 1..=3 {
        // A name that only this round's certificates have: so they are the ones that are shown.
        let name_of_round = format!("round-{round}.example");
        let hosts = [HOSTS[0], HOSTS[1], name_of_round.as_str()];
        for (name, hosts) in [("gateway", &hosts[..]), ("node", &hosts), ("caller", &[]), ("picopay", &[])] {
            secure.replace(&own, name, hosts, in_days(round));
        }
        for process in [secure.cluster.gateway(), secure.cluster.shard(0).node(0)] {
            process.reload();
        }
        eventually("the new certificate", async || expires_of(round).await).await;
        eventually("the node's new certificates", async || expires_at_node(round).await).await;
        for port in [gateway_port, node_port] {
            eventually("the new certificate, as it is shown", async || {
                let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                caller().shake_hands(&name_of_round, stream, patience).await.is_ok()
            })
            .await;
        }
        // What was connected before goes on.
        let answer = ask_on(&mut kept).await;
        assert!(answer.starts_with("http/1.1 200"), "{answer:?}");
        let so_far = done.load(Ordering::Relaxed);
        eventually("charges go on", async || done.load(Ordering::Relaxed) > so_far + 20).await;
    }
    // Neither a half-written nor a wrong one is taken.
    std::fs::write(secure.folder.join("gateway.key"), "not a key").unwrap();
    secure.cluster.gateway().reload();
    eventually("it is refused", async || secure.gateway_says("holds no private key")).await;
    assert!(secure.api.get("/metrics").await.body.contains("picopay_gateway_reload_refused 1"));
    assert!(expires_of(3).await);
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        let failed = client.await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
    }
}

#[tokio::test]
async fn clients_that_connect_and_say_nothing_crowd_out_each_other_and_nobody_else() {
    let bounds =
        "[server]\nhandshakes_max = 50\nhandshake_timeout = \"30s\"\nheader_read_timeout = \"30s\"\n";
    let secure = Secure::start(ClusterSpec::one_shard().with_gateway_toml(bounds)).await;
    let user = secure.api.user_with("100", "USD").await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(secure.connect().await);
    }
    for _ in 0..20 {
        let status = timeout(Duration::from_secs(2), secure.status_of_charge(user)).await;
        assert_eq!(status, Ok(200), "nobody waits for them");
    }
    let metrics = secure.api.get("/metrics").await.body;
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert!(
        value("picopay_gateway_handshakes ") <= 50 && value("picopay_gateway_handshakes_failed_total") >= 250
    );
    let mut oldest = silent.swap_remove(0);
    assert_eq!(oldest.read(&mut [0]).await.unwrap_or(0), 0, "the oldest was closed");
}

#[tokio::test]
async fn a_handshake_has_a_time_limit_and_plain_http_is_no_handshake() {
    let bounds = "[server]\nhandshake_timeout = \"1s\"\n";
    let secure = Secure::start(ClusterSpec::one_shard().with_gateway_toml(bounds)).await;
    let (began, mut silent) = (Instant::now(), secure.connect().await);
    let ended = timeout(Duration::from_secs(4), silent.read(&mut [0])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    let mut plain = secure.connect().await;
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn the_subject_of_a_clients_certificate_stands_for_the_key_that_names_it() {
    let secure = Secure::start(ClusterSpec::one_shard()).await;
    let config = secure.cluster.folder().join("gateway.toml");
    let digest = "ab".repeat(32);
    let mut text = std::fs::read_to_string(&config).unwrap();
    write!(
        text,
        "\n[[keys]]\nname = \"shop\"\ndigest = \"sha256:{digest}\"\nclient_subject = \"CN=shop\"\nscopes = [\"read\"]\n"
    )
    .unwrap();
    std::fs::write(&config, text).unwrap();
    eventually("the key is taken", async || secure.gateway_says("reloaded")).await;
    let user = secure.api.user_with("100", "USD").await;
    let identity = |authority: &Authority, name: &str, expires: SystemTime| {
        let pair = authority.issue(&Leaf { name, hosts: &[], expires }).unwrap();
        let file = |end: &str| secure.folder.join(format!("{name}-{}.{end}", Uuid::new_v4()));
        let (certificate, key) = (file("pem"), file("key"));
        pair.save(&certificate, &key).unwrap();
        Identity::read(&certificate, &key).unwrap()
    };
    let own = secure.authority();
    let ask = async |identity: Option<Identity>, header: &str| {
        let caller = secure.client(identity);
        let patience = Duration::from_secs(5);
        let mut stream = caller.shake_hands("127.0.0.1", secure.connect().await, patience).await.ok()?;
        let head =
            format!("GET /users/{user}/balance HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse::<u16>().ok()
    };
    assert_eq!(ask(Some(identity(&own, "shop", in_days(1))), "").await, Some(200));
    assert_eq!(ask(Some(identity(&own, "other", in_days(1))), "").await, Some(401), "no key names it");
    assert_eq!(ask(None, "").await, Some(401), "no certificate");
    assert_eq!(ask(None, "x-api-key: dev-key\r\n").await, Some(200), "nobody needs one");
    let wrong = ask(Some(identity(&own, "shop", in_days(1))), "x-api-key: wrong\r\n").await;
    assert_eq!(wrong, Some(401), "a key that is shown counts");
    let stranger = identity(&Authority::make(in_days(1)).unwrap(), "shop", in_days(1));
    assert_eq!(ask(Some(stranger), "").await, None, "of another authority: no connection");
    let over = SystemTime::now() + Duration::from_secs(2);
    let expired = identity(&own, "shop", over);
    if let Ok(left) = over.duration_since(SystemTime::now()) {
        // It is good until then.
        tokio::time::sleep(left + Duration::from_secs(1)).await;
    }
    assert_eq!(ask(Some(expired), "").await, None, "expired: no connection");
}
