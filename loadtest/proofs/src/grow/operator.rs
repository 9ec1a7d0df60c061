//! What an operator types: `picopay` as a process of its own, and what it says.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use picopay_local::programs;
use serde::Deserialize;
use serde_json::Value;

/// No command takes so long: beyond it something hangs.
const PATIENCE: Duration = Duration::from_mins(20);

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Moved {
    pub is_done: bool,
    pub slots: u64,
    pub rows: u64,
    pub took_ms: u64,
    /// The longest time in which a slot was owned by nobody.
    pub longest_pause_ms: u64,
    pub aborts: u64,
}

pub async fn moves(cluster_file: &Path, arguments: &[&str]) -> anyhow::Result<Moved> {
    let report = run(cluster_file, arguments).await?;
    let named = || format!("picopay {} says {report}", arguments.join(" "));
    let moved = Moved::deserialize(&report).with_context(named)?;
    ensure!(moved.is_done, "{}, and is not done", named());
    Ok(moved)
}

pub async fn run(cluster_file: &Path, arguments: &[&str]) -> anyhow::Result<Value> {
    run_of(&programs::find_picopay("picopay")?, cluster_file, arguments).await
}

/// The same, of a certain release.
pub async fn run_of(picopay: &Path, cluster_file: &Path, arguments: &[&str]) -> anyhow::Result<Value> {
    let named = arguments.join(" ");
    let mut command = tokio::process::Command::new(picopay);
    command.args(arguments).arg("--cluster").arg(cluster_file).args(["--output", "json"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output());
    let output = output.await.with_context(|| format!("picopay {named} hangs"))?;
    let output = output.with_context(|| format!("picopay {named} cannot be started"))?;
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "picopay {named} failed ({}): {said}{told}", output.status);
    serde_json::from_str(&said).with_context(|| format!("picopay {named} says no JSON: {said}{told}"))
}
