//! A command on its way to a node, and what comes back for it.

use std::sync::Arc;

use picopay_shared::command::{Attempt, Command};
use picopay_shared::session::SessionToken;
use tokio::time::Instant;

use crate::ended::{Decision, Ended, NotDone};
use crate::ticket::Ticket;

/// A command on its way to a node.
#[derive(Debug)]
pub struct Job {
    /// What to do, at the epoch that is believed in. Its client keeps the command too, for another attempt.
    pub attempt: Attempt<Arc<Command>>,
    /// Until when its client waits.
    pub deadline: Instant,
    /// Who takes it first: the pipe that sends it, or its client, who gives up.
    pub ticket: Arc<Ticket>,
    /// Whether it may pass an open breaker.
    pub is_probe: bool,
}

/// What became of a job.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub ended: Ended<Decision>,
    /// The session token of an answer that tells of something written.
    pub session: Option<SessionToken>,
}

impl Done {
    /// Nothing was sent.
    pub fn not_sent(why: NotDone) -> Self {
        Self { ended: Ended::NotDone(why), session: None }
    }
}
