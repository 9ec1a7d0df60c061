//! `picopay-proofs chaos`: from flags to a run, from its summary to a line of JSON and an exit code.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use picopay_loadtest::command_line::{Failure, usage};
use picopay_loadtest::run::Stop;
use picopay_proofs::chaos::{Broken, Chaos, Kind, Servers};
use picopay_proofs::findings::Promise;

use super::threads::on_threads;

/// The flags of `chaos`.
#[derive(Debug, Clone, Args)]
pub struct ChaosArgs {
    /// The same seed gives the same clients and the same faults. Without one, any.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long all of it may take, about; a quarter of it is for the checks at the end.
    #[arg(long, default_value_t = 8.0, value_name = "MINUTES")]
    minutes: f64,
    /// Write summary.json, the acknowledgements and, if a promise was broken, all logs into this folder.
    #[arg(long, default_value = "target/chaos", value_name = "FOLDER")]
    out: PathBuf,
    /// Break a promise on purpose, to see that the run fails: what the shipped programs rely on is taken from them.
    #[arg(long, value_name = "PROMISE")]
    broken: Option<Broken>,
    /// Only these faults, by the names that summary.json has for them: node_killed,redis_forged.
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = Kind::named)]
    faults: Vec<Kind>,
    /// So many nodes serve each shard. Without it one or two, as the seed has it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    nodes: Option<u8>,
    /// Plain servers, or odd ones: in another language, with unusual settings of the services' role. Without it as the seed
    /// has it.
    #[arg(long, value_name = "KIND")]
    servers: Option<Servers>,
}

/// Long enough for some faults, and for a day.
const MINUTES: std::ops::RangeInclusive<f64> = 0.25..=1_440.0;

pub async fn run(args: ChaosArgs, stop: &Stop) -> Result<(), Failure> {
    if !MINUTES.contains(&args.minutes) {
        return Err(usage(anyhow!("--minutes {}: from a quarter to 1440", args.minutes)));
    }
    // Any, but short enough to be typed again.
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u16>()));
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let ChaosArgs { out, broken, faults, nodes, servers, .. } = args;
    let chaos = Chaos { seed, time, out, broken, faults, nodes: nodes.map(usize::from), servers };
    let stop = stop.clone();
    let summary = on_threads(async move || chaos.run(&stop).await).await?;
    // The last line, for programs.
    println!("{}", serde_json::to_string(&summary).map_err(anyhow::Error::from)?);
    if summary.holds {
        return Ok(());
    }
    let broken = Promise::ALL.into_iter().filter_map(|(_, name)| match summary.promises.get(name) {
        None | Some(0) => None,
        Some(count) => Some(format!("{name} {count}")),
    });
    Err(anyhow!("promises were broken: {}", broken.collect::<Vec<_>>().join(", ")).into())
}
