//! What strikes a cluster: how it is broken, how it is healed, and which errors it may cause.

use std::time::Duration;

use anyhow::Context;
use picopay_local::{LocalCluster, Process, Proxy, Weather};
use serde::Serialize;

use super::errors::What;
use crate::random::Random;

/// What a slow wire adds to each piece. Some flights of a batch and the connects take a few pieces each: below the time
/// that a flight may take (1.5 s), and beyond what a connect may (1 s).
const SLOW_BY: Duration = Duration::from_millis(150);

/// Between two resets of a wire: new connections are made, used, and cut in the middle of a batch.
const RESET_EVERY: Duration = Duration::from_millis(150);

/// A kind of fault. Its name in a summary is the same in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SIGKILL of the gateway.
    GatewayKilled,
    /// SIGKILL of a node.
    NodeKilled,
    /// SIGSTOP of a node.
    NodeFrozen,
    /// SIGKILL of Redis, which forgets everything.
    RedisKilled,
    /// SIGSTOP of Redis.
    RedisFrozen,
    /// SIGSTOP of a replica: no commit is acknowledged meanwhile.
    ReplicaFrozen,
    /// A replica can write no more of its log, as on a full disk: it crashes over it, again and again.
    ReplicaDiskFull,
    /// SIGSTOP of a primary.
    PrimaryFrozen,
    /// SIGKILL of a primary, which recovers from its own log.
    PrimaryCrashed,
    /// SIGKILL of a primary for good: its standby is promoted, and a new one is made.
    PrimaryLost,
    /// Connections between gateway and node are reset, again and again.
    NodeWireReset,
    /// Nothing passes between gateway and node; what was sent arrives later.
    NodeWireSilent,
    /// Requests reach the node, and its answers come much later.
    NodeAnswersSilent,
    /// Everything between gateway and node is late.
    NodeWireSlow,
    /// Connections between node and primary are reset, again and again.
    PrimaryWireReset,
    /// Nothing passes between node and primary; what was sent arrives later, a COMMIT too.
    PrimaryWireSilent,
    /// Statements reach the primary, and its answers come much later.
    PrimaryAnswersSilent,
    /// Everything between node and primary is late.
    PrimaryWireSlow,
    /// A second node serves the same shard, and gateways reach both.
    NodeTwice,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::GatewayKilled,
        Self::NodeKilled,
        Self::NodeFrozen,
        Self::RedisKilled,
        Self::RedisFrozen,
        Self::ReplicaFrozen,
        Self::ReplicaDiskFull,
        Self::PrimaryFrozen,
        Self::PrimaryCrashed,
        Self::PrimaryLost,
        Self::NodeWireReset,
        Self::NodeWireSilent,
        Self::NodeAnswersSilent,
        Self::NodeWireSlow,
        Self::PrimaryWireReset,
        Self::PrimaryWireSilent,
        Self::PrimaryAnswersSilent,
        Self::PrimaryWireSlow,
        Self::NodeTwice,
    ];

    /// Its name in a summary.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// For people.
    fn words(self) -> &'static str {
        match self {
            Self::GatewayKilled => "gateway killed",
            Self::NodeKilled => "node killed",
            Self::NodeFrozen => "node frozen",
            Self::RedisKilled => "redis killed",
            Self::RedisFrozen => "redis frozen",
            Self::ReplicaFrozen => "replica frozen",
            Self::ReplicaDiskFull => "replica's disk full",
            Self::PrimaryFrozen => "primary frozen",
            Self::PrimaryCrashed => "primary crashed",
            Self::PrimaryLost => "primary lost, standby promoted",
            Self::NodeWireReset => "gateway–node connections reset",
            Self::NodeWireSilent => "gateway–node silent",
            Self::NodeAnswersSilent => "node's answers held back",
            Self::NodeWireSlow => "gateway–node slow",
            Self::PrimaryWireReset => "node–primary connections reset",
            Self::PrimaryWireSilent => "node–primary silent",
            Self::PrimaryAnswersSilent => "primary's answers held back",
            Self::PrimaryWireSlow => "node–primary slow",
            Self::NodeTwice => "node started twice",
        }
    }

    /// Whether it strikes one shard only.
    fn is_of_a_shard(self) -> bool {
        !matches!(self, Self::GatewayKilled | Self::RedisKilled | Self::RedisFrozen)
    }

    /// Whether the contract allows this error because of it; `is_struck`: for a user of the shard that it strikes.
    ///
    /// Nowhere `slot-moving`, since no slot moves in such a run, and nowhere `internal`, which is always a bug. The
    /// outcome of a read is never unknown.
    pub fn may_cause(self, what: &What, is_write: bool, is_struck: bool) -> bool {
        let code = match what {
            // The one process that clients talk to.
            What::Lost(_) => return self == Self::GatewayKilled,
            What::Problem { code, .. } => code.as_str(),
        };
        match self {
            // A new gateway does not know yet who owns what.
            Self::GatewayKilled => code == "shard-unavailable",
            // Never the only copy of anything.
            Self::RedisKilled | Self::RedisFrozen => false,
            // Reads come from the primary meanwhile, capped.
            Self::ReplicaFrozen | Self::ReplicaDiskFull if !is_write => is_struck && code == "overloaded",
            // The gateway's connections were cut to spread them, and are cut again to gather them.
            Self::NodeTwice
            | Self::NodeKilled
            | Self::NodeFrozen
            | Self::ReplicaFrozen
            | Self::ReplicaDiskFull
            | Self::PrimaryFrozen
            | Self::PrimaryCrashed
            | Self::PrimaryLost
            | Self::NodeWireReset
            | Self::NodeWireSilent
            | Self::NodeAnswersSilent
            | Self::NodeWireSlow
            | Self::PrimaryWireReset
            | Self::PrimaryWireSilent
            | Self::PrimaryAnswersSilent
            | Self::PrimaryWireSlow => {
                let is_unknown = is_write && code == "outcome-unknown";
                is_struck && (is_unknown || matches!(code, "shard-unavailable" | "overloaded"))
            }
        }
    }
}

/// One fault to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// The position of the shard that it strikes, where it strikes one.
    pub shard: usize,
    /// How long it lasts until it is healed.
    pub hold: Duration,
}

impl Fault {
    /// For the terminal.
    pub fn words(self) -> String {
        if self.kind.is_of_a_shard() {
            format!("{} (shard-{})", self.kind.words(), self.shard + 1)
        } else {
            self.kind.words().to_owned()
        }
    }

    /// Breaks it, waits, and heals it. `healing` is called when healing begins.
    ///
    /// # Errors
    /// When it could not be broken or healed: the run cannot go on.
    pub async fn strike(self, cluster: &LocalCluster, healing: impl FnOnce()) -> anyhow::Result<()> {
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
        cluster.add_node(self.shard).await.context("a second node cannot be started")?;
        let wire = shard.node_proxy(0);
        let (first, second) = (shard.node_port(0), shard.node_port(1));
        wire.lead_to(&[first, second]);
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
        shard.dismiss_node(1).await.context("the second node cannot be ended")
    }
}

/// Which fault strikes when: the same for the same seed.
#[derive(Debug)]
pub struct Schedule {
    random: Random,
    shards: usize,
    /// What is left of this round: every kind strikes once before any strikes twice.
    left: Vec<Kind>,
    hold_max: Duration,
    calm_max: Duration,
}

/// The shortest: long enough for requests to be caught by it.
const HOLD_MIN: Duration = Duration::from_millis(500);

impl Schedule {
    /// For a cluster of `shards` shards. No fault lasts longer than `hold_max`, and no calm between two than `calm_max`.
    pub fn new(seed: u64, shards: usize, hold_max: Duration, calm_max: Duration) -> Self {
        // Clients draw from the streams above.
        Self { random: Random::new(seed, 0), shards, left: Vec::new(), hold_max, calm_max }
    }

    /// How long nothing strikes, and what strikes then.
    pub fn next_fault(&mut self) -> (Duration, Fault) {
        if self.left.is_empty() {
            self.left = Kind::ALL.to_vec();
        }
        let place = self.below(self.left.len());
        let kind = self.left.swap_remove(place);
        let shard = self.below(self.shards);
        let hold = HOLD_MIN + self.hold_max.saturating_sub(HOLD_MIN).mul_f64(self.random.unit());
        let calm = self.calm_max.mul_f64(self.random.unit());
        (calm, Fault { kind, shard, hold })
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("fits 64 bits");
        usize::try_from(self.random.below(end)).expect("below a length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_faults_and_every_kind_strikes_before_any_strikes_twice() {
        let faults = |seed| {
            let mut schedule = Schedule::new(seed, 2, Duration::from_secs(5), Duration::from_secs(1));
            (0..Kind::ALL.len() * 2).map(|_| schedule.next_fault()).collect::<Vec<_>>()
        };
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
        for round in faults(3).chunks(Kind::ALL.len()) {
            let mut kinds: Vec<Kind> = round.iter().map(|(_, fault)| fault.kind).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, Kind::ALL);
            assert!(round.iter().all(|(_, fault)| fault.shard < 2 && fault.hold >= HOLD_MIN));
        }
    }

    #[test]
    fn faults_are_named_in_a_summary_by_their_own_names() {
        assert_eq!(Kind::PrimaryCrashed.name(), "primary_crashed");
    }
}
