//! The nodes of one shard: which one is asked first, which next, and what is known of each.
//!
//! Any ready node serves the whole shard. A node that is frozen, unreachable or cut off from its primary is
//! passed over while another is ready. A request that certainly did nothing goes to the next node. One that
//! may have reached a node without an answer does not: `attempts.rs` decides whether a write is tried again
//! by its key.

mod reads;
mod standing;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use picopay_shared::cluster::Shard;
use picopay_shared::node_status::{NodeStatus, OwnedRange};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

pub use self::standing::NodeState;
use self::standing::{Polled, Standing, Trouble};
use crate::metrics::NodeMetrics;
use crate::node_clock::NodeClock;
use crate::read_queue::ReadQueue;
use crate::wire::{Ask, CallError, Target, Wire};

/// A refusal that came sooner was made at the node's gate. A slower one has tried something, and the next
/// node may try just as long.
const QUICK: Duration = Duration::from_millis(200);

/// With less time left, the next node is not asked: it could only answer that it is too late.
const WORTH_ASKING: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Nodes {
    shard: String,
    all: Vec<Arc<Node>>,
}

#[derive(Debug)]
struct Node {
    wire: Wire,
    target: Target,
    clock: NodeClock,
    known: Mutex<Observed>,
    metrics: NodeMetrics,
    reads: ReadQueue,
}

#[derive(Debug)]
struct Observed {
    standing: Standing,
    status: Option<Arc<NodeStatus>>,
}

#[derive(Debug)]
pub enum Said<T> {
    Fine(T),
    /// The node could do none of it, and nothing happened.
    Nothing(T),
    /// The node does not know the outcome, or cannot go on.
    Trouble(T),
    /// No valid answer: anything may have happened.
    Nonsense,
}

impl Nodes {
    /// `read_interval`: the least time between two batches of reads to one node.
    pub fn new(
        shard: &Shard,
        wire: &Wire,
        read_interval: Duration,
        metrics: impl Fn(usize) -> NodeMetrics,
    ) -> Self {
        let node = |(position, url): (usize, &String)| {
            Arc::new(Node {
                wire: wire.clone(),
                target: Target::new(url),
                clock: NodeClock::default(),
                known: Mutex::new(Observed { standing: Standing::new(), status: None }),
                metrics: metrics(position),
                reads: ReadQueue::new(read_interval),
            })
        };
        Self { shard: shard.name.clone(), all: shard.nodes.iter().enumerate().map(node).collect() }
    }

    /// Starts what sends the reads that go together.
    pub fn send_reads(&self, tasks: &TaskTracker, closing: &CancellationToken) {
        for node in &self.all {
            tasks.spawn(reads::send_all(Arc::clone(node), tasks.clone(), closing.clone()));
        }
    }

    pub fn are(&self, urls: &[String]) -> bool {
        self.all.iter().map(|node| &node.target.url).eq(urls)
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    pub fn states(&self) -> Vec<NodeState> {
        let now = Instant::now();
        self.all.iter().map(|node| node.state(now)).collect()
    }

    pub fn is_any_ready(&self) -> bool {
        self.states().contains(&NodeState::Ready)
    }

    pub fn silences(&self) -> u32 {
        self.all.iter().map(|node| node.known().standing.silences()).min().unwrap_or(0)
    }

    pub fn best_status(&self) -> Option<Arc<NodeStatus>> {
        let answering = self.all.iter().filter_map(|node| {
            let known = node.known();
            let polled = known.standing.polled();
            let status = known.status.clone()?;
            (polled != Polled::Silence).then_some((polled != Polled::Ready, status))
        });
        answering.min_by_key(|(is_not_ready, _)| *is_not_ready).map(|(_, status)| status)
    }

    /// The slots that the shard owns and imports, from all nodes that say they are ready; the higher epoch of
    /// a slot is newer. A node that is not ready may follow a replaced primary, so it counts only if no other
    /// answers. `None` when no node reports slots, which is no reason to forget them.
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
        counted.dedup_by(|a, b| a.owned == b.owned && a.importing == b.importing);
        let all = |ranges: fn(&NodeStatus) -> &[OwnedRange]| {
            counted.iter().flat_map(|status| ranges(status)).copied().collect()
        };
        (!counted.is_empty()).then(|| (all(|status| &status.owned), all(|status| &status.importing)))
    }

    /// Asks one node, and the next one as long as nothing happened. A read also goes on after no answer,
    /// because it changes nothing. `preferred` picks among equally good nodes. `body` is made anew for each
    /// node with its own deadline, at most `call_timeout` away and never after `until`.
    ///
    /// A node that speaks an older version of the wire than the second part of `ask` is not asked.
    ///
    /// After a node that took no connection, any other is tried. After a node that answered, only one that is
    /// or was just ready is tried.
    pub async fn ask<T>(
        &self,
        (ask, least_wire): (Ask, u16),
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
            if node.wire_version() < least_wire {
                last = last.or(Some(Err(CallError::Rejected)));
                continue;
            }
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
            let answer = match ask {
                Ask::Read => node.read(body(deadline), deadline).await,
                ask => node.call(ask, body(deadline), deadline).await,
            };
            is_quick = now.elapsed() < QUICK;
            match answer.as_ref().map(&judge).map_err(|error| *error) {
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
                Ok(Said::Nonsense) | Err(CallError::Unanswered | CallError::UnansweredToo) => {
                    self.note_trouble(node, Trouble::NoAnswer);
                    let error = answer.err().unwrap_or(CallError::Unanswered);
                    if !matches!(ask, Ask::Read | Ask::Aggregate) {
                        return Err(error);
                    }
                    last = Some(last.filter(Result::is_ok).unwrap_or(Err(error)));
                }
            }
        }
        last.unwrap_or(Err(CallError::Unreachable))
    }

    pub async fn ask_status(&self, position: usize, deadline: Instant) -> Option<NodeStatus> {
        let node = &self.all[position];
        let asked = node.call(Ask::Status, Bytes::new(), deadline).await;
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
        // With one node, the shard's own log line says it.
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

    /// The positions of the nodes that answered last, or of all when none did.
    pub fn answering(&self) -> Vec<usize> {
        let states = self.states();
        let answering = |position: &usize| states[*position] != NodeState::Silent;
        let found: Vec<usize> = (0..self.count()).filter(answering).collect();
        if found.is_empty() { (0..self.count()).collect() } else { found }
    }

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

    /// The best first. Among equals, those that have not just failed, then in the order of `cluster.toml`
    /// from the preferred one on.
    fn order(&self, preferred: usize) -> Vec<usize> {
        let now = Instant::now();
        let mut ranked: Vec<((NodeState, bool), usize)> = (self.all.iter().enumerate())
            .map(|(position, node)| {
                let known = node.known();
                ((known.standing.state(now), known.standing.is_paused(now)), position)
            })
            .collect();
        ranked.sort_unstable();
        // The preferred one of the best is first, so that readers spread over them evenly.
        let best = ranked.iter().take_while(|(rank, _)| *rank == ranked[0].0).count();
        ranked[..best].rotate_left(preferred % best.max(1));
        ranked.into_iter().map(|(_, position)| position).collect()
    }
}

impl Node {
    async fn call(&self, ask: Ask, body: Bytes, deadline: Instant) -> Result<Bytes, CallError> {
        self.wire.call(ask, (&self.target, &self.clock), body, deadline).await
    }

    fn wire_version(&self) -> u16 {
        self.known().status.as_ref().map_or(0, |status| status.wire)
    }

    fn state(&self, now: Instant) -> NodeState {
        self.known().standing.state(now)
    }

    fn known(&self) -> MutexGuard<'_, Observed> {
        self.known.lock().expect("nothing panics while it is held")
    }
}
