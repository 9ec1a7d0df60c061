//! One lane. One batch = one database transaction.
//!
//! Each user belongs to one lane, so the operations of a user stay in order, and lanes of this process never
//! wait for each other's rows. Lanes of another process of the same shard may.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use picopay_postgres::describe;
use picopay_shared::cluster::Durability;
use picopay_shared::command::{Attempt, Outcome};
use picopay_shared::lane::{LaneEnd, Pending};
use picopay_shared::session::LogPosition;
use picopay_shared::slot::UserId;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::Instrument;

use crate::cache::Cache;
use crate::db::{Dedicated, Primary};
use crate::floor::Floors;
use crate::metrics::Metrics;
use crate::store::WriteStatements;
use crate::write_gate::{Opening, WriteGate};

mod requests;
use requests::Requests;

mod batch;
use batch::{Keys, Manner, Transacted};

mod store_error;
use store_error::StoreError;

mod suspects;
use suspects::{Suspects, Treatment, Why};

/// How often a batch is tried again unchanged that Postgres refused for a passing reason: a deadlock with
/// another process, or plans invalidated by a migration.
const RETRIES: usize = 2;

/// For how many batches keys are looked up first after one met a used key. Running a batch twice costs what
/// looking up the keys of six does (27 µs against 4.6 µs a row).
const LOOKUP_BATCHES: u32 = 100;

/// How long a statement may take after one of its batch took too long: a hundred times as long as it needs.
/// So the slow user is found before the others' clients give up.
const SLOW_LIMIT: Duration = Duration::from_millis(100);

/// How long a lane waits after it found no connection, so that it does not spin.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Job {
    pub attempts: Arc<Vec<Attempt>>,
    pub positions: Vec<usize>,
    /// The latest time at which a client waits.
    pub deadline: Instant,
}

#[derive(Debug)]
pub struct Done {
    pub outcomes: Vec<Outcome>,
    /// How long the slowest COMMIT took; zero when there was none.
    pub commit_time: Duration,
    /// The log position that has all outcomes, replays included; `None` when no COMMIT was acknowledged.
    pub position: Option<LogPosition>,
    /// Whether all of it waited for the standby that the durability names. Otherwise a failover could lose
    /// it, so it must not be replayed from anywhere else.
    pub is_as_promised: bool,
    /// The opening of the gate under which all of it was acknowledged; `None` when no COMMIT was, or not all
    /// under the same.
    pub opening: Option<Opening>,
}

impl Done {
    pub fn all(outcome: Outcome, count: usize) -> Self {
        Self {
            outcomes: vec![outcome; count],
            commit_time: Duration::ZERO,
            position: None,
            is_as_promised: false,
            opening: None,
        }
    }

    fn join(&mut self, later: Self) {
        self.outcomes.extend(later.outcomes);
        self.commit_time = self.commit_time.max(later.commit_time);
        self.position = self.position.max(later.position);
        self.is_as_promised &= later.is_as_promised;
        // A failover came between: the position is on the new timeline, which surely has the later part only.
        self.opening = self.opening.take().filter(|opening| later.opening.as_ref() == Some(opening));
    }
}

pub struct LaneParts {
    pub primary: Primary,
    pub gate: WriteGate,
    /// How often a lane has connected in advance. Once a service is ready for its first batch, at least the
    /// number of lanes.
    pub lanes_connected: watch::Sender<usize>,
    pub floors: Arc<Floors>,
    /// Where floors are kept for a node that starts later.
    pub cache: Cache,
    pub node_name: String,
    pub metrics: Arc<Metrics>,
    pub batch_max: usize,
    pub flight_timeout: Duration,
}

struct Session {
    connection: Dedicated,
    sql: WriteStatements,
    opening: Opening,
    /// Whether its commits wait for no standby because an operator said so.
    is_degraded: bool,
}

impl Session {
    fn is_for(&self, opening: &Opening) -> bool {
        self.connection.server == opening.server
            && self.connection.durability == opening.durability
            && self.opening == *opening
    }

    /// Whether an idle connection is known to be lost.
    fn is_cut(&self) -> bool {
        self.connection.connection.is_closed()
    }
}

pub async fn run(number: usize, parts: Arc<LaneParts>, end: LaneEnd<Job, Done>) {
    let mut lane = Lane { number, parts, session: None, lookup_batches: 0, suspects: Suspects::default() };
    loop {
        let batch = tokio::select! {
            biased; // Serve what waits first.
            batch = end.next_batch(lane.parts.batch_max) => batch,
            opening = lane.parts.gate.opened(), if lane.session.is_none() => {
                lane.connect_ahead(&opening).await;
                continue;
            }
        };
        let Some(batch) = batch else { return };
        lane.run_batch(batch).await;
    }
}

struct Lane {
    number: usize,
    parts: Arc<LaneParts>,
    session: Option<Session>,
    lookup_batches: u32,
    suspects: Suspects,
}

#[derive(Clone, Copy)]
struct Terms {
    deadline: Instant,
    limit: Option<Duration>,
    /// Whether all of its users were held lately, so that none of them is waited for.
    is_resting: bool,
}

impl Lane {
    async fn run_batch(&mut self, batch: Vec<Pending<Job, Done>>) {
        let now = Instant::now();
        let mut jobs = Vec::with_capacity(batch.len());
        for pending in batch {
            let (job, reply) = pending.split();
            if job.deadline <= now {
                let late = Outcome::Unavailable { reason: "waited in the lane past its deadline".to_owned() };
                reply.send(Done::all(late, job.positions.len()));
            } else {
                jobs.push((job, reply));
            }
        }
        let attempts: Vec<&Attempt> = jobs
            .iter()
            .flat_map(|(job, _)| job.positions.iter().map(|position| &job.attempts[*position]))
            .collect();
        if attempts.is_empty() {
            return;
        }
        let deadline = jobs.iter().map(|(job, _)| job.deadline).max().unwrap_or(now);
        // At debug level: a line for each batch with its requests would add cost to each charge.
        let span = tracing::debug_span!("batch", lane = self.number, requests = %Requests(&attempts));
        let Done { outcomes, commit_time, position, is_as_promised, opening } =
            self.run_treated(&attempts, deadline).instrument(span).await;
        let mut outcomes = outcomes.into_iter();
        for (job, reply) in jobs {
            let outcomes = outcomes.by_ref().take(job.positions.len()).collect();
            let opening = opening.clone();
            reply.send(Done { outcomes, commit_time, position, is_as_promised, opening });
        }
    }

    /// Runs the unsuspected commands together, and the others alone or not now. Commands of one user stay in
    /// order, because a suspicion is about all of them.
    async fn run_treated(&mut self, attempts: &[&Attempt], deadline: Instant) -> Done {
        let (now, terms) = (Instant::now(), Terms { deadline, limit: None, is_resting: false });
        let (mut together, mut alone, mut resting) =
            (Vec::with_capacity(attempts.len()), Vec::new(), Vec::new());
        let mut outcomes = vec![Outcome::Internal; attempts.len()];
        for (position, attempt) in attempts.iter().enumerate() {
            match self.suspects.treatment(&attempt.command, now) {
                Treatment::Together => together.push(position),
                Treatment::Alone => alone.push(position),
                Treatment::Rest(Why::Held) => resting.push(position),
                Treatment::Rest(why) => {
                    outcomes[position] = Outcome::Unavailable { reason: why.reason().to_owned() }
                }
            }
        }
        if together.len() == attempts.len() {
            return self.run_halves(attempts, terms).await;
        }
        let mut all: Option<Done> = None;
        for (part, is_resting) in [(together, false), (resting, true)] {
            let terms = Terms { is_resting, ..terms };
            self.run_part(attempts, &part, terms, (&mut outcomes, &mut all)).await;
        }
        // One command of each user is tried. Its result decides whether the user's others rest or go
        // together.
        let mut freed = Vec::new();
        let limited = Terms { limit: Some(SLOW_LIMIT), ..terms };
        for position in alone {
            match self.suspects.treatment(&attempts[position].command, Instant::now()) {
                Treatment::Together => freed.push(position),
                Treatment::Alone => {
                    self.run_part(attempts, &[position], limited, (&mut outcomes, &mut all)).await;
                }
                Treatment::Rest(why) => {
                    outcomes[position] = Outcome::Unavailable { reason: why.reason().to_owned() }
                }
            }
        }
        self.run_part(attempts, &freed, terms, (&mut outcomes, &mut all)).await;
        Done { outcomes, ..all.unwrap_or_else(|| Done::all(Outcome::Internal, 0)) }
    }

    async fn run_part(
        &mut self,
        attempts: &[&Attempt],
        positions: &[usize],
        terms: Terms,
        (outcomes, all): (&mut [Outcome], &mut Option<Done>),
    ) {
        if positions.is_empty() {
            return;
        }
        let part: Vec<&Attempt> = positions.iter().map(|position| attempts[*position]).collect();
        let mut done = self.run_halves(&part, terms).await;
        for (position, outcome) in positions.iter().zip(std::mem::take(&mut done.outcomes)) {
            outcomes[*position] = outcome;
        }
        match all {
            None => *all = Some(done),
            Some(all) => all.join(done),
        }
    }

    /// Runs the commands as one database transaction. If the database refuses it or takes too long, each half
    /// runs alone, so that one bad row does not fail its neighbours.
    async fn run_halves(&mut self, attempts: &[&Attempt], terms: Terms) -> Done {
        if terms.deadline <= Instant::now() {
            let late = Outcome::Unavailable { reason: "no time was left for it".to_owned() };
            return Done::all(late, attempts.len());
        }
        let ended = self.run_once(attempts, terms).await;
        if let ([attempt], Err(StoreError::Slow(_))) = (attempts, &ended) {
            self.suspects.note_slow(&attempt.command, Instant::now());
        }
        match ended {
            Ok(done) => done,
            Err(error @ (StoreError::Refused(_) | StoreError::Slow(_))) if attempts.len() > 1 => {
                self.parts.metrics.halved_batches.inc();
                let is_slow = matches!(error, StoreError::Slow(_));
                let terms = Terms { limit: if is_slow { Some(SLOW_LIMIT) } else { terms.limit }, ..terms };
                let (earlier, later) = attempts.split_at(attempts.len() / 2);
                let mut done = Box::pin(self.run_halves(earlier, terms)).await;
                let rest = Box::pin(self.run_halves(later, terms)).await;
                done.join(rest);
                done
            }
            Err(error) => Done::all(error.outcome(attempts), attempts.len()),
        }
    }

    async fn run_once(&mut self, attempts: &[&Attempt], terms: Terms) -> Result<Done, StoreError> {
        let mut tries = 0;
        let mut skips_held = terms.is_resting;
        let mut has_reconnected = false;
        loop {
            let opening = self.parts.gate.check().map_err(StoreError::Unreached)?;
            let kept = self.session.take().filter(|session| session.is_for(&opening) && !session.is_cut());
            let is_kept = kept.is_some();
            let session = match kept {
                Some(session) => session,
                None => self.connect(&opening).await.inspect_err(|error| self.close_gate(error))?,
            };
            let keys = if self.lookup_batches > 0 { Keys::LookedUp } else { Keys::TakenAsNew };
            self.lookup_batches = self.lookup_batches.saturating_sub(1);
            let manner = Manner { keys, skips_held, limit: terms.limit };
            let result = batch::transact(self.number, &self.parts, &session, attempts, manner).await;
            match &result {
                // The connection is dropped, and with it whatever it still waits for.
                Err(error @ StoreError::CommitUnanswered(_)) => self.close_gate(error),
                // The connection was cut while it was idle: nothing was written, and the server may be well.
                Err(StoreError::Cut(_)) if is_kept && !has_reconnected => {
                    has_reconnected = true;
                    continue;
                }
                Err(error @ (StoreError::Unreached(reason) | StoreError::Cut(reason))) => {
                    tracing::warn!(reason, requests = %Requests(attempts), "a batch did not reach the primary");
                    self.close_gate(error);
                    self.parts.primary.drop_pools();
                }
                Err(StoreError::Held) => {
                    self.session = Some(session);
                    skips_held = true;
                    continue;
                }
                Err(StoreError::KeyTaken) => {
                    self.session = Some(session);
                    self.lookup_batches = LOOKUP_BATCHES;
                    self.parts.metrics.repeated_batches.inc();
                    continue;
                }
                Ok(Transacted { held, .. }) => {
                    self.note_ended(attempts, held, terms.is_resting);
                    self.session = Some(session);
                }
                Err(
                    StoreError::Contended(_)
                    | StoreError::Blocked(_)
                    | StoreError::Refused(_)
                    | StoreError::Slow(_),
                ) => {
                    self.session = Some(session);
                }
            }
            if matches!(result, Err(StoreError::Contended(_))) && tries < RETRIES {
                tries += 1;
                continue;
            }
            return result.map(|transacted| transacted.done);
        }
    }

    /// Records who was held, and who no longer is. A look during a rest does not make the rest longer.
    fn note_ended(&mut self, attempts: &[&Attempt], held: &HashSet<UserId>, is_resting: bool) {
        if !is_resting {
            for user in held {
                self.suspects.note_held(*user, Instant::now());
            }
        }
        if held.is_empty() && (is_resting || attempts.len() == 1) {
            for attempt in attempts {
                self.suspects.note_done(&attempt.command);
            }
        }
    }

    /// Closes the gate, so that nobody else waits for a timeout. New commands are refused until a commit of
    /// the keeper is confirmed, which it tries at once.
    fn close_gate(&self, error: &StoreError) {
        match error {
            StoreError::CommitUnanswered(reason) => {
                self.parts.gate.close(&format!("a commit was not acknowledged: {reason}"));
            }
            StoreError::Unreached(reason) | StoreError::Cut(reason) => {
                self.parts.gate.close(&format!("the primary was not reached: {reason}"));
            }
            _ => {}
        }
    }

    /// Connects before anybody waits for it. A failure is not final: the next batch, or the next time, tries
    /// again.
    async fn connect_ahead(&mut self, opening: &Opening) {
        self.session = self.connect(opening).await.ok();
        if self.session.is_some() {
            self.parts.lanes_connected.send_modify(|lanes| *lanes += 1);
        }
    }

    async fn connect(&self, opening: &Opening) -> Result<Session, StoreError> {
        let connected = async {
            let connecting = self.parts.primary.connect("picopay-node lane", opening.durability);
            let connection = connecting.await.map_err(|error| error.to_string())?;
            let sql = timeout(self.parts.flight_timeout, WriteStatements::prepare(connection.client()))
                .await
                .map_err(|_| "preparing the statements timed out".to_owned())?
                .map_err(|error| describe(&error))?;
            if opening.durability == Durability::Replicated && !connection.commits.wait_for_standby() {
                return Err("synchronous_standby_names is empty".to_owned());
            }
            let session = Session {
                connection,
                sql,
                opening: opening.clone(),
                is_degraded: opening.degraded.is_some(),
            };
            if session.is_for(opening) {
                Ok(session)
            } else {
                Err("there is a new primary, which the gate has not looked at yet".to_owned())
            }
        };
        match connected.await {
            Ok(session) => Ok(session),
            Err(reason) => {
                sleep(RECONNECT_PAUSE).await;
                Err(StoreError::Unreached(reason))
            }
        }
    }
}
