//! The load, in a thread of its own, while operators move slots.

use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context;
use tokio::task::JoinHandle;

use super::clients::{Charge, Clients, Shared, lock};
use super::pauses::Stage;
use picopay_loadtest::run::{self, Measured, Plan, Stop};

pub struct GrowLoad {
    shared: Shared,
    stop: Stop,
    running: JoinHandle<anyhow::Result<Measured>>,
    stage: Stage,
    began: Instant,
}

impl GrowLoad {
    pub fn start(plan: Plan, shared: Shared, users: u64, old_charges: Vec<Charge>) -> Self {
        let stop = Stop::default();
        let running = {
            let (stop, shared) = (stop.clone(), shared.clone());
            tokio::spawn(async move {
                let (target, seed) = (plan.target.clone(), plan.seed);
                let clients =
                    move |_| Clients::new(&target, shared.clone(), users, old_charges.clone(), seed);
                run::run(&plan, &stop, clients, |_| {}).await
            })
        };
        Self { shared, stop, running, stage: Stage::WarmUp, began: Instant::now() }
    }

    pub fn enter(&mut self, stage: Stage) {
        lock(&self.shared.pauses).ended(self.stage, self.began.elapsed());
        if stage == Stage::Rebalancing {
            let old_keys = lock(&self.shared.books).account.entries.len();
            self.shared.old_keys.store(old_keys, Ordering::Relaxed);
        }
        self.shared.stage.store(stage.index(), Ordering::Relaxed);
        (self.stage, self.began) = (stage, Instant::now());
    }

    /// Requests on their way get their answers. Returns arrivals that were never sent, and requests that still wait for
    /// another attempt.
    pub async fn finish(self) -> anyhow::Result<(u64, usize)> {
        lock(&self.shared.pauses).ended(self.stage, self.began.elapsed());
        self.stop.now();
        let measured = self.running.await.context("the load broke off")??;
        let waiting = lock(&self.shared.pauses).waiting;
        Ok((measured.tally.dropped, waiting))
    }
}
