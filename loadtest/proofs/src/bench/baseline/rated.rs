//! pgbench at a fixed rate: what a charge costs PostgreSQL when there is time between two of them.

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinHandle;

use super::{Baseline, CLIENTS, Output};
use crate::bench::cpu::ByRole;
use crate::bench::figure::rounded;
use crate::bench::pace::Pace;
use crate::bench::stand::Stand;

/// More than a rate needs, and the fewest of the baseline: each is a backend that must be awake to answer.
const CLIENTS_OF_SHARD: u32 = CLIENTS[0];

/// pgbench does not always tell of its last second, so there is one more than is measured.
const LAST_S: u64 = 1;

#[derive(Debug, Clone, Serialize)]
pub struct RatedRun {
    /// What came of the rate, on all shards together.
    pub per_second: f64,
    /// CPU time for one charge; only PostgreSQL has a part in it.
    pub cpu_us: ByRole,
    /// When it began, since the cluster was there.
    pub began_s: f64,
    /// Charges in each measured second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seconds: Vec<f64>,
}

impl Baseline {
    /// On all shards, as PicoPay has its charges. Connections and plans are made before the time that counts.
    pub async fn run_at(
        &mut self,
        stand: &Stand,
        pace: &Pace,
        rate_per_second: f64,
    ) -> anyhow::Result<RatedRun> {
        let began_s = stand.age_s();
        let each = rate_per_second / self.shards.len() as f64;
        let seconds_in_all = pace.baseline_warmup_s + pace.rated_baseline_s + LAST_S;
        let (sender, mut told) = mpsc::unbounded_channel();
        let mut running = Vec::new();
        for (shard, place) in self.shards.iter().enumerate() {
            let mut command = self.pgbench(place, CLIENTS_OF_SHARD, seconds_in_all, Some(each));
            let mut child = command.spawn().context("pgbench cannot be started")?;
            let lines = child.stderr.take().context("pgbench's standard error is a pipe")?;
            running.push((child, collect(shard, lines, sender.clone())));
        }
        drop(sender);

        let skipped = usize::try_from(pace.baseline_warmup_s).expect("seconds fit a usize");
        let measured = usize::try_from(pace.rated_baseline_s).expect("seconds fit a usize");
        let (mut begin, mut end, mut progress) = (None, None, 0);
        // The seconds of all began together; the first shard's say when one is over.
        while let Some(shard) = told.recv().await {
            if shard == 0 {
                progress += 1;
                if progress == skipped {
                    begin = Some(stand.processes.cpu_times()?);
                } else if progress == skipped + measured {
                    end = Some(stand.processes.cpu_times()?);
                }
            }
        }
        let mut seconds = vec![0.0; measured];
        for (claimed, (child, lines)) in self.claimed.iter_mut().zip(running) {
            let output = end_of(child, lines).await?;
            *claimed += output.processed;
            ensure!(output.per_second.len() >= skipped + measured, "pgbench told of too few seconds");
            for (sum, one) in seconds.iter_mut().zip(&output.per_second[skipped..]) {
                *sum += one;
            }
        }
        let charges: f64 = seconds.iter().sum();
        let spent = end.context("pgbench told of no end")? - begin.context("pgbench told of no beginning")?;
        let postgres =
            ByRole { primary: spent.servers.primary, replica: spent.servers.replica, ..ByRole::default() };
        let run = RatedRun {
            per_second: rounded(charges / measured as f64),
            cpu_us: postgres.map(|seconds| rounded(seconds * 1e6 / charges.max(1.0))),
            began_s,
            seconds,
        };
        eprintln!(
            "baseline    {:.0}/s of {rate_per_second:.0}/s: {:.0} µs of PostgreSQL's CPU each",
            run.per_second,
            run.cpu_us.total()
        );
        Ok(run)
    }
}

/// Tells of each second as soon as pgbench does, and returns all that it said.
fn collect(shard: usize, lines: ChildStderr, told: UnboundedSender<usize>) -> JoinHandle<String> {
    tokio::spawn(async move {
        let (mut lines, mut all) = (BufReader::new(lines).lines(), String::new());
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("progress: ") {
                // Nobody listens any more when another shard's failed.
                let _ = told.send(shard);
            }
            all += &line;
            all.push('\n');
        }
        all
    })
}

async fn end_of(child: Child, lines: JoinHandle<String>) -> anyhow::Result<Output> {
    let told = lines.await.context("a task that reads lines does not panic")?;
    let output = child.wait_with_output().await?;
    Output::of(output.status, &String::from_utf8_lossy(&output.stdout), &told)
}
