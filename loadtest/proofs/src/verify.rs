//! `picopay verify`, the operator's own proof that the money is right, and what it says.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use picopay_local::programs;
use serde_json::Value;

pub async fn run(cluster_file: &Path, acks: &Path) -> anyhow::Result<Value> {
    let mut verify = tokio::process::Command::new(programs::find_picopay("picopay")?);
    verify.arg("verify").arg("--cluster").arg(cluster_file).arg("--acks").arg(acks);
    verify.args(["--output", "json"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = verify.output().await.context("picopay verify cannot be started")?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!("picopay verify failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}
