//! Nobody waits for who reads the log, and nothing that was logged is lost at the end.

use std::io::Read as _;
use std::process::Stdio;

use picopay_local::{eventually, http_call};
use picopay_shared::telemetry::LOG_ENV;
use tokio::task::JoinSet;

use crate::gateway_process::{GatewayProcess, cluster_of, prepare};
use crate::scripted_node::ScriptedNode;

/// Dropped lines, as `/metrics` has them.
fn dropped(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("picopay_log_lines_dropped_total "));
    line.expect("the metric").parse().unwrap()
}

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
    let node = ScriptedNode::start(&[]).await;
    let (mut command, folder, api) = prepare(&cluster_of(&node.url), "");
    // Each request has many lines: the pipe and the queue behind it are full after some hundred.
    command.env(LOG_ENV, "trace").stderr(Stdio::piped());
    let mut gateway = GatewayProcess::spawn(command, folder, api).await;
    let api = gateway.api.clone();
    assert_eq!(dropped(&api.get("/metrics").await.body), 0);
    let address = api.url.strip_prefix("http://").unwrap();
    eventually("lines that are dropped", async || {
        assert!(ask_many(address, 200).await);
        assert_eq!(api.pay("/charge", 1, "5", "USD").await.status, 200);
        dropped(&api.get("/metrics").await.body) > 0
    })
    .await;
    for _ in 0..20 {
        assert_eq!(api.pay("/charge", 1, "5", "USD").await.status, 200, "while the pipe is full");
    }
    // Its end does not wait for the reader either.
    gateway.terminate();
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn the_last_line_is_written_before_the_process_ends() {
    let (mut command, folder, api) = prepare(&cluster_of("http://127.0.0.1:1"), "");
    command.stderr(Stdio::piped());
    let mut gateway = GatewayProcess::spawn(command, folder, api).await;
    let mut log = gateway.take_stderr();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    gateway.terminate();
    assert!(gateway.ended().await.success());
    let text = reading.join().unwrap();
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains("\"message\":\"stopped\""), "{text}");
}
