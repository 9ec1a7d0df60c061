//! What the load test itself costs: its fastest run against a responder that decides nothing.
//!
//! Counted by the CPU time of the sending thread, since the responder and whatever else the machine does take the time
//! between.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::http_client::target::Target;
use crate::responder::{Responder, answer_as_a_gateway};
use crate::run::{self, Plan, Rhythm, Stop};
use crate::scenario::{Scenario, ScenarioArgs, ScenarioTraffic};
use crate::shard_map::ShardMap;

/// Slower than this on one core, and the load test would measure itself: three times what two cores of gateway, nodes and
/// Postgres are expected to answer.
pub const PER_CORE_MIN: f64 = 60_000.0;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SelfTest {
    pub per_core: f64,
    /// Requests a second on the clock, while responder and others shared the machine.
    pub per_second: f64,
    /// How late it looked at its schedule, in milliseconds (p50, p99); 0 in a closed loop, which has none.
    pub lag_ms: (f64, f64),
}

/// Charges a trivial responder over this many connections for this long. A closed loop shows how fast it can be; an open one
/// what it costs at a rate, and how punctual it is.
pub async fn run(
    scenario: ScenarioArgs,
    rhythm: Rhythm,
    connections: usize,
    duration: Duration,
    stop: &Stop,
) -> anyhow::Result<SelfTest> {
    let responder = Responder::start(answer_as_a_gateway)?;
    let target = Target::new(&responder.url(), Some("dev-key"))?;
    let scenario = Scenario::new(scenario)?;
    let plan = Plan {
        target: target.clone(),
        rhythm,
        connections,
        threads: 1,
        warmup: Duration::ZERO,
        duration,
        request_timeout: Duration::from_secs(5),
        seed: scenario.args().seed,
        shards: Arc::new(ShardMap::even(2)),
    };
    let measured =
        run::run(&plan, stop, move |worker| ScenarioTraffic::new(&scenario, &target, worker, None), |_| {})
            .await?;
    anyhow::ensure!(measured.errors() == 0, "the responder was not understood: {:?}", measured.tally.errors);
    let per_core =
        measured.tally.sent as f64 / Duration::from_nanos(measured.tally.cpu_ns.max(1)).as_secs_f64();
    let per_second = measured.achieved_per_second();
    let lag = &measured.tally.lag;
    Ok(SelfTest { per_core, per_second, lag_ms: (lag.quantile_ms(0.5), lag.quantile_ms(0.99)) })
}
