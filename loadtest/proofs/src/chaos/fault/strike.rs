//! How a fault is brought about, and how it is healed.

use std::time::Duration;

use anyhow::Context;
use picopay_local::{LocalCluster, Process, Proxy, Weather};

use super::forger::Forger;
use super::heartbeat;
use super::node_of_two;
use super::scene::Scene;
use super::schedule::Fault;
use super::standby_wait;
use crate::chaos::kind::Kind;

/// Added to each piece. Below the time that a flight may take (1.5 s) in all, and beyond what a connect may (1 s).
const SLOW_BY: Duration = Duration::from_millis(150);

/// Connections are made, used, and cut in the middle of a batch.
const RESET_EVERY: Duration = Duration::from_millis(150);

/// Far more than any clock that somebody looks after.
const CLOCK_OFF_S: i64 = 600;

/// A new answer is there for as long as a client takes to ask again.
const FORGE_EVERY: Duration = Duration::from_millis(100);

impl Fault {
    pub async fn strike(self, scene: &mut Scene<'_>, healing: impl FnOnce()) -> anyhow::Result<()> {
        let cluster = scene.cluster;
        let shard = cluster.shard(self.shard);
        match self.kind {
            Kind::GatewayKilled => self.kill(&cluster.gateway(), healing).await,
            Kind::NodeKilled => self.kill(&shard.node(0), healing).await,
            Kind::RedisKilled => self.kill(&cluster.redis(), healing).await,
            Kind::PrimaryCrashed => self.kill(&shard.primary(), healing).await,
            Kind::PrimaryLost => self.promote(cluster, healing).await,
            Kind::NodeFrozen => self.freeze(&shard.node(0), healing).await,
            Kind::RedisFrozen => self.freeze(&cluster.redis(), healing).await,
            Kind::ReplicaFrozen => self.freeze(&shard.replica(), healing).await,
            Kind::ReplicaDiskFull => self.fill_disk(&shard.replica(), healing).await,
            Kind::PrimaryFrozen => self.freeze(&shard.primary(), healing).await,
            Kind::NodeWireReset => self.reset(&shard.node_proxy(0), healing).await,
            Kind::PrimaryWireReset => self.reset(&shard.primary_proxy(), healing).await,
            Kind::NodeWireSilent => self.disturb(&shard.node_proxy(0), Weather::Silent, healing).await,
            Kind::PrimaryWireSilent => self.disturb(&shard.primary_proxy(), Weather::Silent, healing).await,
            Kind::NodeAnswersSilent => {
                self.disturb(&shard.node_proxy(0), Weather::AnswersSilent, healing).await
            }
            Kind::PrimaryAnswersSilent => {
                self.disturb(&shard.primary_proxy(), Weather::AnswersSilent, healing).await
            }
            Kind::NodeWireSlow => self.disturb(&shard.node_proxy(0), Weather::Slow(SLOW_BY), healing).await,
            Kind::PrimaryWireSlow => {
                self.disturb(&shard.primary_proxy(), Weather::Slow(SLOW_BY), healing).await
            }
            Kind::NodeTwice => self.serve_twice(cluster, healing).await,
            Kind::FirstNodeFrozen => node_of_two::freeze(self, scene, healing).await,
            Kind::FirstNodeCutOff => node_of_two::cut_off(self, scene, healing).await,
            Kind::CommitWaitCancelled => standby_wait::cancel(self, cluster, healing).await,
            Kind::StandbyNamesEmptied => standby_wait::empty_names(self, cluster, healing).await,
            Kind::PromotedBesidePrimary => self.promote_beside(cluster, healing).await,
            Kind::RedisForged => self.forge(cluster, scene.seed, healing).await,
            Kind::NodeClockOff => self.set_clock_off(cluster, healing).await,
            Kind::HeartbeatStepped => heartbeat::step(self, scene, healing).await,
        }
    }

    async fn kill(self, process: &Process, healing: impl FnOnce()) -> anyhow::Result<()> {
        let doing = || format!("{} cannot be killed and started again", process.name());
        process.kill().await.with_context(doing)?;
        tokio::time::sleep(self.hold).await;
        healing();
        process.start().await.with_context(doing)
    }

    async fn promote(self, cluster: &LocalCluster, healing: impl FnOnce()) -> anyhow::Result<()> {
        cluster.shard(self.shard).primary().kill().await?;
        tokio::time::sleep(self.hold).await;
        healing();
        cluster.failover(self.shard).await.context("the standby cannot be promoted")?;
        Ok(())
    }

    async fn promote_beside(self, cluster: &LocalCluster, healing: impl FnOnce()) -> anyhow::Result<()> {
        let shard = cluster.shard(self.shard);
        let old = shard.connect_as_superuser().await?;
        cluster.promote_beside(shard).await.context("the standby cannot be promoted")?;
        // Somebody wants charges to go on there. What it acknowledges from now on is on a machine that is about to be lost.
        standby_wait::set_names(&old, "").await?;
        tokio::time::sleep(self.hold).await;
        healing();
        cluster.replace_old_primary(shard).await.context("the old primary cannot be replaced")
    }

    /// Users meet a right clock before, after and in between.
    async fn set_clock_off(self, cluster: &LocalCluster, healing: impl FnOnce()) -> anyhow::Result<()> {
        let shard = cluster.shard(self.shard);
        let node = shard.node(0);
        let seconds = if self.times_before.is_multiple_of(2) { CLOCK_OFF_S } else { -CLOCK_OFF_S };
        let doing = || format!("{} cannot be started with another clock", node.name());
        let toml = format!("[testing]\nclock_offset_seconds = {seconds}\n");
        cluster.configure_node(shard, 0, &toml)?;
        node.kill().await.with_context(doing)?;
        node.start().await.with_context(doing)?;
        tokio::time::sleep(self.hold).await;
        healing();
        cluster.configure_node(shard, 0, "")?;
        node.kill().await.with_context(doing)?;
        node.start().await.with_context(doing)
    }

    async fn forge(self, cluster: &LocalCluster, seed: u64, healing: impl FnOnce()) -> anyhow::Result<()> {
        let mut forger = Forger::connect(&cluster.redis_url(), seed).await?;
        let forging = async {
            loop {
                if let Err(error) = forger.forge().await {
                    return anyhow::Error::from(error).context("Redis cannot be forged");
                }
                tokio::time::sleep(FORGE_EVERY).await;
            }
        };
        if let Ok(error) = tokio::time::timeout(self.hold, forging).await {
            return Err(error);
        }
        // What was forged stays there.
        healing();
        Ok(())
    }

    async fn freeze(self, process: &Process, healing: impl FnOnce()) -> anyhow::Result<()> {
        process.freeze();
        tokio::time::sleep(self.hold).await;
        healing();
        process.thaw();
        Ok(())
    }

    async fn fill_disk(self, server: &Process, healing: impl FnOnce()) -> anyhow::Result<()> {
        server.fill_disk()?;
        tokio::time::sleep(self.hold).await;
        healing();
        server.free_disk()?;
        // One that still runs may be about to end over its last write, and is no better off than one that has ended.
        let doing = || format!("{} does not come back", server.name());
        server.kill().await.with_context(doing)?;
        server.start().await.with_context(doing)
    }

    async fn disturb(self, wire: &Proxy, weather: Weather, healing: impl FnOnce()) -> anyhow::Result<()> {
        wire.set_weather(weather);
        tokio::time::sleep(self.hold).await;
        healing();
        wire.set_weather(Weather::Clear);
        Ok(())
    }

    async fn reset(self, wire: &Proxy, healing: impl FnOnce()) -> anyhow::Result<()> {
        let again = async {
            loop {
                wire.reset();
                tokio::time::sleep(RESET_EVERY).await;
            }
        };
        // It never ends by itself.
        let _ = tokio::time::timeout(self.hold, again).await;
        healing();
        Ok(())
    }

    async fn serve_twice(self, cluster: &LocalCluster, healing: impl FnOnce()) -> anyhow::Result<()> {
        let shard = cluster.shard(self.shard);
        cluster.add_node(self.shard).await.context("one more node cannot be started")?;
        let wire = shard.node_proxy(0);
        let added = shard.node_count() - 1;
        let (first, other) = (shard.node_port(0), shard.node_port(added));
        wire.lead_to(&[first, other]);
        // Connections are kept, so they are cut for the next ones to lead to the other node.
        let spread = async {
            loop {
                wire.reset();
                tokio::time::sleep(RESET_EVERY * 2).await;
            }
        };
        let _ = tokio::time::timeout(self.hold, spread).await;
        healing();
        wire.lead_to(&[first]);
        wire.reset();
        shard.dismiss_node(added).await.context("the node that was added cannot be ended")
    }
}
