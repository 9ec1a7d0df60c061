//! The totals as metrics, read again and again for as long as the gateway serves.
//!
//! A metric is a float, so these figures are for curves and alarms. Nobody accounts with them.

use std::convert::Infallible;
use std::time::Duration;

use picopay_shard_client::Reader;
use picopay_shared::aggregate::Total;
use picopay_shared::money::MoneySum;
use picopay_shared::origin::Origin;
use prometheus::{GaugeVec, IntCounter, IntGauge, Opts, Registry};
use rust_decimal::prelude::ToPrimitive;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;
use uuid::Uuid;

use crate::state::GatewayState;

struct TotalsMetrics {
    users: GaugeVec,
    balance: GaugeVec,
    held: GaugeVec,
    in_transit: GaugeVec,
    read_at: IntGauge,
    failed: IntCounter,
}

/// Reads the totals at once and then in each such period. Without a period, never.
pub async fn keep_reading(gateway: &GatewayState, every: Option<Duration>) -> Infallible {
    let Some(every) = every else { return std::future::pending().await };
    let metrics = TotalsMetrics::new(&gateway.metrics.registry);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let origin = Origin { request_id: format!("totals-{}", Uuid::new_v4()), traceparent: None };
        match gateway.shards.read_totals(Reader { origin, session: None }).await {
            Ok(gathered) => metrics.show(&gathered.figures.totals),
            Err(error) => {
                metrics.failed.inc();
                warn!(%error, "the totals could not be read");
            }
        }
    }
}

impl TotalsMetrics {
    fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| {
            let gauge = GaugeVec::new(Opts::new(name, help), &["currency"]).expect("a good name");
            registry.register(Box::new(gauge.clone())).expect("each name is registered once");
            gauge
        };
        let read_at = IntGauge::new(
            "picopay_totals_read_at_seconds",
            "When the totals were read last, in Unix time. They stay as they were while reads fail.",
        )
        .expect("a good name");
        let failed =
            IntCounter::new("picopay_totals_failed_total", "Times that the totals could not be read.")
                .expect("a good name");
        registry.register(Box::new(read_at.clone())).expect("each name is registered once");
        registry.register(Box::new(failed.clone())).expect("each name is registered once");
        Self {
            users: gauge("picopay_totals_users", "Users with a balance, per currency."),
            balance: gauge("picopay_totals_balance", "What all users have together, per currency."),
            held: gauge("picopay_totals_held", "What open holds reserve of it, per currency."),
            in_transit: gauge(
                "picopay_totals_in_transit",
                "What has left one user's balance and not reached another's yet, per currency.",
            ),
            read_at,
            failed,
        }
    }

    fn show(&self, totals: &[Total]) {
        for total in totals {
            let labels = [total.balance.currency().code()];
            let of = |sum: MoneySum| sum.amount().to_f64().unwrap_or(f64::NAN);
            #[expect(clippy::cast_precision_loss, reason = "below 2^53 users")]
            self.users.with_label_values(&labels).set(total.users as f64);
            self.balance.with_label_values(&labels).set(of(total.balance));
            self.held.with_label_values(&labels).set(of(total.held));
            self.in_transit.with_label_values(&labels).set(of(total.in_transit));
        }
        self.read_at.set(jiff::Timestamp::now().as_second());
    }
}
