//! A command on its way to a node, and its result.

use std::sync::Arc;

use picopay_shared::command::{Attempt, Command};
use picopay_shared::session::SessionToken;
use tokio::time::Instant;

use crate::ended::{Decision, Ended, NotDone};
use crate::ticket::Ticket;

#[derive(Debug)]
pub struct Job {
    pub attempt: Attempt<Arc<Command>>,
    pub deadline: Instant,
    /// Decides who takes it first: the pipe that sends it, or the client that gives up.
    pub ticket: Arc<Ticket>,
    pub is_probe: bool,
}

#[derive(Debug)]
pub struct Done {
    pub ended: Ended<Decision>,
    pub session: Option<SessionToken>,
}

impl Done {
    pub fn not_sent(why: NotDone) -> Self {
        Self { ended: Ended::NotDone(why), session: None }
    }
}
