//! How a read waits for a replica to show the client's own write.
//!
//! The position is looked up on the very connection that then reads: replay only goes forward, so the read sees at least
//! that much. Another connection may lead to another server.

use std::time::Duration;

use picopay_shared::session::LogPosition;
use tokio::time::{Instant, sleep};

use crate::store::{self, ReadError};

/// How often to look again. Postgres 15 has nothing to wait on; a replica is a few milliseconds behind, and each look
/// costs it some tens of microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Whether the replica behind `client` has replayed its log up to `needed`, now or before `deadline`.
///
/// # Errors
/// Those of the database.
pub async fn has_replayed(
    client: &deadpool_postgres::Client,
    needed: LogPosition,
    deadline: Instant,
) -> Result<bool, ReadError> {
    loop {
        let replayed = store::find_replayed(client).await?;
        // On another timeline, equal numbers are other bytes: waiting would not make them ours.
        let Some(replayed) = replayed.filter(|replayed| replayed.timeline == needed.timeline) else {
            return Ok(false);
        };
        if replayed.lsn >= needed.lsn {
            return Ok(true);
        }
        let next = Instant::now() + LOOK_EVERY;
        if next > deadline {
            return Ok(false);
        }
        sleep(LOOK_EVERY).await;
    }
}
