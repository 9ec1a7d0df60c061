//! How far behind each replica is, by a heartbeat that is written on the primary and read back.
//!
//! Lag is told in the primary's own clock: this process remembers when it wrote which beat and lets its
//! monotonic clock run on from there, so the clocks of the machines need not agree. A replica whose lag is
//! not known counts as stale.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use picopay_shared::cluster::Durability;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::ReadConfig;
use crate::db::{Dedicated, Primary, Replica};

/// The last beat that this process wrote, in both clocks.
#[derive(Clone, Copy)]
struct Beat {
    primary_time: Timestamp,
    written: Instant,
}

/// The lag of one replica, shared with whoever reads from it.
#[derive(Clone)]
pub struct Lag {
    started: Instant,
    /// Milliseconds since `started` up to which the replica is known to have everything, plus one; 0 is unknown.
    caught_up_ms: Arc<AtomicU64>,
}

impl Lag {
    fn new() -> Self {
        Self { started: Instant::now(), caught_up_ms: Arc::new(AtomicU64::new(0)) }
    }

    /// How far behind the replica can be at most, now. It grows while nothing new is heard of it.
    pub fn get(&self) -> Option<Duration> {
        let caught_up = self.caught_up_ms.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.started.elapsed().saturating_sub(Duration::from_millis(caught_up)))
    }

    /// Nothing is known any more, until the replica shows a beat again: it did not answer a read.
    pub fn forget(&self) {
        self.caught_up_ms.store(0, Ordering::Relaxed);
    }

    fn set_caught_up(&self, at: Instant) {
        let since = at.saturating_duration_since(self.started).as_millis();
        self.caught_up_ms.store(u64::try_from(since).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }
}

/// Starts writing beats and reading them back, until `ending`; one [`Lag`] per replica, in their order.
pub fn watch_all(
    primary: &Primary,
    replicas: &[Replica],
    config: &ReadConfig,
    ending: &CancellationToken,
) -> Vec<Lag> {
    let (beats, heard) = watch::channel(None);
    let writing = write_beats(primary.clone(), beats, config.heartbeat_every);
    tokio::spawn(ending.clone().run_until_cancelled_owned(writing));
    replicas
        .iter()
        .map(|replica| {
            let lag = Lag::new();
            let reading = read_beats(replica.clone(), heard.clone(), lag.clone(), config.heartbeat_every);
            tokio::spawn(ending.clone().run_until_cancelled_owned(reading));
            lag
        })
        .collect()
}

async fn write_beats(primary: Primary, beats: watch::Sender<Option<Beat>>, every: Duration) {
    let mut ticks = interval(every);
    let mut connection: Option<Dedicated> = None;
    loop {
        ticks.tick().await;
        if connection.is_none() {
            connection = connect(&primary).await;
        }
        let Some(open) = &connection else { continue };
        match timeout(every, beat(open)).await {
            Ok(Ok(beat)) => {
                beats.send_replace(Some(beat));
            }
            Ok(Err(_)) | Err(_) => connection = None,
        }
    }
}

async fn connect(primary: &Primary) -> Option<Dedicated> {
    // A beat must not wait for the very standby that it measures.
    primary.connect("picopay-node heartbeat", Durability::Local).await.ok()
}

async fn beat(connection: &Dedicated) -> Result<Beat, tokio_postgres::Error> {
    let written = Instant::now();
    let row = connection
        .client()
        .query_one(
            "INSERT INTO heartbeat (beat_at) VALUES (clock_timestamp()) \
             ON CONFLICT (only_row) DO UPDATE SET beat_at = excluded.beat_at RETURNING beat_at",
            &[],
        )
        .await?;
    Ok(Beat { primary_time: row.get(0), written })
}

async fn read_beats(replica: Replica, beats: watch::Receiver<Option<Beat>>, lag: Lag, every: Duration) {
    let mut ticks = interval(every);
    loop {
        ticks.tick().await;
        let Some(newest) = *beats.borrow() else { continue };
        match timeout(every, read_beat(&replica)).await {
            Ok(Some(seen)) => {
                // The beat seen may be another node's; its place on this process's clock follows from ours.
                let age = newest.primary_time.duration_since(seen).max(SignedDuration::ZERO);
                if let Some(at) = newest.written.checked_sub(age.unsigned_abs()) {
                    lag.set_caught_up(at);
                }
            }
            Ok(None) | Err(_) => replica.drop_pool(),
        }
    }
}

/// `None` when the replica has none to show, or is no replica any more. A promotion leaves connections as they are, and on
/// these every beat would be seen at once: reads would go to the new primary past its cap.
async fn read_beat(replica: &Replica) -> Option<Timestamp> {
    let client = replica.reader().await.ok()?;
    let query = "SELECT beat_at FROM heartbeat WHERE pg_is_in_recovery()";
    let row = client.query_opt(query, &[]).await.ok()??;
    Some(row.get(0))
}
