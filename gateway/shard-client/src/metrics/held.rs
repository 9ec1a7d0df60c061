//! Metrics of requests that wait until their slot has an owner again.

use prometheus::{IntCounter, IntGauge, Registry};

use super::register;

#[derive(Debug, Clone)]
pub struct HeldMetrics {
    pub held: IntGauge,
    pub held_total: IntCounter,
    pub given_up: IntCounter,
    pub refused: IntCounter,
}

impl HeldMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let held = IntGauge::new(
            "picopay_gateway_held",
            "Requests that wait now because nobody owns their slot: it is on its way.",
        )
        .expect("a good name");
        register(registry, &held);
        let counter = |name, help| {
            let counter = IntCounter::new(name, help).expect("a good name");
            register(registry, &counter);
            counter
        };
        Self {
            held,
            held_total: counter(
                "picopay_gateway_held_total",
                "Requests that had to wait because nobody owned their slot.",
            ),
            given_up: counter(
                "picopay_gateway_held_given_up_total",
                "Requests that waited move_wait and were answered slot-moving.",
            ),
            refused: counter(
                "picopay_gateway_held_refused_total",
                "Requests answered slot-moving at once because moving_max were waiting.",
            ),
        }
    }
}
