//! The nodes of one shard: which is asked first, which next, and what is known of each.
//!
//! Any node that is ready serves the whole shard. So a node that is frozen, cut off from its primary or not reachable is
//! passed over while another is ready, and what nothing happened of goes on to the next. What may have reached a node
//! and was not answered goes nowhere by itself: a write is tried again by its key, which is decided in `attempts.rs`.

mod standing;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use picopay_shared::cluster::Shard;
use picopay_shared::node_status::{NodeStatus, OwnedRange};
use tokio::time::Instant;
use tracing::{error, info, warn};

pub use self::standing::NodeState;
use self::standing::{Polled, Standing, Trouble};
use crate::metrics::NodeMetrics;
use crate::node_clock::NodeClock;
use crate::wire::{Ask, CallError, Target, Wire};

/// A refusal that came sooner was made at the node's gate: one that took longer has tried something, which the next node may
/// try just as long.
const QUICK: Duration = Duration::from_millis(200);

/// With less time left, the next node is not asked: it could only say that it is too late.
const WORTH_ASKING: Duration = Duration::from_millis(20);

/// All of them, in the order of `cluster.toml`.
#[derive(Debug)]
pub struct Nodes {
    shard: String,
    wire: Wire,
    all: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    target: Target,
    clock: NodeClock,
    known: Mutex<Observed>,
    metrics: NodeMetrics,
}

#[derive(Debug)]
struct Observed {
    standing: Standing,
    /// What it said last of itself.
    status: Option<Arc<NodeStatus>>,
}

/// What a node's answer says of the node.
#[derive(Debug)]
pub enum Said<T> {
    /// It does its work.
    Fine(T),
    /// It could not do anything of it, and nothing happened.
    Nothing(T),
    /// It could not say what became of it, or cannot go on.
    Trouble(T),
    /// No answer that anybody understands: anything may have happened.
    Nonsense,
}

impl Nodes {
    /// The nodes that `cluster.toml` names for a shard. `metrics` gives those of the node at a place.
    pub fn new(shard: &Shard, wire: Wire, metrics: impl Fn(usize) -> NodeMetrics) -> Self {
        let node = |(position, url): (usize, &String)| Node {
            target: Target::new(url),
            clock: NodeClock::default(),
            known: Mutex::new(Observed { standing: Standing::new(), status: None }),
            metrics: metrics(position),
        };
        Self { shard: shard.name.clone(), wire, all: shard.nodes.iter().enumerate().map(node).collect() }
    }

    /// Whether these are the nodes at these URLs, in this order.
    pub fn are(&self, urls: &[String]) -> bool {
        self.all.iter().map(|node| &node.target.url).eq(urls)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// What to think of each now.
    pub fn states(&self) -> Vec<NodeState> {
        let now = Instant::now();
        self.all.iter().map(|node| node.state(now)).collect()
    }

    /// Whether one of them is there for the work of all.
    pub fn is_any_ready(&self) -> bool {
        self.states().contains(&NodeState::Ready)
    }

    /// Polls in a row that none of them answered.
    pub fn silences(&self) -> u32 {
        self.all.iter().map(|node| node.known().standing.silences()).min().unwrap_or(0)
    }

    /// What the shard says of itself: the first node that says it is ready, or else the first that answers. Calls that
    /// failed are for the breaker.
    pub fn best_status(&self) -> Option<Arc<NodeStatus>> {
        let answering = self.all.iter().filter_map(|node| {
            let known = node.known();
            let polled = known.standing.polled();
            let status = known.status.clone()?;
            (polled != Polled::Silence).then_some((polled != Polled::Ready, status))
        });
        answering.min_by_key(|(is_not_ready, _)| *is_not_ready).map(|(_, status)| status)
    }

    /// The slots that the shard owns and imports: all that those say which are ready, for the higher epoch of a slot is
    /// the newer. One that is not may be cut off from its primary, or follow one that was replaced: it is heard if no other
    /// is. `None` when nobody says anything of slots, which is no reason to forget them.
    pub fn claims(&self) -> Option<(Vec<OwnedRange>, Vec<OwnedRange>)> {
        let now = Instant::now();
        let heard: Vec<(NodeState, Arc<NodeStatus>)> = (self.all.iter())
            .filter_map(|node| {
                let known = node.known();
                Some((known.standing.state(now), known.status.clone()?))
            })
            .collect();
        let ready = |(state, _): &&(NodeState, Arc<NodeStatus>)| state.says_ready();
        let with_slots = |(state, status): &&(NodeState, Arc<NodeStatus>)| {
            *state == NodeState::NotReady && !status.owned.is_empty()
        };
        let mut counted: Vec<&NodeStatus> = heard.iter().filter(ready).map(|(_, status)| &**status).collect();
        if counted.is_empty() {
            counted = heard.iter().filter(with_slots).map(|(_, status)| &**status).collect();
        }
        // Mostly they say the same.
        counted.dedup_by(|a, b| a.owned == b.owned && a.importing == b.importing);
        let all = |ranges: fn(&NodeStatus) -> &[OwnedRange]| {
            counted.iter().flat_map(|status| ranges(status)).copied().collect()
        };
        (!counted.is_empty()).then(|| (all(|status| &status.owned), all(|status| &status.importing)))
    }

    /// Asks one node, and the next as long as nothing happened; of a read also when one did not answer, for it changes
    /// nothing. `preferred` picks among those that are equally good. `body` is made anew for each with its own deadline,
    /// which is at most `call_timeout` away and never after `until`.
    ///
    /// Who took no connection is followed by any other, as the last hope; who answered, by one that is ready, or was a moment
    /// ago and may be asked without losing time.
    pub async fn ask<T>(
        &self,
        ask: Ask,
        preferred: usize,
        (until, call_timeout): (Instant, Duration),
        mut body: impl FnMut(Instant) -> Bytes,
        judge: impl Fn(&Bytes) -> Said<T>,
    ) -> Result<T, CallError> {
        let mut last: Option<Result<T, CallError>> = None;
        let mut is_quick = true;
        for position in self.order(preferred) {
            let now = Instant::now();
            let node = &self.all[position];
            let is_worth_it = match &last {
                Some(_) if until < now + WORTH_ASKING => false,
                None | Some(Err(CallError::Unreachable)) => true,
                Some(_) if is_quick => node.state(now).says_ready(),
                Some(_) => node.state(now) == NodeState::Ready,
            };
            if !is_worth_it {
                continue;
            }
            let deadline = until.min(now + call_timeout);
            let answer = self.wire.call(ask, (&node.target, &node.clock), body(deadline), deadline).await;
            is_quick = now.elapsed() < QUICK;
            match answer.map(|bytes| judge(&bytes)) {
                Ok(Said::Fine(answer)) => return Ok(answer),
                Ok(Said::Trouble(answer)) => {
                    self.note_trouble(node, Trouble::Refused);
                    return Ok(answer);
                }
                Ok(Said::Nothing(answer)) => {
                    self.note_trouble(node, Trouble::Refused);
                    last = Some(Ok(answer));
                }
                Err(CallError::Rejected) => {
                    self.note_trouble(node, Trouble::Refused);
                    last = Some(last.filter(Result::is_ok).unwrap_or(Err(CallError::Rejected)));
                }
                Err(CallError::Unreachable) => {
                    self.note_trouble(node, Trouble::NoAnswer);
                    last = Some(last.unwrap_or(Err(CallError::Unreachable)));
                }
                Ok(Said::Nonsense) | Err(CallError::Unanswered) => {
                    self.note_trouble(node, Trouble::NoAnswer);
                    if ask != Ask::Read {
                        return Err(CallError::Unanswered);
                    }
                    last = Some(last.filter(Result::is_ok).unwrap_or(Err(CallError::Unanswered)));
                }
            }
        }
        last.unwrap_or(Err(CallError::Unreachable))
    }

    /// Asks one node how it is. `None` when it does not say.
    pub async fn ask_status(&self, position: usize, deadline: Instant) -> Option<NodeStatus> {
        let node = &self.all[position];
        let asked = self.wire.call(Ask::Status, (&node.target, &node.clock), Bytes::new(), deadline).await;
        match serde_json::from_slice::<NodeStatus>(&asked.ok()?) {
            Ok(status) if status.shard != self.shard => {
                error!(
                    shard = self.shard,
                    node = node.target.url,
                    answered = status.shard,
                    "a node of another shard answers here"
                );
                None
            }
            Ok(status) => Some(status),
            Err(cause) => {
                error!(shard = self.shard, node = node.target.url, %cause, "the node's status makes no sense");
                None
            }
        }
    }

    /// Takes in how a poll of one node ended that was begun at `began`.
    pub fn note_poll(&self, position: usize, began: Instant, answer: Option<NodeStatus>) {
        let node = &self.all[position];
        let (now, mut known) = (Instant::now(), node.known());
        let before = known.standing.state(now);
        let polled = match &answer {
            Some(status) if status.is_ready => Polled::Ready,
            Some(_) => Polled::NotReady,
            None => Polled::Silence,
        };
        if known.standing.note_poll(polled, began, now, rand::random()) {
            node.metrics.passed_over.inc();
        }
        if let Some(status) = answer {
            known.status = Some(Arc::new(status));
        }
        let (after, status) = (known.standing.state(now), known.status.clone());
        drop(known);
        // Of a shard with one node, the shard's own line says it.
        if before == after || self.all.len() == 1 {
            return;
        }
        let (shard, url) = (&self.shard, &node.target.url);
        match after {
            NodeState::Ready | NodeState::PassedOver if before.says_ready() => {}
            NodeState::Ready | NodeState::PassedOver => info!(shard, node = url, "the node is ready"),
            NodeState::NotReady => {
                let reason = status.as_ref().and_then(|status| status.not_ready_reason.as_deref());
                warn!(shard, node = url, reason = reason.unwrap_or_default(), "the node is not ready");
            }
            NodeState::Silent => warn!(shard, node = url, "the node does not answer"),
        }
    }

    /// The places of those that are worth a question by the way: all that answered last, or all when none did.
    pub fn answering(&self) -> Vec<usize> {
        let states = self.states();
        let answering = |position: &usize| states[*position] != NodeState::Silent;
        let found: Vec<usize> = (0..self.count()).filter(answering).collect();
        if found.is_empty() { (0..self.count()).collect() } else { found }
    }

    /// Brings the gauges up to date.
    pub fn read_off(&self) {
        for (node, state) in self.all.iter().zip(self.states()) {
            node.metrics.state.set(match state {
                NodeState::Ready => 0,
                NodeState::PassedOver => 1,
                NodeState::NotReady => 2,
                NodeState::Silent => 3,
            });
        }
    }

    fn note_trouble(&self, node: &Node, trouble: Trouble) {
        let is_new = node.known().standing.note_trouble(trouble, Instant::now(), rand::random());
        if is_new {
            node.metrics.passed_over.inc();
            if self.all.len() > 1 {
                warn!(shard = self.shard, node = node.target.url, ?trouble, "the node is passed over");
            }
        }
    }

    /// The best first; among equals, those that have not just failed, and then in the order of `cluster.toml` from the
    /// preferred one on.
    fn order(&self, preferred: usize) -> Vec<usize> {
        let now = Instant::now();
        let mut ranked: Vec<((NodeState, bool), usize)> = (self.all.iter().enumerate())
            .map(|(position, node)| {
                let known = node.known();
                ((known.standing.state(now), known.standing.is_paused(now)), position)
            })
            .collect();
        ranked.sort_unstable();
        // The preferred one of the best ones comes first, so that a number of readers spreads over them evenly.
        let best = ranked.iter().take_while(|(rank, _)| *rank == ranked[0].0).count();
        ranked[..best].rotate_left(preferred % best.max(1));
        ranked.into_iter().map(|(_, position)| position).collect()
    }
}

impl Node {
    fn state(&self, now: Instant) -> NodeState {
        self.known().standing.state(now)
    }

    fn known(&self) -> MutexGuard<'_, Observed> {
        self.known.lock().expect("nothing panics while it is held")
    }
}
