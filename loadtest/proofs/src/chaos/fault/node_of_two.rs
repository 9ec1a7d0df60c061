//! The first of two nodes stops serving, and the second has to.
//!
//! Users may feel it for as long as [`Kind::felt_at_most`](crate::chaos::kind::Kind::felt_at_most) says. After that an
//! error or a long wait is a broken promise: the gateway must not ask the frozen node again and again.

use std::time::Duration;

use picopay_local::Weather;

use super::scene::Scene;
use super::schedule::Fault;
use crate::chaos::what::AFTERMATH;
use crate::findings::{Finding, Promise};

/// Between two times that users are served: the shortest wait that is told.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// A gateway waits 2 s for a silent node. The other one answers in milliseconds, or a few hundred on a busy machine.
const SETTLED_WAIT_MAX: Duration = Duration::from_millis(1_500);

pub async fn freeze(fault: Fault, scene: &mut Scene<'_>, healing: impl FnOnce()) -> anyhow::Result<()> {
    let node = scene.cluster.shard(fault.shard).node(0);
    node.freeze();
    hold(fault, scene).await;
    healing();
    node.thaw();
    Ok(())
}

/// It answers everybody, and its statements reach no primary.
pub async fn cut_off(fault: Fault, scene: &mut Scene<'_>, healing: impl FnOnce()) -> anyhow::Result<()> {
    let wire = scene.cluster.shard(fault.shard).primary_proxy_of_node(0);
    wire.set_weather(Weather::Silent);
    hold(fault, scene).await;
    healing();
    wire.set_weather(Weather::Clear);
    Ok(())
}

async fn hold(fault: Fault, scene: &mut Scene<'_>) {
    let clock = scene.probe.client().clock;
    let (mut last_served, ends) = (clock.now(), clock.now() + fault.hold);
    let settled = clock.now() + fault.kind.felt_at_most().unwrap_or_default() + AFTERMATH;
    let (mut longest, mut longest_settled) = (Duration::ZERO, Duration::ZERO);
    while clock.now() < ends {
        let patience = ends.saturating_sub(clock.now());
        let served = scene.probe.wait_until_served(fault.shard, patience).await;
        let now = served.unwrap_or_else(|| clock.now());
        let wait = now.saturating_sub(last_served);
        longest = longest.max(wait);
        if last_served >= settled {
            longest_settled = longest_settled.max(wait);
        }
        last_served = now;
        tokio::time::sleep(ASK_EVERY).await;
    }
    scene.waited_during = Some(longest);
    let client = scene.probe.client();
    if longest_settled > SETTLED_WAIT_MAX && !client.errors.has_stalled_since(settled) {
        let text = format!(
            "users still wait {} ms for a node that should be passed over: {}",
            longest_settled.as_millis(),
            fault.words()
        );
        let at = Some(clock.now());
        client.findings.add(Finding { promise: Promise::Recovered, text, at, words: Vec::new() });
    }
}
