//! The users of a load, made and given money before it, over the API.
//!
//! What a gateway could not answer is sent again under its key, until every user has exactly one more top-up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use picopay_shared::money::Money;
use picopay_shared::slot::UserId;

use crate::acks::{AckFile, AckSink, AckSinks};
use crate::http_client::target::{Form, Target, write_number};
use crate::run::{self, Plan, Rhythm, Stop};
use crate::scenario::Scenario;
use crate::shard_map::ShardMap;
use crate::timing::Timing;
use crate::traffic::{Answer, Broken, Kind, Promise, Traffic, Verdict, problem_code};
use crate::write::{KeySource, UuidText, Wish, Write, WriteForms, minor_units};
use crate::write_answer::WriteAnswer;

/// Enough for batches to form, few enough not to be refused as overload.
const CONNECTIONS: usize = 128;
/// With the pauses, some ten seconds.
const ROUNDS_MAX: u32 = 20;
/// Between two rounds, for whatever it is to pass.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(500);
/// A gateway that answered nothing for so long is gone.
const STANDSTILL_MAX: u32 = 15;

/// Users that exist keep what they have. An error says how many users failed, and the first reason.
pub async fn prepare(
    target: &Target,
    scenario: &Scenario,
    fund: Money,
    acks: Option<&AckFile>,
    ended: &Stop,
) -> anyhow::Result<()> {
    let started = Instant::now();
    for step in [Step::Create, Step::Fund { minor_units: minor_units(fund) }] {
        fill(target, scenario, step, acks, ended).await?;
        if ended.is_set() {
            return Ok(());
        }
    }
    let (users, seconds) = (scenario.args().users, started.elapsed().as_secs_f64());
    let currency = scenario.currency();
    eprintln!("{users} users, each topped up by {fund} {currency}, in {seconds:.1} s");
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Create,
    Fund { minor_units: u64 },
}

async fn fill(
    target: &Target,
    scenario: &Scenario,
    step: Step,
    acks: Option<&AckFile>,
    ended: &Stop,
) -> anyhow::Result<()> {
    let users = scenario.args().users;
    let bar = progress_bar(users, step);
    let mut left = Arc::new(Left::all(users));
    for round in 0..ROUNDS_MAX {
        let failed = Arc::new(Failed::default());
        let plan = Plan {
            target: target.clone(),
            rhythm: Rhythm::Closed,
            connections: CONNECTIONS,
            threads: 1,
            warmup: Duration::ZERO,
            // It ends when everybody is served; this is only not for ever.
            duration: Duration::from_hours(24),
            request_timeout: Duration::from_secs(15),
            seed: scenario.args().seed,
            shards: Arc::new(ShardMap::even(1)),
        };
        let sinks = acks.map(AckFile::sinks);
        let traffic = {
            let (scenario, target, left, failed, bar) =
                (scenario.clone(), target.clone(), Arc::clone(&left), Arc::clone(&failed), bar.clone());
            move |_| {
                let acks = sinks.as_ref().map(AckSinks::sink);
                Filling::new(
                    &scenario,
                    &target,
                    step,
                    Arc::clone(&left),
                    Arc::clone(&failed),
                    acks,
                    bar.clone(),
                )
            }
        };
        let mut standstill = 0;
        let round_stop = Stop::default();
        let measured = run::run(&plan, &round_stop, traffic, |second| {
            standstill = if second.achieved == 0 { standstill + 1 } else { 0 };
            if ended.is_set() || standstill >= STANDSTILL_MAX {
                round_stop.now();
            }
        })
        .await?;
        if ended.is_set() {
            bar.abandon();
            return Ok(());
        }
        if let Some(broken) = measured.tally.broken_shown.first() {
            bail!("a promise was broken while {} the users: {}", step.doing(), broken.detail);
        }
        if let Some(reason) = failed.fatal.lock().expect("nobody panicked with it").take() {
            bail!("{} the users failed: {reason}", step.doing());
        }
        if standstill >= STANDSTILL_MAX {
            bail!("{} the users: the gateway has not answered for {STANDSTILL_MAX} s", step.doing());
        }
        let again = std::mem::take(&mut *failed.again.lock().expect("nobody panicked with it"));
        if again.is_empty() {
            bar.finish_and_clear();
            return Ok(());
        }
        if round + 1 == ROUNDS_MAX {
            bail!(
                "{} the users: {} got no answer in {ROUNDS_MAX} tries: {:?}",
                step.doing(),
                again.len(),
                measured.tally.errors
            );
        }
        left = Arc::new(Left::some(again));
        tokio::time::sleep(BETWEEN_ROUNDS).await;
    }
    unreachable!("the last round returns")
}

impl Step {
    fn doing(self) -> &'static str {
        match self {
            Self::Create => "creating",
            Self::Fund { .. } => "funding",
        }
    }
}

fn progress_bar(users: u64, step: Step) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {human_pos}/{human_len} {rate}, {eta} left");
    let style = style.expect("a fixed template").with_key(
        "rate",
        |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            write!(out, "{:.0}/s", state.per_sec()).expect("a terminal's line takes everything");
        },
    );
    let bar = ProgressBar::new(users).with_style(style);
    bar.with_message(format!("{:8} users", step.doing()))
}

#[derive(Debug)]
struct Left {
    next: AtomicU64,
    end: u64,
    /// The users that failed, with the key of the first try.
    some: Option<Vec<(u64, UuidText)>>,
}

impl Left {
    fn all(users: u64) -> Self {
        Self { next: AtomicU64::new(0), end: users, some: None }
    }

    fn some(ranks: Vec<(u64, UuidText)>) -> Self {
        let end = u64::try_from(ranks.len()).expect("fits 64 bits");
        Self { next: AtomicU64::new(0), end, some: Some(ranks) }
    }

    fn take(&self) -> Option<(u64, Option<UuidText>)> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        if place >= self.end {
            return None;
        }
        match &self.some {
            None => Some((place, None)),
            Some(ranks) => {
                let (rank, key) = ranks[usize::try_from(place).expect("below a length")];
                Some((rank, Some(key)))
            }
        }
    }
}

#[derive(Debug, Default)]
struct Failed {
    again: Mutex<Vec<(u64, UuidText)>>,
    fatal: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Filling {
    scenario: Scenario,
    step: Step,
    left: Arc<Left>,
    failed: Arc<Failed>,
    keys: KeySource,
    create: Form,
    forms: WriteForms,
    acks: Option<AckSink>,
    bar: ProgressBar,
    has_failed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    rank: u64,
    write: Write,
}

impl Filling {
    fn new(
        scenario: &Scenario,
        target: &Target,
        step: Step,
        left: Arc<Left>,
        failed: Arc<Failed>,
        acks: Option<AckSink>,
        bar: ProgressBar,
    ) -> Self {
        // Beyond every worker of the load itself, so that no key is used twice.
        let keys_of = match step {
            Step::Create => u32::MAX >> 8,
            Step::Fund { .. } => (u32::MAX >> 8) - 1,
        };
        Self {
            keys: KeySource::new(scenario.run(), keys_of),
            create: target.form("POST", "/v1/users"),
            forms: WriteForms::new(target, scenario.currency()),
            scenario: scenario.clone(),
            step,
            left,
            failed,
            acks,
            bar,
            has_failed: false,
        }
    }

    fn user(&self, rank: u64) -> UserId {
        self.scenario.user(rank)
    }

    fn judge_reply(&mut self, request: Request, status: u16, body: &[u8]) -> Result<(), FundingFailure> {
        if status >= 500 || status == 429 {
            return Err(FundingFailure::Passing(problem_code(status, body).into_owned()));
        }
        if !(200..300).contains(&status) {
            return Err(FundingFailure::Fatal(format!("{status} {}", String::from_utf8_lossy(body).trim())));
        }
        if matches!(self.step, Step::Create) {
            return Ok(());
        }
        let answer = WriteAnswer::read(&request.write, body).ok();
        let answer =
            answer.filter(|answer| answer.wrong_field(&request.write, self.scenario.currency()).is_none());
        let Some(answer) = answer else {
            return Err(FundingFailure::Wrong(format!(
                "a top-up was answered with {}",
                String::from_utf8_lossy(body)
            )));
        };
        if let Some(acks) = &mut self.acks {
            acks.record(&request.write.key, &answer);
        }
        Ok(())
    }
}

enum FundingFailure {
    Passing(String),
    Fatal(String),
    Wrong(String),
}

impl Traffic for Filling {
    type Request = Request;

    fn next(&mut self, output: &mut Vec<u8>) -> Option<Request> {
        if self.has_failed || self.acks.as_ref().is_some_and(AckSink::is_closed) {
            return None;
        }
        let (rank, key) = self.left.take()?;
        let key = key.unwrap_or_else(|| self.keys.next_key());
        let user = self.user(rank);
        let minor_units = match self.step {
            Step::Create => 0,
            Step::Fund { minor_units } => minor_units,
        };
        let write = Write { wish: Wish::TopUp, user, minor_units, key };
        match self.step {
            Step::Create => {
                let mut body = b"{\"user_id\":".to_vec();
                write_number(&mut body, user.get().unsigned_abs());
                body.push(b'}');
                self.create.write_post(output, &key, &body);
            }
            Step::Fund { .. } => self.forms.write(&write, output),
        }
        Some(Request { rank, write })
    }

    fn judge(&mut self, request: Request, answer: Answer<'_>, _: Timing) -> Verdict {
        let judged = match answer {
            Answer::Lost(lost) => Err(FundingFailure::Passing(lost.code().to_owned())),
            Answer::Reply { status, body, .. } => self.judge_reply(request, status, body),
        };
        let (mut result, mut broken, mut pause) = (Ok(()), None, None);
        match judged {
            Ok(()) => self.bar.inc(1),
            Err(FundingFailure::Passing(code)) => {
                let again = (request.rank, request.write.key);
                self.failed.again.lock().expect("nobody panicked with it").push(again);
                // Whoever is refused for being too fast had better be slower.
                pause = Some(Duration::from_millis(100));
                result = Err(code.into());
            }
            Err(FundingFailure::Fatal(reason)) => {
                self.has_failed = true;
                self.failed.fatal.lock().expect("nobody panicked with it").get_or_insert(reason);
                result = Err("fatal".into());
            }
            Err(FundingFailure::Wrong(detail)) => {
                self.has_failed = true;
                broken = Some(Broken { promise: Promise::RightAnswers, detail });
                result = Err(Promise::RightAnswers.code().into());
            }
        }
        let kind = if matches!(self.step, Step::Create) { Kind::CreateUser } else { Kind::TopUp };
        Verdict { kind, slot: request.write.user.slot(), result, broken, pause, rest: Vec::new() }
    }

    fn every_second(&mut self) {
        if let Some(acks) = &mut self.acks {
            acks.flush();
        }
    }
}
