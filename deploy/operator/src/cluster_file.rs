//! Which `cluster.toml` a command works on.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use picopay_shared::cluster::{Cluster, Shard};

/// Where a cluster that `picopay up` made keeps its file.
const LOCAL_FILE: &str = ".picopay/cluster.toml";
/// Where an operator's own is looked for first.
const DEFAULT_FILE: &str = "cluster.toml";

/// The cluster that a command works on.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// The cluster's file [default: ./cluster.toml, else .picopay/cluster.toml]
    #[arg(long = "cluster", value_name = "FILE", env = "PICOPAY_CLUSTER_FILE", hide_env_values = true)]
    file: Option<PathBuf>,
}

impl ClusterArgs {
    pub fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let usual = [DEFAULT_FILE, LOCAL_FILE].map(PathBuf::from);
        match usual.into_iter().find(|file| file.exists()) {
            Some(file) => Ok(file),
            None => bail!(
                "there is neither ./{DEFAULT_FILE} nor {LOCAL_FILE} here: name the cluster's file with --cluster, \
                 or start a cluster on this machine with `picopay up`"
            ),
        }
    }

    pub fn load(&self) -> anyhow::Result<Cluster> {
        let path = self.path()?;
        Cluster::load(&path)
            .context("the cluster's file cannot be used: mend it, or name another with --cluster")
    }
}

pub fn find_shard<'a>(cluster: &'a Cluster, name: &str) -> anyhow::Result<&'a Shard> {
    cluster.shard(name).with_context(|| {
        let names: Vec<_> = cluster.shards.iter().map(|shard| shard.name.as_str()).collect();
        format!("there is no shard {name:?}; the cluster's file names {}", names.join(", "))
    })
}
