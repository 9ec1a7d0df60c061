//! The overlay with Patroni: a primary's container is killed, and another member takes over.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::time::sleep;

use super::project::{Project, docker};
use crate::charges::Charges;

/// Of docs/operating.md: the time to live, an election, a promotion, and a standby that follows the new primary.
pub const GAP_BAR: Duration = Duration::from_secs(15);
const GAP_MAX: Duration = Duration::from_mins(1);
const REJOIN_MAX: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Fewer may be stragglers of the old primary.
const RESUMED: usize = 50;

const MEMBERS: [&str; 3] = ["shard-1-a", "shard-1-b", "shard-1-c"];

/// How long no charge of the shard was acknowledged.
pub async fn kill_primary(
    project: &Project,
    charges: &Charges,
    whose: impl Fn(i64) -> bool,
) -> anyhow::Result<Duration> {
    let old = find(project, "/primary", None).await?;
    let container = project.container_of(old).await?;
    let killed = Instant::now();
    docker(&["kill", &container]).await?;
    let new = find(project, "/primary", Some(old)).await?;
    let elected = Instant::now();
    while charges.acknowledged_between(elected, Instant::now(), &whose) < RESUMED {
        ensure!(killed.elapsed() < GAP_MAX, "charges do not go on after {old} was killed");
        sleep(LOOK_EVERY).await;
    }
    let gap = charges.gap_after(killed, &whose);
    eprintln!(
        "{old} killed: {new} is the primary, and no charge was acknowledged for {:.2} s",
        gap.as_secs_f64()
    );
    ensure!(gap <= GAP_BAR, "charges stood still for {:.1} s", gap.as_secs_f64());
    docker(&["start", &container]).await?;
    let started = Instant::now();
    while !answers(project, old, "/replica").await {
        ensure!(started.elapsed() < REJOIN_MAX, "{old} does not come back as a standby");
        sleep(LOOK_EVERY).await;
    }
    Ok(gap)
}

/// The member of shard 1 that answers 200 there.
async fn find(project: &Project, path: &str, but: Option<&str>) -> anyhow::Result<&'static str> {
    let started = Instant::now();
    loop {
        for member in MEMBERS.into_iter().filter(|member| Some(*member) != but) {
            if answers(project, member, path).await {
                return Ok(member);
            }
        }
        let words = || format!("no member answers {path}");
        (started.elapsed() < GAP_MAX).then_some(()).with_context(words)?;
        sleep(LOOK_EVERY).await;
    }
}

async fn answers(project: &Project, member: &str, path: &str) -> bool {
    let Ok(container) = project.container_of(member).await else { return false };
    docker(&["exec", &container, "picopay-answers", "8008", path]).await.is_ok()
}
