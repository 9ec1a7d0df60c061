//! Prometheus metrics of the calls to shards.
//!
//! Every handle is resolved once, so that counting is one atomic addition. The names begin with
//! `picopay_gateway`, because they are in the gateway's registry.

mod held;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

pub use self::held::HeldMetrics;

/// A COMMIT takes 0.1 ms on a fast disk alone, a few ms with a standby, and seconds when it hangs.
const COMMIT_BUCKETS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];
/// Powers of two up to the most that a node takes.
const BATCH_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

#[derive(Debug, Clone)]
pub struct Metrics {
    pub held: HeldMetrics,
    /// Slots that no shard claims, as far as this gateway has heard.
    pub slots_unowned: IntGauge,
    per_shard: PerShard,
}

#[derive(Debug, Clone)]
pub struct ShardMetrics {
    pub writes_answered: IntCounter,
    pub writes_failed: IntCounter,
    pub writes_unknown: IntCounter,
    pub reads_answered: IntCounter,
    pub reads_failed: IntCounter,
    pub retries: IntCounter,
    pub moved: IntCounter,
    pub cache_hits: IntCounter,
    pub batch_size: Histogram,
    pub commit: Histogram,
    pub queue_length: IntGauge,
    /// Of the fullest lane: waiting commands divided by how many may wait there now.
    pub queue_fullness: Gauge,
    /// 0 closed, 1 probing, 2 open.
    pub breaker_state: IntGauge,
    /// Lag of the freshest replica, in seconds; NaN when unknown.
    pub replica_lag: Gauge,
    pub is_ready: IntGauge,
    pub is_degraded: IntGauge,
}

/// One node of a shard, named by its position in `cluster.toml`, from 0.
#[derive(Debug, Clone)]
pub struct NodeMetrics {
    /// 0 ready, 1 passed over, 2 not ready, 3 silent.
    pub state: IntGauge,
    pub passed_over: IntCounter,
}

#[derive(Debug, Clone)]
struct PerShard {
    requests: IntCounterVec,
    retries: IntCounterVec,
    moved: IntCounterVec,
    cache_hits: IntCounterVec,
    batch_size: HistogramVec,
    commit: HistogramVec,
    queue_length: IntGaugeVec,
    queue_fullness: GaugeVec,
    breaker_state: IntGaugeVec,
    replica_lag: GaugeVec,
    is_ready: IntGaugeVec,
    is_degraded: IntGaugeVec,
    node_state: IntGaugeVec,
    node_passed_over: IntCounterVec,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let slots_unowned = IntGauge::new(
            "picopay_gateway_slots_unowned",
            "Slots that no shard claims. A shard that was never reached claims none yet.",
        )
        .expect("a good name");
        register(registry, &slots_unowned);
        Self { held: HeldMetrics::new(registry), slots_unowned, per_shard: PerShard::new(registry) }
    }

    pub fn shard(&self, name: &str) -> ShardMetrics {
        let all = &self.per_shard;
        let requests = |operation, result| all.requests.with_label_values(&[name, operation, result]);
        ShardMetrics {
            writes_answered: requests("write", "answered"),
            writes_failed: requests("write", "failed"),
            writes_unknown: requests("write", "unknown"),
            reads_answered: requests("read", "answered"),
            reads_failed: requests("read", "failed"),
            retries: all.retries.with_label_values(&[name]),
            moved: all.moved.with_label_values(&[name]),
            cache_hits: all.cache_hits.with_label_values(&[name]),
            batch_size: all.batch_size.with_label_values(&[name]),
            commit: all.commit.with_label_values(&[name]),
            queue_length: all.queue_length.with_label_values(&[name]),
            queue_fullness: all.queue_fullness.with_label_values(&[name]),
            breaker_state: all.breaker_state.with_label_values(&[name]),
            replica_lag: all.replica_lag.with_label_values(&[name]),
            is_ready: all.is_ready.with_label_values(&[name]),
            is_degraded: all.is_degraded.with_label_values(&[name]),
        }
    }

    pub fn node(&self, shard: &str, position: usize) -> NodeMetrics {
        let labels = [shard, &position.to_string()];
        NodeMetrics {
            state: self.per_shard.node_state.with_label_values(&labels),
            passed_over: self.per_shard.node_passed_over.with_label_values(&labels),
        }
    }

    /// Removes all series of a shard that no longer exists. Remaining handles count nothing.
    pub fn forget_shard(&self, name: &str) {
        let all = &self.per_shard;
        for (operation, results) in
            [("write", &["answered", "failed", "unknown"][..]), ("read", &["answered", "failed"])]
        {
            for result in results {
                let _ = all.requests.remove_label_values(&[name, operation, result]);
            }
        }
        // A removal fails only when there is nothing to remove.
        for counters in [&all.retries, &all.moved, &all.cache_hits] {
            let _ = counters.remove_label_values(&[name]);
        }
        for histograms in [&all.batch_size, &all.commit] {
            let _ = histograms.remove_label_values(&[name]);
        }
        for gauges in [&all.queue_length, &all.breaker_state, &all.is_ready, &all.is_degraded] {
            let _ = gauges.remove_label_values(&[name]);
        }
        for gauges in [&all.replica_lag, &all.queue_fullness] {
            let _ = gauges.remove_label_values(&[name]);
        }
        self.forget_nodes(name, 0);
    }

    pub fn forget_nodes(&self, shard: &str, first: usize) {
        let mut position = first;
        // The positions have no gaps.
        while self.per_shard.node_state.remove_label_values(&[shard, &position.to_string()]).is_ok() {
            let _ = self.per_shard.node_passed_over.remove_label_values(&[shard, &position.to_string()]);
            position += 1;
        }
    }
}

impl PerShard {
    fn new(registry: &Registry) -> Self {
        Self {
            requests: counters(
                registry,
                "picopay_gateway_shard_requests_total",
                "Requests to a shard: answered, failed (nothing happened), unknown (maybe done).",
                &["shard", "operation", "result"],
            ),
            retries: counters(
                registry,
                "picopay_gateway_retries_total",
                "Retries of the gateway's own, with the same key.",
                &["shard"],
            ),
            moved: counters(
                registry,
                "picopay_gateway_moved_total",
                "Answers of a shard that it does not own the slot.",
                &["shard"],
            ),
            cache_hits: counters(
                registry,
                "picopay_gateway_cache_hits_total",
                "Commands that the shard answered from its Redis.",
                &["shard"],
            ),
            batch_size: histograms(
                registry,
                "picopay_gateway_batch_size",
                "Commands in a batch to a shard node.",
                &BATCH_BUCKETS,
            ),
            commit: histograms(
                registry,
                "picopay_gateway_commit_seconds",
                "The slowest COMMIT of a batch, as the shard node says.",
                &COMMIT_BUCKETS,
            ),
            queue_length: gauges(
                registry,
                "picopay_gateway_queue_length",
                "Commands waiting to be sent to a shard.",
            ),
            queue_fullness: fractions(
                registry,
                "picopay_gateway_queue_fullness",
                "Commands waiting in the fullest lane to a shard, divided by how many may wait there now: 1 is full.",
            ),
            breaker_state: gauges(
                registry,
                "picopay_gateway_breaker_state",
                "0 closed, 1 one probe is out, 2 open.",
            ),
            replica_lag: fractions(
                registry,
                "picopay_gateway_replica_lag_seconds",
                "Lag of a shard's freshest replica; NaN when unknown.",
            ),
            is_ready: gauges(
                registry,
                "picopay_gateway_shard_ready",
                "1 while a node of the shard says that it takes writes.",
            ),
            is_degraded: gauges(
                registry,
                "picopay_gateway_shard_degraded",
                "1 while the shard goes on without its standby, by an operator's word.",
            ),
            node_state: {
                let options = Opts::new(
                    "picopay_gateway_node_state",
                    "A node of a shard, by its place in cluster.toml: 0 ready, 1 passed over, 2 not ready, 3 silent.",
                );
                let gauges = IntGaugeVec::new(options, &["shard", "node"]).expect("a good name");
                register(registry, &gauges);
                gauges
            },
            node_passed_over: counters(
                registry,
                "picopay_gateway_node_passed_over_total",
                "Times that a node began to be passed over because it failed.",
                &["shard", "node"],
            ),
        }
    }
}

fn register(registry: &Registry, collector: &(impl prometheus::core::Collector + Clone + 'static)) {
    registry.register(Box::new(collector.clone())).expect("each name is registered once");
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("a good name");
    register(registry, &counters);
    counters
}

fn gauges(registry: &Registry, name: &str, help: &str) -> IntGaugeVec {
    let gauges = IntGaugeVec::new(Opts::new(name, help), &["shard"]).expect("a good name");
    register(registry, &gauges);
    gauges
}

fn fractions(registry: &Registry, name: &str, help: &str) -> GaugeVec {
    let gauges = GaugeVec::new(Opts::new(name, help), &["shard"]).expect("a good name");
    register(registry, &gauges);
    gauges
}

fn histograms(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let histograms = HistogramVec::new(options, &["shard"]).expect("a good name and rising buckets");
    register(registry, &histograms);
    histograms
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;

    #[test]
    fn the_contracts_metrics_of_a_shard_are_there_from_the_start() {
        let registry = Registry::new();
        let _shard = Metrics::new(&registry).shard("shard-1");
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for name in [
            "shard_requests_total",
            "queue_length",
            "queue_fullness",
            "breaker_state",
            "replica_lag_seconds",
            "moved_total",
        ] {
            assert!(text.contains(&format!("picopay_gateway_{name}{{")), "{name} in {text}");
        }
    }
}
