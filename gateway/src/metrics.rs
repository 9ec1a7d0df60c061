//! What the gateway counts, in Prometheus' words.
//!
//! Every handle is resolved once, at the start: counting is one atomic addition and looks nothing up.

use std::time::Instant;

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::problem::{Code, Problem};
use crate::write_request::Answered;

/// The contract's own (0.01 … 10), with steps of about a quarter around 2 ms, where the p99 is promised.
const LATENCY_BUCKETS: [f64; 20] = [
    0.000_25, 0.000_5, 0.000_75, 0.001, 0.001_5, 0.002, 0.002_5, 0.003, 0.004, 0.005, 0.007_5, 0.01, 0.025,
    0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0,
];
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
    /// Where all of this is registered, and what the way to the shards counts.
    pub registry: Registry,
    /// Of `POST /charge`.
    pub charges: ChargeMetrics,
    /// Who asks.
    pub clients: ClientMetrics,
    /// Connections closed at once because there were too many.
    pub connections_refused: IntCounter,
    /// Changed `cluster.toml` files that are in force.
    pub reloads_taken: IntCounter,
    /// Changed files that were refused.
    pub reloads_refused: IntCounter,
    /// 1 while the file on disk is one that was refused.
    pub is_reload_refused: IntGauge,
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
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("each name is registered once");
        Self {
            registry,
            charges,
            clients,
            connections_refused,
            reloads_taken: reloads.with_label_values(&["taken"]),
            reloads_refused: reloads.with_label_values(&["refused"]),
            is_reload_refused,
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

fn register(registry: &Registry, collector: &(impl prometheus::core::Collector + Clone + 'static)) {
    registry.register(Box::new(collector.clone())).expect("each name is registered once");
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("a good name");
    register(registry, &counters);
    counters
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
        let text = text(&metrics);
        for status in ["success", "idempotent_hit", "insufficient_balance", "failed"] {
            assert!(text.contains(&format!("charge_requests_total{{status=\"{status}\"}} 0")), "{text}");
        }
        for bound in ["0.002", "0.01", "0.05", "0.1", "0.5", "1", "2", "5", "10", "+Inf"] {
            let line = format!("charge_request_latency_seconds_bucket{{le=\"{bound}\"}} 0");
            assert!(text.contains(&line), "{line} in {text}");
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
