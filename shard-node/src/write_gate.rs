//! Whether the shard can keep what it acknowledges: open while a COMMIT is confirmed by primary and standby.
//!
//! Without the gate, every batch during an outage of the standby would leave a backend behind. It would wait
//! with its users locked, until the primary has no connection left. So the first unanswered COMMIT closes the
//! gate. Only `gate_keeper.rs` opens it.
//!
//! It opens for one primary, on one timeline, in one durability: lanes write to no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use picopay_shared::cluster::Durability;
use picopay_shared::node_status::Degradation;
use tokio::sync::watch;
use uuid::Uuid;

use crate::identity::Generation;
use crate::server_id::ServerId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    pub cluster_id: Uuid,
    /// Another one after the database was restored to an earlier moment.
    pub generation: Generation,
    pub server: ServerId,
    pub durability: Durability,
    /// The version of the wire that all programs of the shard speak. What only a higher one can read waits.
    pub finished: u16,
    /// Set while an operator lets the shard go on without its standby.
    pub degraded: Option<Arc<Degradation>>,
}

#[derive(Clone)]
pub struct WriteGate {
    state: Arc<watch::Sender<Result<Opening, String>>>,
    /// Whether writes go through this gate. Another gate's state says nothing about the shard.
    is_in_use: Arc<AtomicBool>,
}

impl Default for WriteGate {
    fn default() -> Self {
        Self { state: Arc::new(watch::Sender::new(Err("starting".to_owned()))), is_in_use: Arc::default() }
    }
}

impl WriteGate {
    /// Writes go through this gate from now on, and the log says when they cannot.
    pub fn take_up(&self) {
        self.is_in_use.store(true, Ordering::Relaxed);
    }

    /// What may be written to, while writes may go on.
    ///
    /// # Errors
    /// Why they may not, for the log and for operators.
    pub fn check(&self) -> Result<Opening, String> {
        self.state.borrow().clone()
    }

    /// Closes it. Only the keeper opens it again.
    pub fn close(&self, reason: &str) {
        self.state.send_if_modified(|state| {
            let was_open = state.is_ok();
            if was_open {
                tracing::warn!(reason, "writes are stopped");
                *state = Err(reason.to_owned());
            }
            was_open
        });
    }

    pub async fn opened(&self) -> Opening {
        let mut watch = self.state.subscribe();
        let state = watch.wait_for(Result::is_ok).await.expect("the gate lives as long as self");
        state.clone().expect("waited for Ok")
    }

    pub async fn closed(&self) {
        let mut watch = self.state.subscribe();
        let _ = watch.wait_for(Result::is_err).await.expect("the gate lives as long as self");
    }

    /// Opens it. Only for the keeper.
    pub fn open(&self, opening: Opening) {
        if self.is_in_use.load(Ordering::Relaxed) && self.check().is_err() {
            match &opening.degraded {
                None => tracing::info!(timeline = opening.server.timeline, "writes go on"),
                Some(degraded) => tracing::warn!(
                    since = degraded.since,
                    by = degraded.by,
                    reason = degraded.reason,
                    "writes go on without a standby: the shard is degraded"
                ),
            }
        }
        let _ = self.state.send_replace(Ok(opening));
    }

    /// Closes it, or changes the reason of a closed one.
    pub fn explain(&self, reason: String) {
        self.state.send_if_modified(|state| {
            let is_new = state.as_ref().err() != Some(&reason);
            if is_new {
                if self.is_in_use.load(Ordering::Relaxed) {
                    tracing::warn!(reason, "writes are stopped");
                }
                *state = Err(reason);
            }
            is_new
        });
    }
}
