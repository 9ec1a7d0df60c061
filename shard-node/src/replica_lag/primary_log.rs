//! Where the primary's log ends, for callers who cannot wait for the next look.

use std::sync::Arc;
use std::time::Instant;

use picopay_shared::session::LogPosition;
use tokio::sync::{Notify, watch};
use tokio::time::timeout_at;

use super::log_history::LogHistory;

/// What was seen of the primary's log, with a request for another look. Clones share it.
#[derive(Clone)]
pub struct PrimaryLog {
    seen: watch::Receiver<LogHistory>,
    wanted: Arc<Notify>,
}

impl PrimaryLog {
    pub(super) fn new(seen: watch::Receiver<LogHistory>) -> Self {
        Self { seen, wanted: Arc::default() }
    }

    pub(super) async fn is_asked_for(&self) {
        self.wanted.notified().await;
    }

    /// Whether the primary has written this position; `None` when it does not answer before `deadline`.
    /// Nobody can have been told of what it has not written by now.
    pub async fn has_reached(&self, position: LogPosition, deadline: tokio::time::Instant) -> Option<bool> {
        let began = Instant::now();
        let mut seen = self.seen.clone();
        loop {
            {
                let history = seen.borrow_and_update();
                if history.has_reached(position) {
                    return Some(true);
                }
                if history.asked_last().is_some_and(|asked| asked >= began) {
                    return Some(false);
                }
            }
            self.wanted.notify_one();
            timeout_at(deadline, seen.changed()).await.ok()?.ok()?;
        }
    }
}
