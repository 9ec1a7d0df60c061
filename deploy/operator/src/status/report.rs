//! What `picopay status` reports. `judgement` fills it in.

use picopay_mover::slot_runs::SlotRuns;
use picopay_shared::node_status::{CacheState, Degradation};
use picopay_shared::slot_owner::SlotState;
use serde::Serialize;
use uuid::Uuid;

use crate::probe::Standby;

/// Nodes stop reading from a replica that is further behind (their default `replica_lag_max`).
pub const REPLICA_LAG_MS_MAX: u64 = 2_000;

/// What `status` prints. With `--output json` these are the names of the fields; they stay.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    /// Whether there is no problem. The exit code is 0 then, and 1 otherwise.
    pub is_well: bool,
    pub slots: SlotSummary,
    pub shards: Vec<ShardStatus>,
    pub problems: Vec<String>,
    pub notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct SlotSummary {
    pub total: u16,
    pub owned_once: usize,
    pub owned_by_nobody: SlotRuns,
    pub owned_twice: SlotRuns,
}

#[derive(Debug, Serialize)]
pub struct ShardStatus {
    pub shard: String,
    pub durability: &'static str,
    /// Since when, by whom, and why.
    pub degraded: Option<Degradation>,
    pub cluster_id: Option<Uuid>,
    pub slots: Option<OwnedSlots>,
    /// On their way in, given away, or not come.
    pub other_slots: Vec<OtherSlots>,
    pub primary: PrimaryStatus,
    pub replicas: Vec<ReplicaStatus>,
    pub nodes: Vec<NodeLine>,
    pub redis: Option<RedisLine>,
}

#[derive(Debug, Serialize)]
pub struct OwnedSlots {
    pub count: usize,
    pub runs: SlotRuns,
    pub source: &'static str,
}

#[derive(Debug, Serialize)]
pub struct OtherSlots {
    pub state: SlotState,
    pub owner: String,
    pub runs: SlotRuns,
    pub with_rows: SlotRuns,
}

#[derive(Debug, Serialize)]
pub struct PrimaryStatus {
    pub is_up: bool,
    pub version: Option<String>,
    pub standbys: Vec<Standby>,
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct ReplicaStatus {
    pub is_up: bool,
    pub version: Option<String>,
    pub is_in_recovery: Option<bool>,
    /// Until it had replayed what the primary had flushed when it was asked; 0 when it lacked nothing, at most a little
    /// over 2 s. Null when either does not answer.
    pub lag_ms: Option<u64>,
    /// How much of the primary's log it has not replayed; null when either is unknown.
    pub lag_bytes: Option<u64>,
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct NodeLine {
    pub url: String,
    pub is_up: bool,
    pub is_ready: bool,
    /// The highest version of the wire that it speaks; null when it does not answer.
    pub wire: Option<u16>,
    /// Its use of Redis: `up`, `skipped` or `off`; null when it does not answer.
    pub cache: Option<CacheState>,
    pub reason: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct RedisLine {
    pub address: String,
    pub is_up: bool,
    pub latency_us: Option<u64>,
    pub error: Option<String>,
}
