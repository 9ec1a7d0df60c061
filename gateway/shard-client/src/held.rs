//! Requests whose slot has no owner at this moment: held for a while instead of refused.
//!
//! Between the release by the source and the change at the target nobody owns a slot, for some tens of
//! milliseconds. A request that arrives meanwhile waits here, in no lane. It goes on as soon as the map has
//! an owner. One loop asks for the owners of all held slots: `ShardClient::ask_about_held`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use picopay_shared::slot::Slot;
use tokio::sync::Notify;

use crate::metrics::HeldMetrics;

#[derive(Debug)]
pub struct HeldRequests {
    held_max: usize,
    held: Mutex<HashMap<Slot, usize>>,
    first: Notify,
    metrics: HeldMetrics,
}

/// One held request; dropping it ends the hold.
#[derive(Debug)]
pub struct Held<'a> {
    requests: &'a HeldRequests,
    slot: Slot,
}

impl HeldRequests {
    pub fn new(held_max: usize, metrics: HeldMetrics) -> Self {
        Self { held_max, held: Mutex::default(), first: Notify::new(), metrics }
    }

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
        // The permit is kept until it is taken: the loop may still be in its last round.
        self.first.notify_one();
        Some(Held { requests: self, slot })
    }

    pub async fn anybody(&self) {
        while self.held().is_empty() {
            self.first.notified().await;
        }
    }

    pub fn slots(&self) -> Vec<Slot> {
        self.held().keys().copied().collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Slot, usize>> {
        self.held.lock().expect("nothing panics while it is held")
    }
}

impl Held<'_> {
    /// Counts a request that waited in vain: nobody owns the slot yet.
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
