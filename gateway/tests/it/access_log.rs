//! One line for each request, with what an operator looks for, and nothing that is not his to see.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use http::Method;
use picopay_local::{eventually, http_call};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::api::{Api, payment};
use crate::gateway_process::{GatewayProcess, cluster_of, key_entry, prepare};
use crate::scripted_node::{ScriptedNode, Step};

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

/// Pseudo-random, and the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }

    fn secret(&mut self) -> &'static str {
        SECRETS[self.roll(SECRETS.len())]
    }
}

/// A request that says a secret wherever it can, well formed or not.
fn fuzzed(dice: &mut Dice) -> String {
    let method = ["POST", "GET", "7316.21", "S3CRETKEY"][dice.roll(4)];
    let path = match dice.roll(6) {
        0 => format!("/{}", dice.secret()),
        1 => format!("/charge?amount={}", dice.secret()),
        2 => format!("/holds/{}/capture", dice.secret()),
        3 => format!("/transactions?user_id=1&cursor={}", dice.secret()),
        _ => "/charge".to_owned(),
    };
    let names = [
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
    // A request id may be anything of a form that cannot hold these without a space around them.
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: a {}\r\n",
        dice.secret()
    );
    if dice.roll(2) == 0 {
        let _ = write!(head, "x-api-key: {KEY}\r\ncontent-type: application/json\r\n");
    }
    for _ in 0..dice.roll(4) {
        let _ = write!(
            head,
            "{}: {}{}\r\n",
            names[dice.roll(names.len())],
            ["", "Bearer ", "00-"][dice.roll(3)],
            dice.secret()
        );
    }
    let body = match dice.roll(3) {
        0 => r#"{"user_id":1,"amount":"7316.21","currency":"USD","reference":"REFS3CRET"}"#.to_owned(),
        1 => format!(r#"{{"user_id":1,"amount":"7316.21","{}":1}}"#, dice.secret()),
        _ => dice.secret().to_owned(),
    };
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn whatever_a_client_sends_no_key_and_no_amount_is_in_the_log() {
    let node = ScriptedNode::start(&[]).await;
    let gateway = Logged::start(&node, "[access_log]\nlines = \"all\"\n").await;
    let address = gateway.process.api.url.strip_prefix("http://").unwrap().to_owned();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut booked = 0;
    for number in 1..=300 {
        let request = fuzzed(&mut dice);
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{number}: {request} got {answer}");
        booked += usize::from(answer.starts_with("HTTP/1.1 200"));
    }
    assert!(booked >= 3, "some of them are good: {booked}");
    let lines = gateway.wait_for(300).await;
    assert_eq!(lines.len(), 300, "one for each");
    let text = gateway.text();
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {:?}", text.lines().find(|line| line.contains(secret)));
    }
    assert!(http_call::get(&format!("{}/health", gateway.process.api.url)).await.is_ok());
}
