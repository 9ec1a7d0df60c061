//! One run: threads that send, a sum for each second, and what was measured in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::arrivals::{Schedule, Spacing};
use crate::http_client::target::Target;
use crate::shard_map::ShardMap;
use crate::tally::{Second, Tally};
use crate::traffic::Traffic;
use crate::worker::{self, Gate, Orders, Pace};

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "loop", rename_all = "lowercase")]
pub enum Rhythm {
    /// Each connection sends as soon as it was answered: finds saturation.
    Closed,
    /// On a schedule that does not care how the gateway fares: finds latency.
    Open {
        rate_per_second: f64,
        spacing: Spacing,
        /// Arrivals that may wait for a free connection; what comes on top is dropped.
        waiting_max: usize,
    },
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub target: Target,
    pub rhythm: Rhythm,
    pub connections: usize,
    /// Threads that send. One is enough for 60,000 requests a second.
    pub threads: u32,
    pub warmup: Duration,
    pub duration: Duration,
    pub request_timeout: Duration,
    pub seed: u64,
    pub shards: Arc<ShardMap>,
}

#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone)]
pub struct Measured {
    pub started: SystemTime,
    /// How much of the time that was to be measured was: less than planned only when it was stopped.
    pub measured: Duration,
    pub was_stopped: bool,
    pub workers: u32,
    pub tally: Tally,
    pub seconds: Vec<Second>,
}

impl Measured {
    pub fn offered_per_second(&self) -> f64 {
        per_second(self.tally.offered, self.measured)
    }

    pub fn achieved_per_second(&self) -> f64 {
        per_second(self.tally.achieved, self.measured)
    }

    pub fn errors(&self) -> u64 {
        self.tally.errors.values().sum()
    }
}

fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// Runs a plan. `traffic` makes each worker's share, in its own thread; `on_second` sees each second when all workers have
/// ended it.
pub async fn run<T, B>(
    plan: &Plan,
    stop: &Stop,
    traffic: B,
    mut on_second: impl FnMut(&Second),
) -> anyhow::Result<Measured>
where
    T: Traffic,
    B: Fn(u32) -> T + Clone + Send + 'static,
{
    // A worker without a connection would only hold the others up.
    let workers = plan.threads.clamp(1, u32::try_from(plan.connections.max(1)).unwrap_or(u32::MAX));
    allow_descriptors(plan.connections);
    let gate = Arc::new(Gate::new(usize::try_from(workers).expect("fits a usize")));
    let (sender, mut seconds_in) = mpsc::unbounded_channel();
    let started = SystemTime::now();
    let mut threads = Vec::new();
    for worker in 0..workers {
        let orders = orders(plan, stop, worker, workers, Arc::clone(&gate));
        let (traffic, sender) = (traffic.clone(), sender.clone());
        let thread = std::thread::Builder::new().name(format!("load-{worker}")).spawn(move || {
            // The receiver outlives the workers.
            worker::run(orders, traffic(worker), |second| drop(sender.send(second)))
        });
        threads.push(thread.context("no thread for the load test")?);
    }
    drop(sender);

    let mut open: BTreeMap<u64, (Second, u32)> = BTreeMap::new();
    let mut seconds = Vec::new();
    while let Some(second) = seconds_in.recv().await {
        let (sum, reported) = open.entry(second.index).or_default();
        sum.index = second.index;
        sum.add(&second);
        *reported += 1;
        while let Some(first) = open.first_entry().filter(|first| first.get().1 == workers) {
            let (second, _) = first.remove();
            on_second(&second);
            seconds.push(second);
        }
    }
    // Seconds that some worker did not live to see.
    for (second, _) in open.into_values() {
        on_second(&second);
        seconds.push(second);
    }

    let mut tally = Tally::default();
    for thread in threads {
        let counted =
            thread.join().map_err(|_| anyhow::anyhow!("a thread of the load test panicked: a bug in it"))?;
        tally.add(&counted.map_err(|error| explain(error, plan.connections))?);
    }
    let until = Duration::from_nanos(tally.wall_ns).min(plan.warmup + plan.duration);
    let measured = until.saturating_sub(plan.warmup);
    Ok(Measured { started, measured, was_stopped: stop.is_set(), workers, tally, seconds })
}

fn orders(plan: &Plan, stop: &Stop, worker: u32, workers: u32, gate: Arc<Gate>) -> Orders {
    let share = |whole: usize| {
        let (worker, workers) = (usize::try_from(worker), usize::try_from(workers));
        let (worker, workers) = (worker.expect("fits a usize"), workers.expect("fits a usize"));
        whole / workers + usize::from(worker < whole % workers)
    };
    let pace = match plan.rhythm {
        Rhythm::Closed => Pace::Closed,
        Rhythm::Open { rate_per_second, spacing, waiting_max } => Pace::Open {
            schedule: Schedule::new(spacing, rate_per_second, worker, workers, plan.seed),
            waiting_max: share(waiting_max).max(1),
        },
    };
    Orders {
        target: plan.target.clone(),
        connections: share(plan.connections).max(1),
        pace,
        gate,
        warmup: plan.warmup,
        duration: plan.duration,
        request_timeout: plan.request_timeout,
        shards: Arc::clone(&plan.shards),
        stop: Arc::clone(&stop.0),
    }
}

/// Beside the connections: files, the readiness queues, the responses of a responder in the same process.
const DESCRIPTORS_BESIDE: u64 = 256;

/// Shells give 1,024 descriptors unless asked; more are usually allowed. Where they are not, [`explain`] says so.
fn allow_descriptors(connections: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let needed = u64::try_from(connections).expect("fits 64 bits") + DESCRIPTORS_BESIDE;
    if let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE)
        && now < needed
    {
        // A refusal shows when the connections are made.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, needed.min(most), most);
    }
}

fn explain(error: std::io::Error, connections: usize) -> anyhow::Error {
    let is_limit = error.raw_os_error() == Some(nix::errno::Errno::EMFILE as i32);
    let error = anyhow::Error::new(error);
    if is_limit {
        error.context(format!(
            "{connections} connections need more descriptors than this shell allows; raise it with: ulimit -n {}",
            u64::try_from(connections).expect("fits 64 bits") + DESCRIPTORS_BESIDE
        ))
    } else {
        error.context("the operating system refused what the load test needs")
    }
}

/// Checks that a gateway is there, speaks as one and takes the key, so that a load does not end in a million equal errors.
pub fn check_gateway(target: &Target) -> anyhow::Result<()> {
    let caller = crate::http_client::caller::Caller::new(target.clone());
    let ready = caller.get("/readyz")?;
    if ready.status != 200 {
        bail!("the gateway at {} is not ready ({}): {}", target.url(), ready.status, ready.body.trim());
    }
    // Any read that needs a key would do; whether this user exists does not matter.
    let read = caller.get("/v1/users/1/balance")?;
    match read.status {
        200 | 404 => Ok(()),
        401 => bail!(
            "{} does not know this API key (401); give another by --api-key or PICOPAY_API_KEY",
            target.url()
        ),
        403 => bail!(
            "the API key may not read at {} (403); the load test needs the scopes read and write",
            target.url()
        ),
        status => bail!("{} answered {status} to the first read: {}", target.url(), read.body.trim()),
    }
}
