//! When a COMMIT that reports success is one: the standby that it waits for has it.
//!
//! Two ways let a waiting commit go before that. Somebody cancels its wait: success with a warning. Or
//! `synchronous_standby_names` is emptied: success without any. So behind each COMMIT goes a second message, in the same
//! flight, that reads what the server promises and when its configuration was loaded. If either changed since this
//! connection looked last, a synchronous standby must show the commit's position, or the outcome is unknown.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Error, Row, Statement};

use crate::connection::Connection;
use crate::error::describe;

/// It flushes within some milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Promise {
    standby_names: String,
    loaded: SystemTime,
}

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("{}", describe(.0))]
    Failed(#[from] Error),
    /// Somebody cancelled its wait for the standby. It is in the primary's log, and visible.
    #[error("the wait for the standby was cancelled: {0}")]
    Cancelled(String),
    /// The configuration changed while it waited, and no synchronous standby shows it.
    #[error("the configuration was loaded anew meanwhile, and no synchronous standby confirms it")]
    Unconfirmed,
}

/// A COMMIT that reported success, for [`Commits::judge`].
#[derive(Debug)]
pub struct Committed {
    /// Where the log was flushed to right after it: the commit is before this position.
    lsn: PgLsn,
    promise: Promise,
}

pub struct Commits {
    read_promise: Statement,
    is_confirmed: Statement,
    seen: Mutex<Promise>,
}

impl Commits {
    pub async fn watch(client: &Client) -> Result<Self, Error> {
        let (read_promise, is_confirmed) = future::try_join(
            client.prepare(include_str!("sql/read_promise.sql")),
            client.prepare(include_str!("sql/is_confirmed.sql")),
        )
        .await?;
        let seen = committed_from_row(&client.query_one(&read_promise, &[]).await?).promise;
        Ok(Self { read_promise, is_confirmed, seen: Mutex::new(seen) })
    }

    pub fn wait_for_standby(&self) -> bool {
        !self.seen.lock().unwrap_or_else(PoisonError::into_inner).standby_names.is_empty()
    }

    /// Sends COMMIT, at once when first polled, and the second message behind it. What comes back is not a success before
    /// [`Self::judge`] has said so. Warnings from before are to be taken off the connection first.
    ///
    /// # Errors
    /// The driver's; the outcome is unknown then.
    pub async fn commit(&self, client: &Client) -> Result<Committed, Error> {
        let (committed, read) =
            future::join(client.batch_execute("COMMIT"), client.query_one(&self.read_promise, &[])).await;
        committed?;
        Ok(committed_from_row(&read?))
    }

    /// Whether a standby has what was committed, and where the log has it. Waits for `patience` at most.
    ///
    /// # Errors
    /// [`CommitError`]: the outcome is unknown, and the connection of no more use.
    pub async fn judge(
        &self,
        connection: &Connection,
        committed: Committed,
        patience: Duration,
    ) -> Result<u64, CommitError> {
        if let Some(warning) = connection.take_warning() {
            return Err(CommitError::Cancelled(warning));
        }
        let Committed { lsn, promise } = committed;
        if *self.seen.lock().unwrap_or_else(PoisonError::into_inner) == promise {
            return Ok(lsn.into());
        }
        let deadline = Instant::now() + patience;
        loop {
            let asked = timeout_at(deadline, connection.client.query_one(&self.is_confirmed, &[&lsn])).await;
            if asked.map_err(|_| CommitError::Unconfirmed)??.get(0) {
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = promise;
                return Ok(lsn.into());
            }
            if Instant::now() + LOOK_EVERY > deadline {
                return Err(CommitError::Unconfirmed);
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn committed_from_row(row: &Row) -> Committed {
    Committed { lsn: row.get(0), promise: Promise { standby_names: row.get(1), loaded: row.get(2) } }
}
