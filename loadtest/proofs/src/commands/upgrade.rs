//! `picopay-proofs upgrade`: from flags to a run, from its summary to a line of JSON and an exit code.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use picopay_loadtest::command_line::{Failure, usage};
use picopay_loadtest::run::Stop;
use picopay_proofs::upgrade::{BrokenUpgrade, Upgrade};

use super::threads::on_threads;

/// The flags of `upgrade`. `make upgrade` builds the earlier release first.
#[derive(Debug, Clone, Args)]
pub struct UpgradeArgs {
    /// The folder of the earlier release's programs: picopay, picopay-node and picopay-gateway. If it has a file `commit`,
    /// that says which release it is.
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// The same seed gives the same clients. Without one, any.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long all of it may take, about. The steps alone take two to three minutes, since each process drains.
    #[arg(long, default_value_t = 4.0, value_name = "MINUTES")]
    minutes: f64,
    /// Write summary.json, the acknowledgements and, if a promise was broken, all logs into this folder.
    #[arg(long, default_value = "target/upgrade/run", value_name = "FOLDER")]
    out: PathBuf,
    /// Break a promise on purpose, to see that the run fails.
    #[arg(long, value_name = "PROMISE")]
    broken: Option<BrokenUpgrade>,
}

const MINUTES: std::ops::RangeInclusive<f64> = 0.25..=1_440.0;

pub async fn run(args: UpgradeArgs, stop: &Stop) -> Result<(), Failure> {
    if !MINUTES.contains(&args.minutes) {
        return Err(usage(anyhow!("--minutes {}: from a quarter to 1440", args.minutes)));
    }
    for program in ["picopay", "picopay-node", "picopay-gateway"] {
        if !args.from.join(program).is_file() {
            let text = format!("--from {}: there is no {program} in it", args.from.display());
            return Err(usage(anyhow!("{text}. make upgrade FROM=… builds an earlier release")));
        }
    }
    // Any, but short enough to be typed again.
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u16>()));
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let UpgradeArgs { from, out, broken, .. } = args;
    let commit = std::fs::read_to_string(from.join("commit"));
    let commit = commit.map_or("an earlier release".to_owned(), |text| text.trim().to_owned());
    let upgrade = Upgrade { seed, time, from, commit, out, broken };
    let stop = stop.clone();
    let summary = on_threads(async move || Box::pin(upgrade.run(&stop)).await).await?;
    // The last line, for programs.
    println!("{}", serde_json::to_string(&summary).map_err(anyhow::Error::from)?);
    if summary.holds {
        return Ok(());
    }
    Err(anyhow!("promises were broken: {}", summary.broken_promises().join(", ")).into())
}
