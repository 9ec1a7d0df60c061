//! The counters of charges, alone or in a batch: how each one ended, and how long it took.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};

use super::{counters, register};
use crate::problem::Code;

/// The contract's own (0.01 … 10), with steps of about a quarter around 2 ms, where the p99 is promised.
const LATENCY_BUCKETS: [f64; 20] = [
    0.000_25, 0.000_5, 0.000_75, 0.001, 0.001_5, 0.002, 0.002_5, 0.003, 0.004, 0.005, 0.007_5, 0.01, 0.025,
    0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// What a client cannot help. Overload is among them: it was promised a service.
const OWN_FAULTS: [Code; 6] = [
    Code::Internal,
    Code::ShardUnavailable,
    Code::Overloaded,
    Code::SlotMoving,
    Code::ShuttingDown,
    Code::OutcomeUnknown,
];

#[derive(Debug, Clone)]
pub struct ChargeMetrics {
    success: IntCounter,
    idempotent_hit: IntCounter,
    insufficient_balance: IntCounter,
    failed: IntCounter,
    /// By the code of each problem that is the cluster's own, in their order.
    failures: Arc<[(Code, IntCounter)]>,
    latency: Histogram,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeEnd {
    Success,
    /// Answered before. A repeated refusal counts here, because it moved no money.
    Replayed,
    InsufficientBalance,
    /// It ended with this problem. Most are mistakes of clients.
    Problem(Code),
    /// No answer was made: the client hung up.
    Failed,
}

impl ChargeMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let requests = counters(
            registry,
            "charge_requests_total",
            "Charges, alone or in a batch, by how they ended. `failed` counts mistakes of clients too: alert on \
             picopay_gateway_charge_failures_total.",
            &["status"],
        );
        let options = HistogramOpts::new(
            "charge_request_latency_seconds",
            "From the head of a POST /charge to its answer; of a charge in a batch, from the batch's body.",
        )
        .buckets(LATENCY_BUCKETS.to_vec());
        let latency = Histogram::with_opts(options).expect("the buckets rise");
        register(registry, &latency);
        let failures = counters(
            registry,
            "picopay_gateway_charge_failures_total",
            "Charges, alone or in a batch, that failed through no fault of their clients, by the problem's code.",
            &["code"],
        );
        let own = Code::ALL.into_iter().filter(|code| OWN_FAULTS.contains(code));
        let failures = own.map(|code| (code, failures.with_label_values(&[code.suffix()]))).collect();
        let of = |status| requests.with_label_values(&[status]);
        Self {
            success: of("success"),
            idempotent_hit: of("idempotent_hit"),
            insufficient_balance: of("insufficient_balance"),
            failed: of("failed"),
            failures,
            latency,
        }
    }

    /// A charge begins. It is counted exactly once, even when its client hangs up or its handler panics.
    pub fn begin(&self) -> ChargeCount {
        ChargeCount { metrics: self.clone(), began: Instant::now(), end: ChargeEnd::Failed }
    }
}

#[derive(Debug)]
pub struct ChargeCount {
    metrics: ChargeMetrics,
    began: Instant,
    end: ChargeEnd,
}

impl ChargeCount {
    pub fn end(mut self, end: ChargeEnd) {
        self.end = end;
    }
}

impl Drop for ChargeCount {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        let ended = match self.end {
            ChargeEnd::Success => &metrics.success,
            ChargeEnd::Replayed => &metrics.idempotent_hit,
            ChargeEnd::InsufficientBalance => &metrics.insufficient_balance,
            ChargeEnd::Problem(_) | ChargeEnd::Failed => &metrics.failed,
        };
        ended.inc();
        if let ChargeEnd::Problem(code) = self.end
            && let Some((_, failures)) = metrics.failures.iter().find(|(own, _)| *own == code)
        {
            failures.inc();
        }
        metrics.latency.observe(self.began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_counted_once_whatever_becomes_of_it() {
        let charges = ChargeMetrics::new(&Registry::new());
        charges.begin().end(ChargeEnd::Problem(Code::UserNotFound));
        drop(charges.begin());
        charges.begin().end(ChargeEnd::Replayed);
        let counted = [&charges.success, &charges.idempotent_hit, &charges.failed].map(IntCounter::get);
        assert_eq!((counted, charges.latency.get_sample_count()), ([0, 1, 2], 3));
        let failures = || charges.failures.iter().map(|(_, counter)| counter.get()).sum::<u64>();
        assert_eq!(failures(), 0, "a user who does not exist is the client's mistake");
        charges.begin().end(ChargeEnd::Problem(Code::OutcomeUnknown));
        assert_eq!((failures(), charges.failed.get()), (1, 3));
    }
}
