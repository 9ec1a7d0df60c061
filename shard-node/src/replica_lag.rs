//! How far behind each replica is: what the primary has flushed and the replica has not replayed.
//!
//! Positions in the log are compared, never the clocks of two machines. As a time, lag is how long ago, by
//! this process's monotonic clock, the primary's log stood where the replica's is. It is 0 when the replica
//! lacks nothing that the primary had flushed at the last look. So a read is never older than the larger of
//! lag and twice `heartbeat_every`.
//!
//! A replica with unknown lag counts as stale. That is one that does not answer, is behind all remembered
//! positions, or does not receive the primary's timeline. One that receives nothing at all is stale too:
//! nobody knows whose log it has replayed, and equal numbers may be other bytes.
//!
//! Primary and replicas are asked on connections of their own, so that no read is in the way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use picopay_shard_node_config::ReadConfig;
use picopay_shared::cluster::Durability;
use picopay_shared::session::LogPosition;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::db::{Dedicated, Primary, Replica};
use crate::log_end::{self, LogEnd};
use crate::store::ReadError;

mod log_history;
use log_history::{CaughtUp, LogHistory};

mod primary_log;
pub use primary_log::PrimaryLog;

/// How long after the primary a replica is asked, and again while it lacks something. Asked at once, it would
/// seem to lack what it is about to replay.
const LOOK_AFTER: Duration = Duration::from_millis(10);

/// How soon the primary is asked again for a waiting reader: a thousand readers cause a few hundred looks a
/// second.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A server that repeatedly is no replica is asked in every fourth heartbeat only: it may be the primary, and
/// each question is a connection.
const MISSES_MAX: u32 = 3;

#[derive(Clone)]
pub struct Lag {
    caught_up: Arc<Mutex<Option<CaughtUp>>>,
    /// For how long the last look at the primary may count as current.
    is_current_for: Duration,
}

impl Lag {
    fn new(every: Duration) -> Self {
        // One look may be missed. The configuration keeps this within `replica_lag_max`.
        Self { caught_up: Arc::default(), is_current_for: every * 2 }
    }

    /// How far behind the replica can be at most, now. It grows while nothing new is heard of it or of the
    /// primary.
    pub fn get(&self) -> Option<Duration> {
        let caught_up = *self.caught_up.lock().unwrap_or_else(PoisonError::into_inner);
        caught_up.map(|caught_up| caught_up.lag(Instant::now(), self.is_current_for))
    }

    /// The replica did not answer a read: nothing is known until it reports its position again.
    pub fn forget(&self) {
        self.set(None);
    }

    fn set(&self, caught_up: Option<CaughtUp>) {
        *self.caught_up.lock().unwrap_or_else(PoisonError::into_inner) = caught_up;
    }
}

/// Starts asking the primary and the replicas, until `ending`. Returns the primary's log, and one [`Lag`] per
/// replica, in their order.
pub fn watch_all(
    primary: &Primary,
    replicas: &[Replica],
    config: &ReadConfig,
    ending: &CancellationToken,
) -> (PrimaryLog, Vec<Lag>) {
    let (history, seen) = watch::channel(LogHistory::default());
    let log = PrimaryLog::new(seen.clone());
    let every = config.heartbeat_every;
    let watching = watch_primary(primary.clone(), history, log.clone(), every);
    tokio::spawn(ending.clone().run_until_cancelled_owned(watching));
    let lags = replicas
        .iter()
        .map(|replica| {
            let lag = Lag::new(every);
            let watching = watch_replica(replica.clone(), seen.clone(), lag.clone(), every);
            tokio::spawn(ending.clone().run_until_cancelled_owned(watching));
            lag
        })
        .collect();
    (log, lags)
}

async fn watch_primary(
    primary: Primary,
    history: watch::Sender<LogHistory>,
    log: PrimaryLog,
    every: Duration,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection: Option<Dedicated> = None;
    let mut before = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = log.is_asked_for() => sleep(LOOK_AGAIN).await,
        }
        // A replaced primary may live on, and its log says nothing about its successor's replicas.
        connection = connection.filter(|connection| primary.is_in_use(connection.server));
        if connection.is_none() {
            connection = connect(&primary).await;
        }
        let Some(open) = &connection else { continue };
        let asked = Instant::now();
        match timeout(every, look_at_primary(open, before)).await {
            Ok(Ok(end)) => {
                before = Some(end);
                let position = LogPosition { timeline: open.server.timeline, lsn: end.flushed };
                history.send_modify(|history| history.add(asked, position));
            }
            Ok(Err(_)) | Err(_) => connection = None,
        }
    }
}

async fn connect(primary: &Primary) -> Option<Dedicated> {
    // Nothing here may wait for the standby that is measured.
    primary.connect("picopay-node heartbeat", Durability::Local).await.ok()
}

/// Where the log ends. On an idle primary the flushed end may be within a record for up to 15 s, because
/// whole pages are written by themselves. No replica can replay half a record, so all would seem to be
/// behind. So if nothing moved since `before`, a commit of our own flushes the rest.
async fn look_at_primary(connection: &Dedicated, before: Option<LogEnd>) -> Result<LogEnd, ReadError> {
    let end = log_end::read(connection.client()).await?;
    if end.inserted > end.flushed && before.is_some_and(|before| before.flushed == end.flushed) {
        log_end::flush(connection.client()).await?;
    }
    Ok(end)
}

async fn watch_replica(replica: Replica, mut seen: watch::Receiver<LogHistory>, lag: Lag, every: Duration) {
    let mut misses = 0;
    // After each answer of the primary; without answers, what is known grows old.
    while seen.changed().await.is_ok() {
        loop {
            sleep(LOOK_AFTER).await;
            let Ok(Some(replayed)) = timeout(every, find_replayed(&replica)).await else {
                lag.forget();
                replica.drop_pools();
                sleep(every * misses).await;
                misses = MISSES_MAX.min(misses + 1);
                break;
            };
            misses = 0;
            let caught_up = replayed.and_then(|replayed| seen.borrow_and_update().caught_up(replayed));
            lag.set(caught_up);
            if replayed.is_none() {
                // It receives nothing. It may be a primary now: connections outlive a promotion, and reads
                // would bypass their cap. Another server of the connection string may be the replica.
                replica.drop_pools();
            }
            if caught_up.is_none_or(|caught_up| caught_up.lacks_nothing) {
                break;
            }
        }
    }
}

/// `Some(None)` when it receives no log.
async fn find_replayed(replica: &Replica) -> Option<Option<LogPosition>> {
    let client = replica.watcher().await.ok()?;
    let replayed = log_end::find_replayed(&client).await;
    client.give_back();
    replayed.ok()
}
