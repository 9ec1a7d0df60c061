//! Commits that stop waiting for their standby, and come back as if it had them.
//!
//! That breaks a promise only if the primary is lost before the standby has caught up. So every other time primary and
//! standby are killed, and the standby is promoted as it is.

use std::time::Duration;

use anyhow::Context;
use picopay_local::{LocalCluster, LocalShard};
use tokio_postgres::Client;

use super::schedule::Fault;

/// Shorter than a node waits for its own answer (1.5 s).
const CANCEL_EVERY: Duration = Duration::from_millis(20);

/// Longer than a closed gate takes to look again.
const NAMELESS: Duration = Duration::from_secs(1);

/// As an operator does who finds backends that hang.
pub async fn cancel(fault: Fault, cluster: &LocalCluster, healing: impl FnOnce()) -> anyhow::Result<()> {
    let shard = cluster.shard(fault.shard);
    let primary = connect(shard).await?;
    shard.replica().freeze();
    let sql = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let cancelling = async {
        loop {
            if let Err(error) = primary.query(sql, &[]).await {
                return error;
            }
            tokio::time::sleep(CANCEL_EVERY).await;
        }
    };
    if let Ok(error) = tokio::time::timeout(fault.hold, cancelling).await {
        return Err(error).context("the waits for the standby cannot be cancelled");
    }
    drop(primary);
    end(fault, cluster, healing).await
}

/// Names no standby for a second: whoever waits is released, and nobody waits.
pub async fn empty_names(fault: Fault, cluster: &LocalCluster, healing: impl FnOnce()) -> anyhow::Result<()> {
    let shard = cluster.shard(fault.shard);
    let primary = connect(shard).await?;
    shard.replica().freeze();
    // By then charges wait for it.
    tokio::time::sleep(fault.hold.saturating_sub(NAMELESS)).await;
    set_names(&primary, "").await?;
    tokio::time::sleep(NAMELESS).await;
    primary.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await?;
    primary.batch_execute("SELECT pg_reload_conf()").await?;
    drop(primary);
    end(fault, cluster, healing).await
}

pub async fn set_names(server: &Client, names: &str) -> anyhow::Result<()> {
    let doing = "the names of the standbys cannot be set";
    // A statement that takes no parameters; the names are this program's own.
    server
        .batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))
        .await
        .context(doing)?;
    server.batch_execute("SELECT pg_reload_conf()").await.context(doing)
}

async fn end(fault: Fault, cluster: &LocalCluster, healing: impl FnOnce()) -> anyhow::Result<()> {
    let shard = cluster.shard(fault.shard);
    let (primary, standby) = (shard.primary(), shard.replica());
    if !fault.ends_in_a_loss() {
        healing();
        standby.thaw();
        return Ok(());
    }
    // Frozen until it is dead: thawed, it would still read what the kernel holds for it.
    standby.kill().await?;
    primary.kill().await?;
    healing();
    standby.start().await.context("the standby does not start")?;
    cluster.failover(fault.shard).await.context("the standby cannot be promoted")?;
    Ok(())
}

/// As the superuser: others may cancel no superuser's wait, and set nothing.
async fn connect(shard: &LocalShard) -> anyhow::Result<Client> {
    shard.connect_as_superuser().await.context("the primary does not answer")
}
