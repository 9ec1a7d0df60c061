//! `picopay-proofs grow`: from flags to a run, a line of JSON and an exit code.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use picopay_loadtest::command_line::Failure;
use picopay_loadtest::run::Stop;
use picopay_proofs::grow::scale::Scale;
use picopay_proofs::grow::{BrokenMove, Grow};

use super::threads::on_threads;

/// The flags of `grow`.
#[derive(Debug, Clone, Args)]
pub struct GrowArgs {
    /// The same seed gives the same clients. Without one, any.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write summary.json and the acknowledgements into this folder.
    #[arg(long, default_value = "target/grow", value_name = "FOLDER")]
    out: PathBuf,
    /// Break a promise on purpose, to see that the run fails: what the shipped programs rely on is taken from them.
    #[arg(long, value_name = "PROMISE")]
    broken: Option<BrokenMove>,
    /// A little of everything only: to see that it works, not to measure.
    #[arg(long, hide = true)]
    quick: bool,
}

pub async fn run(args: GrowArgs, stop: &Stop) -> Result<(), Failure> {
    // Any, but short enough to be typed again.
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u16>()));
    let scale = if args.quick { Scale::quick() } else { Scale::default() };
    let grow = Grow { seed, scale, out: args.out, broken: args.broken };
    let stop = stop.clone();
    let summary = on_threads(async move || Box::pin(grow.run(&stop)).await).await?;
    // The last line, for programs.
    println!("{}", serde_json::to_string(&summary).map_err(anyhow::Error::from)?);
    if summary.holds {
        return Ok(());
    }
    Err(anyhow!("bars were missed: {}", summary.missed.join(", ")).into())
}
