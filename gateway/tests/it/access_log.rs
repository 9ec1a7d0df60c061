//! One line for each request, with what an operator looks for, and nothing that is not his to see.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use picopay_local::{ClusterSpec, LocalCluster, eventually};
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy};
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use proptest::{prop_assert, prop_assert_eq, prop_oneof};
use serde_json::Value;
use uuid::Uuid;

use crate::api::{Api, payment};
use crate::gateway_process::{GatewayProcess, cluster_of, key_entry, prepare};
use crate::scripted_node::{ScriptedNode, Step};
use crate::transfers::{transfer, users_of_both};

const KEY: &str = "pp_live_S3CRETKEY";
/// Nobody may find these in a log: keys, amounts, what clients say of a payment.
const SECRETS: [&str; 5] = [KEY, "S3CRETKEY", "7316.21", "731621", "REFS3CRET"];

/// A gateway whose log the test reads.
struct Logged {
    process: GatewayProcess,
    log: Arc<Mutex<String>>,
}

impl Logged {
    async fn start(node: &ScriptedNode, toml: &str) -> Self {
        let key = key_entry("shop", KEY, &["write", "read"], "");
        let (mut command, folder, api) = prepare(&cluster_of(&node.url), &format!("{toml}{key}"));
        command.stderr(Stdio::piped());
        let mut process = GatewayProcess::spawn(command, folder, api).await;
        let (log, reader) = (Arc::<Mutex<String>>::default(), BufReader::new(process.take_stderr()));
        let text = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let _ = writeln!(text.lock().unwrap(), "{line}");
            }
        });
        Self { process, log }
    }

    fn api(&self) -> Api {
        self.process.api.with_key(KEY)
    }

    fn text(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The access lines so far, without those of the test's own look at `/health`.
    fn lines(&self) -> Vec<Value> {
        let all = self.text();
        let all = all.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|line| line["target"] == "picopay_access" && line["route"] != "/health").collect()
    }

    /// What was logged behind this place, once a request's line is there.
    fn told_since(&self, place: usize) -> String {
        let began = Instant::now();
        loop {
            let told = self.text().split_off(place);
            if told.contains("picopay_access") && told.ends_with('\n') {
                return told;
            }
            assert!(began.elapsed() < Duration::from_mins(1), "no line: {told}");
            // Until the line has come through the pipe.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    async fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually("the lines", async || {
            let lines = self.lines();
            if lines.len() >= count { Ok(lines) } else { Err(self.text()) }
        })
        .await
    }
}

#[tokio::test]
async fn a_line_says_who_asked_for_what_and_what_became_of_it() {
    let node = ScriptedNode::start(&[Step::HangUp, Step::Replay]).await;
    let gateway = Logged::start(&node, "[access_log]\nlines = \"all\"\n").await;
    let (api, key) = (gateway.api(), Uuid::new_v4());
    let key_text = key.to_string();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("idempotency-key", key_text.as_str()), ("x-request-id", "mine"), ("traceparent", trace)];
    let body = payment(1, "7316.21", "USD").to_string();
    let answer = api.call(Method::POST, "/v1/charge", &headers, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let line = gateway.wait_for(1).await.remove(0);
    for (field, value) in [
        ("level", "INFO"),
        ("request_id", "mine"),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("key", "shop"),
        ("method", "POST"),
        ("route", "/charge"),
        ("operation", "charge"),
        ("outcome", "done"),
        ("shard", "shard-1"),
        ("idempotency_key", &key_text),
        ("transaction", answer.json()["transaction"]["id"].as_str().unwrap()),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert_eq!((&line["status"], &line["batch_size"], &line["retries"]), (&200.into(), &1.into(), &1.into()));
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(line["timestamp"].is_string() && line["slot"].is_u64() && line["queue_ms"].is_number(), "{line}");
    assert!(line["duration_ms"].as_f64().unwrap() >= line["queue_ms"].as_f64().unwrap(), "{line}");

    api.expect_problem(&api.get("/users/1/balance").await, 404, "user-not-found");
    let line = gateway.wait_for(2).await.remove(1);
    assert_eq!(
        (&line["route"], &line["code"]),
        (&"/users/{user_id}/balance".into(), &"user-not-found".into())
    );
    assert_eq!((&line["source"], &line["operation"]), (&"primary".into(), &Value::Null), "{line}");
    assert!(!gateway.text().contains("7316"), "no amount");
    let metrics = api.get("/metrics").await.body;
    for (route, status, code) in
        [("/charge", "200", ""), ("/users/{user_id}/balance", "404", "user-not-found")]
    {
        let labels = format!("{{code=\"{code}\",route=\"{route}\",status=\"{status}\"}} 1\n");
        assert!(metrics.contains(&format!("picopay_gateway_http_requests_total{labels}")), "{metrics}");
    }
}

#[tokio::test]
async fn by_default_only_what_failed_has_a_line_also_of_a_client_who_hung_up() {
    let node = ScriptedNode::start(&[Step::Book, Step::Stall]).await;
    let gateway = Logged::start(&node, "").await;
    let api = gateway.api();
    assert_eq!(api.pay("/charge", 1, "5", "USD").await.status, 200);
    api.expect_problem(&api.post("/charge", "{}").await, 400, "invalid-request");
    let hung_up = tokio::spawn({
        let api = api.clone();
        async move { api.pay("/charge", 1, "5", "USD").await }
    });
    eventually("a charge at the node", async || node.seen().len() >= 2).await;
    hung_up.abort();
    let lines = gateway.wait_for(2).await;
    let told: Vec<_> = lines.iter().map(|line| (&line["outcome"], &line["status"])).collect();
    assert_eq!(told, [(&"not-done".into(), &400.into()), (&"hung-up".into(), &Value::Null)]);
    assert_eq!((&lines[1]["key"], &lines[1]["shard"]), (&"shop".into(), &"shard-1".into()));
}

#[tokio::test]
async fn a_line_says_how_a_write_and_a_read_went_at_their_shards() {
    let spec = ClusterSpec::default().with_gateway_toml("[access_log]\nlines = \"all\"\n");
    let cluster = LocalCluster::start(spec).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let [[sender, _], [recipient, _]] = users_of_both(&api, "100", "USD").await;
    let charged = api.pay("/charge", sender, "1", "USD").await.json();
    let body = transfer(sender, recipient, "1", "USD");
    let moved = api.post_with("/transfers", Uuid::new_v4(), &body).await.json();
    assert_eq!(api.get(&format!("/users/{recipient}/balance")).await.status, 200);
    let line_of = async |route: &str| {
        eventually(route, async || {
            let log = cluster.gateway().log_tail(1_000);
            let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let is_its_line = |line: &Value| line["target"] == "picopay_access" && line["route"] == route;
            let found = lines.find(is_its_line);
            found.ok_or(log)
        })
        .await
    };
    for (route, id, shard) in [
        ("/charge", &charged["transaction"]["id"], "shard-1"),
        // Of the shard that took the money from the sender.
        ("/transfers", &moved["transfer"]["id"], "shard-1"),
    ] {
        let line = line_of(route).await;
        assert_eq!((&line["transaction"], &line["shard"]), (id, &shard.into()), "{line}");
        assert!(line["slot"].is_u64() && line["batch_size"].is_u64(), "{line}");
        for time in ["queue_ms", "commit_ms"] {
            assert!(
                line[time].as_f64().unwrap() <= line["duration_ms"].as_f64().unwrap(),
                "{time} in {line}"
            );
        }
    }
    let line = line_of("/users/{user_id}/balance").await;
    assert_eq!((&line["shard"], line["slot"].is_u64()), (&"shard-2".into(), true), "{line}");
    assert!(["primary", "replica"].contains(&line["source"].as_str().unwrap()), "{line}");
    cluster.stop().await;
}

#[tokio::test]
async fn lines_are_off_or_of_one_success_in_so_many_as_the_file_says_now() {
    let node = ScriptedNode::start(&[]).await;
    let gateway = Logged::start(&node, "[access_log]\nlines = \"off\"\n").await;
    let api = &gateway.process.api;
    let ask = async |id: &str, is_good: bool| {
        let body = if is_good { payment(1, "5", "USD").to_string() } else { "{}".to_owned() };
        let answer = api.call(Method::POST, "/charge", &[("x-request-id", id)], &body).await;
        assert_eq!(answer.status, if is_good { 200 } else { 400 }, "{answer:?}");
    };
    let reloaded = async |lines: &str, count: usize| {
        gateway.process.replace_keys(&format!("[access_log]\n{lines}\n"));
        gateway.process.hang_up();
        let taken = format!("picopay_gateway_reloads_total{{result=\"taken\"}} {count}\n");
        eventually("the reload", async || api.get("/metrics").await.body.contains(&taken)).await;
    };
    ask("off", false).await;
    reloaded("lines = \"all\"\none_success_in = 4294967295", 1).await;
    for _ in 0..20 {
        ask("one-of-very-many", true).await;
    }
    ask("failed", false).await;
    reloaded("lines = \"all\"\none_success_in = 2", 2).await;
    for _ in 0..200 {
        ask("half", true).await;
    }
    reloaded("lines = \"all\"", 3).await;
    ask("last", true).await;
    let count = |lines: &[Value], id: &str| lines.iter().filter(|line| line["request_id"] == id).count();
    let lines = eventually("the last line", async || {
        let lines = gateway.lines();
        if count(&lines, "last") == 1 { Ok(lines) } else { Err(gateway.text()) }
    })
    .await;
    assert_eq!(["off", "one-of-very-many", "failed"].map(|id| count(&lines, id)), [0, 0, 1]);
    // Seven times the deviation of so many coins.
    let half = count(&lines, "half");
    assert!((50..=150).contains(&half), "{half} of 200");
}

/// Where a client can say something.
const HEADERS: [&str; 13] = [
    "authorization",
    "x-api-key",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "cookie",
    "content-type",
    "user-agent",
    "x-forwarded-for",
    "picopay-session",
    "expect",
    "content-encoding",
    "referer",
];

fn secret() -> impl Strategy<Value = &'static str> {
    select(SECRETS.to_vec())
}

/// A request that says a secret wherever it can, well formed or not. About one in six is booked.
fn request() -> impl Strategy<Value = String> {
    let method =
        prop_oneof![6 => Just("POST"), 1 => Just("GET"), 1 => Just("7316.21"), 1 => Just("S3CRETKEY")];
    let path = prop_oneof![
        1 => secret().prop_map(|secret| format!("/{secret}")),
        1 => secret().prop_map(|secret| format!("/charge?amount={secret}")),
        1 => secret().prop_map(|secret| format!("/holds/{secret}/capture")),
        1 => secret().prop_map(|secret| format!("/transactions?user_id=1&cursor={secret}")),
        8 => Just("/charge".to_owned()),
    ];
    let before =
        prop_oneof![Just(String::new()), Just("Bearer ".to_owned()), Just("00-".to_owned()), "[!-~]{1,8}"];
    let header = (select(HEADERS.to_vec()), before, secret())
        .prop_map(|(name, before, secret)| format!("{name}: {before}{secret}\r\n"));
    let body = prop_oneof![
        4 => Just(r#"{"user_id":1,"amount":"7316.21","currency":"USD","reference":"REFS3CRET"}"#.to_owned()),
        1 => secret().prop_map(|secret| format!(r#"{{"user_id":1,"amount":"7316.21","{secret}":1}}"#)),
        1 => secret().prop_map(str::to_owned),
    ];
    let parts = (method, path, secret(), weighted(0.8), vec(header, 0..4), body);
    parts.prop_map(|(method, path, id, is_known, headers, body)| {
        let known = if is_known {
            format!("x-api-key: {KEY}\r\ncontent-type: application/json\r\n")
        } else {
            String::new()
        };
        // A request id may be anything of a form that cannot hold these without a space around them.
        format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: a {id}\r\n{known}{}\
             content-length: {}\r\n\r\n{body}",
            headers.concat(),
            body.len()
        )
    })
}

fn exchange(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // A request that is refused early may be answered by a reset behind the answer.
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn whatever_a_client_sends_no_key_and_no_amount_is_in_the_log() {
    let node = ScriptedNode::start(&[]).await;
    let gateway = Arc::new(Logged::start(&node, "[access_log]\nlines = \"all\"\n").await);
    let address = gateway.process.api.url.strip_prefix("http://").unwrap().to_owned();
    let asked = Arc::clone(&gateway);
    let booked = tokio::task::spawn_blocking(move || {
        // That of the test's own look at `/health`.
        asked.told_since(0);
        let booked = std::cell::Cell::new(0);
        let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
        let checked = TestRunner::new(config).run(&request(), |request| {
            let before = asked.text().len();
            let answer =
                exchange(&address, &request).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(answer.starts_with("HTTP/1.1 "), "{} got {}", request, answer);
            let told = asked.told_since(before);
            prop_assert_eq!(told.matches("picopay_access").count(), 1, "{} in {}", request, told);
            for secret in SECRETS {
                prop_assert!(!told.contains(secret), "{} in {}", secret, told);
            }
            booked.set(booked.get() + usize::from(answer.starts_with("HTTP/1.1 200")));
            Ok(())
        });
        checked.unwrap_or_else(|failed| panic!("{failed}"));
        booked.get()
    });
    let booked = booked.await.unwrap();
    assert!(booked >= 3, "some of them are good: {booked}");
}
