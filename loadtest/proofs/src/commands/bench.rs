//! `picopay-proofs bench`: from flags to a bench, from its summary to a table, a line of JSON and an exit code.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use picopay_loadtest::command_line::{Failure, parse_note};
use picopay_loadtest::run::Stop;
use picopay_proofs::bench::Bench;
use picopay_proofs::bench::bar;
use picopay_proofs::bench::cost;
use picopay_proofs::bench::pace::Pace;

/// The flags of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Also compare shards, existing data, Redis and connections: half an hour instead of seven minutes.
    #[arg(long)]
    full: bool,
    /// Write summary.json and report.html into this folder.
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    out: PathBuf,
    /// Everything for a moment only: to see that it works, not to measure.
    #[arg(long, hide = true)]
    quick: bool,
    /// Something to have in the report, for example --note commit=abc1234. Can be given several times.
    #[arg(long = "note", value_name = "NAME=VALUE", value_parser = parse_note)]
    notes: Vec<(String, String)>,
}

pub async fn run(args: BenchArgs, stop: &Stop) -> Result<(), Failure> {
    let pace = if args.quick { Pace::quick() } else { Pace::default() };
    let bench = Bench { pace, is_full: args.full, out: args.out, notes: args.notes };
    let summary = bench.run(stop).await?;
    bench.write(&summary)?;
    println!("{}", cost::table(&summary.costs));
    println!("{}", bar::table(&summary.bars).trim_end());
    for warning in &summary.warnings {
        println!("warning     {warning}: these figures are not PicoPay's");
    }
    println!("report      {}", bench.out.join("report.html").display());
    // The last line, for programs.
    println!("{}", serde_json::to_string(&summary.without_seconds()).map_err(anyhow::Error::from)?);
    if summary.failures.is_empty() { Ok(()) } else { Err(anyhow!("{}", summary.failures.join("; ")).into()) }
}
