//! Clients that are slow, large, many, or speak no HTTP.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use picopay_local::http_call::Answer;
use picopay_local::{ClusterSpec, LocalCluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::api::{Api, payment};
use crate::gateway_process::{GatewayProcess, cluster_of};

/// Short enough for a test, apart enough to tell which one ended a connection.
const TIMEOUTS: &str = "[server]\nheader_read_timeout = \"1s\"\nbody_read_timeout = \"1s\"\nidle_timeout = \"4s\"\nconnections_max = 2100\n";

/// So long that no connection ends by itself in a test.
const ROOM: &str = "[server]\nheader_read_timeout = \"5m\"\nidle_timeout = \"5m\"\nconnections_max = 2100\n";

async fn connect(url: &str) -> TcpStream {
    TcpStream::connect(url.strip_prefix("http://").unwrap().split('/').next().unwrap()).await.unwrap()
}

pub async fn exchange(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    let mut head = format!(
        "POST /{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    let mut stream = connect(url).await;
    stream.write_all(&[head.as_bytes(), b"\r\n", body].concat()).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let _ = timeout(Duration::from_secs(15), read).await.expect("the connection ends");
    bytes
}

pub fn read_answer(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
        })
        .collect();
    Answer { status, headers, body: body.to_owned() }
}

#[tokio::test]
async fn bodies_heads_and_garbage_harm_nobody() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard().with_gateway_toml(TIMEOUTS)).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("100", "USD").await;
    let charge = payment(user, "1", "USD").to_string();
    let charge_head = |length: usize| {
        format!(
            "POST /charge HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n",
            api.key
        )
    };

    // 10 MB, announced: all of it is sent before the answer is read, and the answer still arrives.
    let mut stream = connect(&api.url).await;
    stream.write_all(charge_head(10_000_000).as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 10_000_000]).await.unwrap();
    api.expect_problem(&read_answer(&read_to_end(&mut stream).await), 413, "too-large");
    let mut stream = connect(&api.url).await;
    let head = charge_head(0).replace("content-length: 0", "transfer-encoding: chunked");
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..100 {
        stream.write_all(b"186a0\r\n").await.unwrap();
        stream.write_all(&vec![b'x'; 100_000]).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    api.expect_problem(&read_answer(&read_to_end(&mut stream).await), 413, "too-large");
    let mut stream = connect(&api.url).await;
    let head = charge_head(10_000_000).replace("host: x", "host: x\r\nexpect: 100-continue");
    stream.write_all(head.as_bytes()).await.unwrap();
    api.expect_problem(&read_answer(&read_to_end(&mut stream).await), 413, "too-large");

    // A head that comes byte by byte is cut off, however regularly its bytes come: after a second, of the five that it would take.
    let mut stream = connect(&api.url).await;
    let (began, head, mut sent) = (Instant::now(), charge_head(1), 0);
    for byte in head.as_bytes() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sent += 1;
        // A twentieth of what the whole head may take, and longer in all.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(read_to_end(&mut stream).await.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(900) && sent < head.len(), "{sent} of {}", head.len());
    let mut stream = connect(&api.url).await;
    stream.write_all(charge_head(charge.len()).as_bytes()).await.unwrap();
    stream.write_all(&charge.as_bytes()[..10]).await.unwrap();
    api.expect_problem(&read_answer(&read_to_end(&mut stream).await), 408, "request-timeout");

    let mut stream = connect(&api.url).await;
    let good = format!("{}{charge}", charge_head(charge.len()));
    stream.write_all(format!("{good}{good}\u{1}\u{2}garbage\r\n\r\n").as_bytes()).await.unwrap();
    let text = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    assert_eq!(text.matches("HTTP/1.1 400 Bad Request").count(), 1, "{text}");
    assert_eq!(api.balance(user, "USD").await, "98.00");
    for garbage in ["\r\n\r\n\r\n", "GET\r\n\r\n", "\u{0}\u{0}\u{0}\u{0}", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = connect(&api.url).await;
        stream.write_all(garbage.as_bytes()).await.unwrap();
        let answer = String::from_utf8_lossy(&read_to_end(&mut stream).await).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{garbage:?} gave {answer}");
    }
    let long = format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(1_000_000));
    let mut stream = connect(&api.url).await;
    let _ = stream.write_all(long.as_bytes()).await;
    let answer = String::from_utf8_lossy(&read_to_end(&mut stream).await).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(api.pay("/charge", user, "1", "USD").await.status, 200, "and all is well");
    cluster.stop().await;
}

#[tokio::test]
async fn a_refused_request_keeps_its_connection() {
    let gateway = GatewayProcess::start(&cluster_of("http://127.0.0.1:1"), "").await;
    let mut stream = connect(&gateway.api.url).await;
    for (header, body, status) in [
        ("x-api-key: wrong", "{}", "401"),
        ("x-api-key: dev-key", "{\"user_id\":1}", "400"),
        ("x-api-key: dev-key\r\nidempotency-key: x", "{}", "400"),
        ("x-api-key: dev-key", "", "400"),
        ("x-api-key: dev-key", "{\"user_id\":1,\"amount\":1,\"currency\":\"USD\"}", "503"),
    ] {
        let length = body.len();
        let request = format!(
            "POST /charge HTTP/1.1\r\nhost: x\r\n{header}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        for _ in 0..3 {
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut buffer = [0; 4096];
            let read = timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap().unwrap();
            let answer = String::from_utf8_lossy(&buffer[..read]);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{header} {body}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn two_thousand_idle_connections_cost_nobody_anything() {
    // As many files as may be: this process holds the other ends.
    let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, hard) = nix::sys::resource::getrlimit(limit).unwrap();
    nix::sys::resource::setrlimit(limit, hard, hard).unwrap();

    // To open them all takes a busy machine longer than a test's short limits.
    let gateway = GatewayProcess::start(&cluster_of("http://127.0.0.1:1"), ROOM).await;
    let api = &gateway.api;
    let typical_alone = typical_answer(api).await;
    let mut idle = Vec::new();
    for _ in 0..2_000 {
        idle.push(used_once(&api.url).await);
    }
    let metrics = api.get("/metrics").await.body;
    assert!(metrics.contains("picopay_gateway_connections 2001"), "{metrics}");
    assert!(metrics.contains("picopay_gateway_requests 1\n"), "{metrics}");
    let typical = typical_answer(api).await;
    // The 20 ms are for what else the machine does by then.
    assert!(typical < typical_alone * 5 + Duration::from_millis(20), "{typical:?}, alone {typical_alone:?}");
    // Past the limit a connection is closed at once rather than left waiting, for which it has five minutes.
    let mut more = Vec::new();
    for _ in 0..120 {
        more.push(connect(&api.url).await);
    }
    let last = more.last_mut().unwrap();
    let ended = timeout(Duration::from_secs(30), last.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "one connection too many waits");
    assert!(is_answered(&mut idle[1_999]).await);
}

#[tokio::test]
async fn a_connection_that_was_used_may_be_idle_for_longer_than_a_head_may_take_and_not_for_ever() {
    let gateway = GatewayProcess::start(&cluster_of("http://127.0.0.1:1"), TIMEOUTS).await;
    let mut stream = used_once(&gateway.api.url).await;
    // The limit on slow heads is a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(is_answered(&mut stream).await);
    let ended = timeout(Duration::from_secs(30), stream.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "an idle connection is kept for ever");
}

async fn used_once(url: &str) -> TcpStream {
    let mut stream = connect(url).await;
    assert!(is_answered(&mut stream).await);
    stream
}

async fn is_answered(stream: &mut TcpStream) -> bool {
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    stream.read(&mut [0; 1024]).await.unwrap() > 0
}

async fn typical_answer(api: &Api) -> Duration {
    let mut all = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        assert_eq!(api.get("/health").await.status, 200);
        all.push(began.elapsed());
    }
    all.sort_unstable();
    all[50]
}
