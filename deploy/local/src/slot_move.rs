//! The steps of the mover, each when a test wants it.
//!
//! It compares nothing, and copies everything within the pause, so it is of no use for a real cluster.

use picopay_shared::slot::{FENCE_LOCK, Slot};
use tokio_postgres::{Client, Error};

use crate::{LocalCluster, LocalError};

/// The tables of users, as the database lists them.
const TABLES: &str =
    "SELECT table_name::text FROM information_schema.view_table_usage WHERE view_name = 'rows_of_users'";

/// Each table by itself, whatever it refers to.
const ANY_ORDER: &str = "SET session_replication_role = replica";

#[derive(Debug)]
pub struct SlotMove {
    slot: i16,
    source: Client,
    target: Client,
    source_name: String,
    target_name: String,
    epoch: i64,
}

impl LocalCluster {
    /// Owned by the shard at `from`, at `epoch`. Nothing is changed yet.
    pub async fn slot_move(
        &self,
        slot: Slot,
        from: usize,
        to: usize,
        epoch: i64,
    ) -> Result<SlotMove, LocalError> {
        Ok(SlotMove {
            slot: slot.as_i16(),
            source: self.connect_as_superuser(from).await?,
            target: self.connect_as_superuser(to).await?,
            source_name: self.shard(from).name().to_owned(),
            target_name: self.shard(to).name().to_owned(),
            epoch,
        })
    }
}

impl SlotMove {
    pub async fn import(&mut self) -> Result<(), Error> {
        delete_rows(&self.target, self.slot).await?;
        self.epoch += 1;
        let row = (self.slot, "importing", self.source_name.as_str(), self.epoch);
        set_owner(&mut self.target, row).await
    }

    /// The source gives the slot up: from here on nobody owns it.
    pub async fn release(&mut self) -> Result<(), Error> {
        let row = (self.slot, "released", self.target_name.as_str(), self.epoch);
        set_owner(&mut self.source, row).await
    }

    /// If copied before the release, rows lack what is written until then.
    pub async fn copy(&self) -> Result<(), Error> {
        self.target.batch_execute(ANY_ORDER).await?;
        for table in tables(&self.source).await? {
            let read = format!("SELECT coalesce(json_agg(r), '[]')::text FROM {table} r WHERE slot = $1");
            let rows: String = self.source.query_one(&read, &[&self.slot]).await?.get(0);
            let write = format!(
                "INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $1::text::json)"
            );
            self.target.execute(&write, &[&rows]).await?;
        }
        self.target.batch_execute("RESET session_replication_role").await
    }

    pub async fn own(&mut self) -> Result<(), Error> {
        let row = (self.slot, "owned", self.target_name.as_str(), self.epoch);
        set_owner(&mut self.target, row).await
    }

    /// Instead of [`SlotMove::own`]: the target gives up, and the source owns the slot again.
    pub async fn abort(&mut self) -> Result<(), Error> {
        let row = (self.slot, "aborted", self.source_name.as_str(), self.epoch);
        set_owner(&mut self.target, row).await?;
        self.epoch += 1;
        let row = (self.slot, "owned", self.source_name.as_str(), self.epoch);
        set_owner(&mut self.source, row).await
    }

    pub async fn purge(&self) -> Result<(), Error> {
        delete_rows(&self.source, self.slot).await
    }

    pub fn epoch(&self) -> i64 {
        self.epoch
    }
}

async fn delete_rows(database: &Client, slot: i16) -> Result<(), Error> {
    database.batch_execute(ANY_ORDER).await?;
    for table in tables(database).await? {
        database.execute(&format!("DELETE FROM {table} WHERE slot = $1"), &[&slot]).await?;
    }
    database.batch_execute("RESET session_replication_role").await
}

async fn tables(database: &Client) -> Result<Vec<String>, Error> {
    Ok(database.query(TABLES, &[]).await?.iter().map(|row| row.get(0)).collect())
}

async fn set_owner(
    database: &mut Client,
    (slot, state, owner, epoch): (i16, &str, &str, i64),
) -> Result<(), Error> {
    let change = database.transaction().await?;
    change.execute("SELECT pg_advisory_xact_lock($1)", &[&FENCE_LOCK]).await?;
    let write = "INSERT INTO slot_owner (slot, state, owner, epoch) VALUES ($1, $2, $3, $4)
         ON CONFLICT (slot) DO UPDATE SET state = $2, owner = $3, epoch = $4, changed_at = now()";
    change.execute(write, &[&slot, &state, &owner, &epoch]).await?;
    change.commit().await?;
    Ok(())
}
