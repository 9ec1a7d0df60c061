//! One shard's primary at one moment.

use std::time::Duration;

use anyhow::bail;
use picopay_migrations::Unfit;
use picopay_shared::cluster::Shard;
use picopay_shared::slot_owner::OwnerRow;

use picopay_postgres::{Identity, Patience, ShardDb, read_identity};

/// For one check of one shard: the slowest reads every transaction, about a million per second and core.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(10), statement: Duration::from_hours(1) };

/// READ ONLY, so that no mistake of this command can change money. `work_mem`: more spills to disk, which costs little;
/// charges need the memory more. `jit`: compiling costs more than it saves here.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
                     SET LOCAL work_mem = '64MB';
                     SET LOCAL jit = off;
                     SET LOCAL statement_timeout = '1h'";

pub struct Snapshot {
    pub shard: String,
    pub database: ShardDb,
    pub identity: Option<Identity>,
    pub owners: Vec<OwnerRow>,
}

impl Snapshot {
    pub async fn take(shard: &Shard) -> anyhow::Result<Self> {
        let database = ShardDb::primary_of_anybody(shard, PATIENCE).await?;
        if database.check_schema().await? == Err(Unfit::Empty) {
            bail!("{} has no schema yet: run `picopay init`", shard.name);
        }
        database.require_schema().await?;
        // The first statement that reads fixes what all later ones see.
        database.execute_all(BEGIN).await?;
        let identity = read_identity(&database).await?;
        let owners = database.read_owners().await?;
        Ok(Self { shard: shard.name.clone(), database, identity, owners })
    }

    pub async fn close(self) -> anyhow::Result<()> {
        self.database.execute_all("ROLLBACK").await?;
        self.database.close().await;
        Ok(())
    }
}
