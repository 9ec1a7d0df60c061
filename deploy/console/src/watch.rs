//! Looks again and again, and posts what it sees on the board. Databases are asked only while a page is open.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use picopay_shared::cluster::Cluster;
use picopay_shared::reload::InForce;
use serde_json::{Number, Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::board::Board;
use crate::owners::Owners;
use crate::reports::Reports;
use crate::traffic::Traffic;
use crate::verify_report;

/// A batch of slots moves in a few tenths of a second.
const SLOTS_EVERY: Duration = Duration::from_millis(500);
const TRAFFIC_EVERY: Duration = Duration::from_secs(1);
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// A transfer ends in milliseconds; what is listed waits for longer.
const TRANSFERS_EVERY: Duration = Duration::from_secs(3);
const VERIFY_EVERY: Duration = Duration::from_secs(2);

/// The largest number up to which a browser counts one by one.
const BROWSER_MAX: u64 = 1 << 53;

pub async fn slots(board: &Board, in_force: &InForce) -> Infallible {
    let mut owners = Owners::default();
    loop {
        board.is_looked_at().await;
        board.post("slots", &owners.read(&in_force.cluster()).await);
        sleep(SLOTS_EVERY).await;
    }
}

pub async fn status<R: Reports>(board: &Board, in_force: &InForce, reports: &R) -> Infallible {
    loop {
        board.is_looked_at().await;
        let refusal = in_force.refusal().map(|refusal| refusal.reason);
        let status = reports.status(&in_force.cluster()).await;
        board.post("status", &json!({ "report": for_browsers(status), "refused_file": refusal }));
        sleep(STATUS_EVERY).await;
    }
}

pub async fn transfers<R: Reports>(board: &Board, in_force: &InForce, reports: &R) -> Infallible {
    loop {
        board.is_looked_at().await;
        let transfers = match reports.transfers(&in_force.cluster()).await {
            Ok(report) => json!({ "report": for_browsers(report) }),
            Err(problem) => json!({ "problem": problem }),
        };
        board.post("transfers", &transfers);
        sleep(TRANSFERS_EVERY).await;
    }
}

pub async fn verify(board: &Board, file: &Path) -> Infallible {
    loop {
        board.is_looked_at().await;
        board.post("verify", &for_browsers(verify_report::read(file).await));
        sleep(VERIFY_EVERY).await;
    }
}

/// Also while no page is open, so that one that opens shows the last ten minutes. Services answer from memory.
pub async fn traffic<R: Reports>(
    board: &Board,
    in_force: &InForce,
    reports: &R,
    gateways: &[String],
    traffic: &Mutex<Traffic>,
) -> Infallible {
    let mut ticks = interval(TRAFFIC_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let cluster = in_force.cluster();
        let nodes: Vec<(&str, &String)> = (cluster.shards.iter())
            .flat_map(|shard| shard.nodes.iter().map(|url| (shard.name.as_str(), url)))
            .collect();
        let of_gateways = join_all(gateways.iter().map(|url| reports.metrics(&cluster, url)));
        let of_nodes = join_all(nodes.iter().map(|(_, url)| reports.metrics(&cluster, url)));
        let (of_gateways, of_nodes) = tokio::join!(of_gateways, of_nodes);
        let answers: Vec<Value> = gateways
            .iter()
            .zip(&of_gateways)
            .map(|(url, page)| json!({ "url": url, "problem": page.as_ref().err() }))
            .collect();
        board.post("gateways", &answers);
        let gateway_pages: Vec<(&str, &str)> = (gateways.iter().zip(&of_gateways))
            .filter_map(|(url, page)| Some((url.as_str(), page.as_deref().ok()?)))
            .collect();
        let node_pages: Vec<(&str, &str)> = (nodes.iter().zip(&of_nodes))
            .filter_map(|((shard, _), page)| Some((*shard, page.as_deref().ok()?)))
            .collect();
        let point = {
            let mut traffic = traffic.lock().unwrap_or_else(PoisonError::into_inner);
            traffic.look(now_ms(), &gateway_pages, &node_pages).clone()
        };
        board.pass_on("traffic", &point);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Numbers that a browser would round become texts.
fn for_browsers(value: Value) -> Value {
    let is_small = |number: &Number| {
        number.as_u64().is_some_and(|number| number <= BROWSER_MAX)
            || number.as_i64().is_some_and(|number| number.unsigned_abs() <= BROWSER_MAX)
    };
    match value {
        Value::Number(number) if !is_small(&number) => Value::String(number.to_string()),
        Value::Array(items) => items.into_iter().map(for_browsers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, for_browsers(value))).collect()
        }
        other => other,
    }
}

/// What a cluster's file names now.
pub fn cluster_news(cluster: &Cluster, file: &Path) -> Value {
    json!({
        "file": file.display().to_string(),
        "cluster_id": cluster.cluster_id(),
        "shards": cluster.shards.iter().map(|shard| shard.name.as_str()).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_a_browser_would_round_is_a_text() {
        let report = json!({ "pending": [{ "from_user_id": i64::MAX, "to_user_id": 7 }], "is_well": true });
        let expected = json!({ "pending": [{ "from_user_id": "9223372036854775807", "to_user_id": 7 }], "is_well": true });
        assert_eq!(for_browsers(report), expected);
    }
}
