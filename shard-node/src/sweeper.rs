//! Writes down which holds have run out, when nobody else comes by.
//!
//! Nothing depends on it: a hold counts for nothing from its end on, and the next batch of its user writes that down. So it
//! takes its time. It asks the lanes, which write behind the fence and under the user's lock like for any client. Other
//! nodes of the shard sweep, too; whoever comes second finds nothing.

use std::sync::Arc;
use std::time::Duration;

use picopay_shared::command::{Attempt, Command, Operation, WriteBatch};
use picopay_shared::money::Currency;
use picopay_shared::node_status::HOLDS;
use picopay_shared::origin::Origin;
use picopay_shared::slot::UserId;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::db::Primary;
use crate::metrics::Metrics;
use crate::store::{ReadError, column};
use crate::write::Writer;
use crate::write_gate::WriteGate;

/// How long a hold may stand as open in the ledger after its end, as a rule.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Holds of one round. Their expiries are one batch of each lane at most, so charges hardly wait for them.
const HOLDS_MAX: i64 = 64;

/// Rounds without a pause: a thousand holds a second.
const ROUNDS_MAX: usize = 16;

/// How often all open holds are counted. That reads an index of them all.
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// A sweep is no client: it waits as long as a slow batch takes.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Sweeper {
    pub primary: Primary,
    pub gate: WriteGate,
    pub writer: Arc<Writer>,
    pub metrics: Arc<Metrics>,
}

impl Sweeper {
    pub async fn run(self) {
        let mut count_at = Instant::now();
        loop {
            sleep(SWEEP_EVERY).await;
            if !self.gate.check().is_ok_and(|opening| opening.finished >= HOLDS) {
                continue;
            }
            for _ in 0..ROUNDS_MAX {
                // A full round has more behind it.
                if self.sweep().await != Some(HOLDS_MAX) {
                    break;
                }
            }
            if count_at <= Instant::now() {
                count_at = Instant::now() + COUNT_EVERY;
                if let Ok(Err(error)) = timeout(SWEEP_TIMEOUT, self.count()).await {
                    tracing::debug!(error, "the open holds were not counted");
                }
            }
        }
    }

    /// Returns how many holds had run out; `None` when that is not known, or they could not be written down.
    async fn sweep(&self) -> Option<i64> {
        let found = match timeout(SWEEP_TIMEOUT, self.find_overdue()).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(error, "the holds that have run out were not found");
                return None;
            }
            Err(_) => return None,
        };
        let overdue = i64::try_from(found.len()).unwrap_or(i64::MAX);
        self.metrics.holds_overdue.set(overdue);
        if found.is_empty() {
            return Some(0);
        }
        let mut users = found;
        users.sort_unstable_by_key(|user| (user.slot(), *user));
        users.dedup();
        let attempts: Vec<Attempt> = users.into_iter().map(sweep_of).collect();
        let deadline_ms = u32::try_from(SWEEP_TIMEOUT.as_millis()).expect("some seconds");
        let reply = self.writer.write(WriteBatch { deadline_ms, attempts }).await;
        reply.position.map(|_| overdue)
    }

    async fn find_overdue(&self) -> Result<Vec<UserId>, String> {
        let client = self.primary.for_task().await.map_err(|error| error.to_string())?;
        let asked = async {
            let statement = client.prepare_cached(include_str!("sql/find_overdue_holds.sql")).await?;
            client.query(&statement, &[&HOLDS_MAX]).await
        };
        let rows = asked.await;
        client.give_back();
        let rows = rows.map_err(|error| error.to_string())?;
        let user = |row| {
            let id: i64 = column(row, 0).map_err(|error| error.reason())?;
            UserId::try_from(id).map_err(|error| error.to_string())
        };
        rows.iter().map(user).collect()
    }

    async fn count(&self) -> Result<(), String> {
        let client = self.primary.for_task().await.map_err(|error| error.to_string())?;
        let asked = async {
            let statement = client.prepare_cached(include_str!("sql/count_open_holds.sql")).await?;
            client.query(&statement, &[]).await
        };
        let rows = asked.await;
        client.give_back();
        // A currency of which nothing is held any more has no row.
        self.metrics.open_holds.reset();
        self.metrics.held_minor_units.reset();
        for row in rows.map_err(|error| error.to_string())? {
            let read = || {
                let currency = Currency::of_ledger(column(&row, 0)?)?;
                Ok::<_, ReadError>((currency, column::<i64>(&row, 1)?, column::<Decimal>(&row, 2)?))
            };
            let (currency, count, mut sum) = read().map_err(|error| error.reason())?;
            sum.rescale(currency.scale());
            let minor_units = sum.mantissa().to_i64().unwrap_or(i64::MAX);
            self.metrics.open_holds.with_label_values(&[currency.code()]).set(count);
            self.metrics.held_minor_units.with_label_values(&[currency.code()]).set(minor_units);
        }
        Ok(())
    }
}

/// At no epoch: whether the shard owns the slot is for the fence to say.
fn sweep_of(user_id: UserId) -> Attempt {
    let operation = Operation::Sweep { user_id };
    let command = Command {
        fingerprint: operation.fingerprint(),
        operation,
        idempotency_key: Uuid::nil(),
        is_client_key: false,
        origin: Origin { request_id: "sweep".to_owned(), traceparent: None },
        made_by: None,
    };
    Attempt { command, epoch: 0 }
}
