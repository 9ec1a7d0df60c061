//! Rows that stream from a shard's database, and from there into another: `COPY`, at a pace.

use std::collections::HashMap;
use std::mem;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, SinkExt as _, TryStreamExt as _};
use tokio_postgres::{CopyOutStream, Statement};

use super::ShardDb;
use crate::db_error::DbError;
use crate::pace::Pace;

/// What is sent at once of a copy. Rows come one by one, and to send them so costs a message and a wake-up each.
/// A server has a third of a millisecond of work with so many; with more, whoever shares its processor waits that much longer.
const COPY_CHUNK: usize = 16 * 1024;
/// Room for one more row, as most are.
const COPY_ROW: usize = 1024;
/// Rows after which a copy that is only read looks whether it is ahead of its pace: about as many as a chunk has.
const PACED_ROWS: u64 = 64;

/// The copies that a connection has prepared, by their text.
#[derive(Debug, Default)]
pub(super) struct Prepared(Mutex<HashMap<&'static str, Statement>>);

impl ShardDb {
    /// Gives each message that `from` (`COPY … TO STDOUT`) comes in to `each`: one row, as a rule. No more than
    /// `rows_per_second`; each wait is bounded, not the whole.
    pub async fn copy_out(
        &self,
        from: &'static str,
        rows_per_second: Option<NonZeroU32>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), DbError> {
        let from = self.prepared_copy(from).await?;
        let mut source = pin!(self.bounded(self.connection.client.copy_out(&from), "").await?);
        let (mut pace, mut rows) = (Pace::new(rows_per_second), 0_u64);
        while let Some(row) = self.next_row(source.as_mut()).await? {
            each(&row);
            rows += 1;
            if rows.is_multiple_of(PACED_ROWS) {
                pace.spend(PACED_ROWS).await;
            }
        }
        Ok(())
    }

    /// Copies the rows that `from` (`COPY … TO STDOUT`) gives here into `target` by `into` (`COPY … FROM STDIN`), no more than
    /// `rows_per_second`, gives `each` message to look at on its way, and says how many rows there were. Any number of them
    /// fits in memory, and each wait is bounded, not the whole.
    ///
    /// Several of them between the same two databases may be begun at once. They run one after the other and wait for the
    /// network once; those that were prepared do so in the order in which they were begun.
    pub async fn copy_into(
        &self,
        from: &'static str,
        target: &Self,
        into: &'static str,
        rows_per_second: Option<NonZeroU32>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<u64, DbError> {
        let (from, into) = (self.prepared_copy(from).await?, target.prepared_copy(into).await?);
        let source = self.bounded(self.connection.client.copy_out(&from), "").await?;
        let sink = target.bounded(target.connection.client.copy_in::<_, Bytes>(&into), "").await?;
        let (mut source, mut sink) = (pin!(source), pin!(sink));
        let mut chunk = BytesMut::with_capacity(COPY_CHUNK);
        let (mut pace, mut rows) = (Pace::new(rows_per_second), 0);
        while let Some(row) = self.next_row(source.as_mut()).await? {
            each(&row);
            chunk.extend_from_slice(&row);
            rows += 1;
            if chunk.len() > COPY_CHUNK - COPY_ROW {
                target.bounded(sink.feed(chunk.split().freeze()), "").await?;
                chunk.reserve(COPY_CHUNK);
                pace.spend(mem::take(&mut rows)).await;
            }
        }
        target.bounded(sink.feed(chunk.freeze()), "").await?;
        target.bounded(sink.as_mut().finish(), "").await
    }

    /// Prepares a `COPY`, so that its first use does not wait for that. PostgreSQL keeps no plan of it.
    pub async fn prepare_copy(&self, sql: &'static str) -> Result<(), DbError> {
        self.prepared_copy(sql).await.map(drop)
    }

    async fn prepared_copy(&self, sql: &'static str) -> Result<Statement, DbError> {
        let known = || self.copies.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = known().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.prepare(sql).await?;
        known().insert(sql, statement.clone());
        Ok(statement)
    }

    /// The next message of a copy. Most are there already, and then there is nothing to bound.
    async fn next_row(&self, mut rows: Pin<&mut CopyOutStream>) -> Result<Option<Bytes>, DbError> {
        match rows.try_next().now_or_never() {
            Some(next) => next.map_err(|error| self.failed(&error)),
            None => self.bounded(rows.try_next(), "").await,
        }
    }
}
