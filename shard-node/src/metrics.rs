//! Prometheus metrics of a node.

use std::time::SystemTime;

use picopay_shared::front_tls::seconds_until;
use picopay_shared::process_metrics::ProcessMetrics;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

pub struct Metrics {
    registry: Registry,
    /// Of what all services have, under the same names.
    common: Registry,
    process: ProcessMetrics,
    pub outcomes: IntCounterVec,
    pub batch_size: Histogram,
    /// Time from BEGIN to the answer to COMMIT, in seconds.
    pub transaction_seconds: Histogram,
    pub queue_length: IntGaugeVec,
    pub cache_hits: IntCounter,
    /// Batches that did not wait for Redis because it was not answering.
    pub cache_skips: IntCounter,
    /// Batches that Postgres refused and that were retried in halves.
    pub halved_batches: IntCounter,
    /// Batches that met a used key, and ran again with their keys looked up.
    pub repeated_batches: IntCounter,
    /// Commands that named a higher epoch than the database: it has lost state. Alarm on any.
    pub state_lost: IntCounter,
    /// Whether writes are taken (1) or stopped (0).
    pub is_ready: IntGauge,
    /// Whether an operator lets the shard go on without its standby (1). Unchanged while writes are stopped.
    pub is_degraded: IntGauge,
    /// The primary's timeline: it grows at each failover.
    pub timeline: IntGauge,
    /// Connections refused because their server was on an older timeline than one seen before. Alarm on any:
    /// a replaced primary still takes writes.
    pub older_timelines: IntCounter,
    /// Whether two servers take writes on one timeline (1). Alarm: neither gets any from this node.
    pub two_primaries: IntGauge,
    /// Whether a primary lacks what was acknowledged (1). Alarm: a lagging standby was promoted, or an older
    /// copy restored.
    pub acknowledged_lost: IntGauge,
    /// Lag of each replica in milliseconds; -1 while it is not known.
    pub replica_lag_ms: IntGaugeVec,
    /// The same in seconds, for alarms that know no other unit.
    pub replica_lag_seconds: GaugeVec,
    /// The limits of what `of` names.
    pub limits: IntGaugeVec,
    pub reads: IntCounterVec,
    /// Reads that no replica answered although one was fresh, by reason. The replica was `behind` the client's own write,
    /// `failed`, or had `not found` it. Or the session token was of an `other shard`, or `beyond` all that the shard has.
    pub passed_over: IntCounterVec,
    /// Changed `cluster.toml` files, by `taken` or `refused`.
    pub reloads: IntCounterVec,
    pub is_reload_refused: IntGauge,
    certificates: IntGaugeVec,
    /// Open holds that had run out when the sweeper looked last, as many as it takes at once at most.
    pub holds_overdue: IntGauge,
    pub open_holds: IntGaugeVec,
    /// What open holds reserve, by currency, in its smallest unit.
    pub held_minor_units: IntGaugeVec,
    /// Transfers from this shard that are not ended, by currency.
    pub transfers_pending: IntGaugeVec,
    /// Their money, by currency, in its smallest unit.
    pub in_transit_minor_units: IntGaugeVec,
    /// How long the oldest of them has been pending. Alarm above a minute.
    pub transfer_pending_seconds_max: Gauge,
    pub transfers_reversed: IntCounter,
    /// Slots of this shard when a gateway asked last, by `owned` or `importing`.
    pub slots: IntGaugeVec,
    /// What the courier of this node did with the transfers that it took up: `ended` or `postponed`.
    pub courier_tries: IntCounterVec,
}

impl Metrics {
    #[expect(clippy::too_many_lines, reason = "an entry for each metric, and nothing else")]
    pub fn new(shard: &str) -> Self {
        let registry = Registry::new_custom(
            Some("picopay_node".to_owned()),
            Some([("shard".to_owned(), shard.to_owned())].into()),
        )
        .expect("the prefix is a legal name");
        let common = Registry::new_custom(None, Some([("shard".to_owned(), shard.to_owned())].into()))
            .expect("without a prefix");
        #[cfg(target_os = "linux")]
        common
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("each name is registered once");
        let metrics = Self {
            process: ProcessMetrics::register(&common, "picopay-node", env!("CARGO_PKG_VERSION")),
            common,
            outcomes: counters("outcomes_total", "Commands by what became of them.", "outcome"),
            batch_size: histogram(
                "batch_size",
                "Commands per database transaction.",
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
            ),
            // From a fast disk's flush to the flight's timeout.
            transaction_seconds: histogram(
                "transaction_seconds",
                "Time from BEGIN to the answer to COMMIT.",
                &[0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0],
            ),
            queue_length: gauges("queue_length", "Commands waiting, by lane.", "lane"),
            cache_hits: counter("cache_hits_total", "Commands answered from Redis."),
            cache_skips: counter("cache_skips_total", "Batches that did not wait for Redis."),
            halved_batches: counter(
                "halved_batches_total",
                "Batches refused by Postgres and retried in halves.",
            ),
            repeated_batches: counter(
                "repeated_batches_total",
                "Batches that met a key which was taken, and were run again.",
            ),
            state_lost: counter("state_lost_total", "Commands with a higher epoch than the database's own."),
            is_ready: IntGauge::new("ready", "Whether writes are taken.").expect("a legal name"),
            is_degraded: IntGauge::new("degraded", "Whether the shard goes on without its standby.")
                .expect("a legal name"),
            timeline: IntGauge::new("timeline", "Of the primary; it grows at each failover.")
                .expect("a legal name"),
            older_timelines: counter(
                "older_timelines_total",
                "Connections refused because their server was replaced.",
            ),
            two_primaries: IntGauge::new("two_primaries", "Whether two servers take writes on one timeline.")
                .expect("a legal name"),
            acknowledged_lost: IntGauge::new(
                "acknowledged_lost",
                "Whether a primary lacks what was acknowledged.",
            )
            .expect("a legal name"),
            replica_lag_ms: gauges("replica_lag_ms", "Lag by replica; -1 is unknown.", "replica"),
            replica_lag_seconds: GaugeVec::new(
                Opts::new("replica_lag_seconds", "Lag by replica; -1 is unknown."),
                &["replica"],
            )
            .expect("a legal name"),
            limits: gauges(
                "limit",
                "The limit of picopay_node_queue_length of each lane, and of picopay_node_batch_size.",
                "of",
            ),
            reads: counters("reads_total", "Reads by the database that answered.", "source"),
            passed_over: counters(
                "replicas_passed_over_total",
                "Reads that went to the primary although a replica was fresh, by why.",
                "reason",
            ),
            reloads: counters("reloads_total", "Changed cluster.toml files, taken or refused.", "result"),
            is_reload_refused: IntGauge::new(
                "reload_refused",
                "Whether the cluster.toml on disk is one that was refused.",
            )
            .expect("a legal name"),
            certificates: gauges(
                "certificate_seconds_to_expiry",
                "For how long each certificate in force is still good; below 0 it has expired.",
                "certificate",
            ),
            holds_overdue: IntGauge::new("holds_overdue", "Holds that ran out and wait for the sweeper.")
                .expect("a legal name"),
            open_holds: gauges("open_holds", "Open holds, by currency.", "currency"),
            held_minor_units: gauges(
                "held_minor_units",
                "Money that open holds reserve, in the currency's smallest unit.",
                "currency",
            ),
            transfers_pending: gauges(
                "transfers_pending",
                "Transfers that are not ended, by currency.",
                "currency",
            ),
            in_transit_minor_units: gauges(
                "in_transit_minor_units",
                "Money in transit from this shard, in the currency's smallest unit.",
                "currency",
            ),
            transfer_pending_seconds_max: Gauge::new(
                "transfer_pending_seconds_max",
                "How long the oldest unfinished transfer has been pending.",
            )
            .expect("a legal name"),
            transfers_reversed: counter("transfers_reversed_total", "Transfers that were reversed."),
            courier_tries: counters(
                "courier_tries_total",
                "Transfers that the courier took up, by how that ended.",
                "result",
            ),
            slots: gauges("slots", "Slots of the shard, by `owned` or `importing`.", "state"),
            registry,
        };
        metrics.register_all();
        metrics.begin_at_zero();
        metrics
    }

    /// So that the first event shows as an increase.
    fn begin_at_zero(&self) {
        for (counters, all) in [
            (&self.reloads, &["taken", "refused"][..]),
            (&self.reads, &["primary", "replica"]),
            (&self.courier_tries, &["ended", "postponed"]),
            (&self.passed_over, &["behind", "beyond", "failed", "not found", "other shard"]),
            (
                &self.outcomes,
                &["completed", "replayed", "refused", "moved", "unavailable", "outcome_unknown"],
            ),
            (&self.outcomes, &["overloaded", "internal"]),
        ] {
            for one in all {
                let _ = counters.with_label_values(&[one]);
            }
        }
    }

    fn register_all(&self) {
        let collectors: [Box<dyn prometheus::core::Collector>; 32] = [
            Box::new(self.outcomes.clone()),
            Box::new(self.batch_size.clone()),
            Box::new(self.transaction_seconds.clone()),
            Box::new(self.queue_length.clone()),
            Box::new(self.cache_hits.clone()),
            Box::new(self.cache_skips.clone()),
            Box::new(self.halved_batches.clone()),
            Box::new(self.repeated_batches.clone()),
            Box::new(self.state_lost.clone()),
            Box::new(self.is_ready.clone()),
            Box::new(self.is_degraded.clone()),
            Box::new(self.timeline.clone()),
            Box::new(self.older_timelines.clone()),
            Box::new(self.two_primaries.clone()),
            Box::new(self.acknowledged_lost.clone()),
            Box::new(self.replica_lag_ms.clone()),
            Box::new(self.replica_lag_seconds.clone()),
            Box::new(self.limits.clone()),
            Box::new(self.reads.clone()),
            Box::new(self.passed_over.clone()),
            Box::new(self.reloads.clone()),
            Box::new(self.is_reload_refused.clone()),
            Box::new(self.certificates.clone()),
            Box::new(self.holds_overdue.clone()),
            Box::new(self.open_holds.clone()),
            Box::new(self.held_minor_units.clone()),
            Box::new(self.transfers_pending.clone()),
            Box::new(self.in_transit_minor_units.clone()),
            Box::new(self.transfer_pending_seconds_max.clone()),
            Box::new(self.transfers_reversed.clone()),
            Box::new(self.courier_tries.clone()),
            Box::new(self.slots.clone()),
        ];
        for collector in collectors {
            self.registry.register(collector).expect("each name is registered once");
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
        let mut families = self.registry.gather();
        families.extend(self.common.gather());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text).expect("writing to memory does not fail");
        text
    }
}

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("a legal name")
}

fn counters(name: &str, help: &str, label: &str) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), &[label]).expect("a legal name")
}

fn gauges(name: &str, help: &str, label: &str) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), &[label]).expect("a legal name")
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())).expect("a legal name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_of_a_kind_shows_as_an_increase() {
        let text = String::from_utf8(Metrics::new("a").render()).unwrap();
        for series in [
            "picopay_node_courier_tries_total{result=\"ended\",shard=\"a\"}",
            "picopay_node_older_timelines_total{shard=\"a\"}",
            "picopay_node_outcomes_total{outcome=\"outcome_unknown\",shard=\"a\"}",
            "picopay_node_reads_total{source=\"primary\",shard=\"a\"}",
            "picopay_node_reloads_total{result=\"refused\",shard=\"a\"}",
            "picopay_node_replicas_passed_over_total{reason=\"failed\",shard=\"a\"}",
            "picopay_node_state_lost_total{shard=\"a\"}",
        ] {
            assert!(text.contains(&format!("{series} 0\n")), "{series} in {text}");
        }
    }
}
