//! The first of two nodes serves no more, and the second has to.
//!
//! Users may feel it for as long as [`Kind::felt_at_most`](super::Kind::felt_at_most) says. After that any error is a broken
//! promise, although the fault goes on: one ready node is enough.

use std::time::Duration;

use picopay_local::Weather;

use super::schedule::Fault;
use super::strike::Scene;

/// Between two times that users are served: the shortest wait that is told.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// SIGSTOP: its connections stay open, and nothing answers.
///
/// # Errors
/// Never; the type is that of all faults.
pub async fn freeze(fault: Fault, scene: &mut Scene<'_>, healing: impl FnOnce()) -> anyhow::Result<()> {
    let node = scene.cluster.shard(fault.shard).node(0);
    node.freeze();
    hold(fault, scene).await;
    healing();
    node.thaw();
    Ok(())
}

/// It answers everybody, and its statements reach no primary.
///
/// # Errors
/// Never; the type is that of all faults.
pub async fn cut_off(fault: Fault, scene: &mut Scene<'_>, healing: impl FnOnce()) -> anyhow::Result<()> {
    let wire = scene.cluster.shard(fault.shard).primary_proxy_of_node(0);
    wire.set_weather(Weather::Silent);
    hold(fault, scene).await;
    healing();
    wire.set_weather(Weather::Clear);
    Ok(())
}

/// Waits, and asks meanwhile how long users have to wait.
async fn hold(fault: Fault, scene: &mut Scene<'_>) {
    let clock = scene.probe.client().clock;
    let (mut last_served, ends) = (clock.now(), clock.now() + fault.hold);
    let mut longest = Duration::ZERO;
    while clock.now() < ends {
        let patience = ends.saturating_sub(clock.now());
        let served = scene.probe.wait_until_served(fault.shard, patience).await;
        let now = served.unwrap_or_else(|| clock.now());
        longest = longest.max(now.saturating_sub(last_served));
        last_served = now;
        tokio::time::sleep(ASK_EVERY).await;
    }
    scene.waited_during = Some(longest);
}
