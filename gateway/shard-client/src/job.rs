//! Commands on their way to a node, and their results.

use std::sync::Arc;

use picopay_shared::command::{Attempt, Command};
use picopay_shared::session::SessionToken;
use tokio::time::Instant;

use crate::ended::{Decision, Ended, NotDone};
use crate::journey::Sent;
use crate::ticket::Ticket;

#[derive(Debug)]
pub struct Job {
    /// One command, or several of one client in their order. One batch on the wire takes all of them.
    pub attempts: Vec<Attempt<Arc<Command>>>,
    pub deadline: Instant,
    /// Decides who takes it first: the pipe that sends it, or the client that gives up.
    pub ticket: Arc<Ticket>,
    pub is_probe: bool,
}

#[derive(Debug)]
pub struct Done {
    /// One for each attempt, in the same order.
    pub ended: Vec<Ended<Decision>>,
    pub session: Option<SessionToken>,
    /// How it travelled; `None` when it was not sent.
    pub sent: Option<Sent>,
}

impl Done {
    pub fn all(ended: Ended<Decision>, count: usize) -> Self {
        Self { ended: vec![ended; count], session: None, sent: None }
    }

    pub fn not_sent(why: NotDone, count: usize) -> Self {
        Self::all(Ended::NotDone(why), count)
    }
}
