//! WAL files that are there before anything is measured.
//!
//! A server that has run for a day writes over old ones. A new one makes each as it comes to it: fills 16 MB with zeros and
//! flushes them, in the middle of somebody's commit, on the primary and on the replica. That was 40 to 100 ms every three
//! seconds, for pgbench and for PicoPay, and most of the p99 at half of saturation.

use anyhow::Context;
use picopay_local::{ClusterSpec, LocalCluster, LocalShard};

use crate::chaos::audit::wait_for_replica;

/// For primaries and replicas: a checkpoint keeps as many files for later as are made here, and holds few back for replicas,
/// which never fall behind in a bench.
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

/// Has every server of the cluster put aside the files that it has filled so far, to write over them.
pub async fn recycle(cluster: &LocalCluster) -> anyhow::Result<()> {
    let shards = cluster.shards().into_iter().map(recycle_of);
    futures_util::future::try_join_all(shards).await?;
    Ok(())
}

/// Has both servers of one shard do so: the replica too, and only once it has heard of the primary's checkpoint. It would keep
/// them until its own, a quarter of an hour later, and make new ones meanwhile, each while a commit waits for it.
async fn recycle_of(shard: &LocalShard) -> anyhow::Result<()> {
    shard.connect_as_superuser().await?.batch_execute("CHECKPOINT").await?;
    wait_for_replica(shard).await?;
    shard.connect_replica_as_superuser().await?.batch_execute("CHECKPOINT").await?;
    Ok(())
}
