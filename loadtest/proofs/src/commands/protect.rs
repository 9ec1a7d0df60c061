//! `picopay-proofs protect`: from flags to rounds, a line of JSON and an exit code.

use anyhow::anyhow;
use clap::Args;
use picopay_loadtest::command_line::Failure;
use picopay_loadtest::run::Stop;
use picopay_proofs::protect::Protect;

/// The flags of `protect`.
#[derive(Debug, Clone, Args)]
pub struct ProtectArgs {
    /// How often everything is measured, each time on a cluster of its own; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// For how many seconds each load is measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(5..))]
    seconds: u64,
    /// Everything for a moment only: to see that it works, not to measure.
    #[arg(long, hide = true)]
    quick: bool,
}

pub async fn run(args: &ProtectArgs, stop: &Stop) -> Result<(), Failure> {
    let protect = if args.quick { Protect::quick() } else { Protect::new(args.rounds, args.seconds) };
    let summary = protect.run(stop).await?;
    for bar in &summary.bars {
        println!("{bar}");
    }
    // The last line, for programs.
    println!("{}", serde_json::to_string(&summary).map_err(anyhow::Error::from)?);
    match summary.bars.iter().filter(|bar| !bar.is_kept).count() {
        0 => Ok(()),
        missed => Err(anyhow!("{missed} of {} bars were missed", summary.bars.len()).into()),
    }
}
