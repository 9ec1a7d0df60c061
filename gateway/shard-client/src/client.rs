//! The client of all shards: takes a command and returns what its shard decided.
//!
//! A command waits in its user's lane, travels in a batch and comes back with an outcome. Connections may
//! fail, nodes die and slots move meanwhile; `attempts.rs` decides what the client hears then.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use picopay_shared::cluster::{self, Cluster};
use picopay_shared::command::{Attempt, Command, Moved};
use picopay_shared::config::Secret;
use picopay_shared::query::{Answer, ReadRequest};
use picopay_shared::session::SessionToken;
use picopay_shared::slot::Slot;
use prometheus::Registry;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::attempts::{Attempts, Next};
use crate::config::ShardClientConfig;
use crate::ended::{Decision, Ended, NotDone};
use crate::error::{SOON, ShardError};
use crate::held::HeldRequests;
use crate::journey;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::pipe;
use crate::shard::{Shard, ShardView};
use crate::shard_set::{OpenShard, ShardSet};
use crate::slot_map::{OnTheWay, Owner, SlotMap};
use crate::wire::Wire;

/// How soon a silent node is polled again. Users of a shard that is back get errors for that much longer.
const POLL_AGAIN: Duration = Duration::from_millis(250);
/// How often shards are asked while requests are held. A pause lasts some tens of milliseconds, and a node
/// needs a few to answer.
const ASK_AGAIN: Duration = Duration::from_millis(25);
/// How long such a question may take. A frozen shard delays the next round by this.
const ASK_WAIT: Duration = Duration::from_millis(200);
/// How often the log repeats that a slot went to a shard that this `cluster.toml` does not name.
const TELL_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct ShardClient {
    shards: ArcSwap<ShardSet>,
    /// Survives reloads, so that no request meets an empty map.
    map: SlotMap,
    held: HeldRequests,
    wire: Wire,
    metrics: Metrics,
    config: ShardClientConfig,
    closing: CancellationToken,
    pipes: TaskTracker,
    reloading: Mutex<()>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub decision: Decision,
    /// The token with which a read sees this write; `None` when nothing was written.
    pub session: Option<SessionToken>,
}

impl ShardClient {
    /// Opens the lanes and begins to poll every shard. No node needs to be up.
    pub fn start(cluster: &Cluster, config: &ShardClientConfig, registry: &Registry) -> Arc<Self> {
        let metrics = Metrics::new(registry);
        let pipes = TaskTracker::new();
        pipes.close();
        let client = Arc::new(Self {
            shards: ArcSwap::default(),
            map: SlotMap::default(),
            held: HeldRequests::new(config.moving_max, metrics.held.clone()),
            wire: Wire::new(config, &cluster.internal_secret, cluster.caller.as_ref()),
            metrics,
            config: config.clone(),
            closing: CancellationToken::new(),
            pipes,
            reloading: Mutex::default(),
        });
        let shards = ShardSet::default().changed_to(cluster, |place, entry| client.open(place, entry));
        for shard in shards.iter() {
            client.keep_asking(shard);
        }
        tokio::spawn(Arc::clone(&client).ask_about_held());
        client.shards.store(Arc::new(shards));
        client
    }

    /// Shows nodes another secret from now on. Nodes that do not know it yet are shown the previous one for a
    /// while.
    pub fn show(&self, secret: &Secret) {
        self.wire.show(secret);
    }

    /// Uses another `cluster.toml` from now on. Shards with unchanged nodes stay as they are. A new or
    /// changed shard is polled before it takes over, which takes `poll_timeout` if a node does not answer.
    /// The old connections finish what they accepted.
    pub async fn take_over(self: &Arc<Self>, cluster: &Cluster) {
        let _one_at_a_time = self.reloading.lock().await;
        self.wire.call_as(cluster.caller.as_ref());
        let before = self.shards.load_full();
        let mut opened = Vec::new();
        let after = before.changed_to(cluster, |place, entry| {
            let shard = self.open(place, entry);
            opened.push(Arc::clone(&shard));
            shard
        });
        let until = Instant::now() + self.config.poll_timeout;
        futures_util::future::join_all(opened.iter().map(|shard| shard.ask_nodes(until, || {}))).await;
        for gone in before.iter().filter(|shard| after.get(shard.place).is_none()) {
            self.metrics.forget_shard(&gone.name);
            info!(shard = gone.name, "the shard is not in cluster.toml any more");
        }
        // First the shards, then the map: a shard that the map names is always found here.
        self.shards.store(Arc::new(after));
        for shard in &opened {
            let verb = if before.get(shard.place).is_some() { "changed" } else { "new" };
            info!(shard = shard.name, "the shard is {verb}");
            self.metrics.forget_nodes(&shard.name, shard.nodes.count());
            self.take_claims(shard);
            self.keep_asking(shard);
        }
    }

    /// Has the command decided by the shard that owns its slot.
    ///
    /// # Errors
    /// [`ShardError`]; only `Unknown` leaves open whether it was done.
    pub async fn write(&self, command: Command) -> Result<Written, ShardError> {
        let deadline = self.deadline();
        let slot = command.operation.slot();
        let command = Arc::new(command);
        let mut attempts = Attempts::default();
        let mut last: Option<Arc<OpenShard>> = None;
        loop {
            // Looked up each time: the slot may have moved, and a reload may have replaced the shard.
            let (owner, found) = match (self.find(slot, deadline).await, &last) {
                (Ok(found), _) => found,
                (Err(absence), None) => return Err(absence.into()),
                (Err(absence), Some(shard)) => {
                    return Err(shard.write_error(attempts.without_owner(absence.why)));
                }
            };
            if last.is_none() {
                found.budget.earn();
            }
            let shard = last.insert(found);
            note_way(slot, shard);
            let attempt = Attempt { command: Arc::clone(&command), epoch: owner.epoch };
            let done = shard.attempt(shard.lane_of(&command), vec![attempt], deadline).await;
            let session = done.session;
            let ended = done.ended.into_iter().next().expect("one for each attempt");
            match self.after_write(shard, &mut attempts, (ended, session), || shard.may_retry(deadline)) {
                Next::Answer(written) => return Ok(written),
                Next::GiveUp(end) => return Err(shard.write_error(end)),
                Next::Retry => shard.pause_before_retry().await,
                Next::LookAgain => self.look_again(slot, owner).await,
            }
        }
    }

    /// What comes after an attempt of a command at this shard, whoever sent it along with others.
    pub(crate) fn after_write(
        &self,
        shard: &Shard,
        attempts: &mut Attempts,
        (ended, session): (Ended<Decision>, Option<SessionToken>),
        may_retry: impl FnOnce() -> bool,
    ) -> Next<Written> {
        if let Ended::Moved(moved) = &ended {
            self.note_moved(shard, moved);
        }
        attempts.after_write(ended, may_retry).map(|decision| {
            shard.metrics.writes_answered.inc();
            Written { decision, session }
        })
    }

    /// Has the request answered by the shard that owns its slot. `reads.rs` sorts out what a query cannot
    /// find.
    pub(crate) async fn read(&self, request: &ReadRequest) -> Result<Answer, ShardError> {
        let deadline = self.deadline();
        let slot = request.query.slot();
        let body = Bytes::from(request.to_wire());
        let mut attempts = Attempts::default();
        let mut last: Option<Arc<OpenShard>> = None;
        loop {
            let (owner, found) = match (self.find(slot, deadline).await, &last) {
                (Ok(found), _) => found,
                (Err(absence), None) => return Err(absence.into()),
                (Err(absence), Some(shard)) => {
                    return Err(shard.read_error(attempts.without_owner(absence.why)));
                }
            };
            if last.is_none() {
                found.budget.earn();
            }
            let shard = last.insert(found);
            note_way(slot, shard);
            let ended = shard.attempt_read(body.clone(), request.query.least_wire(), deadline).await;
            if let Ended::Moved(moved) = &ended {
                self.note_moved(shard, moved);
            }
            match attempts.after(ended, || shard.may_retry(deadline)) {
                Next::Answer(answer) => {
                    shard.metrics.reads_answered.inc();
                    return Ok(answer);
                }
                Next::GiveUp(end) => return Err(shard.read_error(end)),
                Next::Retry => shard.pause_before_retry().await,
                Next::LookAgain => self.look_again(slot, owner).await,
            }
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.request_timeout
    }

    pub async fn ask_all(&self) {
        let shards = self.shards.load_full();
        futures_util::future::join_all(shards.iter().map(|shard| self.ask_shard(shard))).await;
    }

    pub fn views(&self) -> Vec<ShardView> {
        self.metrics.slots_unowned.set(self.map.count_unowned());
        self.shards.load().iter().map(|shard| shard.view()).collect()
    }

    /// Sends what was accepted, and stops. Nothing may be handed in any more.
    pub async fn close(&self) {
        self.closing.cancel();
        self.pipes.wait().await;
    }

    fn open(&self, place: usize, entry: &cluster::Shard) -> Arc<OpenShard> {
        let metrics = |position| self.metrics.node(&entry.name, position);
        let nodes = Nodes::new(entry, &self.wire, self.config.batch_interval, metrics);
        let shard = Arc::new(Shard::new(place, entry, nodes, &self.config, &self.metrics));
        let closing = self.closing.child_token();
        pipe::run_all(&shard, self.config.pipes, &self.pipes, &closing);
        shard.nodes.send_reads(&self.pipes, &closing);
        Arc::new(OpenShard::new(shard, closing))
    }

    fn keep_asking(self: &Arc<Self>, shard: &OpenShard) {
        for position in 0..shard.nodes.count() {
            tokio::spawn(Arc::clone(self).poll(Arc::clone(shard.inner()), position, shard.closing()));
        }
    }

    /// The slot's owner and its shard. A known owner is returned at once. Otherwise all shards are asked, or
    /// the request waits while the slot is moving.
    pub(crate) async fn find(
        &self,
        slot: Slot,
        deadline: Instant,
    ) -> Result<(Owner, Arc<OpenShard>), Absence> {
        if let Some(found) = self.look_up(slot) {
            return Ok(found);
        }
        match self.map.on_the_way(slot).map(|known| known.since + self.config.move_wait) {
            Some(until) if until > Instant::now() => Box::pin(self.hold(slot, until.min(deadline))).await,
            _ => Box::pin(self.map.refresh_for_orphan(async || self.ask_all().await)).await,
        }
        self.look_up(slot).ok_or_else(|| self.absence(slot))
    }

    /// Waits until the slot has an owner or `until` is over. Does not wait when too many do already.
    async fn hold(&self, slot: Slot, until: Instant) {
        if let Some(held) = self.held.hold(slot)
            && self.map.owner_before(slot, until).await.is_none()
        {
            held.give_up();
        }
    }

    pub(crate) fn look_up(&self, slot: Slot) -> Option<(Owner, Arc<OpenShard>)> {
        let owner = self.map.owner(slot)?;
        let shard = self.shards.load().get(owner.place).cloned()?;
        Some((owner, shard))
    }

    /// The shard that most likely owns the slot; `None` while none is known.
    pub fn shard_of(&self, slot: Slot) -> Option<String> {
        self.look_up(slot).map(|(_, shard)| shard.name.clone())
    }

    fn absence(&self, slot: Slot) -> Absence {
        let shards = self.shards.load();
        let unavailable =
            |shard: Option<&str>| Absence { why: NotDone::Unavailable, shard: shard.map(str::to_owned) };
        if let Some(owner) = self.map.owner(slot) {
            // `cluster.toml` dropped the shard while it owned the slot. Only that shard's database could say
            // that another owns it.
            return unavailable(shards.name(owner.place));
        }
        // A shard that was never reached may be the owner: its users hear that it is unavailable.
        let mut unknown = shards.iter().filter(|shard| !shard.is_known());
        match (unknown.next(), unknown.next()) {
            (None, _) => Absence { why: NotDone::SlotMoving, shard: None },
            (Some(only), None) => unavailable(Some(&only.name)),
            (Some(_), Some(_)) => unavailable(None),
        }
    }

    pub(crate) fn all_shards(&self) -> Arc<ShardSet> {
        self.shards.load_full()
    }

    pub(crate) fn note_moved(&self, shard: &Shard, moved: &Moved) {
        shard.metrics.moved.inc();
        let shards = self.shards.load();
        let next = moved.owner.as_ref().and_then(|name| shards.iter().find(|one| one.name == *name));
        let next = next.map(|shard| shard.place);
        self.map.note_moved(moved, next);
    }

    /// Called after a shard said that it does not own the slot. Usually that answer corrects the map, and a
    /// held request waits for the new owner; otherwise all shards are asked again.
    pub(crate) async fn look_again(&self, slot: Slot, asked: Owner) {
        if self.map.owner(slot) == Some(asked) {
            Box::pin(self.map.refresh_for_orphan(async || self.ask_all().await)).await;
        }
    }

    /// Asks shards for the owners of all held slots, one round at a time while any request is held. The map
    /// wakes the requests.
    async fn ask_about_held(self: Arc<Self>) {
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.held.anybody() => {}
                () = self.closing.cancelled() => return,
            }
            let known: Vec<(Slot, OnTheWay)> = (self.held.slots().into_iter())
                .filter_map(|slot| Some((slot, self.map.on_the_way(slot)?)))
                .collect();
            let unlisted =
                known.iter().find_map(|(slot, known)| Some((slot, known.unlisted_owner.as_ref()?)));
            if let Some((slot, shard)) = unlisted
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
        let asks_all = known.iter().any(|(_, known)| known.may_be_anywhere || known.places.is_empty());
        let is_concerned = |shard: &&Arc<OpenShard>| {
            asks_all || known.iter().any(|(_, known)| known.places.contains(&shard.place))
        };
        let shards = self.shards.load_full();
        let asking = shards.iter().filter(is_concerned).map(async |shard| {
            shard.ask_nodes(Instant::now() + ASK_WAIT, || self.take_claims(shard)).await;
        });
        futures_util::future::join_all(asking).await;
    }

    /// Polls one node of a shard. Each node has its own poll, so that a frozen one does not hide the others.
    async fn poll(self: Arc<Self>, shard: Arc<Shard>, position: usize, closing: CancellationToken) {
        loop {
            let is_answered = shard.poll_node(position, Instant::now() + self.config.poll_timeout).await;
            self.take_claims(&shard);
            let pause = if is_answered {
                self.config.poll_interval
            } else {
                POLL_AGAIN.min(self.config.poll_interval)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = closing.cancelled() => return,
            }
        }
    }

    async fn ask_shard(&self, shard: &Shard) {
        let until = Instant::now() + self.config.poll_timeout;
        shard.ask_nodes(until, || self.take_claims(shard)).await;
    }

    fn take_claims(&self, shard: &Shard) {
        if let Some((owned, importing)) = shard.nodes.claims() {
            self.map.take_claims(shard.place, &owned, &importing);
        }
    }
}

fn note_way(slot: Slot, shard: &Shard) {
    journey::note(|journey| {
        journey.slot = Some(slot);
        journey.shard = Some(shard.name.clone());
    });
}

#[derive(Debug, Clone)]
pub(crate) struct Absence {
    /// The slot is moving when every shard was heard and none owns it. Otherwise some shard was never heard,
    /// or the owner is gone.
    pub why: NotDone,
    /// The shard that is missing, if known.
    shard: Option<String>,
}

impl From<Absence> for ShardError {
    fn from(Absence { why, shard }: Absence) -> Self {
        Self::NotDone { why, shard, retry_after: SOON }
    }
}
