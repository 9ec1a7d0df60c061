//! What an operator's word about one shard takes: the shard, who says it, and the database that keeps it.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use picopay_postgres::{Patience, ShardDb, read_identity};
use picopay_shared::cluster::Shard;

use crate::cluster_file::ClusterArgs;
use crate::output::OutputArgs;

/// Statements read or write a row; those that wait for a standby have a time of their own.
pub const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(2), statement: Duration::from_secs(10) };

/// What the commands about standby and generation take.
#[derive(Debug, Args)]
pub struct ShardArgs {
    /// The shard, as the cluster's file names it
    pub name: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// With the identity of its file's cluster, and the schema that this program needs.
pub async fn connect(shard: &Shard) -> anyhow::Result<ShardDb> {
    let name = &shard.name;
    let database = ShardDb::primary(shard, PATIENCE).await?;
    database.require_schema().await?;
    match read_identity(&database).await? {
        Some(identity) if identity.shard_name == *name => Ok(database),
        Some(identity) => bail!(
            "the database of {name} says that it is {}: check the connection strings. Nothing was changed",
            identity.shard_name
        ),
        None => bail!(
            "{name} is of no cluster yet: run `picopay init`, or `picopay shard add {name}` for one that joins"
        ),
    }
}

/// Who gives this word, unless `--by` says otherwise.
pub fn whoever_this_is() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), machine.as_deref().map_or("unknown", str::trim))
}
