//! What `picopay status` tells: of the cluster, each shard and each of its parts. Only the form; `judgement` fills it in.

use picopay_mover::slot_runs::SlotRuns;
use picopay_shared::node_status::{CacheState, Degradation};
use picopay_shared::slot_owner::SlotState;
use serde::Serialize;
use uuid::Uuid;

use crate::probe::Standby;

/// Nodes stop reading from it (their default `replica_lag_max`).
pub const REPLICA_LAG_MS_MAX: u64 = 2_000;

/// What `status` prints. With `--output json` these are the names of the fields; they stay.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    /// Whether there is no problem. The exit code is 0 then, and 1 otherwise.
    pub is_well: bool,
    /// All slots of the cluster.
    pub slots: SlotSummary,
    /// In the order of the cluster's file.
    pub shards: Vec<ShardStatus>,
    /// What is not as it should be, a sentence each.
    pub problems: Vec<String>,
    /// What could not be seen, a sentence each.
    pub notes: Vec<String>,
}

/// All slots of the cluster.
#[derive(Debug, Serialize)]
pub struct SlotSummary {
    /// 4096.
    pub total: u16,
    /// Owned by exactly one shard.
    pub owned_once: usize,
    /// Owned by no shard that answers.
    pub owned_by_nobody: SlotRuns,
    /// Owned by more than one.
    pub owned_twice: SlotRuns,
}

/// One shard.
#[derive(Debug, Serialize)]
pub struct ShardStatus {
    /// Its name.
    pub shard: String,
    /// `replicated` or `local`, as the cluster's file says.
    pub durability: &'static str,
    /// Set while an operator lets it go on without its standby: since when, who said so, and why.
    pub degraded: Option<Degradation>,
    /// The cluster that its database was made for; null before `picopay init`.
    pub cluster_id: Option<Uuid>,
    /// The slots it owns; null when none of its databases answers.
    pub slots: Option<OwnedSlots>,
    /// Slots that are not its own, though it has to do with them: on their way in, given away, or not come.
    pub other_slots: Vec<OtherSlots>,
    /// Its primary.
    pub primary: PrimaryStatus,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
    /// Its nodes.
    pub nodes: Vec<NodeLine>,
    /// Its Redis; null when it has none.
    pub redis: Option<RedisLine>,
}

/// The slots that a shard's database says it owns.
#[derive(Debug, Serialize)]
pub struct OwnedSlots {
    /// How many.
    pub count: usize,
    /// Which.
    pub runs: SlotRuns,
    /// `primary`, or `replica` when only that answers.
    pub source: &'static str,
}

/// Slots of which a shard that does not own them says the same.
#[derive(Debug, Serialize)]
pub struct OtherSlots {
    /// `importing`, `released` or `aborted`.
    pub state: SlotState,
    /// Who owns them, as far as this shard knows.
    pub owner: String,
    /// Which.
    pub runs: SlotRuns,
    /// Those of them that have rows there.
    pub with_rows: SlotRuns,
}

/// A primary.
#[derive(Debug, Serialize)]
pub struct PrimaryStatus {
    /// Whether it answers and takes writes.
    pub is_up: bool,
    /// Of PostgreSQL.
    pub version: Option<String>,
    /// Those that stream from it.
    pub standbys: Vec<Standby>,
    /// Why it is not up.
    pub error: Option<String>,
}

/// A replica.
#[derive(Debug, Serialize)]
pub struct ReplicaStatus {
    /// Whether it answers.
    pub is_up: bool,
    /// Of PostgreSQL.
    pub version: Option<String>,
    /// Whether it still follows a primary.
    pub is_in_recovery: Option<bool>,
    /// How long it took, from when the primary was asked, until it had replayed what the primary had flushed then; 0 when it
    /// lacked nothing, and not more than a little over 2 s. Null when either does not answer.
    pub lag_ms: Option<u64>,
    /// How much of the primary's log it has not replayed; null when either is unknown.
    pub lag_bytes: Option<u64>,
    /// Why it is not up.
    pub error: Option<String>,
}

/// A node.
#[derive(Debug, Serialize)]
pub struct NodeLine {
    /// Its base URL.
    pub url: String,
    /// Whether it answers.
    pub is_up: bool,
    /// Whether it takes writes.
    pub is_ready: bool,
    /// Its use of Redis: `up`, `skipped` or `off`; null when it does not answer.
    pub cache: Option<CacheState>,
    /// Why it does not answer, or is not ready.
    pub reason: Option<String>,
}

/// Redis.
#[derive(Debug, Serialize)]
pub struct RedisLine {
    /// Host and port.
    pub address: String,
    /// Whether it answers.
    pub is_up: bool,
    /// How long its answer took.
    pub latency_us: Option<u64>,
    /// Why it is not up.
    pub error: Option<String>,
}
