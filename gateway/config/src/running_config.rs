//! The configuration that a gateway uses, in a form that can be compared with another's.

use picopay_shared::cluster::{Cluster, Shard};
use picopay_shared::running_config::{RunningConfig, RunningShard, Salt};

/// What a gateway uses of this `cluster.toml`: the nodes of each shard, and the internal secret.
pub fn of_gateway(cluster: &Cluster, salt: Salt) -> RunningConfig {
    let shard = |shard: &Shard| RunningShard::new(&shard.name).with(&salt, "nodes", &shard.nodes.join(", "));
    let shards = cluster.shards.iter().map(shard).collect();
    RunningConfig::new(salt, &cluster.internal_secret, shards).with_cluster_id(cluster.cluster_id())
}
