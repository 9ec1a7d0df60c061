//! HTTP as clients, proxies and attackers write it: what is wrong with a request as such, and what stays of a connection.

use std::fmt::Write as _;
use std::time::Duration;

use picopay_local::http_call::Answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::api::Api;
use crate::connections::read_answer;
use crate::gateway_process::{GatewayProcess, cluster_of, key_entry};
use crate::scripted_node::ScriptedNode;

const CHARGE: &str = r#"{"user_id":1,"amount":"1.00","currency":"USD"}"#;

/// A gateway before a node that books whatever it is sent, and counts it.
async fn start(gateway_toml: &str) -> (ScriptedNode, GatewayProcess) {
    let node = ScriptedNode::start(&[]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), gateway_toml).await;
    (node, gateway)
}

/// A connection that is kept, and reads one answer after the other.
struct RawConnection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl RawConnection {
    async fn open(api: &Api) -> Self {
        let stream = TcpStream::connect(api.url.strip_prefix("http://").unwrap()).await.unwrap();
        Self { stream, read: Vec::new() }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the gateway still reads");
    }

    /// Has what was sent arrive before what is sent next, and be dealt with alone.
    async fn pause(&self) {
        // Nothing shows when a gateway has read a packet that it does not answer yet.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// One answer with the body that it announces; `None` when the connection ended instead.
    async fn answer(&mut self) -> Option<Answer> {
        loop {
            let end = self.read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
            let length = end.map(|end| {
                let head = String::from_utf8_lossy(&self.read[..end]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                end + length.map_or(0, |length| length.trim().parse::<usize>().unwrap())
            });
            if let Some(length) = length.filter(|length| self.read.len() >= *length) {
                let rest = self.read.split_off(length);
                return Some(read_answer(&std::mem::replace(&mut self.read, rest)));
            }
            let reading = self.stream.read_buf(&mut self.read);
            match timeout(Duration::from_secs(15), reading).await.expect("an answer") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn ends(&mut self) -> bool {
        self.answer().await.is_none()
    }
}

async fn exchange(api: &Api, request: impl AsRef<[u8]>) -> Answer {
    let mut connection = RawConnection::open(api).await;
    connection.send(request).await;
    connection.answer().await.expect("an answer")
}

/// A charge with these header lines on top, or instead of those that are usual.
fn charge_with(target: &str, lines: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("POST {target} HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
    for usual in ["host: x", "x-api-key: dev-key", "content-type: application/json"] {
        let name = usual.split(':').next().unwrap();
        if !lines.iter().any(|line| line.to_lowercase().starts_with(&format!("{name}:"))) {
            write!(head, "{usual}\r\n").unwrap();
        }
    }
    for line in lines {
        write!(head, "{line}\r\n").unwrap();
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

#[tokio::test]
async fn no_route_takes_parameters_that_it_does_not_know() {
    let (node, gateway) = start("").await;
    let api = &gateway.api;
    for path in
        ["/charge", "/topup", "/refund", "/users", "/v1/charge", "/v1/topup", "/v1/refund", "/v1/users"]
    {
        for (query, names) in [
            ("dry_run=true", vec!["dry_run"]),
            ("amount=1.00", vec!["amount"]),
            ("x", vec!["x"]),
            ("x=1&x=1", vec!["x", "x"]),
            ("%64ry%5Frun=1&b", vec!["dry_run", "b"]),
            ("user_id=1", vec!["user_id"]),
        ] {
            let body = if path.ends_with("users") { r#"{"user_id":1}"# } else { CHARGE };
            let answer = api.post(&format!("{path}?{query}"), body).await;
            let problem = api.expect_problem(&answer, 400, "invalid-request");
            let told: Vec<_> = problem["errors"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|error| error["parameter"].as_str())
                .collect();
            assert_eq!(told, names, "{path}?{query}");
        }
    }
    let problem = api.post("/charge?x=1", r#"{"user_id":1,"amount":"1.00"}"#).await.json();
    assert_eq!(
        (&problem["errors"][0]["parameter"], &problem["errors"][1]["pointer"]),
        (&"x".into(), &"/currency".into())
    );
    let suffix = "/problems/overloaded";
    for path in ["/health", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/start.js", suffix] {
        for prefix in ["", "/v1"] {
            let answer = api.with_key("").get(&format!("{prefix}{path}?a=1&a=1")).await;
            let problem = api.expect_problem(&answer, 400, "invalid-request");
            assert_eq!(problem["errors"][1]["parameter"], "a", "{path}");
            assert_eq!(api.with_key("").get(&format!("{prefix}{path}?")).await.status, 200, "{path}");
        }
    }
    let id = Uuid::new_v4();
    for path in ["/users/1/balance", "/transactions", &format!("/transactions/{id}")] {
        let problem = api.get(&format!("{path}?consistencY=strong")).await;
        assert!(problem.body.contains(r#""parameter":"consistencY""#), "{problem:?}");
    }
    // Who may not call learns nothing of parameters.
    api.expect_problem(&api.with_key("").post("/charge?x=1", CHARGE).await, 401, "unauthorized");
    assert_eq!(node.seen().len(), 0, "no money moved");
}

#[tokio::test]
async fn every_time_of_rfc_3339_is_taken() {
    let (_node, gateway) = start("").await;
    let api = &gateway.api;
    for time in [
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "2026-11-22T12:00:00.123456789012Z",
        "2026-11-22T12:00:00.000000000000000000000001Z",
        "2026-11-22t12:00:00z",
        "2026-11-22T12:00:00+05:30",
        "2026-11-22T12:00:00%2B05:30",
        "2026-11-22T12:00:00-23:59",
        "2026-11-22T12:00:00-00:00",
        "2016-12-31T23:59:60Z",
    ] {
        for name in ["from", "to"] {
            let answer = api.get(&format!("/transactions?user_id=1&{name}={time}")).await;
            api.expect_problem(&answer, 404, "user-not-found");
        }
    }
    for time in ["2026-11-22", "2026-11-22T12:00:00", "2026-11-22%2012:00:00Z", "2026-11-22T12:00:00%2001:00"]
    {
        let answer = api.get(&format!("/transactions?user_id=1&to={time}")).await;
        assert_eq!(
            api.expect_problem(&answer, 400, "invalid-request")["errors"][0]["parameter"],
            "to",
            "{time}"
        );
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_a_problem_with_the_requests_id() {
    let (node, gateway) = start("").await;
    let api = &gateway.api;
    let x = |count: usize| "x".repeat(count);
    for (length, status) in [(8_192, 404), (8_193, 414), (9 * 1024, 414), (16 * 1024, 414), (60_000, 414)] {
        for prefix in ["/", "/charge?a=", "/v1/users/"] {
            let target = format!("{prefix}{}", x(length - prefix.len()));
            let head = format!(
                "GET {target} HTTP/1.1\r\nhost: x\r\nx-api-key: dev-key\r\nx-request-id: mine\r\n\r\n"
            );
            let answer = exchange(api, head).await;
            assert_eq!(answer.header("x-request-id"), Some("mine"), "{length}");
            if status == 414 {
                api.expect_problem(&answer, 414, "uri-too-long");
            } else {
                assert_ne!(answer.status, 414, "{length}");
            }
        }
    }
    for (lines, is_taken) in [(99, true), (100, false), (120, false), (200, false), (255, false)] {
        let more = (0..lines).map(|number| format!("x-{number}: 1\r\n")).collect::<Vec<_>>().concat();
        let answer = exchange(api, format!("GET /health HTTP/1.1\r\nhost: x\r\n{more}\r\n")).await;
        if is_taken {
            assert_eq!(answer.status, 200, "{lines}");
        } else {
            api.expect_problem(&answer, 431, "headers-too-large");
        }
    }
    for (bytes, is_taken) in [(32_000, true), (33_000, false), (40 * 1024, false), (64 * 1024, false)] {
        for lines in [1, 8] {
            let line = |number: usize| format!("x-{number}: {}\r\n", x(bytes / lines));
            let more = (0..lines).map(line).collect::<Vec<_>>().concat();
            let answer = exchange(api, format!("GET /health HTTP/1.1\r\nhost: x\r\n{more}\r\n")).await;
            if is_taken {
                assert_eq!(answer.status, 200, "{bytes}");
            } else {
                api.expect_problem(&answer, 431, "headers-too-large");
            }
        }
    }
    // A write that is refused for its head moves nothing, and its connection can go on.
    let mut connection = RawConnection::open(api).await;
    let many: Vec<String> = (0..120).map(|number| format!("x-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    connection.send(charge_with("/charge", &many, CHARGE.as_bytes())).await;
    api.expect_problem(&connection.answer().await.unwrap(), 431, "headers-too-large");
    connection.send(charge_with("/charge", &[], CHARGE.as_bytes())).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    assert_eq!(node.seen().len(), 1);
}

#[tokio::test]
async fn a_request_that_is_for_nobody_or_for_two_moves_no_money() {
    let (node, gateway) = start("").await;
    let api = &gateway.api;
    let with_hosts = |version: &str, target: &str, hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect::<Vec<_>>().concat();
        let length = CHARGE.len();
        format!(
            "POST {target} HTTP/{version}\r\n{hosts}x-api-key: dev-key\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{CHARGE}"
        )
    };
    for (version, target, hosts) in [
        ("1.1", "/charge", vec![]),
        ("1.1", "/charge", vec!["x", "y"]),
        ("1.1", "/charge", vec!["x", "x"]),
        ("1.1", "/charge", vec!["a b/c"]),
        ("1.1", "/charge", vec!["x", ""]),
        ("1.1", "/charge", vec!["x:port"]),
        ("1.1", "/charge", vec!["user@x"]),
        ("1.1", "/charge", vec!["[::1"]),
        ("1.0", "/charge", vec!["x", "y"]),
        ("1.0", "/charge", vec!["a b/c"]),
        ("1.1", "http://x/charge", vec![]),
        ("1.1", "http://x/charge", vec!["x", "y"]),
        ("1.1", "http://user@x/charge", vec!["x"]),
    ] {
        let answer = exchange(api, with_hosts(version, target, &hosts)).await;
        let problem = api.expect_problem(&answer, 400, "invalid-request");
        assert_eq!(problem["errors"][0]["header"], "Host", "{version} {target} {hosts:?}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(node.seen().len(), 0);
    let good = [
        ("1.1", "/charge", vec!["pay.example:8080"]),
        ("1.1", "/charge", vec!["[::1]:80"]),
        ("1.1", "/charge", vec![""]),
        ("1.0", "/charge", vec![]),
        ("1.0", "/charge", vec!["x"]),
        ("1.1", "http://other.example/charge", vec!["x"]),
        ("1.0", "http://other.example/charge", vec![]),
    ];
    for (version, target, hosts) in &good {
        let answer = exchange(api, with_hosts(version, target, hosts)).await;
        assert_eq!(answer.status, 200, "{version} {target} {hosts:?}: {answer:?}");
    }
    assert_eq!(node.seen().len(), good.len());
    for line in ["CONNECT x:80 HTTP/1.1\r\nhost: x:80", "OPTIONS * HTTP/1.1\r\nhost: x"] {
        assert_eq!(exchange(api, format!("{line}\r\n\r\n")).await.status, 404, "{line}");
    }
}

#[tokio::test]
async fn a_body_under_another_coding_is_not_taken_for_plain() {
    let (node, gateway) = start("").await;
    let api = &gateway.api;
    let chunked = format!("{:x}\r\n{CHARGE}\r\n0\r\n\r\n", CHARGE.len());
    let with = |lines: &str| {
        format!(
            "POST /charge HTTP/1.1\r\nhost: x\r\nx-api-key: dev-key\r\ncontent-type: application/json\r\n{lines}\r\n\r\n{chunked}"
        )
    };
    for lines in [
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
        "transfer-encoding: identity, chunked",
        "transfer-encoding: chunked, chunked",
    ] {
        let answer = exchange(api, with(lines)).await;
        api.expect_problem(&answer, 501, "not-implemented");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    // The HTTP library's own: bare, and the connection ends.
    assert_eq!(exchange(api, with("transfer-encoding: gzip")).await.status, 400);
    assert_eq!(node.seen().len(), 0);
    assert_eq!(exchange(api, with("Transfer-Encoding: Chunked")).await.status, 200);
    // With a length beside it the length is dropped, and the connection ends.
    let mut connection = RawConnection::open(api).await;
    connection.send(with("content-length: 5\r\ntransfer-encoding: chunked")).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    assert!(connection.ends().await);
    for coding in ["gzip", "x-gzip", "br", "deflate", "identity, gzip"] {
        let answer = exchange(
            api,
            charge_with("/charge", &[&format!("content-encoding: {coding}")], CHARGE.as_bytes()),
        )
        .await;
        api.expect_problem(&answer, 415, "unsupported-media-type");
        assert_eq!(answer.header("accept-encoding"), Some("identity"), "{coding}");
    }
    let sent = charge_with("/charge", &["content-encoding: identity"], CHARGE.as_bytes());
    assert_eq!(exchange(api, sent).await.status, 200);
}

/// Interleaving: head, answer, body, next request, on one connection, as clients that send head and body in two packets do.
#[tokio::test]
async fn a_client_whose_body_comes_after_its_refusal_reads_it_and_goes_on() {
    let slow = key_entry("slow", "slow-key", &["write"], "rate_per_second = 1\nburst = 1");
    let reader = key_entry("reader", "r-key", &["read"], "");
    let (node, gateway) = start(&format!("[server]\nbody_read_timeout = \"1s\"\n{slow}{reader}")).await;
    let api = &gateway.api;
    api.with_key("slow-key").post("/charge", "{}").await;
    let large = vec![b' '; 64 * 1024];
    for (target, lines, status) in [
        ("/charge", vec!["x-api-key: wrong"], 401),
        ("/charge", vec!["x-api-key: r-key"], 403),
        ("/nothing", vec![], 404),
        ("/health", vec![], 405),
        ("/charge", vec!["content-type: text/plain"], 415),
        ("/charge", vec!["content-encoding: gzip"], 415),
        ("/charge", vec!["x-api-key: slow-key"], 429),
        ("/charge", vec!["idempotency-key: x"], 400),
        ("/charge", vec!["idempotency-key: 00000000-0000-0000-0000-000000000000"], 400),
    ] {
        for body in [b"{}".as_slice(), &large] {
            let mut connection = RawConnection::open(api).await;
            let request = charge_with(target, &lines, body);
            let (head, body) = request.split_at(request.len() - body.len());
            // 429 needs its bucket empty.
            if status == 429 {
                api.with_key("slow-key").post("/charge", "{}").await;
            }
            connection.send(head).await;
            connection.pause().await;
            let (first, rest) = body.split_at(1);
            connection.send(first).await;
            connection.pause().await;
            connection.send(rest).await;
            let answer = connection.answer().await.unwrap_or_else(|| panic!("{target} {lines:?}: no answer"));
            assert_eq!(answer.status, status, "{target} {lines:?}");
            assert_eq!(answer.header("connection"), None, "{target} {lines:?}");
            connection.send(charge_with("/charge", &[], CHARGE.as_bytes())).await;
            assert_eq!(connection.answer().await.unwrap().status, 200, "{target} {lines:?}");
        }
    }
    let mut connection = RawConnection::open(api).await;
    connection.send("GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n").await;
    connection.pause().await;
    connection.send("{}GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    assert_eq!(connection.answer().await.unwrap().status, 200);
    // What is larger than any body, what never comes, and what waits for a word: the answer comes, and says that it is the last.
    let booked = node.seen().len();
    let wrong = "x-api-key: wrong\r\ncontent-type: application/json";
    for (more, body) in [
        ("content-length: 70000", vec![b'x'; 70_000]),
        ("content-length: 10", Vec::new()),
        ("content-length: 10\r\nexpect: 100-continue", Vec::new()),
        ("transfer-encoding: chunked", b"3\r\nabc\r\n".to_vec()),
    ] {
        let mut connection = RawConnection::open(api).await;
        connection.send(format!("POST /charge HTTP/1.1\r\nhost: x\r\n{wrong}\r\n{more}\r\n\r\n")).await;
        connection.send(&body).await;
        let answer = connection.answer().await.unwrap_or_else(|| panic!("{more}: no answer"));
        api.expect_problem(&answer, 401, "unauthorized");
        assert_eq!(answer.header("connection"), Some("close"), "{more}");
        assert!(connection.ends().await, "{more}");
    }
    assert_eq!(node.seen().len(), booked);
}

#[tokio::test]
async fn a_slow_body_is_told_as_408_and_nothing_happens() {
    let (node, gateway) = start("[server]\nbody_read_timeout = \"300ms\"\n").await;
    let mut connection = RawConnection::open(&gateway.api).await;
    let request = charge_with("/charge", &[], CHARGE.as_bytes());
    connection.send(&request[..request.len() - 5]).await;
    let answer = connection.answer().await.unwrap();
    gateway.api.expect_problem(&answer, 408, "request-timeout");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.header("idempotency-key").is_some());
    assert!(connection.ends().await);
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test]
async fn the_instance_of_a_problem_is_a_uri_whatever_the_client_calls_its_request() {
    let (_node, gateway) = start("").await;
    let api = gateway.api.with_key("");
    let longest = "x".repeat(128);
    for id in ["a", "550E8400-e29b", "A.b_c~d:e-9", &longest] {
        let answer = api.call(http::Method::GET, "/transactions", &[("x-request-id", id)], "").await;
        assert_eq!(answer.header("x-request-id"), Some(id));
        api.expect_problem(&answer, 401, "unauthorized");
    }
    let too_long = "x".repeat(129);
    for id in [
        "{550E8400-e29b-41d4-a716-446655440000}",
        "a b",
        "a\"b",
        "a/b",
        "a%20b",
        "a#b",
        "<x>",
        "ü",
        "a,b",
        &too_long,
    ] {
        let answer = api.call(http::Method::GET, "/transactions", &[("x-request-id", id)], "").await;
        let given = answer.header("x-request-id").unwrap();
        assert!(given != id && given.len() == 36, "{id} gave {given}");
        api.expect_problem(&answer, 401, "unauthorized");
    }
}

#[tokio::test]
async fn a_path_is_the_same_however_its_plain_letters_are_written() {
    let (node, gateway) = start("").await;
    let api = &gateway.api;
    for path in ["/%63harge", "/%76%31/%63%68%61%72%67%65", "/v1/charg%65", "http://x/%63harge"] {
        let answer = exchange(api, charge_with(path, &[], CHARGE.as_bytes())).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    assert_eq!(node.seen().len(), 4);
    for (path, status) in [
        ("/%76%31/health", 200),
        ("/h%65alth?", 200),
        ("/users/%31/balance", 404),
        ("/users/%2531/balance", 400),
        ("/problems/rate%2Dlimited", 200),
        ("/v1%2Fhealth", 404),
        ("/%2563harge", 404),
        ("/transactions/550e8400", 400),
        ("/transactions/%7B550e8400-e29b-41d4-a716-446655440000%7D", 400),
    ] {
        assert_eq!(api.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn headers_that_have_one_line_are_refused_with_two() {
    let (node, gateway) = start("").await;
    let api = &gateway.api;
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    for (lines, status, suffix) in [
        (vec!["x-api-key: dev-key".to_owned(), "x-api-key: wrong".to_owned()], 401, "unauthorized"),
        (vec!["x-api-key: wrong".to_owned(), "x-api-key: dev-key".to_owned()], 401, "unauthorized"),
        (vec!["x-api-key: dev-key".to_owned(), "X-Api-Key: dev-key".to_owned()], 401, "unauthorized"),
        (
            vec!["authorization: Bearer dev-key".to_owned(), "authorization: Bearer x".to_owned()],
            401,
            "unauthorized",
        ),
        (
            vec![format!("idempotency-key: {one}"), format!("idempotency-key: {other}")],
            400,
            "invalid-idempotency-key",
        ),
        (
            vec![format!("idempotency-key: {one}"), format!("idempotency-key: {one}")],
            400,
            "invalid-idempotency-key",
        ),
        (
            vec!["content-type: application/json".to_owned(), "content-type: application/json".to_owned()],
            415,
            "unsupported-media-type",
        ),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = exchange(api, charge_with("/charge", &lines, CHARGE.as_bytes())).await;
        api.expect_problem(&answer, status, suffix);
        let lines = lines.join("\r\n");
        let key = if lines.contains("x-api-key") || lines.contains("authorization") {
            ""
        } else {
            "x-api-key: dev-key\r\n"
        };
        let read = format!("GET /users/1/balance HTTP/1.1\r\nhost: x\r\n{key}{lines}\r\n\r\n");
        let expected = if status == 401 { 401 } else { 400 };
        assert_eq!(exchange(api, read).await.status, expected, "{lines}");
    }
    assert_eq!(node.seen().len(), 0);
}

#[tokio::test]
async fn bodies_are_read_however_libraries_declare_and_begin_them() {
    let (node, gateway) = start("").await;
    let api = &gateway.api;
    let with_mark = [b"\xef\xbb\xbf", CHARGE.as_bytes()].concat();
    for (content_type, body) in [
        ("application/json; charset=utf8", CHARGE.as_bytes()),
        ("application/json; version=1", CHARGE.as_bytes()),
        ("application/json;profile=\"a;charset=latin1\"; charset=\"UTF-8\"", CHARGE.as_bytes()),
        ("APPLICATION/JSON", CHARGE.as_bytes()),
        ("application/json", &with_mark),
    ] {
        let answer =
            exchange(api, charge_with("/charge", &[&format!("content-type: {content_type}")], body)).await;
        assert_eq!(answer.status, 200, "{content_type}: {answer:?}");
    }
    assert_eq!(node.seen().len(), 5);
    for content_type in
        ["application/json; charset=utf-16", "application/json; charset=\"iso-8859-1\"", "text/json"]
    {
        let answer = exchange(
            api,
            charge_with("/charge", &[&format!("content-type: {content_type}")], CHARGE.as_bytes()),
        )
        .await;
        api.expect_problem(&answer, 415, "unsupported-media-type");
    }
    for nil in ["00000000-0000-0000-0000-000000000000", "\"00000000-0000-0000-0000-000000000000\""] {
        let answer =
            exchange(api, charge_with("/charge", &[&format!("idempotency-key: {nil}")], CHARGE.as_bytes()))
                .await;
        api.expect_problem(&answer, 400, "invalid-idempotency-key");
    }
    assert_eq!(node.seen().len(), 5);
}

#[tokio::test]
async fn nothing_that_a_key_opens_and_no_error_is_kept_by_a_cache() {
    let (_node, gateway) = start("").await;
    let api = &gateway.api;
    for answer in [
        api.post("/charge", CHARGE).await,
        api.post("/users", r#"{"user_id":1}"#).await,
        api.post("/charge", "{").await,
        api.get("/users/1/balance").await,
        api.get("/transactions?user_id=1").await,
        api.with_key("").get("/transactions?user_id=1").await,
        api.get("/nothing").await,
        api.get("/charge").await,
        api.call(http::Method::HEAD, "/users/1/balance", &[], "").await,
    ] {
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert_eq!(api.get("/docs/swagger-ui.css").await.header("cache-control"), Some("public, max-age=3600"));
}

#[tokio::test]
async fn currencies_are_those_of_iso_4217_and_withdrawn_ones_take_no_more_money() {
    let (node, gateway) = start("").await;
    let api = &gateway.api;
    for currency in ["HRK", "SLL", "ZWL", "CUC", "BGN", "ANG", "LTL"] {
        let answer = api.pay("/topup", 1, "1", currency).await;
        let problem = api.expect_problem(&answer, 400, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], "/currency");
        assert_eq!(api.pay("/charge", 1, "1", currency).await.status, 200, "{currency}");
        let balance = api.get(&format!("/users/1/balance?currency={currency}")).await;
        api.expect_problem(&balance, 404, "user-not-found");
    }
    assert_eq!(node.seen().len(), 7);
    for currency in ["XXX", "XTS", "XAU", "XDR", "BTC", "usd"] {
        for path in ["/topup", "/charge"] {
            let problem = api.expect_problem(&api.pay(path, 1, "1", currency).await, 400, "invalid-request");
            assert_eq!(problem["errors"][0]["pointer"], "/currency", "{currency}");
        }
        let balance = api.get(&format!("/users/1/balance?currency={currency}")).await;
        api.expect_problem(&balance, 400, "invalid-request");
    }
}
