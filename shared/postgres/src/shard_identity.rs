//! Who a database is: the row of `shard_identity`, which `picopay init` or `picopay shard add` writes once.

use picopay_shared::slot::{FENCE_LOCK, SLOT_COUNT, SLOT_HASH};
use uuid::Uuid;

use crate::db_error::DbError;
use crate::shard_db::ShardDb;

#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    pub cluster_id: Uuid,
    pub shard_name: String,
    pub slot_count: i32,
    pub slot_hash: String,
}

impl Identity {
    pub fn of(cluster_id: Uuid, shard_name: &str) -> Self {
        Self {
            cluster_id,
            shard_name: shard_name.to_owned(),
            slot_count: i32::from(SLOT_COUNT),
            slot_hash: SLOT_HASH.to_owned(),
        }
    }
}

/// Reads it; nothing before the database belongs to a cluster. The schema must be there.
pub async fn read_identity(database: &ShardDb) -> Result<Option<Identity>, DbError> {
    let rows = database
        .query("SELECT cluster_id, shard_name, slot_count, slot_hash FROM shard_identity", &[])
        .await?;
    Ok(rows.first().map(|row| Identity {
        cluster_id: row.get(0),
        shard_name: row.get(1),
        slot_count: row.get(2),
        slot_hash: row.get(3),
    }))
}

/// Begins a database transaction and writes it there, under the fence like everything that nodes go by: one that asks
/// meanwhile sees nothing of the transaction, or all.
pub async fn begin_with_identity(database: &ShardDb, cluster_id: Uuid, name: &str) -> Result<(), DbError> {
    database.execute_all("BEGIN; SET LOCAL lock_timeout = '10s'").await?;
    database.query("SELECT pg_advisory_xact_lock($1)", &[&FENCE_LOCK]).await?;
    let sql =
        "INSERT INTO shard_identity (cluster_id, shard_name, slot_count, slot_hash) VALUES ($1, $2, $3, $4)";
    database.execute(sql, &[&cluster_id, &name, &i32::from(SLOT_COUNT), &SLOT_HASH]).await?;
    Ok(())
}
