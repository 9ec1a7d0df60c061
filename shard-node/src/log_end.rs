//! Where the log of a database ends, and on which timeline: a primary's, and what a replica has replayed of
//! it.

use picopay_shared::session::LogPosition;
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use crate::store::{ReadError, column};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// On its disk; what replicas get.
    pub flushed: u64,
    /// In its memory, usually a little more.
    pub inserted: u64,
}

pub async fn read(client: &Client) -> Result<LogEnd, ReadError> {
    // The order matters: the inserted position only grows, so the second is never the smaller one.
    let row = client.query_one("SELECT pg_current_wal_flush_lsn(), pg_current_wal_insert_lsn()", &[]).await?;
    let (flushed, inserted): (PgLsn, PgLsn) = (column(&row, 0)?, column(&row, 1)?);
    Ok(LogEnd { flushed: flushed.into(), inserted: inserted.into() })
}

/// Makes the primary flush all of its log, by a commit: a session cannot ask for a flush alone.
pub async fn flush(client: &Client) -> Result<(), ReadError> {
    client.execute("SELECT pg_logical_emit_message(true, 'picopay', 'lag')", &[]).await?;
    Ok(())
}

/// How far the replica has replayed its primary's log; `None` while it follows no primary.
pub async fn find_replayed(client: &deadpool_postgres::Client) -> Result<Option<LogPosition>, ReadError> {
    let statement = client.prepare_cached(include_str!("sql/find_replayed.sql")).await?;
    let row = client.query_one(&statement, &[]).await?;
    let (timeline, lsn): (Option<i32>, Option<PgLsn>) = (column(&row, 0)?, column(&row, 1)?);
    let position = timeline.zip(lsn).map(|(timeline, lsn)| {
        // Postgres' timelines are unsigned, but it has no such integer type to show them.
        LogPosition { timeline: timeline.cast_unsigned(), lsn: lsn.into() }
    });
    Ok(position)
}
