//! What the load test promises, against responders that do what a gateway should not.

// Shares and rates of a few thousand requests.
#![allow(clippy::cast_precision_loss)]

mod accounting;
mod commands;
mod honest_latency;
mod judgement;
mod users;

use std::sync::Arc;
use std::time::Duration;

use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::http_client::target::Target;
use picopay_loadtest::responder::{Responder, Seen};
use picopay_loadtest::run::{self, Measured, Plan, Rhythm, Stop};
use picopay_loadtest::scenario::{Scenario, ScenarioArgs, ScenarioTraffic};
use picopay_loadtest::shard_map::ShardMap;

fn charges() -> ScenarioArgs {
    ScenarioArgs::charges(1_000)
}

fn open_loop(rate_per_second: f64, waiting_max: usize) -> Rhythm {
    Rhythm::Open { rate_per_second, spacing: Spacing::Constant, waiting_max }
}

fn plan(responder: &Responder, rhythm: Rhythm) -> Plan {
    Plan {
        target: Target::new(&responder.url(), Some("key")).unwrap(),
        rhythm,
        connections: 4,
        threads: 1,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(500),
        request_timeout: Duration::from_secs(2),
        seed: 1,
        shards: Arc::new(ShardMap::even(2)),
    }
}

fn start(answer: impl FnMut(Seen<'_>, &mut Vec<u8>) + Send + 'static) -> Responder {
    Responder::start(answer).unwrap()
}

async fn load(plan: &Plan, scenario: ScenarioArgs) -> Measured {
    let scenario = Scenario::new(scenario).unwrap();
    let target = plan.target.clone();
    let traffic = move |worker| ScenarioTraffic::new(&scenario, &target, worker, None);
    run::run(plan, &Stop::default(), traffic, |_| {}).await.unwrap()
}
