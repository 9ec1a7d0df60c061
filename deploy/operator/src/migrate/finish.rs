//! `picopay migrate --finish`: no older program is left, and none may come back.
//!
//! Every node says which version it speaks, and when it was last asked by somebody who speaks an older one. Gateways ask
//! each node every second. A node that does not answer does not keep the others waiting: if it is an older one, it finds
//! what is recorded here and does not serve.

use anyhow::bail;
use futures_util::future::join_all;
use picopay_postgres::ShardDb;
use picopay_shared::cluster::Cluster;
use picopay_shared::node_status::{NodeStatus, WIRE_VERSION};

use super::{MigratedShard, PATIENCE};
use crate::cluster_file::find_shard;
use crate::probe;

/// A gateway that is there has asked within this time, also one that backs off from a node.
const HEARD_WITHIN_MS: u64 = 15_000;

pub async fn finish(cluster: &Cluster, shards: &mut [MigratedShard]) -> anyhow::Result<()> {
    let nodes = cluster.shards.iter().flat_map(|shard| shard.nodes.iter().map(|url| (&shard.name, url)));
    let asked = join_all(
        nodes.map(async |(shard, url)| (format!("{shard}, node {url}"), probe::node(cluster, url).await)),
    )
    .await;
    let mut older = Vec::new();
    for (node, answer) in &asked {
        match answer {
            Ok(status) => older.extend(reason_to_wait(status).map(|reason| format!("{node}: {reason}"))),
            Err(silence) => {
                anstream::eprintln!("{node}: {silence}. If it is an older program, it serves no more");
            }
        }
    }
    if !older.is_empty() {
        bail!("older programs are left, so nothing was finished: {}", older.join("; "));
    }
    for shard in shards {
        let database = ShardDb::primary(find_shard(cluster, &shard.shard)?, PATIENCE).await?;
        database.finish().await?;
        shard.is_finished = Some(true);
        database.close().await;
    }
    Ok(())
}

fn reason_to_wait(status: &NodeStatus) -> Option<String> {
    if status.wire < WIRE_VERSION {
        return Some(format!(
            "it speaks version {} of the wire, and this release version {WIRE_VERSION}",
            status.wire
        ));
    }
    let heard = status.older_caller_ms.filter(|ms| *ms < HEARD_WITHIN_MS)?;
    Some(format!("{} s ago an older gateway or command asked it", heard / 1000))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(more: &serde_json::Value) -> NodeStatus {
        let mut told = json!({"shard": "a", "is_ready": true, "not_ready_reason": null, "owned": [], "cache": "off",
                              "replica_lag_ms": null});
        told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(told).unwrap()
    }

    #[test]
    fn an_older_node_and_one_that_was_just_asked_by_an_older_program_are_waited_for() {
        let waits = |more: serde_json::Value| reason_to_wait(&status(&more)).is_some();
        assert!(waits(json!({})), "a node that does not name its version is an older one");
        assert!(waits(json!({"wire": WIRE_VERSION - 1})));
        assert!(waits(json!({"wire": WIRE_VERSION, "older_caller_ms": HEARD_WITHIN_MS - 1})));
        assert!(!waits(json!({"wire": WIRE_VERSION, "older_caller_ms": HEARD_WITHIN_MS})));
        assert!(!waits(json!({"wire": WIRE_VERSION})) && !waits(json!({"wire": WIRE_VERSION + 1})));
    }
}
