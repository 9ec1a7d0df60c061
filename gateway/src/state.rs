//! The state that every handler works with. A restart loses nothing that matters.

use std::sync::Arc;

use picopay_shared::cluster::Cluster;
use picopay_shared::ending::Ending;
use picopay_shared::internal_secret::InternalSecret;
use picopay_shared::reload::{InForce, Reload};

use crate::auth::KeyRing;
use crate::metrics::Metrics;
use picopay_gateway_config::{GatewayConfig, Keys};
use picopay_shard_client::ShardClient;

#[derive(Debug)]
pub struct GatewayState {
    pub config: GatewayConfig,
    pub keys: KeyRing,
    pub shards: Arc<ShardClient>,
    pub in_force: Arc<InForce>,
    pub keys_in_force: Arc<InForce<Keys>>,
    pub secret: InternalSecret,
    pub metrics: Metrics,
    pub ending: Ending,
}

impl GatewayState {
    /// Opens the connections to the shards. No shard needs to be up.
    pub fn start(cluster: &Cluster, config: GatewayConfig) -> Arc<Self> {
        let metrics = Metrics::new();
        let shards = ShardClient::start(cluster, &config.shard_client, &metrics.registry);
        Arc::new(Self {
            keys: KeyRing::new(&config.keys),
            keys_in_force: Arc::new(InForce::new(Keys(config.keys.clone()))),
            config,
            shards,
            in_force: Arc::new(InForce::new(cluster.clone())),
            secret: InternalSecret::new(&cluster.internal_secret),
            metrics,
            ending: Ending::default(),
        })
    }

    pub async fn take_over(&self, cluster: &Cluster) {
        if self.secret.replace(&cluster.internal_secret) {
            self.shards.show(&cluster.internal_secret);
        }
        self.shards.take_over(cluster).await;
    }

    pub fn count_reload(&self, reload: Reload) {
        match reload {
            Reload::Taken => self.metrics.reloads_taken.inc(),
            Reload::Refused => self.metrics.reloads_refused.inc(),
        }
    }
}
