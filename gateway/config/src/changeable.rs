//! The part of a `gateway.toml` that is taken over while the gateway runs: keys, rates and limits.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use picopay_shard_client::ShardClientConfig;
use picopay_shared::config::ConfigError;
use picopay_shared::front_tls::FrontTls;
use picopay_shared::reload::Reloadable;

use crate::access_log::AccessLogConfig;
use crate::api_key::ApiKey;
use crate::gateway_config::{AdminConfig, GatewayConfig, ServerConfig, TestingConfig, TotalsConfig};

/// A `gateway.toml` as far as a running gateway takes it over, and the rest to compare.
#[derive(Debug, Clone, PartialEq)]
pub struct Changeable {
    pub keys: Vec<ApiKey>,
    pub tls: Option<FrontTls>,
    pub drain: Duration,
    pub server: ServerConfig,
    pub access_log: AccessLogConfig,
    fixed: Fixed,
}

/// What is built at the start: threads, sockets, queues.
#[derive(Debug, Clone, PartialEq)]
struct Fixed {
    listen: String,
    public_url: String,
    worker_threads: Option<NonZeroUsize>,
    admin: Option<AdminConfig>,
    shard_client: ShardClientConfig,
    totals: TotalsConfig,
    testing: TestingConfig,
}

impl Changeable {
    pub fn of(config: &GatewayConfig) -> Self {
        Self {
            keys: config.keys.clone(),
            tls: config.tls.clone(),
            drain: config.drain,
            server: config.server.clone(),
            access_log: config.access_log,
            fixed: Fixed {
                listen: config.listen.clone(),
                public_url: config.public_url.clone(),
                worker_threads: config.worker_threads,
                admin: config.admin.clone(),
                shard_client: config.shard_client.clone(),
                totals: config.totals.clone(),
                testing: config.testing.clone(),
            },
        }
    }

    /// The settings in which `after` differs and that only a restart changes.
    pub fn needs_restart(&self, after: &Self) -> Vec<&'static str> {
        let (before, after) = (&self.fixed, &after.fixed);
        let mut named: Vec<&'static str> = [
            ("listen", before.listen != after.listen),
            ("public_url", before.public_url != after.public_url),
            ("worker_threads", before.worker_threads != after.worker_threads),
            ("admin.listen", before.admin != after.admin),
            ("totals.every", before.totals != after.totals),
            ("testing", before.testing != after.testing),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect();
        named.extend(before.shard_client.differences(&after.shard_client));
        if named.is_empty() && before != after {
            named.push("something else");
        }
        named
    }
}

impl Reloadable for Changeable {
    /// A change is in force 2 s after it was made (contract, "API keys"), also where the file system does not
    /// report changes.
    const LOOK_EVERY: Duration = Duration::from_secs(1);

    /// The whole file must be right, so that no reload accepts what a restart would refuse.
    fn load(file: &Path) -> Result<Self, ConfigError> {
        GatewayConfig::load(file).map(|config| Self::of(&config))
    }
}
