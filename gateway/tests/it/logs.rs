//! Nobody waits for who reads the log, and nothing that was logged is lost at the end.

use std::io::Read as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use picopay_local::{eventually, http_call};
use picopay_shared::telemetry::LOG_ENV;
use tokio::task::JoinSet;

use crate::api::Api;
use crate::gateway_process::{GatewayProcess, cluster_of, prepare};
use crate::scripted_node::ScriptedNode;

/// What a pipe holds on Linux, in bytes (`pipe(7)`).
const PIPE: usize = 65_536;

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

/// The 99th percentile of 300 charges, one after another.
async fn p99(api: &Api) -> Duration {
    let mut took = Vec::new();
    for _ in 0..300 {
        let asked = Instant::now();
        assert_eq!(api.pay("/charge", 1, "5", "USD").await.status, 200);
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    took[took.len() * 99 / 100 - 1]
}

#[tokio::test]
async fn a_reader_of_the_log_who_stands_still_holds_up_no_request() {
    let node = ScriptedNode::start(&[]).await;
    let (mut command, folder, api) = prepare(&cluster_of(&node.url), "");
    // Each request has many lines: the pipe and the queue behind it are full after some hundred.
    command.env(LOG_ENV, "trace").stderr(Stdio::piped());
    let mut gateway = GatewayProcess::spawn(command, folder, api).await;
    let api = gateway.api.clone();
    let (mut log, reads_on) = (gateway.take_stderr(), Arc::new(AtomicBool::new(true)));
    let reads = Arc::clone(&reads_on);
    // When it stands still, the pipe stays open until the gateway has ended.
    let reader = std::thread::spawn(move || {
        while reads.load(Ordering::Relaxed) && log.read(&mut [0; 4_096]).is_ok_and(|length| length > 0) {}
        log
    });
    let while_read = p99(&api).await;
    assert_eq!(dropped(&api.get("/metrics").await.body), 0);

    reads_on.store(false, Ordering::Relaxed);
    let address = api.url.strip_prefix("http://").unwrap();
    eventually("lines that are dropped", async || {
        assert!(ask_many(address, 200).await);
        dropped(&api.get("/metrics").await.body) > 0
    })
    .await;
    let while_full = p99(&api).await;
    // The rest is what a busy machine adds to one of them, and not to the other.
    let bound = while_read * 3 + Duration::from_millis(100);
    assert!(while_full < bound, "{while_full:?} while the pipe is full, and {while_read:?} before");
    // Its end does not wait for the reader either.
    gateway.terminate();
    assert!(gateway.ended().await.success());
    drop(reader.join().unwrap());
}

#[tokio::test]
async fn the_last_line_is_written_before_the_process_ends() {
    let (mut command, folder, api) = prepare(&cluster_of("http://127.0.0.1:1"), "");
    command.env(LOG_ENV, "trace").stderr(Stdio::piped());
    let mut gateway = GatewayProcess::spawn(command, folder, api).await;
    // More than the pipe holds, and fewer lines than may wait: the rest is in the queue.
    let address = gateway.api.url.strip_prefix("http://").unwrap().to_owned();
    assert!(ask_many(&address, 200).await);
    assert_eq!(dropped(&gateway.api.get("/metrics").await.body), 0);
    gateway.terminate();
    // A process that did not wait for its log would have ended by then. It waits for about a second.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut log = gateway.take_stderr();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    assert!(gateway.ended().await.success());
    let text = reading.join().unwrap();
    assert!(text.len() > PIPE, "{}", text.len());
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains("\"message\":\"stopped\""), "{text}");
}
