//! The only room from which a shard node is called: batch, deadline, retry, outcome.
//!
//! A command waits in its user's lane, travels in a batch and comes back with an outcome. In between a connection
//! may fail, a node die, a slot move; what the client may then be told is decided in `attempts.rs`.

mod attempts;
mod breaker;
mod moving;
mod pipe;
mod queue_room;
mod shard;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use bytes::Bytes;
use picopay_shared::cluster::Cluster;
use picopay_shared::command::{Command, Moved, Outcome};
use picopay_shared::node_status::NodeStatus;
use picopay_shared::query::{Answer, Found, Query, ReadRequest, Source};
use picopay_shared::session::SessionToken;
use picopay_shared::slot::Slot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use self::attempts::Written;
use self::attempts::{Attempt, Attempts, Failure, Next};
pub use self::breaker::BreakerState;
use self::moving::Moving;
use self::shard::Shard;
pub use self::shard::ShardView;
use self::wire::Nodes;
use crate::config::ShardClientConfig;
use crate::metrics::Metrics;
use crate::slot_map::{OnTheWay, Owner, SlotMap};

/// How soon a shard is polled again of which no node answered: users of one that is back hear no for so much longer.
const POLL_AGAIN: Duration = Duration::from_millis(250);
/// While requests are held because nobody owns their slot, somebody is asked this often. A pause lasts some tens of
/// milliseconds, and a node takes a few to say what it owns.
const ASK_AGAIN: Duration = Duration::from_millis(25);
/// How long such a question may take: a shard that is frozen keeps the next round from the others for so long.
const ASK_WAIT: Duration = Duration::from_millis(200);
/// How often the log says that a slot has gone to a shard that is not in this gateway's `cluster.toml`.
const TELL_AGAIN: Duration = Duration::from_secs(5);
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
    moving: Moving,
    config: ShardClientConfig,
    closing: CancellationToken,
    pipes: TaskTracker,
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
            let shard = Arc::new(Shard::new(position, entry, nodes, config, metrics));
            shard.run_pipes(config.pipes, &pipes, &closing);
            shards.push(shard);
        }
        pipes.close();
        let map = SlotMap::new(shards.len());
        let moving = Moving::new(config.moving_max, metrics.moving.clone());
        let client = Arc::new(Self { shards, map, moving, config: config.clone(), closing, pipes });
        for position in 0..client.shards.len() {
            tokio::spawn(Arc::clone(&client).poll(position));
        }
        tokio::spawn(Arc::clone(&client).ask_about_moving());
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
            let owner = match self.owner(slot, deadline).await {
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
            if let Attempt::Answered(Outcome::Moved(moved)) = &attempt {
                self.note_moved(shard, moved);
            }
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
                    self.look_again(slot, owner).await;
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
            let owner = match self.owner(slot, deadline).await {
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
                Next::Answer(Answer { found: Found::Moved(moved), .. }) => {
                    self.note_moved(shard, &moved);
                    attempts.after_moved_read()
                }
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
                Next::LookAgain => self.look_again(slot, owner).await,
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

    /// Whom to ask for the slot: at once when the map says so, and else after a round of questions or, while the slot is on
    /// its way, as soon as it has an owner.
    async fn owner(&self, slot: Slot, deadline: Instant) -> Result<Owner, Absence> {
        if let Some(owner) = self.map.owner(slot) {
            return Ok(owner);
        }
        let found = match self.map.on_the_way(slot).map(|known| known.since + self.config.move_wait) {
            Some(until) if until > Instant::now() => Box::pin(self.hold(slot, until.min(deadline))).await,
            _ => {
                Box::pin(self.map.refresh_for_orphan(async || self.ask_all().await)).await;
                self.map.owner(slot)
            }
        };
        found.ok_or_else(|| {
            // A shard that was never reached may well be the owner: then its users hear that it is unavailable.
            let mut unknown = self.shards.iter().filter(|shard| !shard.is_known());
            match (unknown.next(), unknown.next()) {
                (None, _) => Absence::Moving,
                (Some(only), None) => Absence::Unknown { shard: Some(only.name.clone()) },
                (Some(_), Some(_)) => Absence::Unknown { shard: None },
            }
        })
    }

    /// Waits until the slot has an owner; `None` when that takes too long, or too many wait already.
    async fn hold(&self, slot: Slot, until: Instant) -> Option<Owner> {
        let held = self.moving.hold(slot)?;
        let owner = self.map.owner_before(slot, until).await;
        if owner.is_none() {
            held.give_up();
        }
        owner
    }

    fn note_moved(&self, shard: &Shard, moved: &Moved) {
        shard.metrics.moved.inc();
        let next = moved.owner.as_ref().and_then(|name| self.shards.iter().position(|one| one.name == *name));
        self.map.note_moved(moved, next);
    }

    /// After a shard has said that it does not own the slot. Mostly the answer itself makes its claim an old one, and what is
    /// to be asked is asked while the request is held; else the claim has to be renewed.
    async fn look_again(&self, slot: Slot, asked: Owner) {
        if self.map.owner(slot) == Some(asked) {
            Box::pin(self.map.refresh_for_orphan(async || self.ask_all().await)).await;
        }
    }

    /// Asks around on behalf of all requests that are held, one round at a time and for as long as there are any. They
    /// are woken by what the map learns.
    async fn ask_about_moving(self: Arc<Self>) {
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.moving.anybody() => {}
                () = self.closing.cancelled() => return,
            }
            let known: Vec<(Slot, OnTheWay)> = (self.moving.slots().into_iter())
                .filter_map(|slot| Some((slot, self.map.on_the_way(slot)?)))
                .collect();
            let stranger = known.iter().find_map(|(slot, known)| Some((slot, known.stranger.as_ref()?)));
            if let Some((slot, shard)) = stranger
                && told.is_none_or(|told| told.elapsed() > TELL_AGAIN)
            {
                warn!(slot = slot.get(), shard, "a slot goes to a shard that is not in cluster.toml here");
                told = Some(Instant::now());
            }
            self.ask_those_concerned(&known).await;
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn ask_those_concerned(&self, known: &[(Slot, OnTheWay)]) {
        let nothing_known = known.iter().any(|(_, known)| known.shards.is_empty());
        let concerned = |shard: &&Arc<Shard>| {
            nothing_known || known.iter().any(|(_, known)| known.shards.contains(&shard.position))
        };
        let asking = self.shards.iter().filter(concerned).map(|shard| async {
            // No answer is no news here: it is the poll that tells the breaker.
            let answer = shard.ask_status(Instant::now() + ASK_WAIT).await;
            self.take_claims(shard, answer.as_ref());
        });
        futures_util::future::join_all(asking).await;
    }

    async fn poll(self: Arc<Self>, position: usize) {
        let shard = &self.shards[position];
        loop {
            self.ask_status(shard).await;
            let pause = if shard.is_reachable() {
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

    async fn ask_status(&self, shard: &Shard) {
        let answer = shard.ask_status(Instant::now() + self.config.poll_timeout).await;
        self.take_claims(shard, answer.as_ref());
        shard.note_poll(answer.is_some());
        shard.take_status(answer);
    }

    fn take_claims(&self, shard: &Shard, answer: Option<&NodeStatus>) {
        // A node that cannot reach its database knows of no slots; that is no reason to forget them.
        if let Some(status) = answer
            && (status.is_ready || !status.owned.is_empty())
        {
            self.map.take_claims(shard.position, &status.owned, &status.importing);
        }
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
