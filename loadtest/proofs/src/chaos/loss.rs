//! A node that lacks what was acknowledged: it serves nobody until an operator accepts the loss.

use std::time::{Duration, Instant};

use picopay_local::LocalCluster;

/// By then a node has asked all servers again, every three seconds at the latest: nobody has what it lacks.
const LACKS_FOR: Duration = Duration::from_secs(5);

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until there is one, for ever if there is none. Returns its words.
pub async fn wait_for_one(cluster: &LocalCluster) -> String {
    let mut since = None;
    loop {
        match words_of_one(cluster).await {
            Some(words) if since.get_or_insert_with(Instant::now).elapsed() >= LACKS_FOR => return words,
            Some(_) => {}
            None => since = None,
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn words_of_one(cluster: &LocalCluster) -> Option<String> {
    for shard in cluster.shards() {
        for number in 0..shard.node_count() {
            let status = cluster.node_status(shard, number).await.ok();
            let reason = status.and_then(|status| status.not_ready_reason);
            if let Some(reason) =
                reason.filter(|reason| reason.contains("was acknowledged and is not in this"))
            {
                return Some(format!("{}: {reason}", shard.node(number).name()));
            }
        }
    }
    None
}
