//! What the gateway's front costs: an echo that does all that a gateway does but for asking a shard, and hyper alone.
//!
//! Loaded as at saturation: a closed loop of as many connections, so that each look at the sockets finds many requests.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use picopay_local::programs;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::cpu;
use super::figure::rounded;
use super::mix::Mix;
use super::pace::Pace;
use super::saturation::CONNECTIONS;
use super::stand::Stand;
use picopay_loadtest::http_client::target::Target;
use picopay_loadtest::run::{self, Plan, Stop};
use picopay_loadtest::scenario::{Scenario, ScenarioTraffic, Sent};
use picopay_loadtest::timing::Timing;
use picopay_loadtest::traffic::{Answer, Kind, Traffic, Verdict, problem_code};

/// An echo that has not begun by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// CPU time for one charge in µs.
#[derive(Debug, Clone, Serialize)]
pub struct Front {
    /// hyper alone: head, body and an answer of the usual size.
    pub hyper: Echo,
    /// With the gateway's checks, parsing, fingerprint and answer.
    pub front: Echo,
}

#[derive(Debug, Clone, Serialize)]
pub struct Echo {
    pub cpu_us: f64,
    pub per_second: f64,
}

pub async fn measure(stand: &Stand, pace: &Pace, stop: &Stop) -> anyhow::Result<Front> {
    let hyper = measure_one(stand, pace, &["--bare"], stop).await.context("the echo of hyper alone")?;
    let front = measure_one(stand, pace, &[], stop).await.context("the echo of the front")?;
    eprintln!("front       {:.1} µs for a charge, of which hyper alone {:.1} µs", front.cpu_us, hyper.cpu_us);
    Ok(Front { hyper, front })
}

async fn measure_one(stand: &Stand, pace: &Pace, flags: &[&str], stop: &Stop) -> anyhow::Result<Echo> {
    let mut command = Command::new(programs::find_picopay("picopay-echo")?);
    command.arg("--cluster").arg(stand.cluster.cluster_file());
    command.arg("--config").arg(stand.cluster.folder().join("gateway.toml")).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut echo = command.spawn().context("picopay-echo cannot be started")?;
    let address = tokio::time::timeout(PATIENCE, address_of(&mut echo)).await??;
    let pid = echo.id().context("picopay-echo has ended")?;
    let target = Target::new(&format!("http://{address}"), Some(stand.cluster.api_key()))?;

    let scenario = Scenario::new(Mix::Uniform.scenario(pace.users))?;
    let plan = Plan {
        target: target.clone(),
        connections: CONNECTIONS,
        warmup: pace.warmup(),
        duration: Duration::from_secs(pace.echo_s),
        ..stand.plan_of_charges()
    };
    let (warmup_s, end_s) = (pace.warmup_s, pace.warmup_s + pace.echo_s);
    let (mut begin, mut end, mut answers) = (cpu::own_seconds(pid), None, 0);
    let traffic = move |worker| EchoTraffic(ScenarioTraffic::new(&scenario, &target, worker, None));
    let measured = run::run(&plan, stop, traffic, |second| {
        if (warmup_s..end_s).contains(&second.index) {
            answers += second.achieved;
        }
        if second.index + 1 == warmup_s {
            begin = cpu::own_seconds(pid);
        } else if second.index + 1 == end_s {
            end = cpu::own_seconds(pid);
        }
    })
    .await?;
    ensure!(!measured.was_stopped, "stopped");
    ensure!(measured.errors() == 0, "it did not answer each charge: {:?}", measured.tally.errors);
    let spent = end.context("it has ended")? - begin.context("it has ended")?;
    echo.kill().await?;
    Ok(Echo {
        cpu_us: rounded(spent * 1e6 / (answers.max(1) as f64)),
        per_second: rounded(measured.achieved_per_second()),
    })
}

async fn address_of(echo: &mut Child) -> anyhow::Result<String> {
    let said = echo.stdout.take().context("its standard output is a pipe")?;
    let line = BufReader::new(said).lines().next_line().await?;
    line.context("picopay-echo ended before it listened")
}

/// Charges, whose answers are only looked at for their status.
struct EchoTraffic(ScenarioTraffic);

impl Traffic for EchoTraffic {
    type Request = Sent;

    fn next(&mut self, output: &mut Vec<u8>) -> Option<Sent> {
        self.0.next(output)
    }

    fn judge(&mut self, sent: Sent, answer: Answer<'_>, _: Timing) -> Verdict {
        let result = match answer {
            Answer::Reply { status: 200, .. } => Ok(()),
            Answer::Reply { status, body, .. } => Err(problem_code(status, body)),
            Answer::Lost(lost) => Err(lost.code().into()),
        };
        let Sent::Alone(asked) = sent else { unreachable!("the bench of the front sends no batches") };
        Verdict {
            kind: Kind::Charge,
            slot: asked.slot(),
            result,
            broken: None,
            pause: None,
            rest: Vec::new(),
        }
    }
}
