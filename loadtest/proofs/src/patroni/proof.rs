//! What the ledger says after the drill: of every acknowledgement, and of anything else.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use picopay_local::{PatroniShard, programs};
use serde::Serialize;
use serde_json::Value;

#[derive(Debug, Serialize)]
pub struct DrillProof {
    acknowledged: u64,
    lost: u64,
    /// With transactions that no client got an answer for. Every client asked until it had one, so there must be none.
    doubled: u64,
    pub is_proven: bool,
}

/// Asks `picopay verify`, and counts what it cannot know: that there is no more than what was acknowledged.
pub async fn prove(shard: &PatroniShard, acks: &Path, acknowledged: u64) -> anyhow::Result<DrillProof> {
    let mut verify = tokio::process::Command::new(programs::find_picopay("picopay")?);
    verify.arg("verify").arg("--cluster").arg(shard.cluster_file()).arg("--acks").arg(acks);
    verify.args(["--output", "json"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = verify.output().await.context("picopay verify cannot be started")?;
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("picopay verify failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr))
    })?;
    let wrong = |name: &str| {
        let checks = report["checks"].as_array().into_iter().flatten();
        checks.filter(|check| check["check"] == name).filter_map(|check| check["wrong"].as_u64()).sum::<u64>()
    };
    let client = shard.connect_as_superuser().await?;
    let row = client.query_one("SELECT count(*) FROM transactions", &[]).await?;
    let booked = u64::try_from(row.get::<_, i64>(0))?;
    let (lost, doubled) = (wrong("acks"), wrong("key") + booked.saturating_sub(acknowledged));
    let is_whole = report["acks"]["acknowledged"] == acknowledged;
    let is_proven = report["is_proven"] == true && is_whole && lost == 0 && doubled == 0;
    if !is_proven {
        eprintln!("{booked} transactions are booked; picopay verify says: {report:#}");
    }
    Ok(DrillProof { acknowledged, lost, doubled, is_proven })
}
