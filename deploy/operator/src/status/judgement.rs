//! What is well and what is not, from what the parts of the shards said.

use std::collections::BTreeMap;

use picopay_shared::cluster::{Durability, Shard};
use uuid::Uuid;

use super::moves;
use super::remarks::Remarks;
use super::report::{
    NodeLine, OwnedSlots, PrimaryStatus, REPLICA_LAG_MS_MAX, RedisLine, ReplicaStatus, ShardStatus,
    StatusReport,
};
use crate::output::seconds;
use crate::probe::{PendingTransfers, PrimaryState, ReplicaState, ShardProbe, Standby};

/// A transfer ends in milliseconds, and the courier takes up what was left after some seconds.
const PENDING_S_MAX: u64 = 60;

pub fn judge(shards: &[Shard], probes: &[ShardProbe]) -> StatusReport {
    let mut remarks = Remarks::default();
    let lines: Vec<ShardStatus> =
        shards.iter().zip(probes).map(|(shard, probe)| judge_shard(shard, probe, &mut remarks)).collect();
    let ids: BTreeMap<Uuid, &str> =
        lines.iter().filter_map(|line| Some((line.cluster_id?, line.shard.as_str()))).collect();
    if ids.len() > 1 {
        let list: Vec<String> = ids.iter().map(|(id, shard)| format!("{shard} is of {id}")).collect();
        remarks.problems.push(format!(
            "the shards are of different clusters ({}): check the connection strings",
            list.join(", ")
        ));
    }
    let slots = moves::summarise_slots(shards, probes, &mut remarks);
    StatusReport {
        is_well: remarks.problems.is_empty(),
        slots,
        shards: lines,
        problems: remarks.problems,
        notes: remarks.notes,
    }
}

fn judge_shard(shard: &Shard, probe: &ShardProbe, remarks: &mut Remarks) -> ShardStatus {
    let primary = probe.primary.as_ref();
    let (ledger, _) = probe.known_ledger().unzip();
    if let Ok(state) = primary {
        judge_identity(shard, state, remarks);
        if let Some(Err(unfit)) = state.ledger.as_ref().map(|ledger| &ledger.schema) {
            remarks.problems.push(format!("{}: its primary: {unfit}", shard.name));
        }
        let pending = state.ledger.as_ref().and_then(|ledger| ledger.pending_transfers);
        if let Some(PendingTransfers { count, for_s }) = pending.filter(|one| one.for_s > PENDING_S_MAX) {
            remarks.problems.push(format!(
                "{}: {count} transfers of its users are pending, the oldest for {for_s} s: `picopay transfers` says why",
                shard.name
            ));
        }
        match state.ledger.as_ref().and_then(|ledger| ledger.degraded.as_ref()) {
            None => judge_standbys(shard, state, remarks),
            Some(degraded) => remarks.problems.push(format!(
                "{name} is degraded since {} by {} ({}): what it acknowledges is on its primary alone; \
                 `picopay shard restore {name}` ends that when a standby follows",
                degraded.since,
                degraded.by,
                degraded.reason,
                name = shard.name
            )),
        }
    }
    let replicas = shard.replicas.iter().zip(&probe.replicas);
    ShardStatus {
        shard: shard.name.clone(),
        durability: match shard.durability {
            Durability::Replicated => "replicated",
            Durability::Local => "local",
        },
        degraded: ledger.and_then(|ledger| ledger.degraded.clone()),
        cluster_id: ledger.and_then(|ledger| ledger.identity.as_ref()).map(|(id, _)| *id),
        slots: probe.known_ledger().map(|(ledger, source)| OwnedSlots {
            count: ledger.owned.len(),
            runs: ledger.owned.iter().copied().collect(),
            source,
        }),
        other_slots: ledger.map(|ledger| moves::group(&ledger.others)).unwrap_or_default(),
        primary: match primary {
            Ok(state) => PrimaryStatus {
                is_up: true,
                version: Some(state.version.clone()),
                standbys: state.standbys.clone(),
                error: None,
            },
            Err(error) => {
                remarks.problems.push(error.to_string());
                PrimaryStatus {
                    is_up: false,
                    version: None,
                    standbys: Vec::new(),
                    error: Some(error.to_string()),
                }
            }
        },
        replicas: replicas.map(|(_, replica)| judge_replica(shard, primary.ok(), replica, remarks)).collect(),
        nodes: judge_nodes(shard, probe, remarks),
        redis: probe.redis.as_ref().map(|redis| {
            if let Err(reason) = &redis.answered {
                remarks.problems.push(format!("{}: {reason}; charges go on without it", shard.name));
            }
            let latency = redis.answered.as_ref().ok();
            RedisLine {
                address: redis.address.clone(),
                is_up: latency.is_some(),
                latency_us: latency.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
                error: redis.answered.as_ref().err().cloned(),
            }
        }),
    }
}

fn judge_identity(shard: &Shard, primary: &PrimaryState, remarks: &mut Remarks) {
    match primary.ledger.as_ref().and_then(|ledger| ledger.identity.as_ref()) {
        None => remarks.problems.push(format!(
            "{name}: it is of no cluster: run `picopay init` for a new one, `picopay shard add {name}` for a shard that joins",
            name = shard.name
        )),
        Some((_, name)) if *name != shard.name => remarks.problems.push(format!(
            "{}: its primary's database says that it is {name:?}: check the connection strings",
            shard.name
        )),
        Some((id, _)) => judge_cluster(shard, "primary", *id, remarks),
    }
}

fn judge_cluster(shard: &Shard, role: &str, found: Uuid, remarks: &mut Remarks) {
    if let Some(expected) = shard.cluster_id.filter(|expected| *expected != found) {
        remarks.problems.push(format!(
            "{}: the database of its {role} is of cluster {found}, and the file is of {expected}: does its connection string \
             lead to another environment?",
            shard.name
        ));
    }
}

fn judge_standbys(shard: &Shard, primary: &PrimaryState, remarks: &mut Remarks) {
    if shard.durability == Durability::Local {
        return;
    }
    if !primary.standbys.is_empty() && primary.standbys.iter().all(|standby| standby.sync_state.is_none()) {
        remarks.notes.push(format!(
            "{}: the user of its connection string may not see the state of standbys: GRANT pg_monitor to it",
            shard.name
        ));
    } else if !primary.standbys.iter().any(Standby::is_synchronous) {
        remarks.problems.push(format!(
            "{}: no synchronous standby is streaming, so no charge is acknowledged until one is back",
            shard.name
        ));
    }
}

fn judge_replica(
    shard: &Shard,
    primary: Option<&PrimaryState>,
    replica: &Result<ReplicaState, impl std::fmt::Display>,
    remarks: &mut Remarks,
) -> ReplicaStatus {
    let state = match replica {
        Ok(state) => state,
        Err(error) => {
            remarks.problems.push(error.to_string());
            return ReplicaStatus {
                is_up: false,
                version: None,
                is_in_recovery: None,
                lag_ms: None,
                lag_bytes: None,
                error: Some(error.to_string()),
            };
        }
    };
    let identity = state.ledger.as_ref().and_then(|ledger| ledger.identity.as_ref());
    if let Some((id, name)) = identity {
        judge_cluster(shard, "replica", *id, remarks);
        if *name != shard.name {
            remarks.problems.push(format!(
                "{}: its replica's database says that it is {name:?}: check the connection strings",
                shard.name
            ));
        }
    }
    if !state.is_in_recovery {
        remarks.problems.push(format!(
            "{}: a server that its file lists as a replica takes writes: it follows no primary",
            shard.name
        ));
    }
    let lag_ms = state
        .lag
        .filter(|_| state.is_in_recovery)
        .map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
    let lag_bytes = primary
        .and_then(|primary| Some(u64::from(primary.lsn).saturating_sub(u64::from(state.lsn?))))
        .filter(|_| state.is_in_recovery);
    if let Some(lag) = lag_ms.filter(|lag| *lag > REPLICA_LAG_MS_MAX) {
        remarks.problems.push(format!("{}: a replica is {} behind", shard.name, seconds(lag)));
    }
    ReplicaStatus {
        is_up: true,
        version: Some(state.version.clone()),
        is_in_recovery: Some(state.is_in_recovery),
        lag_ms,
        lag_bytes,
        error: None,
    }
}

fn judge_nodes(shard: &Shard, probe: &ShardProbe, remarks: &mut Remarks) -> Vec<NodeLine> {
    let lines = shard.nodes.iter().zip(&probe.nodes).map(|(url, node)| match node {
        Err(reason) => NodeLine {
            url: url.clone(),
            is_up: false,
            is_ready: false,
            wire: None,
            cache: None,
            reason: Some(reason.clone()),
        },
        Ok(status) => {
            let serves_other = status.shard != shard.name;
            let other = format!("it serves {}: check its node.toml and the cluster's file", status.shard);
            NodeLine {
                url: url.clone(),
                is_up: true,
                is_ready: status.is_ready && !serves_other,
                wire: Some(status.wire),
                cache: Some(status.cache),
                reason: if serves_other { Some(other) } else { status.not_ready_reason.clone() },
            }
        }
    });
    let lines: Vec<NodeLine> = lines.collect();
    for line in lines.iter().filter(|line| !line.is_ready) {
        let reason = line.reason.as_deref().unwrap_or("it does not say why");
        let state = if line.is_up { "not ready" } else { "down" };
        remarks.problems.push(format!("node of {} ({}): {state}: {reason}", shard.name, line.url));
    }
    lines
}
