//! Nobody waits for who reads the log of a node.

use std::process::Stdio;

use picopay_local::{eventually, http_call};
use picopay_shared::telemetry::LOG_ENV;
use tokio::process::Command;
use tokio::task::JoinSet;

/// So many requests at once, each on a connection of its own, which is what has lines; and whether all were answered well.
async fn ask_many(address: &str, count: usize) -> bool {
    let url = format!("http://{address}/health");
    let asked: JoinSet<_> = std::iter::repeat_n(url, count)
        .map(|url| async move { http_call::get(&url).await.is_ok_and(|answer| answer.status == 200) })
        .collect();
    asked.join_all().await.into_iter().all(|is_good| is_good)
}

#[tokio::test]
async fn a_reader_of_the_log_who_stands_still_holds_up_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = "internal_secret = \"an-internal-secret-for-this-test\"\n[[shards]]\nname = \"a\"\n\
                   nodes = [\"http://127.0.0.1:1\"]\nprimary = \"host=127.0.0.1 port=1 user=u dbname=d\"\n";
    std::fs::write(file("cluster.toml"), cluster).unwrap();
    let node = format!("shard = \"a\"\nlisten = \"127.0.0.1:{port}\"\ndrain = \"0s\"\n");
    std::fs::write(file("node.toml"), node).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_picopay-node"))
        .arg("--cluster")
        .arg(file("cluster.toml"))
        .arg("--config")
        .arg(file("node.toml"))
        .env(LOG_ENV, "trace")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let answers = async || http_call::get(&url("/health")).await.is_ok_and(|answer| answer.status == 200);
    eventually("a node that answers", answers).await;
    eventually("lines that are dropped", async || {
        assert!(ask_many(&format!("127.0.0.1:{port}"), 200).await);
        let metrics = http_call::get(&url("/metrics")).await.unwrap().body;
        let line = metrics.lines().find(|line| line.starts_with("picopay_log_lines_dropped_total"));
        !line.expect("the metric").ends_with(" 0")
    })
    .await;
    for _ in 0..20 {
        assert!(answers().await, "while the pipe is full");
    }
    child.kill().await.unwrap();
}
