//! How a read waits for a replica to show the client's own write.
//!
//! The same connection looks at the position and then reads, because another one may lead to another server.
//! Replay only goes forward, so the read sees at least that much. Between two looks the connection is
//! returned, so that a bad token holds none.

use std::time::Duration;

use deadpool_postgres::PoolError;
use picopay_shared::session::LogPosition;
use tokio::time::{Instant, sleep_until};

use crate::db::Replica;
use crate::log_end;
use crate::read_pool::Lease;
use crate::replica_lag::PrimaryLog;
use crate::store::ReadError;

/// How often to look again. Postgres 15 cannot wait for replay. A replica is a few milliseconds behind, and
/// each look costs it some tens of microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy)]
pub enum NotShown {
    /// It did not before the deadline, or never will: it is on another timeline.
    Behind,
    /// The primary has not written that much either: the token is forged, or older than a restoration.
    Beyond,
}

pub enum WaitError {
    Pool(PoolError),
    Read(ReadError),
}

/// A connection to `replica` once it has replayed its log up to `needed`: now, or after `longest` from the
/// first look.
///
/// # Errors
/// Those of the pool and of the database.
pub async fn wait_for(
    replica: &Replica,
    needed: LogPosition,
    log: &PrimaryLog,
    longest: Duration,
) -> Result<Result<Lease, NotShown>, WaitError> {
    let (mut is_written, mut deadline) = (false, None);
    loop {
        let lease = replica.readers().lease().await.map_err(WaitError::Pool)?;
        let replayed = log_end::find_replayed(&lease).await;
        match replayed {
            Ok(Some(replayed)) if replayed.timeline == needed.timeline && replayed.lsn >= needed.lsn => {
                return Ok(Ok(lease));
            }
            _ => lease.give_back(),
        }
        // On another timeline, equal numbers are other bytes: waiting would not help.
        if replayed.map_err(WaitError::Read)?.is_none_or(|replayed| replayed.timeline != needed.timeline) {
            return Ok(Err(NotShown::Behind));
        }
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + longest);
        if !is_written {
            match log.has_reached(needed, deadline).await {
                Some(true) => is_written = true,
                Some(false) => return Ok(Err(NotShown::Beyond)),
                None => return Ok(Err(NotShown::Behind)),
            }
        }
        let next = Instant::now() + LOOK_EVERY;
        if next > deadline {
            return Ok(Err(NotShown::Behind));
        }
        sleep_until(next).await;
    }
}
