//! What the command line asks for, and what it exits with.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::http_client::target::Target;
use picopay_loadtest::run::{Rhythm, Stop};
use picopay_loadtest::scenario::ScenarioArgs;
use picopay_loadtest::selftest::{self, PER_CORE_MIN};
use picopay_loadtest::smoke;
use tokio::runtime::Builder;

pub mod bench;
pub mod chaos;
pub mod grow;
pub mod protect;
pub mod run;

/// Why the program ends with something else than 0.
#[derive(Debug)]
pub struct Failure {
    /// For whoever typed the command.
    pub cause: anyhow::Error,
    /// 1 or 2.
    pub code: u8,
}

/// A promise was broken, or the load could not be done.
impl From<anyhow::Error> for Failure {
    fn from(cause: anyhow::Error) -> Self {
        Self { cause, code: 1 }
    }
}

/// The command line makes no sense.
pub fn usage(cause: anyhow::Error) -> Failure {
    Failure { cause, code: 2 }
}

/// Which gateway, and who asks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Gateway")]
pub struct GatewayArgs {
    /// The gateway's base URL.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// A key with the scopes read and write. Without one, the demo key is tried, on this machine only.
    #[arg(long, env = "PICOPAY_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
}

impl GatewayArgs {
    /// Checked and resolved.
    pub fn target(&self) -> Result<Target, Failure> {
        Target::new(&self.url, self.api_key.as_deref()).map_err(usage)
    }
}

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

/// `picopay-loadtest smoke`.
pub fn smoke(args: &GatewayArgs) -> Result<(), Failure> {
    Ok(smoke::run(&args.target()?)?)
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

/// For clients and wires of a run on a cluster of its own, which are idle nearly always.
const THREADS: usize = 2;

/// Runs what starts, breaks and changes a cluster on a thread of its own, beside others for clients and wires: what blocks
/// the one, such as the files of a server that is made anew, must not hold up the others.
pub async fn on_threads<T: Send + 'static>(
    run: impl AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let running = tokio::task::spawn_blocking(move || {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
        runtime.block_on(run())
    });
    running.await?
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

/// `NAME=VALUE`.
pub fn parse_note(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
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
