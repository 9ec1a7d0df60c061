//! Promises that are broken on purpose, from outside, so that a run can show that it would notice. The programs are those
//! that are shipped.

use std::time::Duration;

use anyhow::Context;
use picopay_local::LocalCluster;

/// Some hundred charges are acknowledged meanwhile.
const UNCONFIRMED: Duration = Duration::from_secs(2);

pub async fn skip_key_check(cluster: &LocalCluster) -> anyhow::Result<()> {
    on_each_primary(cluster, include_str!("broken/skip_key_check.sql"))
        .await
        .context("the constraint on keys cannot be dropped")
}

/// Lets a transfer be credited as often as somebody asks.
pub async fn double_credit(cluster: &LocalCluster) -> anyhow::Result<()> {
    on_each_primary(cluster, include_str!("broken/double_credit.sql"))
        .await
        .context("the constraint on credits cannot be dropped")
}

/// Undoes, in the transaction of a void, what it gives back: the user's balance goes on holding it.
pub async fn forget_release(cluster: &LocalCluster) -> anyhow::Result<()> {
    on_each_primary(cluster, include_str!("broken/forget_release.sql"))
        .await
        .context("what voids give back cannot be held on to")
}

/// Undoes every release of a slot in the transaction that made it, so that a shard goes on writing a slot that it gave
/// away.
pub async fn skip_fence(cluster: &LocalCluster) -> anyhow::Result<()> {
    on_each_primary(cluster, include_str!("broken/skip_fence.sql")).await.context("releases cannot be undone")
}

/// Loses the primary of a shard with `durability = "local"` under load, and promotes a standby that lacks the last writes.
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
