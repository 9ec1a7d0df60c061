//! The proof that the money is right: every balance, every refund, every key, every row's place.
//!
//! Reads only. Each primary is read in one REPEATABLE READ transaction, so that charges may go on and what is compared is
//! of one moment. [`checks::PROMISES`] lists the checks.
//!
//! Shards are read at different moments, and a slot that moves in between may be counted twice or never. That raises no
//! alarm: a user's rows change hands together, so what a shard owns at any moment adds up by itself.

mod acks;
mod books;
mod checks;
mod findings;
mod kept_report;
mod leftovers;
mod owners;
mod snapshot;
mod transfers;
mod users;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use futures_util::future::try_join_all;
use picopay_shared::cluster::Cluster;
use serde::Serialize;

use crate::cluster_file::ClusterArgs;
use crate::output::{self, OutputArgs};
use acks::{AckFile, AckSummary};
use books::CurrencyBooks;
use findings::{CheckResult, Findings};
use leftovers::Leftovers;
use snapshot::Snapshot;

/// Prove that the money is right.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Also prove that each acknowledged write in this file is in the ledger: one JSON object per line with id,
    /// user_id, kind, amount, currency, balance_after and idempotency_key
    #[arg(long, value_name = "FILE")]
    acks: Option<PathBuf>,
    /// Also write the report to this file, for `picopay console`
    #[arg(long, value_name = "FILE", env = "PICOPAY_VERIFY_REPORT", hide_env_values = true)]
    report: Option<PathBuf>,
}

/// What `verify` prints. With `--output json` these are the names of the fields; they stay.
#[derive(Debug, Serialize)]
pub struct VerifyReport {
    /// Whether nothing is wrong. The exit code is 0 then, and 1 otherwise.
    pub is_proven: bool,
    pub took_ms: u64,
    pub shards: Vec<ShardCounts>,
    pub currencies: Vec<CurrencyBooks>,
    pub checks: Vec<CheckResult>,
    pub leftovers: Vec<Leftovers>,
    /// Of `--acks`; null without.
    pub acks: Option<AckSummary>,
}

#[derive(Debug, Serialize)]
pub struct ShardCounts {
    pub shard: String,
    pub users: u64,
    pub balances: u64,
    pub completed: u64,
    pub refused: u64,
}

pub async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.load()?;
    let report = verify(&cluster, args.acks).await?;
    args.output.print(&report, screen);
    if let Some(file) = &args.report {
        kept_report::write(file, &report)?;
    }
    Ok(if report.is_proven { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify(cluster: &Cluster, acks: Option<PathBuf>) -> anyhow::Result<VerifyReport> {
    let started = Instant::now();
    // Before the snapshots: what is acknowledged after they are taken cannot be in them.
    let acks = acks.map(|path| AckFile::open(&path)).transpose()?;
    let snapshots = try_join_all(cluster.shards.iter().map(Snapshot::take))
        .await
        .context("the money cannot be proven while a shard's primary does not answer")?;
    let read = try_join_all(snapshots.iter().map(read_shard)).await?;
    let mut findings = Findings::default();
    let (mut shards, mut totals) = (Vec::new(), Vec::new());
    for shard in read {
        findings.merge(shard.findings);
        shards.push(shard.counts);
        totals.push(shard.totals);
    }
    checks::check_identities(cluster, &snapshots, &mut findings);
    owners::check(cluster, &snapshots, &mut findings).await?;
    let leftovers = leftovers::check(&snapshots, &mut findings).await?;
    transfers::check(cluster, &snapshots, &mut findings).await?;
    let currencies = books::close(totals, &mut findings);
    let acks = match acks {
        Some(file) => Some(acks::check(file, &snapshots, &mut findings).await?),
        None => None,
    };
    try_join_all(snapshots.into_iter().map(Snapshot::close)).await?;
    Ok(VerifyReport {
        is_proven: findings.is_empty(),
        took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        shards,
        currencies,
        checks: checks::results(findings, acks.is_some()),
        leftovers,
        acks,
    })
}

struct ShardRead {
    counts: ShardCounts,
    totals: Vec<books::ShardTotals>,
    findings: Findings,
}

async fn read_shard(snapshot: &Snapshot) -> anyhow::Result<ShardRead> {
    let mut findings = Findings::default();
    let totals = books::read(snapshot).await?;
    // Before the others: a user in a wrong place makes many other rows wrong, and should be named first.
    let users = users::check_hashes(snapshot, &mut findings).await?;
    checks::run_sql(snapshot, &totals, &mut findings).await?;
    let counts = ShardCounts {
        shard: snapshot.shard.clone(),
        users,
        balances: totals.iter().map(|total| total.balances).sum(),
        completed: totals.iter().map(|total| total.completed).sum(),
        refused: totals.iter().map(|total| total.refused).sum(),
    };
    Ok(ShardRead { counts, totals, findings })
}

fn screen(report: &VerifyReport) -> String {
    let sum = |of: fn(&ShardCounts) -> u64| report.shards.iter().map(of).sum::<u64>();
    let mut parts = vec![format!(
        "Read {} users, {} balances, {} transactions and {} refusals in {} shards.",
        sum(|shard| shard.users),
        sum(|shard| shard.balances),
        sum(|shard| shard.completed),
        sum(|shard| shard.refused),
        report.shards.len()
    )];
    if !report.currencies.is_empty() {
        parts.push(books::table(&report.currencies).to_string());
    }
    let mut table = output::table(["check", "wrong"]);
    for check in &report.checks {
        let wrong =
            if check.wrong == 0 { output::good("none") } else { output::bad(&check.wrong.to_string()) };
        table.add_row([output::plain(check.promise), wrong]);
    }
    parts.push(table.to_string());
    parts.extend(report.acks.as_ref().map(AckSummary::sentence));
    parts.extend(report.leftovers.iter().map(|left| output::bullet(&left.sentence())));
    let took = format!("{}.{:03} s", report.took_ms / 1000, report.took_ms % 1000);
    if report.is_proven {
        parts.push(output::verdict_good(&format!("Proven in {took}: nothing is wrong.")));
    } else {
        parts.push(output::verdict_bad(&format!("Not proven, after {took}. Wrong is:")));
        parts.extend(report.checks.iter().flat_map(bullets));
    }
    parts.join("\n")
}

fn bullets(check: &CheckResult) -> Vec<String> {
    let mut lines: Vec<String> = check.rows.iter().map(|row| output::bullet(&row.to_string())).collect();
    let more = check.wrong.saturating_sub(u64::try_from(lines.len()).unwrap_or(u64::MAX));
    if more > 0 {
        lines.push(output::bullet(&format!("… and {more} more of \"{}\"", check.promise)));
    }
    lines
}
