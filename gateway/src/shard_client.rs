//! The only room from which a shard node is called: batch, deadline, retry, outcome.
//!
//! A command waits in its user's lane, travels in a batch and comes back with an outcome. In between a connection
//! may fail, a node die, a slot move; what the client may then be told is decided in `attempts.rs`.

mod attempts;
mod breaker;
mod pipe;
mod queue_room;
mod refusal_pace;
mod wire;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::HeaderValue;
use bytes::Bytes;
use futures_util::future::{Either, select};
use picopay_shared::batcher::{Lane, LaneEnd};
use picopay_shared::cluster::{self, Cluster};
use picopay_shared::command::{Command, Outcome};
use picopay_shared::node_status::{Degradation, NodeStatus};
use picopay_shared::query::{Answer, Found, Query, ReadRequest, Source};
use picopay_shared::session::SessionToken;
use picopay_shared::slot::Slot;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

pub use self::attempts::Written;
use self::attempts::{Attempt, Attempts, Done, Failure, Next, NotSent, RetryBudget};
pub use self::breaker::BreakerState;
use self::breaker::{Admission, Breaker};
use self::pipe::{Job, Ticket};
use self::queue_room::QueueRoom;
use self::wire::{Ask, CallError, Nodes};
use crate::config::ShardClientConfig;
use crate::metrics::{Metrics, ShardMetrics};
use crate::slot_map::{Owner, SlotMap};

/// Before the gateway's own retry: a restarted node or a new connection needs a moment. Random up to twice this.
const RETRY_PAUSE: Duration = Duration::from_millis(25);
/// A retry with less time than this would only be given up again.
const RETRY_WORTH: Duration = Duration::from_millis(100);
/// How soon a shard is polled again of which no node answered: users of one that is back hear no for so much longer.
const POLL_AGAIN: Duration = Duration::from_millis(250);
/// When to come back after a refusal that passes soon.
const SOON: Duration = Duration::from_secs(1);

/// Why a request has no answer from its shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// Nothing happened: the shard cannot be reached, or its database cannot.
    #[error("the shard is not available")]
    Unavailable {
        /// Which, when it is known.
        shard: Option<String>,
        /// When to come back.
        retry_after: Duration,
    },
    /// Nothing happened: too much is waiting.
    #[error("too much is waiting for the shard")]
    Overloaded {
        /// Which.
        shard: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// Nothing happened: nobody owns the slot at the moment.
    #[error("the slot is moving")]
    SlotMoving {
        /// The last shard that was asked.
        shard: Option<String>,
        /// When to come back.
        retry_after: Duration,
    },
    /// Maybe done. The same key resolves it.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
    /// A bug. Nothing was written.
    #[error("the shard node has a bug")]
    Internal,
}

/// The way to all shards.
#[derive(Debug)]
pub struct ShardClient {
    shards: Vec<Arc<Shard>>,
    map: SlotMap,
    config: ShardClientConfig,
    closing: CancellationToken,
    pipes: TaskTracker,
}

/// The way to one shard.
#[derive(Debug)]
struct Shard {
    position: usize,
    name: String,
    nodes: Nodes,
    /// A user's commands always take the same one, as they do in the node.
    lanes: Vec<Lane<Job, Done>>,
    lane_ends: Vec<LaneEnd<Job, Done>>,
    rooms: Vec<QueueRoom>,
    breaker: Breaker,
    budget: RetryBudget,
    readers: Semaphore,
    status: ArcSwap<ShardStatus>,
    metrics: ShardMetrics,
    batch_max: usize,
    gather_max: Duration,
    call_timeout: Duration,
}

/// A shard's lanes, and their far ends.
type Lanes = (Vec<Lane<Job, Done>>, Vec<LaneEnd<Job, Done>>);

/// What a shard said last of itself.
#[derive(Debug, Clone, Default, PartialEq)]
struct ShardStatus {
    /// Whether it was ever asked successfully.
    is_known: bool,
    is_reachable: bool,
    is_ready: bool,
    replica_lag_ms: Option<u64>,
    degraded: Option<Degradation>,
}

/// One shard, for `/readyz`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct ShardView {
    /// Its name in `cluster.toml`.
    #[schema(example = "shard-1")]
    pub shard: String,
    /// Whether it can serve now.
    pub is_ready: bool,
    /// `closed`, `probing` or `open`.
    #[schema(example = "closed")]
    pub breaker: &'static str,
    /// Lag of its freshest replica; `null` when unknown.
    pub replica_lag_ms: Option<u64>,
    /// Since when an operator lets it go on without its standby, so that what it acknowledges is on one machine only;
    /// `null` normally.
    #[schema(example = json!(null))]
    pub degraded_since: Option<String>,
}

impl ShardClient {
    /// Opens the lanes and begins to ask every shard how it is. No node needs to be up.
    pub fn start(cluster: &Cluster, config: &ShardClientConfig, metrics: &Metrics) -> Arc<Self> {
        let connections = wire::connections(config);
        let closing = CancellationToken::new();
        let pipes = TaskTracker::new();
        let mut shards = Vec::new();
        for (position, entry) in cluster.shards.iter().enumerate() {
            let nodes = Nodes::new(entry, &cluster.internal_secret, connections.clone());
            let (lanes, ends): (Vec<_>, Vec<_>) =
                (0..config.lanes).map(|_| Lane::new(config.queue_max)).unzip();
            let shard = Arc::new(Shard::new(position, entry, nodes, (lanes, ends), config, metrics));
            for (number, end) in shard.lane_ends.iter().enumerate() {
                for _ in 0..config.pipes {
                    pipes.spawn(pipe::run(Arc::clone(&shard), end.clone(), number, closing.clone()));
                }
            }
            shards.push(shard);
        }
        pipes.close();
        let map = SlotMap::new(shards.len());
        let client = Arc::new(Self { shards, map, config: config.clone(), closing, pipes });
        for position in 0..client.shards.len() {
            tokio::spawn(Arc::clone(&client).poll(position));
        }
        client
    }

    /// Has the command decided by the shard that owns its slot, and gives the session token with which a read sees it.
    ///
    /// # Errors
    /// [`ShardError`]; only `OutcomeUnknown` leaves open whether it was done.
    pub async fn write(&self, mut command: Command) -> Result<(Written, Option<HeaderValue>), ShardError> {
        let deadline = Instant::now() + self.config.request_timeout;
        let slot = command.operation.slot();
        let mut attempts = Attempts::default();
        let mut last: Option<&Shard> = None;
        loop {
            let owner = match self.owner(slot).await {
                Ok(owner) => owner,
                Err(absence) => return Err(absence.into_error(&attempts, last)),
            };
            let shard: &Shard = &self.shards[owner.shard];
            if last.is_none() {
                shard.budget.earn();
            }
            last = Some(shard);
            command.epoch = owner.epoch;
            let (attempt, session, back) = shard.attempt(command, deadline).await;
            let next = attempts.after(attempt, || back.is_some() && shard.may_retry(deadline));
            command = match (next, back) {
                (Next::Answer(written), _) => {
                    shard.metrics.writes_answered.inc();
                    return Ok((written, session));
                }
                (Next::Fail(failure), _) => return Err(shard.write_error(failure)),
                (Next::Retry, Some(command)) => {
                    shard.pause_before_retry().await;
                    command
                }
                (Next::LookAgain, Some(command)) => {
                    shard.metrics.moved.inc();
                    Box::pin(self.map.refresh(async || self.ask_all().await)).await;
                    command
                }
                (Next::Retry | Next::LookAgain, None) => {
                    unreachable!("only a command that came back is tried again")
                }
            };
        }
    }

    /// Has the query answered by the shard that owns its slot, from a database that shows what `session` stands for.
    ///
    /// # Errors
    /// [`ShardError`], never `OutcomeUnknown`.
    pub async fn read(
        &self,
        query: Query,
        session: Option<SessionToken>,
    ) -> Result<(Found, Source), ShardError> {
        let deadline = Instant::now() + self.config.request_timeout;
        let slot = query.slot();
        let request = ReadRequest { query, session };
        let body = Bytes::from(postcard::to_stdvec(&request).expect("plain data always serializes"));
        let mut attempts = Attempts::default();
        let mut last: Option<&Shard> = None;
        loop {
            let owner = match self.owner(slot).await {
                Ok(owner) => owner,
                Err(absence) => return Err(absence.into_error(&attempts, last)),
            };
            let shard: &Shard = &self.shards[owner.shard];
            if last.is_none() {
                shard.budget.earn();
            }
            last = Some(shard);
            let attempt = shard.attempt_read(body.clone(), deadline).await;
            let next = match attempts.after_read(attempt, || shard.may_retry(deadline)) {
                Next::Answer(Answer { found: Found::Moved(_), .. }) => attempts.after_moved_read(),
                other => other,
            };
            match next {
                Next::Answer(answer) => {
                    shard.metrics.reads_answered.inc();
                    return Ok((answer.found, answer.source));
                }
                Next::Fail(failure) => {
                    shard.metrics.reads_failed.inc();
                    return Err(shard.error(failure));
                }
                Next::Retry => shard.pause_before_retry().await,
                Next::LookAgain => {
                    shard.metrics.moved.inc();
                    Box::pin(self.map.refresh(async || self.ask_all().await)).await;
                }
            }
        }
    }

    /// Asks every shard for its slots now.
    pub async fn ask_all(&self) {
        let asking = self.shards.iter().map(|shard| self.ask_status(shard));
        futures_util::future::join_all(asking).await;
    }

    /// Every shard as it said last, and its gauges brought up to date.
    pub fn views(&self) -> Vec<ShardView> {
        self.shards.iter().map(|shard| shard.view()).collect()
    }

    /// Sends what was accepted and stops. Nothing must be handed in any more.
    pub async fn close(&self) {
        self.closing.cancel();
        self.pipes.wait().await;
    }

    async fn owner(&self, slot: Slot) -> Result<Owner, Absence> {
        if let Some(owner) = self.map.owner(slot) {
            return Ok(owner);
        }
        Box::pin(self.map.refresh_for_orphan(async || self.ask_all().await)).await;
        self.map.owner(slot).ok_or_else(|| {
            // A shard that was never reached may well be the owner: then its users hear that it is unavailable.
            let mut unknown = self.shards.iter().filter(|shard| !shard.status.load().is_known);
            match (unknown.next(), unknown.next()) {
                (None, _) => Absence::Moving,
                (Some(only), None) => Absence::Unknown { shard: Some(only.name.clone()) },
                (Some(_), Some(_)) => Absence::Unknown { shard: None },
            }
        })
    }

    async fn poll(self: Arc<Self>, position: usize) {
        let shard = &self.shards[position];
        loop {
            self.ask_status(shard).await;
            let is_reachable = shard.status.load().is_reachable;
            let pause = if is_reachable {
                self.config.poll_interval
            } else {
                POLL_AGAIN.min(self.config.poll_interval)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.closing.cancelled() => return,
            }
        }
    }

    /// Asks the shard's nodes in turn until one is ready, and takes in what that one says; without one, what the first
    /// that answers says.
    async fn ask_status(&self, shard: &Shard) {
        let deadline = Instant::now() + self.config.poll_timeout;
        let mut answer: Option<NodeStatus> = None;
        for position in 0..shard.nodes.count() {
            // Each gets its part of the time, or one frozen node would hide the others.
            let parts = u32::try_from(shard.nodes.count() - position).unwrap_or(u32::MAX);
            let now = Instant::now();
            let until = now + deadline.saturating_duration_since(now) / parts;
            let Ok(body) = shard.nodes.ask_one(Ask::Status, position, Bytes::new(), until).await else {
                continue;
            };
            match serde_json::from_slice::<NodeStatus>(&body) {
                Ok(status) if status.shard != shard.name => {
                    error!(
                        shard = shard.name,
                        answered = status.shard,
                        "a node of another shard answers here"
                    );
                }
                Ok(status) => {
                    let is_ready = status.is_ready;
                    if is_ready || answer.is_none() {
                        answer = Some(status);
                    }
                    if is_ready {
                        break;
                    }
                }
                Err(cause) => error!(shard = shard.name, %cause, "the node's status makes no sense"),
            }
        }
        // A node that cannot reach its database knows of no slots; that is no reason to forget them.
        if let Some(status) = &answer
            && (status.is_ready || !status.owned.is_empty())
        {
            self.map.take_claims(shard.position, &status.owned);
        }
        shard.note_poll(answer.is_some());
        shard.take_status(answer);
    }
}

/// Why a slot has no owner in the map.
#[derive(Debug)]
enum Absence {
    /// Every shard was heard, and none owns it.
    Moving,
    /// Some shard was never heard.
    Unknown { shard: Option<String> },
}

impl Absence {
    fn into_error(self, attempts: &Attempts, last: Option<&Shard>) -> ShardError {
        let failure = match self {
            Self::Moving => Failure::SlotMoving,
            Self::Unknown { .. } => Failure::Unavailable,
        };
        if let Some(shard) = last {
            return shard.write_error(attempts.without_owner(failure));
        }
        match self {
            Self::Moving => ShardError::SlotMoving { shard: None, retry_after: SOON },
            Self::Unknown { shard } => ShardError::Unavailable { shard, retry_after: SOON },
        }
    }
}

impl Shard {
    fn new(
        position: usize,
        entry: &cluster::Shard,
        nodes: Nodes,
        (lanes, lane_ends): Lanes,
        config: &ShardClientConfig,
        metrics: &Metrics,
    ) -> Self {
        Self {
            position,
            name: entry.name.clone(),
            nodes,
            rooms: lanes.iter().map(|_| QueueRoom::new(config)).collect(),
            lanes,
            lane_ends,
            breaker: Breaker::new(config.call_timeout),
            budget: RetryBudget::new(),
            readers: Semaphore::new(config.reads_max),
            status: ArcSwap::from_pointee(ShardStatus::default()),
            metrics: metrics.shard(&entry.name),
            batch_max: config.batch_max,
            gather_max: config.gather_max,
            call_timeout: config.call_timeout,
        }
    }

    /// Puts the command into the lane and waits for it to come back, until its deadline.
    async fn attempt(
        &self,
        command: Command,
        deadline: Instant,
    ) -> (Attempt<Outcome>, Option<HeaderValue>, Option<Command>) {
        let is_probe = match self.breaker.admit(std::time::Instant::now()) {
            Admission::Pass => false,
            Admission::Probe => true,
            Admission::Refuse { .. } => return (Attempt::NotSent(NotSent::BreakerOpen), None, None),
        };
        let ticket = Arc::new(Ticket::default());
        let job = Job { command, deadline, ticket: Arc::clone(&ticket), is_probe };
        let tag = usize::try_from(job.command.operation.tag().get()).expect("30 bits");
        let lane = tag % self.lanes.len();
        if !self.rooms[lane].has_place(self.lanes[lane].queue_length()) {
            return (Attempt::NotSent(NotSent::Full), None, None);
        }
        let Ok(answer) = self.lanes[lane].submit(job, 1) else {
            return (Attempt::NotSent(NotSent::Full), None, None);
        };
        // On its own on the heap: a timer is aligned to a cache line, and would make every future around it so.
        let timer = Box::pin(tokio::time::sleep_until(deadline));
        match select(pin!(answer), timer).await {
            Either::Left((Ok(Done { command, attempt, session }), _)) => (attempt, session, Some(command)),
            // The pipe went away with it, or the time is over: what counts is whether it was sent.
            Either::Left((Err(_), _)) | Either::Right(_) if ticket.give_up() => {
                (Attempt::NotSent(NotSent::TooLate), None, None)
            }
            Either::Left((Err(_), _)) | Either::Right(_) => (Attempt::Unanswered, None, None),
        }
    }

    async fn attempt_read(&self, body: Bytes, deadline: Instant) -> Attempt<Answer> {
        if let Admission::Refuse { .. } = self.breaker.admit(std::time::Instant::now()) {
            return Attempt::NotSent(NotSent::BreakerOpen);
        }
        let Ok(_place) = self.readers.try_acquire() else {
            return Attempt::NotSent(NotSent::Full);
        };
        let deadline = deadline.min(Instant::now() + self.call_timeout);
        // Readers take the nodes in turn, by how many of them are at work.
        let preferred = self.readers.available_permits() % self.nodes.count();
        let answer = self.nodes.ask(Ask::Read, preferred, body, deadline).await;
        self.note(answer.as_ref().err().copied());
        let bytes = match answer {
            Ok(bytes) => bytes,
            Err(error) => return error.into(),
        };
        match postcard::from_bytes::<Answer>(&bytes) {
            Ok(Answer { found: Found::Unavailable { reason }, .. }) => {
                warn!(shard = self.name, reason, "the shard could not read");
                Attempt::NotSent(NotSent::Unreachable)
            }
            Ok(answer) => Attempt::Answered(answer),
            Err(error) => {
                error!(shard = self.name, %error, "the node's answer makes no sense");
                Attempt::Unanswered
            }
        }
    }

    /// Tells the breaker how a call ended.
    fn note(&self, error: Option<CallError>) {
        match error {
            None | Some(CallError::Rejected) => self.breaker.record_success(),
            Some(CallError::Unreachable | CallError::Unanswered) => {
                if self.breaker.record_failure(std::time::Instant::now(), rand::random()) {
                    self.let_nobody_wait();
                }
            }
        }
    }

    /// Tells the breaker whether any node answered a poll.
    fn note_poll(&self, is_answered: bool) {
        if is_answered {
            self.breaker.record_sign_of_life();
        } else if self.breaker.record_silence(std::time::Instant::now(), rand::random()) {
            self.let_nobody_wait();
        }
    }

    /// The breaker has just opened. Who waits in the lanes is told from now on: the pipe is busy with a call that may take
    /// its whole timeout to fail.
    fn let_nobody_wait(&self) {
        error!(shard = self.name, "the shard does not answer: its breaker opens");
        let mut waiting: Vec<_> = self.lane_ends.iter().flat_map(LaneEnd::take_waiting).collect();
        let batch_max = self.batch_max;
        tokio::spawn(async move {
            while !waiting.is_empty() {
                let later = waiting.split_off(batch_max.min(waiting.len()));
                let told = waiting.len();
                for pending in waiting {
                    let (job, reply) = pending.split();
                    // It waited, so it was not sent. A client that has given up does not hear this, and needs not.
                    let attempt = Attempt::NotSent(NotSent::BreakerOpen);
                    reply.send(Done { command: job.command, attempt, session: None });
                }
                waiting = later;
                tokio::time::sleep(refusal_pace::rest_after(told)).await;
            }
        });
    }

    fn may_retry(&self, deadline: Instant) -> bool {
        let has_time = deadline.saturating_duration_since(Instant::now()) > RETRY_WORTH;
        let may = has_time && self.budget.spend();
        if may {
            self.metrics.retries.inc();
        }
        may
    }

    async fn pause_before_retry(&self) {
        Box::pin(tokio::time::sleep(RETRY_PAUSE.mul_f64(2.0 * rand::random::<f64>()))).await;
    }

    fn write_error(&self, failure: Failure) -> ShardError {
        match failure {
            Failure::OutcomeUnknown => self.metrics.writes_unknown.inc(),
            _ => self.metrics.writes_failed.inc(),
        }
        self.error(failure)
    }

    fn error(&self, failure: Failure) -> ShardError {
        let shard = self.name.clone();
        match failure {
            Failure::Unavailable => {
                let wait = self.breaker.wait(std::time::Instant::now());
                ShardError::Unavailable { shard: Some(shard), retry_after: wait.max(SOON) }
            }
            Failure::Overloaded => ShardError::Overloaded { shard, retry_after: SOON },
            Failure::SlotMoving => ShardError::SlotMoving { shard: Some(shard), retry_after: SOON },
            Failure::OutcomeUnknown => ShardError::OutcomeUnknown,
            Failure::Internal => ShardError::Internal,
        }
    }

    /// Keeps what the shard said of itself, and logs what changed.
    fn take_status(&self, answer: Option<NodeStatus>) {
        let before = self.status.load();
        let status = match &answer {
            Some(answer) => ShardStatus {
                is_known: before.is_known || answer.is_ready || !answer.owned.is_empty(),
                is_reachable: true,
                is_ready: answer.is_ready,
                replica_lag_ms: answer.replica_lag_ms,
                degraded: answer.degraded.clone(),
            },
            None => ShardStatus { is_known: before.is_known, ..ShardStatus::default() },
        };
        if (before.is_reachable, before.is_ready) != (status.is_reachable, status.is_ready) {
            let reason = answer.and_then(|answer| answer.not_ready_reason).unwrap_or_default();
            match (status.is_reachable, status.is_ready) {
                (_, true) => info!(shard = self.name, "the shard is ready"),
                (true, false) => warn!(shard = self.name, reason, "the shard is not ready"),
                (false, false) => warn!(shard = self.name, "no node of the shard answers"),
            }
        }
        match (&before.degraded, &status.degraded) {
            (None, Some(Degradation { since, by, reason })) => {
                warn!(shard = self.name, since, by, reason, "the shard goes on without its standby");
            }
            (Some(_), None) if status.is_ready => info!(shard = self.name, "the shard has its standby again"),
            _ => {}
        }
        self.status.store(Arc::new(status));
    }

    fn view(&self) -> ShardView {
        let (status, breaker) = (self.status.load(), self.breaker.state());
        let is_ready = status.is_ready && self.breaker.may_be_tried(std::time::Instant::now());
        let waiting: usize = self.lanes.iter().map(Lane::queue_length).sum();
        let queue_length = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.metrics.queue_length.set(queue_length);
        self.metrics.breaker_state.set(match breaker {
            BreakerState::Closed => 0,
            BreakerState::Probing => 1,
            BreakerState::Open => 2,
        });
        self.metrics.is_ready.set(i64::from(is_ready));
        self.metrics.replica_lag.set(lag_seconds(status.replica_lag_ms));
        self.metrics.is_degraded.set(i64::from(status.degraded.is_some()));
        ShardView {
            shard: self.name.clone(),
            is_ready,
            breaker: breaker.as_str(),
            replica_lag_ms: status.replica_lag_ms,
            degraded_since: status.degraded.as_ref().map(|degraded| degraded.since.clone()),
        }
    }
}

fn lag_seconds(lag_ms: Option<u64>) -> f64 {
    lag_ms.map_or(f64::NAN, |ms| Duration::from_millis(ms).as_secs_f64())
}
