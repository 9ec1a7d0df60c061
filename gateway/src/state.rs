//! The state that every handler works with. A restart loses nothing that matters.

use std::sync::Arc;
use std::time::SystemTime;

use picopay_shared::cluster::Cluster;
use picopay_shared::front_tls::FrontTls;
use picopay_shared::internal_secret::InternalSecret;
use picopay_shared::reload::{InForce, Reload};

use crate::auth::KeyRing;
use crate::metrics::Metrics;
use picopay_gateway_config::{Changeable, GatewayConfig};
use picopay_shard_client::ShardClient;

#[derive(Debug)]
pub struct GatewayState {
    pub config: GatewayConfig,
    pub keys: KeyRing,
    pub shards: Arc<ShardClient>,
    pub in_force: Arc<InForce>,
    pub file_in_force: Arc<InForce<Changeable>>,
    pub secret: InternalSecret,
    pub metrics: Metrics,
}

impl GatewayState {
    /// Opens the connections to the shards. No shard needs to be up.
    pub fn start(cluster: &Cluster, config: GatewayConfig) -> Arc<Self> {
        let metrics = Metrics::new();
        let shards = ShardClient::start(cluster, &config.shard_client, &metrics.registry);
        Arc::new(Self {
            keys: KeyRing::new(&config.keys),
            file_in_force: Arc::new(InForce::new(Changeable {
                keys: config.keys.clone(),
                tls: config.tls.clone(),
            })),
            config,
            shards,
            in_force: Arc::new(InForce::new(cluster.clone())),
            secret: InternalSecret::new(&cluster.internal_secret),
            metrics,
        })
    }

    pub async fn take_over(&self, cluster: &Cluster) {
        if self.secret.replace(&cluster.internal_secret) {
            self.shards.show(&cluster.internal_secret);
        }
        self.shards.take_over(cluster).await;
    }

    /// The certificates in force, with when they expire.
    pub fn certificate_expiries(&self) -> Vec<(String, SystemTime)> {
        let own = self.file_in_force.current().tls.as_ref().map(FrontTls::expiries).unwrap_or_default();
        own.into_iter().chain(self.in_force.cluster().caller_expiries()).collect()
    }

    pub fn count_reload(&self, reload: Reload) {
        match reload {
            Reload::Taken => self.metrics.reloads_taken.inc(),
            Reload::Refused => self.metrics.reloads_refused.inc(),
        }
    }
}
