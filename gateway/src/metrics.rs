//! What the gateway counts, in Prometheus' words.
//!
//! Every handle is resolved once, at the start: counting is one atomic addition and looks nothing up.

mod moving;

use std::time::Instant;

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::moving::MovingMetrics;
use crate::problem::{Code, Problem};
use crate::write_request::Answered;

/// The contract's own (0.01 … 10), with steps of about a quarter around 2 ms, where the p99 is promised.
const LATENCY_BUCKETS: [f64; 20] = [
    0.000_25, 0.000_5, 0.000_75, 0.001, 0.001_5, 0.002, 0.002_5, 0.003, 0.004, 0.005, 0.007_5, 0.01, 0.025,
    0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0,
];
/// COMMITs: 0.1 ms on a fast disk alone, a few ms with a standby, seconds when it hangs.
const COMMIT_BUCKETS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];
/// Powers of two up to the most that a node takes.
const BATCH_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Clients, of whom each has a connection, and one request at a time on it (HTTP/1.1).
#[derive(Debug, Clone)]
pub struct ClientMetrics {
    /// Connections from clients that are open.
    pub connections: IntGauge,
    /// Requests that have no answer yet.
    pub requests: IntGauge,
}

impl ClientMetrics {
    fn new(registry: &Registry) -> Self {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help).expect("a good name");
            register(registry, &gauge);
            gauge
        };
        Self {
            connections: gauge("picopay_gateway_connections", "Connections from clients that are open."),
            requests: gauge("picopay_gateway_requests", "Requests from clients that have no answer yet."),
        }
    }
}

/// Counts something while it is open.
#[derive(Debug)]
pub struct Open(IntGauge);

impl Open {
    /// One more, until this goes away.
    pub fn count(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// All of them. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Of `POST /charge`.
    pub charges: ChargeMetrics,
    /// Who asks.
    pub clients: ClientMetrics,
    /// Connections closed at once because there were too many.
    pub connections_refused: IntCounter,
    /// Of requests whose slot is on its way.
    pub moving: MovingMetrics,
    /// Changed `cluster.toml` files that are in force.
    pub reloads_taken: IntCounter,
    /// Changed files that were refused.
    pub reloads_refused: IntCounter,
    /// 1 while the file on disk is one that was refused.
    pub is_reload_refused: IntGauge,
    per_shard: PerShard,
}

/// Of `POST /charge`, whatever became of it.
#[derive(Debug, Clone)]
pub struct ChargeMetrics {
    success: IntCounter,
    idempotent_hit: IntCounter,
    insufficient_balance: IntCounter,
    failed: IntCounter,
    latency: Histogram,
}

/// Of one shard.
#[derive(Debug, Clone)]
pub struct ShardMetrics {
    /// Writes that got the node's final answer.
    pub writes_answered: IntCounter,
    /// Writes that did not happen.
    pub writes_failed: IntCounter,
    /// Writes of which it is not known.
    pub writes_unknown: IntCounter,
    /// Reads that got an answer.
    pub reads_answered: IntCounter,
    /// Reads that did not.
    pub reads_failed: IntCounter,
    /// Retries of the gateway's own.
    pub retries: IntCounter,
    /// Answers that the slot is elsewhere.
    pub moved: IntCounter,
    /// Commands answered from the shard's Redis.
    pub cache_hits: IntCounter,
    /// Commands in a batch.
    pub batch_size: Histogram,
    /// How long the slowest COMMIT of a batch took, as the node says.
    pub commit: Histogram,
    /// Commands waiting.
    pub queue_length: IntGauge,
    /// 0 closed, 1 probing, 2 open.
    pub breaker_state: IntGauge,
    /// Of the freshest replica; NaN when unknown.
    pub replica_lag: Gauge,
    /// Whether the shard says that it takes writes.
    pub is_ready: IntGauge,
    /// Whether it says that an operator lets it go on without its standby.
    pub is_degraded: IntGauge,
}

/// Of one node of a shard, named by its place in `cluster.toml`, from 0.
#[derive(Debug, Clone)]
pub struct NodeMetrics {
    /// 0 ready, 1 passed over, 2 not ready, 3 silent.
    pub state: IntGauge,
    /// How often it began to be passed over.
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
    breaker_state: IntGaugeVec,
    replica_lag: GaugeVec,
    is_ready: IntGaugeVec,
    is_degraded: IntGaugeVec,
    node_state: IntGaugeVec,
    node_passed_over: IntCounterVec,
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Self {
        let registry = Registry::new();
        let charges = {
            let requests = counters(
                &registry,
                "charge_requests_total",
                "Requests to POST /charge, by how they ended.",
                &["status"],
            );
            let options = HistogramOpts::new(
                "charge_request_latency_seconds",
                "From the head of a POST /charge to its answer.",
            )
            .buckets(LATENCY_BUCKETS.to_vec());
            let latency = Histogram::with_opts(options).expect("the buckets rise");
            register(&registry, &latency);
            let of = |status| requests.with_label_values(&[status]);
            ChargeMetrics {
                success: of("success"),
                idempotent_hit: of("idempotent_hit"),
                insufficient_balance: of("insufficient_balance"),
                failed: of("failed"),
                latency,
            }
        };
        let clients = ClientMetrics::new(&registry);
        let connections_refused = IntCounter::new(
            "picopay_gateway_connections_refused_total",
            "Connections closed at once because connections_max were open.",
        )
        .expect("a good name");
        register(&registry, &connections_refused);
        let reloads = counters(
            &registry,
            "picopay_gateway_reloads_total",
            "Changed cluster.toml files: taken, or refused with the one before still in force.",
            &["result"],
        );
        let is_reload_refused = IntGauge::new(
            "picopay_gateway_reload_refused",
            "1 while the cluster.toml on disk is one that was refused.",
        )
        .expect("a good name");
        register(&registry, &is_reload_refused);
        let moving = MovingMetrics::new(&registry);
        let per_shard = PerShard::new(&registry);
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("each name is registered once");
        Self {
            registry,
            charges,
            clients,
            connections_refused,
            moving,
            reloads_taken: reloads.with_label_values(&["taken"]),
            reloads_refused: reloads.with_label_values(&["refused"]),
            is_reload_refused,
            per_shard,
        }
    }

    /// The handles of one shard.
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
            breaker_state: all.breaker_state.with_label_values(&[name]),
            replica_lag: all.replica_lag.with_label_values(&[name]),
            is_ready: all.is_ready.with_label_values(&[name]),
            is_degraded: all.is_degraded.with_label_values(&[name]),
        }
    }

    /// The handles of one node.
    pub fn node(&self, shard: &str, position: usize) -> NodeMetrics {
        let labels = [shard, &position.to_string()];
        NodeMetrics {
            state: self.per_shard.node_state.with_label_values(&labels),
            passed_over: self.per_shard.node_passed_over.with_label_values(&labels),
        }
    }

    /// Lets all that is said of a shard go, which is not there any more. Who still holds its handles counts for nobody.
    pub fn forget_shard(&self, name: &str) {
        let all = &self.per_shard;
        for (operation, results) in
            [("write", &["answered", "failed", "unknown"][..]), ("read", &["answered", "failed"])]
        {
            for result in results {
                let _ = all.requests.remove_label_values(&[name, operation, result]);
            }
        }
        // Each of them says no only when there is nothing to let go.
        for counters in [&all.retries, &all.moved, &all.cache_hits] {
            let _ = counters.remove_label_values(&[name]);
        }
        for histograms in [&all.batch_size, &all.commit] {
            let _ = histograms.remove_label_values(&[name]);
        }
        for gauges in [&all.queue_length, &all.breaker_state, &all.is_ready, &all.is_degraded] {
            let _ = gauges.remove_label_values(&[name]);
        }
        let _ = all.replica_lag.remove_label_values(&[name]);
        self.forget_nodes(name, 0);
    }

    /// Lets go what is said of a shard's nodes from this place on.
    pub fn forget_nodes(&self, shard: &str, first: usize) {
        let mut position = first;
        // Their places have no gaps.
        while self.per_shard.node_state.remove_label_values(&[shard, &position.to_string()]).is_ok() {
            let _ = self.per_shard.node_passed_over.remove_label_values(&[shard, &position.to_string()]);
            position += 1;
        }
    }

    /// Everything, in the text format that Prometheus reads.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and families have names");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
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
            breaker_state: gauges(
                registry,
                "picopay_gateway_breaker_state",
                "0 closed, 1 one probe is out, 2 open.",
            ),
            replica_lag: {
                let options = Opts::new(
                    "picopay_gateway_replica_lag_seconds",
                    "Lag of a shard's freshest replica; NaN when unknown.",
                );
                let gauges = GaugeVec::new(options, &["shard"]).expect("a good name");
                register(registry, &gauges);
                gauges
            },
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

fn histograms(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let histograms = HistogramVec::new(options, &["shard"]).expect("a good name and rising buckets");
    register(registry, &histograms);
    histograms
}

impl ChargeMetrics {
    /// A charge begins. It is counted exactly once, even when its client hangs up or its handler panics.
    pub fn begin(&self) -> ChargeCount {
        ChargeCount { metrics: self.clone(), began: Instant::now(), ended: None }
    }
}

/// A charge under way.
#[derive(Debug)]
pub struct ChargeCount {
    metrics: ChargeMetrics,
    began: Instant,
    ended: Option<IntCounter>,
}

impl ChargeCount {
    /// It ended like this.
    pub fn end(mut self, answer: &Result<Answered, Problem>) {
        let metrics = &self.metrics;
        let ended = match answer {
            Ok(answered) if answered.is_replayed => &metrics.idempotent_hit,
            Ok(_) => &metrics.success,
            // A refusal that is given again is a repeat first and a refusal second: it moved no queue and no money.
            Err(problem) if problem.is_replayed() => &metrics.idempotent_hit,
            Err(problem) if problem.code() == Code::InsufficientBalance => &metrics.insufficient_balance,
            Err(_) => &metrics.failed,
        };
        self.ended = Some(ended.clone());
    }
}

impl Drop for ChargeCount {
    fn drop(&mut self) {
        self.ended.as_ref().unwrap_or(&self.metrics.failed).inc();
        self.metrics.latency.observe(self.began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render()).unwrap()
    }

    #[test]
    fn the_contracts_metrics_are_there_from_the_start() {
        let metrics = Metrics::new();
        let _shard = metrics.shard("shard-1");
        let text = text(&metrics);
        for status in ["success", "idempotent_hit", "insufficient_balance", "failed"] {
            assert!(text.contains(&format!("charge_requests_total{{status=\"{status}\"}} 0")), "{text}");
        }
        for bound in ["0.002", "0.01", "0.05", "0.1", "0.5", "1", "2", "5", "10", "+Inf"] {
            let line = format!("charge_request_latency_seconds_bucket{{le=\"{bound}\"}} 0");
            assert!(text.contains(&line), "{line} in {text}");
        }
        for name in
            ["shard_requests_total", "queue_length", "breaker_state", "replica_lag_seconds", "moved_total"]
        {
            assert!(text.contains(&format!("picopay_gateway_{name}{{")), "{name} in {text}");
        }
    }

    #[test]
    fn a_charge_is_counted_once_whatever_becomes_of_it() {
        let metrics = Metrics::new();
        metrics.charges.begin().end(&Err(Problem::key_missing()));
        drop(metrics.charges.begin());
        let text = text(&metrics);
        assert!(text.contains("charge_requests_total{status=\"failed\"} 2"), "{text}");
        assert!(text.contains("charge_request_latency_seconds_count 2"), "{text}");
    }
}
