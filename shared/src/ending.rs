//! How a service ends: told once, it drains and then finishes what it has; told again, it ends at once.
//!
//! While it drains it says that it is going, and serves as before: load balancers and gateways need a moment to send
//! their requests elsewhere. A service that stopped at once would refuse those that are already on their way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// How far the end of a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nobody has told it to end.
    Serving,
    /// It says that it ends, and serves.
    Draining,
    /// It takes nothing new, and finishes what it has.
    Finishing,
    /// It was told a second time, and drops what it has.
    Now,
}

/// The end of this process, for everybody in it. A clone is another handle.
#[derive(Debug, Clone)]
pub struct Ending(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Read for every answer, so it is apart from the stage and its lock.
    has_begun: AtomicBool,
    stage: watch::Sender<Stage>,
}

/// The signals that end a service: SIGTERM comes from supervisors, SIGINT from Ctrl-C.
#[derive(Debug)]
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Default for Ending {
    fn default() -> Self {
        let stage = watch::Sender::new(Stage::Serving);
        Self(Arc::new(Shared { has_begun: AtomicBool::new(false), stage }))
    }
}

impl Ending {
    /// Whether the process was told to end. Costs nothing.
    pub fn has_begun(&self) -> bool {
        self.0.has_begun.load(Ordering::Relaxed)
    }

    /// Waits until this stage, or a later one.
    pub async fn reached(&self, stage: Stage) {
        // The sender lives as long as `self`.
        let _ = self.0.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    /// Follows the signals for the life of the process. `drain`: how long it goes on serving after the first one.
    pub async fn follow(self, mut signals: EndSignals, drain: impl Fn() -> Duration) {
        signals.next().await;
        let drain = drain();
        info!(drain_ms = drain.as_millis(), "told to end: serving on for a moment");
        self.enter(Stage::Draining);
        tokio::select! {
            biased; // Nobody waits for a drain of no time.
            () = tokio::time::sleep(drain) => {}
            () = signals.next() => return self.end_now(),
        }
        self.enter(Stage::Finishing);
        signals.next().await;
        self.end_now();
    }

    fn end_now(&self) {
        warn!("told again to end: what is under way is dropped");
        self.enter(Stage::Now);
    }

    fn enter(&self, stage: Stage) {
        self.0.has_begun.store(true, Ordering::Relaxed);
        self.0.stage.send_replace(stage);
    }
}

impl EndSignals {
    /// Handles both signals from now on: before, each ends the process.
    ///
    /// # Errors
    /// When the process cannot listen for signals.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
