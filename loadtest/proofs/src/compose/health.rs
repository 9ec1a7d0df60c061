//! Each health check can fail: the program of every container is frozen, and Docker notices.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::time::sleep;

use super::project::{Project, docker};

/// Three checks, each five seconds after the one before has run out of time, of a server or of a busy machine.
const NOTICED_MAX: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The children of the container's first process, which only starts, signals and reaps them. A word of a shell's `read`.
const SIGNAL: &str = "for stat in /proc/[0-9]*/stat; do \
    read -r pid name state parent rest < $stat && [ $parent = 1 ] && kill -$0 $pid; done; true";

pub async fn freeze_and_thaw(project: &Project) -> anyhow::Result<()> {
    let label = project.label();
    let running = docker(&["ps", "--quiet", "--filter", &label]).await?;
    signal(&running, "STOP").await?;
    wait_until_all_are(&running, "unhealthy").await?;
    signal(&running, "CONT").await?;
    wait_until_all_are(&running, "healthy").await?;
    eprintln!("frozen, each container was unhealthy, and then healthy again");
    Ok(())
}

async fn signal(containers: &str, name: &str) -> anyhow::Result<()> {
    for container in containers.lines() {
        docker(&["exec", container, "sh", "-c", SIGNAL, name]).await?;
    }
    Ok(())
}

async fn wait_until_all_are(containers: &str, health: &str) -> anyhow::Result<()> {
    let since = Instant::now();
    loop {
        let mut others = Vec::new();
        for container in containers.lines() {
            let said =
                docker(&["inspect", "--format", "{{.Name}} {{.State.Health.Status}}", container]).await?;
            if !said.ends_with(&format!(" {health}")) {
                others.push(said);
            }
        }
        if others.is_empty() {
            return Ok(());
        }
        ensure!(since.elapsed() < NOTICED_MAX, "not {health} after {NOTICED_MAX:?}: {others:?}");
        sleep(LOOK_EVERY).await;
    }
}
