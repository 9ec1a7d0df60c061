//! What every handler works with. Nothing here outlives a restart in any way that matters.

use std::sync::Arc;

use picopay_shared::cluster::Cluster;

use crate::auth::KeyRing;
use crate::config::GatewayConfig;
use crate::metrics::Metrics;
use crate::shard_client::ShardClient;

/// One gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Its configuration.
    pub config: GatewayConfig,
    /// Who may call.
    pub keys: KeyRing,
    /// The way to the shards.
    pub shards: Arc<ShardClient>,
    /// What it counts.
    pub metrics: Metrics,
}

impl Gateway {
    /// Opens the way to the shards. No shard needs to be up.
    pub fn start(cluster: &Cluster, config: GatewayConfig) -> Arc<Self> {
        let metrics = Metrics::new();
        let shards = ShardClient::start(cluster, &config.shard_client, &metrics);
        Arc::new(Self { keys: KeyRing::new(&config.keys), config, shards, metrics })
    }
}
