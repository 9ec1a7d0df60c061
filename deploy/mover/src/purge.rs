//! Deletes the rows of slots that a shard does not own, in small batches, so that no delete blocks anybody.

use crate::error::MoveError;
use crate::side::Side;
use crate::step::Watcher;
use crate::user_tables::USER_TABLES;

/// Rows of one database transaction: some hundred milliseconds of work.
const ROWS: i64 = 5_000;

/// Returns how many rows that was.
///
/// # Errors
/// When the shard owns one of them, or has never had it. What was deleted by then stays so.
pub async fn delete(side: &Side, slots: &[i16], watcher: &dyn Watcher) -> Result<u64, MoveError> {
    // As a rule a target has nothing of them, and a commit for each table for nothing is a tenth of a move.
    let has_rows = include_str!("sql/has_rows.sql");
    if !side.database.query_one(has_rows, &[&slots]).await?.get::<_, bool>(0) {
        return Ok(0);
    }
    let mut all = 0;
    for sql in USER_TABLES.iter().flat_map(|table| table.delete) {
        loop {
            let deleted = delete_some(side, sql, slots).await?;
            watcher.rows(deleted);
            all += deleted;
            if deleted < ROWS.unsigned_abs() {
                break;
            }
        }
    }
    Ok(all)
}

async fn delete_some(side: &Side, sql: &str, slots: &[i16]) -> Result<u64, MoveError> {
    let database = &side.database;
    database.execute_all("BEGIN").await?;
    // Nobody can take these slots until the rows are gone.
    let locked = database.query(include_str!("sql/lock_not_owned.sql"), &[&slots]).await?;
    if locked.len() != slots.len() {
        database.execute_all("ROLLBACK").await?;
        let reason = "its rows of slots that it owns, or never had, are not deleted".to_owned();
        return Err(MoveError::Unfit { shard: side.name.clone(), reason });
    }
    let deleted = database.execute(sql, &[&slots, &ROWS]).await?;
    database.commit().await?;
    Ok(deleted)
}
