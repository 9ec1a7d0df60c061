//! What the command line asks for, and what it exits with.

use std::time::Duration;

use clap::Args;
use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::command_line::{Failure, usage};
use picopay_loadtest::run::Stop;
use picopay_loadtest::scenario::ScenarioArgs;
use picopay_loadtest::selftest::{self, PER_CORE_MIN};

mod flags;
pub mod run;

use flags::{parse_seconds, rhythm};

/// How to measure the load test itself.
#[derive(Debug, Clone, Args)]
pub struct SelfTestArgs {
    /// For how long, each of three times.
    #[arg(long, default_value = "5", value_parser = parse_seconds, value_name = "SECONDS")]
    duration: Duration,
    /// Connections to the responder.
    #[arg(long, default_value_t = 64, value_name = "N")]
    connections: usize,
    /// At this rate, rather than as fast as it goes: what a request costs then, and how punctual it is.
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    #[command(flatten)]
    scenario: ScenarioArgs,
}

pub async fn selftest(args: &SelfTestArgs, stop: &Stop) -> Result<(), Failure> {
    picopay_loadtest::scenario::Scenario::new(args.scenario.clone()).map_err(usage)?;
    let rhythm = rhythm(args.rate, Spacing::Constant, None).map_err(usage)?;
    let mut rounds = Vec::new();
    for round in 1..=3 {
        let measured =
            selftest::run(args.scenario.clone(), rhythm, args.connections, args.duration, stop).await?;
        println!(
            "round {round}: {:>7.0} requests/s on one core by its CPU time ({:.1} µs each), {:.0}/s by the clock",
            measured.per_core,
            1e6 / measured.per_core,
            measured.per_second,
        );
        if args.rate.is_some() {
            let (p50_ms, p99_ms) = measured.lag_ms;
            println!("         behind its schedule by {p50_ms:.3} ms (p50), {p99_ms:.3} ms (p99)");
        }
        rounds.push(measured.per_core);
        if stop.is_set() {
            break;
        }
    }
    rounds.sort_by(f64::total_cmp);
    let median = rounds[rounds.len() / 2];
    println!("median:  {median:>7.0} requests/s on one core; needed {PER_CORE_MIN:.0}");
    if args.rate.is_none() && median < PER_CORE_MIN {
        let hint = if cfg!(debug_assertions) { " (this is a debug build; use --release)" } else { "" };
        return Err(anyhow::anyhow!("the load test is too slow here: it would measure itself{hint}").into());
    }
    Ok(())
}
