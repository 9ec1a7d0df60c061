//! A cluster whose processes are of one of two releases each, and what an operator does to them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use picopay_local::{ApiKey, ClusterSpec, LocalCluster, LocalError, Process, programs};
use serde_json::Value;

use crate::grow::operator;

pub const SHARDS: usize = 2;
pub const NODES: usize = 2;
pub const GATEWAYS: usize = 2;

/// Refusals name it, and a replay is the same at every gateway.
const ONE_URL: &str = "public_url = \"http://picopay.example\"";

/// What a service manager waits before it kills (docs/upgrades.md).
const END_MAX: Duration = Duration::from_secs(30);

/// A minute for a gateway that has just ended to be forgotten by the nodes.
const FINISH_TRIES: u32 = 60;

const FINISH_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    Old,
    New,
}

impl Release {
    pub fn word(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

pub struct Stand {
    pub cluster: LocalCluster,
    gateways: [(Process, String); GATEWAYS],
    old: PathBuf,
}

impl Stand {
    /// Everything of the old release, which also made the databases.
    pub async fn start(old: &Path) -> anyhow::Result<Self> {
        let old = std::path::absolute(old)?;
        let spec = ClusterSpec::default().with_shards(SHARDS).with_nodes_per_shard(NODES);
        let mut spec = spec.with_programs(&old).with_drain().with_gateway_toml(ONE_URL);
        // No more than an older release knows.
        spec.api_keys = vec![ApiKey::new("upgrade", "upgrade-key", &["write", "read"])];
        let cluster = LocalCluster::start(spec).await.context("the old release does not start")?;
        let first = (cluster.gateway(), cluster.gateway_url());
        let second =
            cluster.add_gateway().await.context("a second gateway of the old release does not start")?;
        Ok(Self { cluster, gateways: [first, second], old })
    }

    pub fn gateway_urls(&self) -> [&str; GATEWAYS] {
        self.gateways.each_ref().map(|(_, url)| url.as_str())
    }

    fn program(&self, release: Release, name: &str) -> anyhow::Result<PathBuf> {
        match release {
            Release::Old => Ok(self.old.join(name)),
            Release::New => Ok(programs::find_picopay(name)?),
        }
    }

    /// The wire that a node speaks.
    pub async fn wire(&self, shard: usize, node: usize) -> anyhow::Result<u16> {
        let status = self.cluster.node_status(self.cluster.shard(shard), node).await;
        Ok(status.map_err(anyhow::Error::msg)?.wire)
    }

    /// Ends a node in order and starts it as `release`; waits until it serves.
    pub async fn replace_node(&self, shard: usize, node: usize, release: Release) -> anyhow::Result<()> {
        self.start_node_as(shard, node, release).await?;
        let named =
            || format!("{} does not serve as the {} release", self.node_name(shard, node), release.word());
        self.cluster.wait_for_node(self.cluster.shard(shard), node).await.with_context(named)
    }

    pub async fn start_node_as(&self, shard: usize, node: usize, release: Release) -> anyhow::Result<()> {
        let process = self.cluster.shard(shard).node(node);
        self.change(&process, self.program(release, "picopay-node")?).await
    }

    pub async fn replace_gateway(&self, number: usize, release: Release) -> anyhow::Result<()> {
        let (process, url) = &self.gateways[number];
        self.change(process, self.program(release, "picopay-gateway")?).await?;
        let named = || format!("{} does not serve as the {} release", process.name(), release.word());
        self.cluster.wait_for_gateway_at(process, url).await.with_context(named)
    }

    /// Ends all gateways at once, and starts them as the new release when `may_start` says so.
    pub async fn replace_gateways_at_once(&self, may_start: impl AsyncFn()) -> anyhow::Result<()> {
        let [first, second] = &self.gateways;
        tokio::try_join!(first.0.drain(END_MAX), second.0.drain(END_MAX))?;
        may_start().await;
        for number in 0..GATEWAYS {
            self.replace_gateway(number, Release::New).await?;
        }
        Ok(())
    }

    /// SIGKILL, and a start as it was.
    pub async fn crash_node(&self, shard: usize, node: usize) -> anyhow::Result<()> {
        let process = self.cluster.shard(shard).node(node);
        process.kill().await?;
        process.start().await?;
        let named = || format!("{} does not serve after a crash", process.name());
        self.cluster.wait_for_node(self.cluster.shard(shard), node).await.with_context(named)
    }

    pub fn node_name(&self, shard: usize, node: usize) -> String {
        self.cluster.shard(shard).node(node).name().to_owned()
    }

    /// `picopay migrate` of a release. Returns how many migrations it applied, over all shards.
    pub async fn migrate(&self, release: Release) -> anyhow::Result<usize> {
        let picopay = self.program(release, "picopay")?;
        let report = operator::run_of(&picopay, &self.cluster.cluster_file(), &["migrate"]).await?;
        let shards = report["shards"].as_array().context("picopay migrate reports no shards")?;
        Ok(shards.iter().filter_map(|shard| shard["applied"].as_array()).map(Vec::len).sum())
    }

    /// `picopay migrate --finish`, again while it says that older programs are left.
    pub async fn finish(&self) -> anyhow::Result<()> {
        for _ in 0..FINISH_TRIES {
            match operator::run(&self.cluster.cluster_file(), &["migrate", "--finish"]).await {
                Ok(report) => {
                    let shards = report["shards"].as_array().context("picopay migrate reports no shards")?;
                    let is_finished = |shard: &Value| shard["is_finished"] == true;
                    ensure!(shards.iter().all(is_finished), "not finished: {report}");
                    return Ok(());
                }
                Err(error) if error.to_string().contains("older programs are left") => {
                    tokio::time::sleep(FINISH_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
        anyhow::bail!("picopay migrate --finish finds older programs, and there are none")
    }

    /// Waits until every node and both gateways serve.
    pub async fn wait_until_ready(&self) -> Result<(), LocalError> {
        self.cluster.wait_until_ready().await?;
        let (process, url) = &self.gateways[1];
        self.cluster.wait_for_gateway_at(process, url).await
    }

    async fn change(&self, process: &Process, program: PathBuf) -> anyhow::Result<()> {
        process.drain(END_MAX).await?;
        process.replace_program(program);
        process.start().await?;
        Ok(())
    }
}
