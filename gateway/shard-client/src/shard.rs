//! One shard as the gateway sees it: its nodes, lanes, breaker, budget and last status.
//!
//! Which shard a request goes to, and whether it is tried again, is not decided here.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::{Either, select};
use picopay_shared::aggregate::{AggregateAnswer, Aggregated};
use picopay_shared::cluster;
use picopay_shared::command::{Attempt, Command};
use picopay_shared::lane::{Lane, LaneEnd, Pending};
use picopay_shared::node_status::{AGGREGATES, Degradation, WIRE_BEFORE_HOLDS};
use picopay_shared::query::{Answer, Found};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::attempts::{GaveUp, RetryBudget};
use crate::breaker::{Admission, Breaker, BreakerState};
use crate::config::ShardClientConfig;
use crate::ended::{Ended, NotDone};
use crate::error::{SOON, ShardError};
use crate::job::{Done, Job};
use crate::journey;
use crate::metrics::{Metrics, ShardMetrics};
use crate::nodes::{NodeState, Nodes, Said};
use crate::queue_room::QueueRoom;
use crate::refusal_pace;
use crate::ticket::Ticket;
use crate::wire::{Ask, CallError};

/// The pause before the gateway's own retry: a restarted node needs a moment. Random, up to twice this.
const RETRY_PAUSE: Duration = Duration::from_millis(25);
const RETRY_WORTH: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Shard {
    pub place: usize,
    pub name: String,
    pub nodes: Nodes,
    /// A user's commands always take the same lane, as in the node.
    pub lanes: Vec<Lane<Job, Done>>,
    lane_ends: Vec<LaneEnd<Job, Done>>,
    pub rooms: Vec<QueueRoom>,
    pub breaker: Breaker,
    pub budget: RetryBudget,
    readers: Semaphore,
    status: ArcSwap<ShardStatus>,
    silences: Mutex<u32>,
    pub metrics: ShardMetrics,
    pub batch_max: usize,
    pub batch_interval: Duration,
    pub call_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
struct ShardStatus {
    is_known: bool,
    is_reachable: bool,
    is_ready: bool,
    replica_lag_ms: Option<u64>,
    degraded: Option<Degradation>,
    /// The version of the wire that all of its nodes speak, as its ready nodes said last.
    finished: u16,
}

impl Default for ShardStatus {
    fn default() -> Self {
        Self {
            is_known: false,
            is_reachable: false,
            is_ready: false,
            replica_lag_ms: None,
            degraded: None,
            finished: WIRE_BEFORE_HOLDS,
        }
    }
}

/// A shard in the answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ShardView {
    pub shard: String,
    pub is_ready: bool,
    /// `closed`, `probing` or `open`.
    pub breaker: &'static str,
    /// Lag of its freshest replica in milliseconds; `null` when unknown.
    pub replica_lag_ms: Option<u64>,
    /// The state of each node in the order of `cluster.toml`: `ready`, `passed-over` (ready again after a
    /// failure, while another serves), `not-ready` or `silent`.
    pub nodes: Vec<&'static str>,
    /// Since when an operator lets it go on without its standby, so that acknowledged writes are on one
    /// machine only; `null` normally.
    pub degraded_since: Option<String>,
}

impl Shard {
    pub fn new(
        place: usize,
        entry: &cluster::Shard,
        nodes: Nodes,
        config: &ShardClientConfig,
        metrics: &Metrics,
    ) -> Self {
        let (lanes, lane_ends): (Vec<_>, Vec<_>) =
            (0..config.lanes).map(|_| Lane::new(config.queue_max)).unzip();
        Self {
            place,
            name: entry.name.clone(),
            nodes,
            rooms: lanes.iter().map(|_| QueueRoom::new(config)).collect(),
            lanes,
            lane_ends,
            breaker: Breaker::new(config.call_timeout),
            budget: RetryBudget::new(),
            readers: Semaphore::new(config.reads_max),
            status: ArcSwap::from_pointee(ShardStatus::default()),
            silences: Mutex::default(),
            metrics: metrics.shard(&entry.name),
            batch_max: config.batch_max,
            batch_interval: config.batch_interval,
            call_timeout: config.call_timeout,
        }
    }

    pub fn lane_ends(&self) -> &[LaneEnd<Job, Done>] {
        &self.lane_ends
    }

    pub fn is_known(&self) -> bool {
        self.status.load().is_known
    }

    /// The lane of the command's user.
    pub fn lane_of(&self, command: &Command) -> usize {
        let tag = usize::try_from(command.operation.tag().get()).expect("30 bits");
        tag % self.lanes.len()
    }

    /// Sends commands of one lane together. At most [`WRITE_BATCH_MAX`](picopay_shared::command::WRITE_BATCH_MAX).
    /// What an older node could not read stays here while there may be one: its neighbours in the batch would suffer.
    pub async fn attempt(
        &self,
        lane: usize,
        attempts: Vec<Attempt<Arc<Command>>>,
        deadline: Instant,
    ) -> Done {
        let finished = self.status.load().finished;
        let is_sent = |attempt: &Attempt<Arc<Command>>| attempt.command.operation.wire_version() <= finished;
        if attempts.iter().all(is_sent) {
            return self.attempt_all(lane, attempts, deadline).await;
        }
        if let Some(waiting) = attempts.iter().find(|attempt| !is_sent(attempt)) {
            warn!(
                shard = self.name,
                request = %waiting.command.origin,
                "{} waits until no older program is left: run `picopay migrate --finish`",
                waiting.command.operation.name_of_step()
            );
        }
        let stays: Vec<bool> = attempts.iter().map(|attempt| !is_sent(attempt)).collect();
        let sent: Vec<Attempt<Arc<Command>>> = attempts.into_iter().filter(is_sent).collect();
        let mut done = if sent.is_empty() {
            Done::all(Ended::NotDone(NotDone::Unavailable), 0)
        } else {
            self.attempt_all(lane, sent, deadline).await
        };
        let mut ended = std::mem::take(&mut done.ended).into_iter();
        let unavailable = || Some(Ended::NotDone(NotDone::Unavailable));
        let all = stays.into_iter().map(|stays| if stays { unavailable() } else { ended.next() });
        let ended = all.map(|ended| ended.expect("one for each attempt")).collect();
        Done { ended, ..done }
    }

    async fn attempt_all(
        &self,
        lane: usize,
        attempts: Vec<Attempt<Arc<Command>>>,
        deadline: Instant,
    ) -> Done {
        let count = attempts.len();
        let is_probe = match self.breaker.admit(std::time::Instant::now()) {
            Admission::Pass => false,
            Admission::Probe => true,
            Admission::Refuse { .. } => return Done::not_sent(NotDone::BreakerOpen, count),
        };
        if !self.rooms[lane].has_place(self.lanes[lane].queue_length()) {
            return Done::not_sent(NotDone::Overloaded, count);
        }
        let queued = journey::moment();
        let ticket = Arc::new(Ticket::default());
        let job = Job { attempts, deadline, ticket: Arc::clone(&ticket), is_probe };
        let Ok(answer) = self.lanes[lane].submit(job, count) else {
            return Done::not_sent(NotDone::Overloaded, count);
        };
        // Boxed: a timer is aligned to a cache line, and would make every future around it larger.
        let timer = Box::pin(tokio::time::sleep_until(deadline));
        match select(pin!(answer), timer).await {
            Either::Left((Ok(done), _)) => {
                journey::note_sent(queued, done.sent);
                done
            }
            // The pipe was lost or the time is over: what counts is whether the commands were sent.
            Either::Left((Err(_), _)) | Either::Right(_) if ticket.give_up() => {
                Done::not_sent(NotDone::Overloaded, count)
            }
            Either::Left((Err(_), _)) | Either::Right(_) => Done::all(Ended::Unknown, count),
        }
    }

    /// Only nodes that speak this version of the wire, or a later one, are asked.
    pub async fn attempt_read(&self, body: Bytes, least_wire: u16, deadline: Instant) -> Ended<Answer> {
        if let Admission::Refuse { .. } = self.breaker.admit(std::time::Instant::now()) {
            return Ended::NotDone(NotDone::BreakerOpen);
        }
        let Ok(_place) = self.readers.try_acquire() else {
            return Ended::NotDone(NotDone::Overloaded);
        };
        // Readers take the nodes in turn, by the number of reads under way.
        let preferred = self.readers.available_permits();
        let limits = (deadline, self.call_timeout);
        let judge = |bytes: &Bytes| self.read_answer(bytes);
        let ask = (Ask::Read, least_wire);
        let answer = self.nodes.ask(ask, preferred, limits, |_| body.clone(), judge).await;
        self.note(answer.as_ref().err().copied());
        match answer {
            Ok(Answer { found: Found::Unavailable { reason }, .. }) => {
                warn!(shard = self.name, reason, "the shard could not read");
                Ended::NotDone(NotDone::Unavailable)
            }
            Ok(Answer { found: Found::Corrupt { reason }, .. }) => {
                error!(shard = self.name, reason, "a user's rows cannot be read");
                Ended::NotDone(NotDone::Internal)
            }
            Ok(Answer { found: Found::Moved(moved), .. }) => Ended::Moved(moved),
            Ok(answer) => Ended::Final(answer),
            Err(error) => Ended::from(error).of_read(),
        }
    }

    /// Asks for sums or totals, which may take all the time until the deadline.
    pub async fn attempt_aggregate(&self, body: Bytes, deadline: Instant) -> Ended<AggregateAnswer> {
        if let Admission::Refuse { .. } = self.breaker.admit(std::time::Instant::now()) {
            return Ended::NotDone(NotDone::BreakerOpen);
        }
        let Ok(_place) = self.readers.try_acquire() else {
            return Ended::NotDone(NotDone::Overloaded);
        };
        let preferred = self.readers.available_permits();
        let longest = deadline.saturating_duration_since(Instant::now());
        let judge = |bytes: &Bytes| match AggregateAnswer::from_wire(bytes) {
            Ok(answer) if matches!(answer.found, Aggregated::Unavailable { .. }) => {
                // One that was late is no worse than the next: there may be too much to read.
                let left = deadline.saturating_duration_since(Instant::now());
                if left > longest / 2 { Said::Nothing(answer) } else { Said::Fine(answer) }
            }
            Ok(answer) => Said::Fine(answer),
            Err(error) => {
                error!(shard = self.name, %error, "the node's answer makes no sense");
                Said::Nonsense
            }
        };
        let ask = (Ask::Aggregate, AGGREGATES);
        let answer = self.nodes.ask(ask, preferred, (deadline, longest), |_| body.clone(), judge).await;
        self.note(answer.as_ref().err().copied());
        match answer {
            Ok(AggregateAnswer { found: Aggregated::Unavailable { reason }, .. }) => {
                warn!(shard = self.name, reason, "the shard could not add up");
                Ended::NotDone(NotDone::Unavailable)
            }
            Ok(AggregateAnswer { found: Aggregated::Corrupt { reason }, .. }) => {
                error!(shard = self.name, reason, "rows cannot be added up");
                Ended::NotDone(NotDone::Internal)
            }
            Ok(answer) => Ended::Final(answer),
            Err(error) => Ended::from(error).of_read(),
        }
    }

    fn read_answer(&self, bytes: &[u8]) -> Said<Answer> {
        match Answer::from_wire(bytes) {
            Ok(answer) if matches!(answer.found, Found::Unavailable { .. }) => Said::Nothing(answer),
            Ok(answer) => Said::Fine(answer),
            Err(error) => {
                error!(shard = self.name, %error, "the node's answer makes no sense");
                Said::Nonsense
            }
        }
    }

    /// Polls the node at this position; no other caller polls it meanwhile. The result counts for the node,
    /// the shard and the breaker. Returns whether it answered.
    pub async fn poll_node(&self, position: usize, deadline: Instant) -> bool {
        let began = Instant::now();
        let answer = self.nodes.ask_status(position, deadline).await;
        let is_answered = answer.is_some();
        {
            let mut told = self.silences.lock().unwrap_or_else(PoisonError::into_inner);
            self.nodes.note_poll(position, began, answer);
            let silences = self.nodes.silences();
            if is_answered {
                self.breaker.record_sign_of_life();
            } else if silences > *told
                && self.breaker.record_silence(std::time::Instant::now(), rand::random())
            {
                self.let_nobody_wait();
            }
            *told = silences;
        }
        self.take_status();
        is_answered
    }

    /// Asks all answering nodes at the same time, between their polls. No answer changes nothing here. Calls
    /// `on_news` after each answer.
    pub async fn ask_nodes(&self, deadline: Instant, on_news: impl Fn()) {
        let asking = self.nodes.answering().into_iter().map(async |position| {
            let began = Instant::now();
            if let Some(answer) = self.nodes.ask_status(position, deadline).await {
                self.nodes.note_poll(position, began, Some(answer));
                self.take_status();
                on_news();
            }
        });
        futures_util::future::join_all(asking).await;
    }

    /// Reports to the breaker how a call ended. A failure of one node is no failure of the shard while
    /// another is ready.
    pub fn note(&self, error: Option<CallError>) {
        match error {
            None | Some(CallError::Rejected) => self.breaker.record_success(),
            Some(CallError::UnansweredToo) => {}
            Some(CallError::Unreachable | CallError::Unanswered) => {
                if !self.nodes.is_any_ready()
                    && self.breaker.record_failure(std::time::Instant::now(), rand::random())
                {
                    self.let_nobody_wait();
                }
            }
        }
    }

    /// Called when the breaker opens. Refuses the commands that wait, because the pipe may be busy with a
    /// call for its whole timeout.
    fn let_nobody_wait(&self) {
        error!(shard = self.name, "the shard does not answer: its breaker opens");
        let mut waiting: Vec<_> = self.lane_ends.iter().flat_map(LaneEnd::take_waiting).collect();
        let batch_max = self.batch_max;
        tokio::spawn(async move {
            while !waiting.is_empty() {
                let later = waiting.split_off(batch_max.min(waiting.len()));
                let told = waiting.iter().map(Pending::weight).sum();
                for pending in waiting {
                    let count = pending.weight();
                    let (_job, reply) = pending.split();
                    // It was waiting, so it was not sent. The client may have given up.
                    reply.send(Done::not_sent(NotDone::BreakerOpen, count));
                }
                waiting = later;
                tokio::time::sleep(refusal_pace::rest_after(told)).await;
            }
        });
    }

    pub fn may_retry(&self, deadline: Instant) -> bool {
        let has_time = deadline.saturating_duration_since(Instant::now()) > RETRY_WORTH;
        let may = has_time && self.budget.spend();
        if may {
            self.metrics.retries.inc();
            journey::note(|journey| journey.retries += 1);
        }
        may
    }

    pub async fn pause_before_retry(&self) {
        Box::pin(tokio::time::sleep(RETRY_PAUSE.mul_f64(2.0 * rand::random::<f64>()))).await;
    }

    pub fn write_error(&self, end: GaveUp) -> ShardError {
        match end {
            GaveUp::Unknown => self.metrics.writes_unknown.inc(),
            GaveUp::NotDone(_) => self.metrics.writes_failed.inc(),
        }
        self.error(end)
    }

    pub fn read_error(&self, end: GaveUp) -> ShardError {
        self.metrics.reads_failed.inc();
        self.error(end)
    }

    fn error(&self, end: GaveUp) -> ShardError {
        let why = match end {
            GaveUp::NotDone(why) => why,
            GaveUp::Unknown => return ShardError::Unknown,
        };
        let retry_after = match why {
            NotDone::Unavailable | NotDone::BreakerOpen => {
                self.breaker.wait(std::time::Instant::now()).max(SOON)
            }
            NotDone::Overloaded | NotDone::SlotMoving | NotDone::Internal => SOON,
        };
        ShardError::NotDone { why, shard: Some(self.name.clone()), retry_after }
    }

    fn take_status(&self) {
        let before = self.status.load();
        let answer = self.nodes.best_status();
        let status = match &answer {
            Some(answer) => ShardStatus {
                is_known: before.is_known || answer.is_ready || !answer.owned.is_empty(),
                is_reachable: true,
                is_ready: answer.is_ready,
                replica_lag_ms: answer.replica_lag_ms,
                degraded: answer.degraded.clone(),
                finished: if answer.is_ready { answer.finished } else { before.finished },
            },
            None => {
                ShardStatus { is_known: before.is_known, finished: before.finished, ..ShardStatus::default() }
            }
        };
        if (before.is_reachable, before.is_ready) != (status.is_reachable, status.is_ready) {
            let reason = answer.and_then(|answer| answer.not_ready_reason.clone()).unwrap_or_default();
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

    pub fn view(&self) -> ShardView {
        let (status, breaker) = (self.status.load(), self.breaker.state());
        let is_ready = status.is_ready && self.breaker.may_be_tried(std::time::Instant::now());
        let waiting: usize = self.lanes.iter().map(Lane::queue_length).sum();
        let queue_length = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.metrics.queue_length.set(queue_length);
        let lanes = self.rooms.iter().zip(&self.lanes);
        let fullest = lanes.map(|(room, lane)| room.fullness(lane.queue_length())).fold(0.0, f64::max);
        self.metrics.queue_fullness.set(fullest);
        self.nodes.read_off();
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
            nodes: self.nodes.states().into_iter().map(NodeState::as_str).collect(),
            degraded_since: status.degraded.as_ref().map(|degraded| degraded.since.clone()),
        }
    }
}

fn lag_seconds(lag_ms: Option<u64>) -> f64 {
    lag_ms.map_or(f64::NAN, |ms| Duration::from_millis(ms).as_secs_f64())
}
