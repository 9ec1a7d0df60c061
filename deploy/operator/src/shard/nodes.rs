//! Whether the nodes of a shard do as its database says since a moment ago.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use picopay_postgres::DbError;
use picopay_shared::cluster::{Cluster, Shard};
use serde::Serialize;

use crate::output;
use crate::probe;

/// Nodes look every second, and a commit of theirs may be on its way for some seconds more.
pub const NODES_WAIT: Duration = Duration::from_secs(10);

pub const NODES_POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize)]
pub struct FollowingNode {
    pub url: String,
    pub follows: bool,
    pub reason: Option<String>,
}

/// Only nodes that answer count. `meanwhile` runs before each look.
pub async fn wait_for_nodes(
    cluster: &Cluster,
    shard: &Shard,
    is_degraded: bool,
    mut meanwhile: impl AsyncFnMut() -> Result<(), DbError>,
) -> Result<Vec<FollowingNode>, DbError> {
    let started = Instant::now();
    loop {
        meanwhile().await?;
        let asked = shard.nodes.iter().map(|url| probe::node(cluster, url));
        let lines: Vec<FollowingNode> = shard
            .nodes
            .iter()
            .zip(join_all(asked).await)
            .map(|(url, answer)| {
                let reason = match answer {
                    Err(reason) => Some(reason),
                    Ok(status) if status.is_ready && status.degraded.is_some() == is_degraded => None,
                    Ok(status) => {
                        Some(status.not_ready_reason.unwrap_or_else(|| "it has not looked yet".to_owned()))
                    }
                };
                FollowingNode { url: url.clone(), follows: reason.is_none(), reason }
            })
            .collect();
        if lines.iter().all(|line| line.follows) || started.elapsed() > NODES_WAIT {
            return Ok(lines);
        }
        tokio::time::sleep(NODES_POLL).await;
    }
}

pub fn nodes_screen(nodes: &[FollowingNode], done: &str) -> String {
    let behind: Vec<&FollowingNode> = nodes.iter().filter(|node| !node.follows).collect();
    if behind.is_empty() {
        return output::verdict_good(done);
    }
    let mut parts = vec![output::verdict_bad(&format!("{done} These nodes do not take writes yet:"))];
    parts.extend(behind.iter().map(|node| {
        output::bullet(&format!("{}: {}", node.url, node.reason.as_deref().unwrap_or("unknown")))
    }));
    parts.join("\n")
}
