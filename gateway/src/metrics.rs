//! Prometheus metrics of the gateway.
//!
//! Every handle is resolved at the start, so that counting is one atomic addition.

mod charges;
mod limits;
mod requests;
mod transfers;

use std::sync::Arc;
use std::time::SystemTime;

use picopay_shared::front_tls::seconds_until;
use picopay_shared::process_metrics::ProcessMetrics;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

pub use self::charges::{ChargeCount, ChargeEnd, ChargeMetrics};
pub use self::limits::LimitMetrics;
pub use self::requests::{RequestEnd, RequestMetrics};
pub use self::transfers::{TransferEnd, TransferMetrics};

#[derive(Debug, Clone)]
pub struct ClientMetrics {
    pub connections: IntGauge,
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

#[derive(Debug)]
pub struct Open(IntGauge);

impl Open {
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

#[derive(Debug, Clone)]
pub struct Metrics {
    /// The registry, which also holds the metrics of calls to shards.
    pub registry: Registry,
    pub charges: ChargeMetrics,
    pub requests: RequestMetrics,
    pub limits: LimitMetrics,
    pub transfers: TransferMetrics,
    pub clients: ClientMetrics,
    pub connections_refused: IntCounter,
    pub reloads_taken: IntCounter,
    pub reloads_refused: IntCounter,
    pub is_reload_refused: IntGauge,
    process: Arc<ProcessMetrics>,
    pub handshakes: HandshakeMetrics,
    certificates: IntGaugeVec,
}

#[derive(Debug, Clone)]
pub struct HandshakeMetrics {
    pub under_way: IntGauge,
    /// Handshakes that ended without a connection: clients that were too slow, crowded out, or refused.
    pub failed: IntCounter,
}

impl HandshakeMetrics {
    fn new(registry: &Registry) -> Self {
        let under_way = IntGauge::new("picopay_gateway_handshakes", "TLS handshakes under way.");
        let failed = IntCounter::new(
            "picopay_gateway_handshakes_failed_total",
            "TLS handshakes that ended without a connection.",
        );
        let (under_way, failed) = (under_way.expect("a good name"), failed.expect("a good name"));
        register(registry, &under_way);
        register(registry, &failed);
        Self { under_way, failed }
    }
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let charges = ChargeMetrics::new(&registry);
        let requests = RequestMetrics::new(&registry);
        let limits = LimitMetrics::new(&registry);
        let transfers = TransferMetrics::new(&registry);
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
            "Changed cluster.toml and gateway.toml files: taken, or refused with the one before still in force.",
            &["result"],
        );
        let is_reload_refused = IntGauge::new(
            "picopay_gateway_reload_refused",
            "1 while the cluster.toml or the gateway.toml on disk is one that was refused.",
        )
        .expect("a good name");
        register(&registry, &is_reload_refused);
        let handshakes = HandshakeMetrics::new(&registry);
        let certificates = IntGaugeVec::new(
            Opts::new(
                "picopay_gateway_certificate_seconds_to_expiry",
                "For how long each certificate in force is still good; below 0 it has expired.",
            ),
            &["certificate"],
        )
        .expect("a good name");
        register(&registry, &certificates);
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("each name is registered once");
        let process = ProcessMetrics::register(&registry, "picopay-gateway", env!("CARGO_PKG_VERSION"));
        Self {
            registry,
            process: Arc::new(process),
            charges,
            requests,
            limits,
            transfers,
            clients,
            connections_refused,
            reloads_taken: reloads.with_label_values(&["taken"]),
            reloads_refused: reloads.with_label_values(&["refused"]),
            is_reload_refused,
            handshakes,
            certificates,
        }
    }

    /// Writes down for how long the certificates in force are good.
    pub fn note_expiries(&self, expiries: &[(String, SystemTime)]) {
        self.certificates.reset();
        for (name, expires) in expiries {
            self.certificates.with_label_values(&[name]).set(seconds_until(*expires));
        }
    }

    pub fn render(&self) -> Vec<u8> {
        self.process.read_off();
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
}
