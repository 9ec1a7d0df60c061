//! From processes that run to a cluster that serves.

use std::time::{Duration, Instant};

use http::Method;
use picopay_shared::node_status::{NodeStatus, STATUS_PATH, WIRE_HEADER, WIRE_VERSION};

use super::LocalCluster;
use crate::process::Process;
use crate::shard::LocalShard;
use crate::{LocalError, http_call};

/// Some hundred milliseconds, unless the machine is busy with other tests.
const READY_WAIT: Duration = Duration::from_mins(1);

/// Short beside a test.
const READY_POLL: Duration = Duration::from_millis(20);

impl LocalCluster {
    pub async fn wait_until_ready(&self) -> Result<(), LocalError> {
        for shard in self.shards() {
            self.wait_for_nodes(shard).await?;
        }
        self.wait_for_gateway().await
    }

    /// Waits until all nodes of a shard take writes.
    pub(super) async fn wait_for_nodes(&self, shard: &LocalShard) -> Result<(), LocalError> {
        for number in 0..shard.node_count() {
            self.wait_for_node(shard, number).await?;
        }
        Ok(())
    }

    /// Waits until one node takes writes.
    pub async fn wait_for_node(&self, shard: &LocalShard, number: usize) -> Result<(), LocalError> {
        wait_for_service(&shard.node(number), async || match self.node_status(shard, number).await? {
            status if status.is_ready => Ok(()),
            status => Err(status.not_ready_reason.unwrap_or_else(|| "it gives no reason".to_owned())),
        })
        .await
    }

    /// What the `number`th node of a shard says of itself, from 0.
    ///
    /// # Errors
    /// In words why it says nothing.
    pub async fn node_status(&self, shard: &LocalShard, number: usize) -> Result<NodeStatus, String> {
        let url = format!("{}{STATUS_PATH}", shard.node_url(number));
        let authorization = format!("Bearer {}", self.internal_secret());
        let version = WIRE_VERSION.to_string();
        let headers = [("authorization", authorization.as_str()), (WIRE_HEADER, version.as_str())];
        let asked = http_call::call(Method::GET, &url, &headers, "").await;
        let answer = asked.map_err(|error| error.to_string())?;
        serde_json::from_str(&answer.body).map_err(|_| format!("{url} answered {}", answer.status))
    }

    /// Waits until the gateway, if there is one, serves the users of exactly the shards that are members now.
    pub(super) async fn wait_for_gateway(&self) -> Result<(), LocalError> {
        let Some((gateway, _)) = &self.gateway else { return Ok(()) };
        self.wait_for_gateway_at(gateway, &self.gateway_url()).await
    }

    /// The same, of a gateway with this URL.
    pub async fn wait_for_gateway_at(&self, gateway: &Process, url: &str) -> Result<(), LocalError> {
        let url = format!("{url}/readyz");
        let members: Vec<&str> = self.shards().into_iter().map(LocalShard::name).collect();
        wait_for_service(gateway, async || match http_call::get(&url).await {
            Ok(answer) if says_all_ready(&answer) && names(&answer) == members => Ok(()),
            Ok(answer) => Err(format!("/readyz answered {}: {}", answer.status, answer.body)),
            Err(error) => Err(error.to_string()),
        })
        .await
    }
}

/// Waits until a check passes, as long as the process lives.
pub(crate) async fn wait_for_service(
    process: &Process,
    check: impl AsyncFn() -> Result<(), String>,
) -> Result<(), LocalError> {
    let started = Instant::now();
    loop {
        let reason = match check().await {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        if let Some(status) = process.died() {
            return Err(process.ended(status));
        }
        if started.elapsed() >= READY_WAIT {
            return Err(process.not_ready(READY_WAIT, &reason));
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// `/readyz` is content with one shard; somebody who starts a cluster wants them all.
pub(crate) fn says_all_ready(answer: &http_call::Answer) -> bool {
    let body = answer.json();
    let shards = body["shards"].as_array();
    answer.status == 200 && shards.is_some_and(|shards| shards.iter().all(|shard| shard["is_ready"] == true))
}

fn names(answer: &http_call::Answer) -> Vec<String> {
    let body = answer.json();
    let shards = body["shards"].as_array().into_iter().flatten();
    shards.map(|shard| shard["shard"].as_str().unwrap_or_default().to_owned()).collect()
}
