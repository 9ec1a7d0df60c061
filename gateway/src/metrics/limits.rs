//! Limits, beside what they limit: an alert compares the two without knowing the files.

use picopay_gateway_config::ServerConfig;
use picopay_shard_client::ShardClientConfig;
use prometheus::{IntGaugeVec, Opts, Registry};

use super::register;

#[derive(Debug, Clone)]
pub struct LimitMetrics(IntGaugeVec);

impl LimitMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let options = Opts::new(
            "picopay_gateway_limit",
            "The limit of picopay_gateway_connections, of picopay_gateway_queue_length of each lane, of reads of each shard, \
             and of picopay_gateway_held.",
        );
        let limits = IntGaugeVec::new(options, &["of"]).expect("a good name");
        register(registry, &limits);
        Self(limits)
    }

    pub fn show(&self, server: &ServerConfig, shard_client: &ShardClientConfig) {
        for (of, limit) in [
            ("connections", server.connections_max),
            ("queue_length", shard_client.queue_max),
            ("reads", shard_client.reads_max),
            ("held", shard_client.moving_max),
        ] {
            self.0.with_label_values(&[of]).set(i64::try_from(limit).unwrap_or(i64::MAX));
        }
    }
}
