//! What came out: one JSON for programs, one page for people, a few lines for the terminal.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use crate::histogram::{Bin, CurvePoint, Percentiles};
use crate::machine::Machine;
use crate::page;
use crate::run::{Measured, Plan, Rhythm};
use crate::tally::{Errors, SecondFigures};
use crate::traffic::{Broken, Kind, Promise};

/// At the 99th percentile. Beyond it, the load was not what it was meant to be.
const LAG_P99_MAX_MS: f64 = 100.0;
/// A thread that slept less of its schedule could not send what was due, …
const SLEPT_MIN: f64 = 0.02;
/// … if more than this share of the arrivals waited or was dropped.
const LATE_MAX: f64 = 0.01;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub title: String,
    pub started_at: String,
    pub duration_s: f64,
    pub was_stopped: bool,
    pub failures: Vec<String>,
    pub offered_per_second: f64,
    pub achieved_per_second: f64,
    pub offered: u64,
    pub achieved: u64,
    pub dropped: u64,
    pub waited: u64,
    /// From the intended start to the answer; good answers only.
    pub latency: Percentiles,
    /// From sending to the answer: the same without the wait for a connection.
    pub service_time: Percentiles,
    pub error_latency: Percentiles,
    pub kinds: Vec<Group>,
    pub shards: Vec<Group>,
    pub errors: Errors,
    pub unequal_replays: u64,
    pub unexpected_replays: u64,
    pub wrong_answers: u64,
    pub broken: Vec<Broken>,
    pub unreadable_answer: Option<String>,
    pub acks: Option<u64>,
    pub seconds: Vec<SecondFigures>,
    pub curve: Vec<CurvePoint>,
    pub bins: Vec<Bin>,
    pub generator: Generator,
    pub settings: Value,
    pub machine: Machine,
    pub versions: Value,
    pub durability: Value,
}

#[derive(Debug, Clone, Serialize)]
pub struct Group {
    pub name: String,
    pub per_second: f64,
    /// Errors; counted by shard only.
    pub errors: Option<u64>,
    pub latency: Percentiles,
}

#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    pub cpu_us_per_request: f64,
    /// CPU time of the sending threads, of all that they could have had.
    pub busy_share: f64,
    pub slept_share: f64,
    pub lag: Percentiles,
}

#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    pub versions: serde_json::Map<String, Value>,
    pub durability: serde_json::Map<String, Value>,
}

impl Report {
    /// `settings`: every flag; `acks`: lines of the file of acknowledged writes.
    pub fn new(
        plan: &Plan,
        measured: &Measured,
        settings: Value,
        acks: Option<u64>,
        around: Surroundings,
    ) -> Self {
        let tally = &measured.tally;
        let latency = tally.latency();
        let group = |name: &str, latency: Percentiles, errors| Group {
            name: name.to_owned(),
            per_second: rounded(latency.count as f64 / measured.measured.as_secs_f64().max(1e-9)),
            errors,
            latency,
        };
        let kinds = Kind::ALL.into_iter().filter_map(|kind| {
            let latency = tally.latency_of_kind(kind).percentiles();
            (latency.count > 0).then(|| group(kind.as_str(), latency, None))
        });
        let shards = plan.shards.names().iter().enumerate().map(|(place, name)| {
            let errors = tally.shard_errors.get(place).copied().unwrap_or(0);
            group(name, tally.latency_of_shard(place).percentiles(), Some(errors))
        });
        let threads = f64::from(measured.workers);
        let cpu_us = Duration::from_nanos(tally.cpu_ns).as_secs_f64() * 1e6;
        let scheduled = measured.measured + plan.warmup;
        let wall_us = Duration::from_nanos(tally.wall_ns).as_secs_f64() * 1e6;
        let generator = Generator {
            cpu_us_per_request: rounded(cpu_us / (tally.sent.max(1) as f64)),
            busy_share: rounded(cpu_us / (wall_us * threads).max(1.0)),
            slept_share: rounded(tally.slept_ns as f64 / (scheduled.as_nanos() as f64 * threads).max(1.0)),
            lag: tally.lag.percentiles(),
        };
        let mut versions = around.versions;
        versions.insert("picopay-loadtest".to_owned(), env!("CARGO_PKG_VERSION").into());
        let mut report = Self {
            title: title(plan),
            started_at: jiff::Timestamp::try_from(measured.started)
                .map(|at| at.to_string())
                .unwrap_or_default(),
            duration_s: rounded(measured.measured.as_secs_f64()),
            was_stopped: measured.was_stopped,
            failures: Vec::new(),
            offered_per_second: rounded(measured.offered_per_second()),
            achieved_per_second: rounded(measured.achieved_per_second()),
            offered: tally.offered,
            achieved: tally.achieved,
            dropped: tally.dropped,
            waited: tally.waited,
            latency: latency.percentiles(),
            service_time: tally.service.percentiles(),
            error_latency: tally.error_latency.percentiles(),
            kinds: kinds.collect(),
            shards: shards.collect(),
            errors: tally.errors.clone(),
            unequal_replays: tally.broken[Promise::EqualReplays as usize],
            unexpected_replays: tally.broken[Promise::NoUnexpectedReplays as usize],
            wrong_answers: tally.broken[Promise::RightAnswers as usize],
            broken: tally.broken_shown.clone(),
            unreadable_answer: tally.malformed.clone(),
            acks,
            seconds: measured
                .seconds
                .iter()
                .map(|second| second.figures(plan.warmup, plan.duration))
                .collect(),
            curve: latency.curve(),
            bins: latency.bins(),
            generator,
            settings,
            machine: Machine::read(),
            versions: versions.into(),
            durability: around.durability.into(),
        };
        report.failures = report.find_failures(plan);
        report
    }

    fn find_failures(&self, plan: &Plan) -> Vec<String> {
        let mut failures = Vec::new();
        let counts = [
            (
                self.unequal_replays,
                "repeats did not get the first answer, byte for byte and marked as a replay",
            ),
            (self.unexpected_replays, "new keys were answered as if they were known"),
            (self.wrong_answers, "answers were not about what was asked, or could not be read"),
        ];
        for (count, what) in counts {
            if count > 0 {
                failures.push(format!("{count} {what}"));
            }
        }
        if self.offered > 0 && self.achieved == 0 {
            failures.push("not one request was answered well".to_owned());
        }
        if let Rhythm::Open { rate_per_second, .. } = plan.rhythm {
            let lag_ms = self.generator.lag.p99_ms;
            let late_share = (self.waited + self.dropped) as f64 / self.offered.max(1) as f64;
            let is_worn_out = self.generator.slept_share < SLEPT_MIN && late_share > LATE_MAX;
            if lag_ms > LAG_P99_MAX_MS || is_worn_out {
                failures.push(format!(
                    "this machine could not generate {rate_per_second} requests/s: the schedule fell behind by {lag_ms:.1} ms \
                     (p99; at most {:.1} ms), {:.0} % of the arrivals were late or dropped, and the load test slept for {:.0} % of the \
                     time; these figures measure the load test. Try a lower --rate, or more --threads where there are cores for them",
                    self.generator.lag.max_ms,
                    late_share * 100.0,
                    self.generator.slept_share * 100.0,
                ));
            }
        }
        failures
    }

    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self).context("the report cannot be written as JSON")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("--report {}: cannot be made", folder.display()))?;
        for (name, text) in [("report.json", json.as_str()), ("report.html", &page::fill(&json))] {
            let path = folder.join(name);
            fs::write(&path, text)
                .with_context(|| format!("--report: {} cannot be written", path.display()))?;
        }
        Ok(())
    }

    pub fn summary(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let mut line =
            |name: &str, text: String| writeln!(out, "{name:<12}{text}").expect("a String takes everything");
        let stopped = if self.was_stopped { " (stopped)" } else { "" };
        line("load", format!("{}; {} s measured{stopped}", self.title, self.duration_s));
        line("offered", format!("{:.0}/s", self.offered_per_second));
        let missing =
            if self.dropped > 0 { format!(", {} arrivals dropped", self.dropped) } else { String::new() };
        line("achieved", format!("{:.0}/s{missing}", self.achieved_per_second));
        line("latency", show_latency(&self.latency));
        for kind in &self.kinds {
            if self.kinds.len() > 1 {
                line(
                    &format!("  {}", kind.name),
                    format!("{:.0}/s, {}", kind.per_second, show_latency(&kind.latency)),
                );
            }
        }
        let errors: u64 = self.errors.values().sum();
        line("errors", errors.to_string());
        for (code, count) in &self.errors {
            line("", format!("{count} {code}"));
        }
        if let Some(unreadable) = &self.unreadable_answer {
            line("", unreadable.clone());
        }
        if let Some(acks) = self.acks {
            line("acks", format!("{acks} acknowledged writes recorded"));
        }
        line(
            "load test",
            format!(
                "{:.1} µs of CPU a request, {:.0} % of its threads",
                self.generator.cpu_us_per_request,
                self.generator.busy_share * 100.0
            ),
        );
        for failure in &self.failures {
            line("FAILED", failure.clone());
        }
        for broken in self.broken.iter().take(2) {
            line("", broken.detail.clone());
        }
        out
    }
}

fn show_latency(latency: &Percentiles) -> String {
    let Percentiles { p50_ms, p90_ms, p99_ms, p999_ms, max_ms, .. } = latency;
    format!(
        "p50 {p50_ms:.2} ms, p90 {p90_ms:.2} ms, p99 {p99_ms:.2} ms, p99.9 {p999_ms:.2} ms, max {max_ms:.2} ms"
    )
}

fn title(plan: &Plan) -> String {
    let connections = plan.connections;
    match plan.rhythm {
        Rhythm::Closed => format!("closed loop, {connections} connections"),
        Rhythm::Open { rate_per_second, spacing, .. } => {
            let spacing = format!("{spacing:?}").to_lowercase();
            format!("open loop, {rate_per_second}/s {spacing}, at most {connections} connections")
        }
    }
}

/// To the thousandth: more digits would only look like more.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
