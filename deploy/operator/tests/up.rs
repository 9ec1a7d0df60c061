//! What `picopay up` promises the person in front of it. The services have to be built: `cargo build --workspace --bins`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use http::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use picopay_local::http_call::{Answer, call};
use picopay_local::{eventually, eventually_within};

struct Up {
    child: Child,
    stdout: BufReader<ChildStdout>,
    welcome: String,
    url: String,
}

struct Place {
    folder: tempfile::TempDir,
    listen: String,
}

impl Place {
    fn new() -> Self {
        // Above the ports that local clusters take, below the ones that outgoing connections get.
        let is_free = |listen: &String| TcpListener::bind(listen).is_ok();
        let random = || format!("127.0.0.1:{}", rand::random_range(32_001..32_768));
        let listen = std::iter::repeat_with(random).find(is_free).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), listen }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picopay"));
        command.args(["up", "--data"]).arg(self.data());
        // One is enough; a folder that holds a cluster says itself how many there are.
        if !self.data().join("layout").exists() {
            command.args(["--shards", "1"]);
        }
        command.env("PICOPAY_GATEWAY__LISTEN", &self.listen).stdin(Stdio::null());
        command
    }

    fn up(&self) -> Up {
        self.up_with(&[])
    }

    fn up_with(&self, options: &[&str]) -> Up {
        let mut child = self.command().args(options).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut welcome = String::new();
        while !welcome.contains("Ctrl-C") {
            assert_ne!(stdout.read_line(&mut welcome).unwrap(), 0, "it ended: {welcome}");
        }
        Up { child, stdout, welcome, url: format!("http://{}", self.listen) }
    }

    fn up_fails(&self) -> String {
        let Output { status, stderr, .. } = self.command().output().unwrap();
        assert_eq!(status.code(), Some(1));
        String::from_utf8(stderr).unwrap()
    }
}

impl Up {
    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("x-api-key", "dev-key")];
        all.extend(headers);
        call(method, &format!("{}{path}", self.url), &all, body).await.unwrap()
    }

    async fn balance(&self) -> String {
        let answer = self.ask(Method::GET, "/users/1/balance?currency=USD", &[], "").await;
        answer.json()["balance"].as_str().unwrap_or_else(|| panic!("{}", answer.body)).to_owned()
    }

    fn end_with(mut self, signal: Signal) -> (String, ExitStatus) {
        send(self.child.id(), signal);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap())
    }
}

/// Redis' does not name it; it ends with the others.
fn processes_of(folder: &Path) -> Vec<(u32, String)> {
    let folder = folder.canonicalize().unwrap().to_string_lossy().into_owned();
    let names_it = |(_, line): &(u32, String)| line.contains(&folder);
    process_table().into_iter().filter(names_it).collect()
}

/// From `/proc`, since small images have no `ps`, or from `ps`.
fn process_table() -> Vec<(u32, String)> {
    if let Ok(entries) = std::fs::read_dir("/proc") {
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let line = |pid: u32| Some((pid, std::fs::read(format!("/proc/{pid}/cmdline")).ok()?));
        let text = |(pid, bytes): (u32, Vec<u8>)| (pid, String::from_utf8_lossy(&bytes).replace('\0', " "));
        return pids.filter_map(line).map(text).collect();
    }
    let output = Command::new("ps").args(["-A", "-ww", "-o", "pid=,command="]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pairs = text.lines().filter_map(|line| line.trim().split_once(' '));
    pairs.map(|(pid, line)| (pid.parse().unwrap(), line.to_owned())).collect()
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

#[tokio::test]
async fn the_printed_charge_goes_through_once_and_the_printed_transfer_too() {
    let place = Place::new();
    let up = place.up();
    let quoted: Vec<&str> = up.welcome.split('\'').collect();
    let key = quoted.iter().find_map(|text| text.strip_prefix("Idempotency-Key: ")).unwrap();
    let [body, transfer] = ["/charge", "/transfers"].map(|route| {
        let (_, command) = up.welcome.split_once(route).unwrap();
        command.split('\'').find(|text| text.starts_with('{')).unwrap()
    });
    for replayed in [None, Some("true")] {
        let charged = up.ask(Method::POST, "/charge", &[("idempotency-key", key)], body).await;
        assert_eq!(
            (charged.status, charged.header("idempotent-replayed")),
            (200, replayed),
            "{}",
            charged.body
        );
    }
    assert_eq!(up.balance().await, "950.00");
    let sent = up.ask(Method::POST, "/transfers", &[], transfer).await;
    assert_eq!(
        (sent.status, sent.json()["transfer"]["to_user_id"].clone()),
        (200, 2.into()),
        "{}",
        sent.body
    );
    assert_eq!(up.balance().await, "920.00");
    let (said, status) = up.end_with(Signal::SIGINT);
    assert!(status.success() && said.contains("Stopped"), "{said}");
    assert_eq!(processes_of(&place.data()), []);
}

#[tokio::test]
async fn over_tls_the_printed_charge_trusts_the_authority_that_signed_for_the_gateway() {
    let place = Place::new();
    let up = place.up_with(&["--tls"]);
    let url = format!("https://{}", place.listen);
    let charge = up.welcome.split("curl ").nth(1).unwrap();
    let file = charge.strip_prefix("--cacert ").and_then(|rest| rest.split(' ').next());
    assert!(file.is_some() && charge.contains(&format!(" {url}/charge ")), "{charge}");
    let health = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picopay"));
        command.args(["health", &url]).args(options).output().unwrap().status.code()
    };
    assert_eq!((health(&["--cacert", file.unwrap()]), health(&[])), (Some(0), Some(1)));
    let (said, status) = up.end_with(Signal::SIGINT);
    assert!(status.success(), "{said}");
}

#[tokio::test]
async fn a_second_start_on_kept_data_does_not_top_up_again() {
    let place = Place::new();
    let first = place.up();
    assert_eq!(first.balance().await, "1000.00");
    let message = place.up_fails();
    assert!(message.contains("another PicoPay cluster") && message.contains(&first.child.id().to_string()));
    assert!(first.end_with(Signal::SIGTERM).1.success());

    let second = place.up();
    assert_eq!(second.balance().await, "1000.00");
    second.end_with(Signal::SIGTERM);
}

#[tokio::test]
async fn killed_it_leaves_no_process_and_the_next_start_finds_the_money() {
    let place = Place::new();
    let killed = place.up();
    assert!(processes_of(&place.data()).len() >= 5);
    killed.end_with(Signal::SIGKILL);
    // At once, while what it left is still being ended: the next start waits for that.
    let next = place.up();
    assert_eq!(next.balance().await, "1000.00");
    next.end_with(Signal::SIGKILL);
    eventually_within(Duration::from_secs(10), "the end of all processes", async || {
        let left = processes_of(&place.data());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_process_that_dies_is_named_and_the_rest_goes_on() {
    let place = Place::new();
    let mut up = place.up();
    let node = processes_of(&place.data()).into_iter().find(|(_, line)| line.contains("shard-1-node-1.toml"));
    send(node.unwrap().0, Signal::SIGKILL);
    let mut said = String::new();
    while !said.contains("shard-1-node-1 died") {
        assert_ne!(up.stdout.read_line(&mut said).unwrap(), 0, "{said}");
    }
    assert_eq!(up.ask(Method::GET, "/health", &[], "").await.status, 200);
    assert!(up.end_with(Signal::SIGINT).1.success());
}

#[test]
fn a_busy_port_is_named_with_the_way_out() {
    let place = Place::new();
    let _busy = TcpListener::bind(&place.listen).unwrap();
    let message = place.up_fails();
    assert!(message.contains(&place.listen) && message.contains("PICOPAY_GATEWAY__LISTEN"), "{message}");
}

#[tokio::test]
async fn another_terminal_fails_a_shard_over_and_the_money_stays() {
    let place = Place::new();
    let failover = |shard: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picopay"));
        command.args(["failover", shard, "--data"]).arg(place.data()).args(["--output", "json"]);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let nobody = failover("shard-1");
    let message = String::from_utf8(nobody.stderr).unwrap();
    assert!(
        nobody.status.code() == Some(1) && message.contains("no cluster of `picopay up` runs"),
        "{message}"
    );

    let up = place.up();
    let before = up.balance().await;
    let unknown = String::from_utf8(failover("shard-2").stderr).unwrap();
    assert!(unknown.contains("only shard-1"), "{unknown}");
    let done = failover("shard-1");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done["primary"], "shard-1-postgres-b");

    let body = r#"{"user_id": 1, "amount": "50.00", "currency": "USD"}"#;
    let key = [("idempotency-key", "550e8400-e29b-41d4-a716-446655440000")];
    eventually("a charge after the failover", async || {
        up.ask(Method::POST, "/charge", &key, body).await.status == 200
    })
    .await;
    assert_eq!((before.as_str(), up.balance().await.as_str()), ("1000.00", "950.00"));
    up.end_with(Signal::SIGINT);
}

#[tokio::test]
async fn another_terminal_starts_a_shard_and_stops_it_again() {
    let place = Place::new();
    let shard = |what: &str, name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picopay"));
        command.args(["shard", what, name, "--data"]).arg(place.data());
        command.stdin(Stdio::null()).output().unwrap()
    };
    let up = place.up();
    let started = shard("start", "shard-2");
    let said = String::from_utf8_lossy(&started.stdout).into_owned();
    assert!(started.status.success(), "{said}{}", String::from_utf8_lossy(&started.stderr));
    assert!(said.contains("name = \"shard-2\"") && said.contains("picopay rebalance --plan"), "{said}");
    assert!(processes_of(&place.data()).iter().any(|(_, line)| line.contains("shard-2-node-1.toml")));

    let refused = shard("stop", "shard-1");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("picopay shard drain shard-1"), "{told}");
    let stopped = shard("stop", "shard-2");
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    assert!(!processes_of(&place.data()).iter().any(|(_, line)| line.contains("shard-2")));
    assert_eq!(up.balance().await, "1000.00");
    assert!(up.end_with(Signal::SIGINT).1.success());
    assert_eq!(processes_of(&place.data()), []);
}
