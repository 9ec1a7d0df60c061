//! The state that every handler works with. A restart loses nothing that matters.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use picopay_shared::cluster::Cluster;
use picopay_shared::ending::Ending;
use picopay_shared::front_tls::FrontTls;
use picopay_shared::internal_secret::InternalSecret;
use picopay_shared::reload::{InForce, Reload};

use crate::auth::KeyRing;
use crate::metrics::Metrics;
use picopay_gateway_config::{Changeable, GatewayConfig};
use picopay_shard_client::ShardClient;

#[derive(Debug)]
pub struct GatewayState {
    /// As it was at the start. What changes meanwhile is in [`GatewayState::live`].
    pub config: GatewayConfig,
    live: ArcSwap<Changeable>,
    pub keys: KeyRing,
    pub shards: Arc<ShardClient>,
    pub in_force: Arc<InForce>,
    pub file_in_force: Arc<InForce<Changeable>>,
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
            live: ArcSwap::from_pointee(Changeable::of(&config)),
            file_in_force: Arc::new(InForce::new(Changeable::of(&config))),
            config,
            shards,
            in_force: Arc::new(InForce::new(cluster.clone())),
            secret: InternalSecret::new(&cluster.internal_secret),
            metrics,
            ending: Ending::default(),
        })
    }

    /// The keys, rates and limits in force now.
    pub fn live(&self) -> Guard<Arc<Changeable>> {
        self.live.load()
    }

    /// Uses a changed `gateway.toml` from now on: for requests that come, and limits of connections that are opened.
    ///
    /// # Errors
    /// The settings that differ and take a restart, or why the certificates cannot be used.
    pub fn take_over_file(
        &self,
        changed: &Changeable,
        take_certificates: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let fixed = self.live().needs_restart(changed);
        if !fixed.is_empty() {
            let named = fixed.join(", ");
            return Err(format!(
                "{named}: changed in the file, and a running gateway cannot change it: put it back, or restart"
            ));
        }
        take_certificates()?;
        self.keys.replace(&changed.keys);
        self.live.store(Arc::new(changed.clone()));
        Ok(())
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
