//! What the command line asks for, and what it exits with.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::command_line::{Failure, usage};
use picopay_loadtest::run::{Rhythm, Stop};
use picopay_loadtest::scenario::ScenarioArgs;
use picopay_loadtest::selftest::{self, PER_CORE_MIN};

pub mod run;

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

/// `picopay-loadtest selftest`.
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

/// Beyond what any machine sends; a zero too many.
const RATE_MAX: f64 = 10_000_000.0;

/// A closed loop, or an open one where there is a rate.
pub fn rhythm(rate: Option<f64>, spacing: Spacing, waiting_max: Option<usize>) -> anyhow::Result<Rhythm> {
    let Some(rate_per_second) = rate else { return Ok(Rhythm::Closed) };
    // Not a number is neither.
    if !(rate_per_second > 0.0 && rate_per_second <= RATE_MAX) {
        bail!("--rate {rate_per_second}: arrivals a second, above 0 and at most {RATE_MAX}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and ten million")]
    let one_second = rate_per_second.ceil() as usize;
    Ok(Rhythm::Open { rate_per_second, spacing, waiting_max: waiting_max.unwrap_or(one_second) })
}

/// Seconds as everybody types them: `10`, `0.5`, `10s`, `2m`.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let (number, factor) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60.0),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * factor);
    // A day: longer is a typing error.
    match seconds.filter(|seconds| (0.0..=86_400.0).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
        None => Err("write seconds, for example 10, 0.5 or 2m, at most a day".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_as_people_type_them() {
        for (text, expected) in [
            ("10", Some(10.0)),
            ("0.5s", Some(0.5)),
            ("2m", Some(120.0)),
            ("-1", None),
            ("NaN", None),
            ("1h", None),
            ("", None),
        ] {
            let read = parse_seconds(text).ok().map(|duration| duration.as_secs_f64());
            assert_eq!(read, expected, "{text:?}");
        }
    }
}
