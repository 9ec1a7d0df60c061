//! Requests whose slot changes hands at this moment: held for a while, instead of sent back to their clients.
//!
//! Between the release by its source and the flip at its target nobody owns a slot, for some tens of milliseconds.
//! A request that comes in between waits here, holding no place in any lane, and goes on as an ordinary one as soon as the
//! map has an owner. Somebody has to ask for that owner meanwhile; that is one loop for all of them, see
//! `ShardClient::ask_about_held`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use picopay_shared::slot::Slot;
use tokio::sync::Notify;

use crate::metrics::HeldMetrics;

/// The requests that are held.
#[derive(Debug)]
pub struct HeldRequests {
    held_max: usize,
    held: Mutex<HashMap<Slot, usize>>,
    first: Notify,
    metrics: HeldMetrics,
}

/// A request's place among them, until it is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    requests: &'a HeldRequests,
    slot: Slot,
}

impl HeldRequests {
    /// Nobody yet, and never more than `held_max`.
    pub fn new(held_max: usize, metrics: HeldMetrics) -> Self {
        Self { held_max, held: Mutex::default(), first: Notify::new(), metrics }
    }

    /// A place for a request of `slot`; `None` when all are taken.
    pub fn hold(&self, slot: Slot) -> Option<Held<'_>> {
        let mut held = self.held();
        let count: usize = held.values().sum();
        if count >= self.held_max {
            self.metrics.refused.inc();
            return None;
        }
        *held.entry(slot).or_default() += 1;
        self.metrics.held.inc();
        self.metrics.held_total.inc();
        // Kept until it is taken: the loop may still be on its way back from the last round.
        self.first.notify_one();
        Some(Held { requests: self, slot })
    }

    /// Comes back once anybody is held.
    pub async fn anybody(&self) {
        while self.held().is_empty() {
            self.first.notified().await;
        }
    }

    /// The slots whose requests are held, each once.
    pub fn slots(&self) -> Vec<Slot> {
        self.held().keys().copied().collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Slot, usize>> {
        self.held.lock().expect("nothing panics while it is held")
    }
}

impl Held<'_> {
    /// It was held for nothing: nobody owns the slot yet.
    pub fn give_up(self) {
        self.requests.metrics.given_up.inc();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.requests.held();
        if let Some(count) = held.get_mut(&self.slot) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.slot);
            }
        }
        self.requests.metrics.held.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn no_more_are_held_than_there_are_places_and_each_gives_its_place_back() {
        let metrics = Metrics::new(&prometheus::Registry::new());
        let requests = HeldRequests::new(3, metrics.held.clone());
        let slot = |number| Slot::new(number).unwrap();
        let held: Vec<_> = [7, 7, 8].into_iter().map(|number| requests.hold(slot(number)).unwrap()).collect();
        requests.anybody().await;
        assert!(requests.hold(slot(9)).is_none());
        let mut slots = requests.slots();
        slots.sort_unstable();
        assert_eq!(slots, [slot(7), slot(8)]);
        assert_eq!((metrics.held.held.get(), metrics.held.refused.get()), (3, 1));
        drop(held);
        assert_eq!((requests.slots(), metrics.held.held.get()), (vec![], 0));
        requests.hold(slot(9)).unwrap().give_up();
        assert_eq!((metrics.held.held.get(), metrics.held.given_up.get()), (0, 1));
    }
}
