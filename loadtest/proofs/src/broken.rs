//! Promises broken on purpose, from outside, so that a run can show that it would notice: the programs are the ones that are
//! shipped, and what they rely on is taken from them.

use std::time::Duration;

use anyhow::Context;
use picopay_local::LocalCluster;

/// Charges go on for so long without the standby that is promoted: some hundred of them are acknowledged meanwhile.
const UNCONFIRMED: Duration = Duration::from_secs(2);

/// A key has one transaction because the database takes no second one. From now on it does.
pub async fn skip_key_check(cluster: &LocalCluster) -> anyhow::Result<()> {
    on_each_primary(cluster, include_str!("broken/skip_key_check.sql"))
        .await
        .context("the constraint on keys cannot be dropped")
}

/// A shard stops writing a slot because its own database says so. From now on every release is undone in the database
/// transaction that made it, and nobody is told.
pub async fn skip_fence(cluster: &LocalCluster) -> anyhow::Result<()> {
    on_each_primary(cluster, include_str!("broken/skip_fence.sql")).await.context("releases cannot be undone")
}

/// An acknowledged write survives the loss of the primary because a standby has it. Of a shard with `durability = "local"`, under
/// load, the primary is lost with all its data, and a standby is promoted that has not read the last of it.
pub async fn lose_primary(cluster: &LocalCluster, shard: usize) -> anyhow::Result<()> {
    let (primary, standby) = (cluster.shard(shard).primary(), cluster.shard(shard).replica());
    standby.freeze();
    tokio::time::sleep(UNCONFIRMED).await;
    // Frozen until it is dead: thawed, it would still read what the kernel holds for it.
    standby.kill().await?;
    primary.kill().await?;
    standby.start().await.context("the standby does not start")?;
    cluster.failover(shard).await.context("the standby cannot be promoted")?;
    Ok(())
}

async fn on_each_primary(cluster: &LocalCluster, sql: &str) -> anyhow::Result<()> {
    for shard in cluster.shards() {
        shard.connect_as_superuser().await?.batch_execute(sql).await?;
    }
    Ok(())
}
