//! WAL files that exist before anything is measured.
//!
//! A server that has run for a day reuses old files. A new server fills each with zeros and flushes it during somebody's
//! commit, on the primary and the replica. That was most of the p99 at half of saturation.

use anyhow::Context;
use picopay_local::{ClusterSpec, LocalCluster, LocalShard};

use crate::chaos::audit::wait_for_replica;

/// A checkpoint keeps as many files as are made here, and holds few back for replicas, which never fall behind in a bench.
const SETTINGS: [(&str, &str); 2] = [("min_wal_size", "1536MB"), ("wal_keep_size", "128MB")];

pub fn keep(spec: ClusterSpec) -> ClusterSpec {
    SETTINGS.into_iter().fold(spec, |spec, (name, value)| {
        spec.with_primary_setting(name, value).with_replica_setting(name, value)
    })
}

pub async fn make(cluster: &LocalCluster, count: usize) -> anyhow::Result<()> {
    let shards = cluster.shards().into_iter().map(|shard| make_of(shard, count));
    futures_util::future::try_join_all(shards).await?;
    Ok(())
}

pub async fn make_of(shard: &LocalShard, count: usize) -> anyhow::Result<()> {
    let making = async {
        let primary = shard.connect_as_superuser().await?;
        for _ in 0..count {
            // The commit waits for the replica, which so keeps pace.
            let next = "SELECT pg_switch_wal(); SELECT pg_logical_emit_message(true, 'bench', 'next file')";
            primary.batch_execute(next).await?;
        }
        recycle_of(shard).await
    };
    making.await.context("the WAL files cannot be made")
}

/// Servers reuse the files that they have filled so far.
pub async fn recycle(cluster: &LocalCluster) -> anyhow::Result<()> {
    let shards = cluster.shards().into_iter().map(recycle_of);
    futures_util::future::try_join_all(shards).await?;
    Ok(())
}

/// The replica too, after it knows of the primary's checkpoint. Otherwise it keeps its files for a quarter of an hour, and
/// makes new ones while commits wait.
async fn recycle_of(shard: &LocalShard) -> anyhow::Result<()> {
    shard.connect_as_superuser().await?.batch_execute("CHECKPOINT").await?;
    wait_for_replica(shard).await?;
    shard.connect_replica_as_superuser().await?.batch_execute("CHECKPOINT").await?;
    Ok(())
}
