//! The kinds of faults, and which errors each may cause.

use std::time::Duration;

use serde::Serialize;

use super::conditions::Conditions;
use super::what::What;

/// A summary has these names in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    GatewayKilled,
    NodeKilled,
    NodeFrozen,
    RedisKilled,
    RedisFrozen,
    /// SIGSTOP of a replica: no commit is acknowledged meanwhile.
    ReplicaFrozen,
    /// On a full disk a replica crashes again and again.
    ReplicaDiskFull,
    PrimaryFrozen,
    PrimaryCrashed,
    PrimaryLost,
    NodeWireReset,
    /// Nothing passes between gateway and node; what was sent arrives later.
    NodeWireSilent,
    NodeAnswersSilent,
    NodeWireSlow,
    PrimaryWireReset,
    /// What was sent arrives later, a COMMIT too.
    PrimaryWireSilent,
    PrimaryAnswersSilent,
    PrimaryWireSlow,
    NodeTwice,
    FirstNodeFrozen,
    FirstNodeCutOff,
    /// The standby is frozen, and `pg_cancel_backend` ends the waits for it.
    CommitWaitCancelled,
    /// The standby is frozen, and for a second no commit waits for it, as with a lax failover manager.
    StandbyNamesEmptied,
    /// A failover that fenced nobody: the old primary lives on and waits for no standby.
    PromotedBesidePrimary,
    /// Somebody writes into Redis: other balances, other places, anything.
    RedisForged,
    /// The primary's clock steps, ahead or back, while a replica replays nothing.
    HeartbeatStepped,
    /// The clock of the first node is ten minutes ahead or behind.
    NodeClockOff,
}

impl Kind {
    pub const ALL: [Self; 27] = [
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
        Self::FirstNodeFrozen,
        Self::FirstNodeCutOff,
        Self::CommitWaitCancelled,
        Self::StandbyNamesEmptied,
        Self::PromotedBesidePrimary,
        Self::RedisForged,
        Self::HeartbeatStepped,
        Self::NodeClockOff,
    ];

    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    pub fn may_promote(self) -> bool {
        matches!(
            self,
            Self::PrimaryLost
                | Self::CommitWaitCancelled
                | Self::StandbyNamesEmptied
                | Self::PromotedBesidePrimary
        )
    }

    pub fn words(self) -> &'static str {
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
            Self::NodeTwice => "one node more",
            Self::FirstNodeFrozen => "first of two nodes frozen",
            Self::FirstNodeCutOff => "first of two nodes cut off",
            Self::CommitWaitCancelled => "waits for the standby cancelled",
            Self::StandbyNamesEmptied => "names of standbys emptied",
            Self::PromotedBesidePrimary => "standby promoted, primary lives on",
            Self::RedisForged => "redis forged",
            Self::HeartbeatStepped => "primary's clock stepped, replay paused",
            Self::NodeClockOff => "node's clock ten minutes off",
        }
    }

    pub fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            let names: Vec<String> = Self::ALL.into_iter().map(Self::name).collect();
            format!("there are {}", names.join(", "))
        })
    }

    pub fn is_of_a_shard(self) -> bool {
        !matches!(self, Self::GatewayKilled | Self::RedisKilled | Self::RedisFrozen | Self::RedisForged)
    }

    pub fn is_possible(self, conditions: &Conditions) -> bool {
        match self {
            Self::FirstNodeFrozen | Self::FirstNodeCutOff => conditions.nodes_per_shard > 1,
            _ => true,
        }
    }

    pub fn hold_min(self) -> Duration {
        match self {
            // As long as users may feel it, what was on its way then, and some seconds in which nobody may.
            Self::FirstNodeFrozen | Self::FirstNodeCutOff => Duration::from_secs(12),
            // Long enough for many charges to be booked by it.
            Self::NodeClockOff => Duration::from_secs(3),
            // A gate that was closed over the lost standby looks again within a second, and could open.
            Self::CommitWaitCancelled | Self::StandbyNamesEmptied | Self::PromotedBesidePrimary => {
                Duration::from_secs(3)
            }
            // Long enough for requests to be caught by it.
            _ => Duration::from_millis(500),
        }
    }

    /// How long users may feel it while it goes on. `None`: until it is healed.
    pub fn felt_at_most(self) -> Option<Duration> {
        // The batch under way ends after 2 s; within 2 to 4 s the breaker opens (ARCHITECTURE, "When something fails").
        matches!(self, Self::FirstNodeFrozen | Self::FirstNodeCutOff).then_some(Duration::from_secs(4))
    }

    pub fn may_end_in_a_loss(self) -> bool {
        matches!(self, Self::CommitWaitCancelled | Self::StandbyNamesEmptied)
    }

    /// Whether the contract allows this error; `is_struck`: for a user of the shard that it strikes.
    ///
    /// Never `slot-moving`, since no slot moves, and never `internal`, which is a bug. The outcome of a read is never
    /// unknown.
    pub fn may_cause(self, what: &What, is_write: bool, is_struck: bool) -> bool {
        let code = match what {
            // The one process that clients talk to.
            What::Lost(_) => return self == Self::GatewayKilled,
            What::Problem { code, .. } => code.as_str(),
        };
        match self {
            // A new gateway does not know yet who owns what.
            Self::GatewayKilled => code == "shard-unavailable",
            // Never the only copy of anything, and no witness that anybody believes.
            Self::RedisKilled | Self::RedisFrozen | Self::RedisForged => false,
            // Whoever waits for a standby is not troubled by one that replays nothing.
            Self::HeartbeatStepped if is_write => false,
            // Reads come from the primary, capped.
            Self::HeartbeatStepped => is_struck && code == "overloaded",
            // The same. A standby that is frozen, or just about to crash, says nothing and may have
            // been promoted, so the primary is not read either until it does: silence means 503.
            Self::ReplicaFrozen | Self::ReplicaDiskFull if !is_write => {
                is_struck && matches!(code, "overloaded" | "shard-unavailable")
            }
            // The gateway's connections were cut to spread them, and are cut again to gather them.
            Self::NodeTwice
            | Self::FirstNodeFrozen
            | Self::FirstNodeCutOff
            | Self::CommitWaitCancelled
            | Self::StandbyNamesEmptied
            | Self::PromotedBesidePrimary
            // It is started anew for that, twice.
            | Self::NodeClockOff
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_in_a_summary_by_their_own_names_and_found_by_them() {
        assert_eq!(Kind::PrimaryCrashed.name(), "primary_crashed");
        for kind in Kind::ALL {
            assert_eq!(Kind::named(&kind.name()), Ok(kind));
        }
        assert!(Kind::named("flood").unwrap_err().contains("node_killed"));
    }

    #[test]
    fn what_users_may_feel_for_some_seconds_only_lasts_long_enough_to_see_that() {
        for kind in Kind::ALL {
            let felt = kind.felt_at_most().unwrap_or_default();
            assert!(kind.hold_min() > felt + super::super::what::AFTERMATH || felt.is_zero(), "{kind:?}");
        }
    }
}
