//! The status of a shard node, for gateways and `picopay status`. JSON, so that people can read it too.

use serde::{Deserialize, Serialize};

/// The path where a node answers with its [`NodeStatus`].
pub const STATUS_PATH: &str = "/internal/v1/status";

/// The version of the wire that this release speaks. 2: top-ups, charges and refunds. 3: holds, and reads in
/// batches, too. 4: transfers, sums, totals and balances at a time, too.
pub const WIRE_VERSION: u16 = 4;

/// The version of releases before there were holds, whose status does not name it.
pub const WIRE_BEFORE_HOLDS: u16 = 2;

pub(crate) fn unnamed_version() -> u16 {
    WIRE_BEFORE_HOLDS
}

/// The header in which gateways and operators name their [`WIRE_VERSION`]. Who does not name one is from before there were
/// holds.
pub const WIRE_HEADER: &str = "picopay-wire";

/// From this version on, programs know holds.
pub const HOLDS: u16 = 3;

/// From this version on, programs know transfers.
pub const TRANSFERS: u16 = 4;

/// From this version on, a node takes reads in batches (`read_batch.rs`).
pub const READS_TOGETHER: u16 = 3;

/// From this version on, a node adds up the rows of many users (`aggregate.rs`), and reads balances at a time.
pub const AGGREGATES: u16 = 4;

/// One node process, as it sees its shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The shard's name in `cluster.toml`.
    pub shard: String,
    /// Whether it takes writes now.
    pub is_ready: bool,
    /// Why not, for operators; `None` when ready.
    pub not_ready_reason: Option<String>,
    /// Set while an operator lets the shard go on without its standby.
    #[serde(default)]
    pub degraded: Option<Degradation>,
    /// The restore generation of the ledger that it serves; `None` while it takes no writes.
    #[serde(default)]
    pub generation: Option<i64>,
    /// The highest version of the wire that this node speaks.
    #[serde(default = "unnamed_version")]
    pub wire: u16,
    /// The version of the wire that all processes of the shard speak, as `picopay migrate --finish` has recorded it.
    /// What only a higher one can read is refused.
    #[serde(default = "unnamed_version")]
    pub finished: u16,
    /// How long ago somebody asked this node who speaks an older version of the wire, in milliseconds: an older gateway, as a
    /// rule. `None` when nobody did since the node was started.
    #[serde(default)]
    pub older_caller_ms: Option<u64>,
    /// The slots that the shard's own database says it owns.
    pub owned: Vec<OwnedRange>,
    /// The slots that it is importing, at the epochs at which it will own them.
    #[serde(default)]
    pub importing: Vec<OwnedRange>,
    /// Lag of the freshest replica, in milliseconds; `None` when unknown, which counts as stale.
    pub replica_lag_ms: Option<u64>,
    /// Whether Redis is in use: `up`, `skipped` (its breaker is open) or `off` (none configured).
    pub cache: CacheState,
}

/// An operator's decision that a shard goes on without its synchronous standby: its commits wait for the
/// primary alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degradation {
    /// Since when, by the primary's clock: `2026-11-24T12:00:00Z`.
    pub since: String,
    /// The operator who decided it.
    pub by: String,
    /// The operator's reason for it.
    pub reason: String,
}

/// A run of slots of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedRange {
    /// The first slot of the run.
    pub first: u16,
    /// The last slot, included.
    pub last: u16,
    /// A counter that grows each time a slot changes hands.
    pub epoch: u64,
}

/// Whether Redis is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheState {
    /// Redis answers in time.
    Up,
    /// It did not answer in time; nobody waits for it until it does.
    Skipped,
    /// No Redis is configured.
    Off,
}
