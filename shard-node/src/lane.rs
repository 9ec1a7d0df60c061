//! One batch = one database transaction.
//!
//! Each user belongs to one lane, so the operations of a user stay in order and lanes of this process never wait
//! for each other's rows. Lanes of another process that serves the same shard do, on the users' rows.
//!
//! Lock order, the same for every writer: the fence (shared), then the users in the order of (slot, user_id).
//! Balances, keys and refund totals are read after those locks are held, each by a statement of its own, so
//! that in READ COMMITTED each sees what the last holder of the lock committed.
//!
//! Two flights of statements, each pipelined: read under lock, then write and COMMIT. A batch with refunds takes
//! one more in front, which finds the users of the charges. No answer leaves before COMMIT is acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{self, FutureExt};
use jiff::Timestamp;
use picopay_shared::batcher::{LaneEnd, Pending};
use picopay_shared::command::{Command, Operation, Outcome, Transaction};
use picopay_shared::id::{IdSource, TransactionId};
use picopay_shared::session::LogPosition;
use picopay_shared::slot::{Slot, UserId};
use tokio::time::{sleep, timeout};
use tokio_postgres::error::{DbError, SqlState};
use uuid::Uuid;

use crate::book::{self, Admitted, Booked, Known};
use crate::db::{Dedicated, Primary, describe};
use crate::degradation;
use crate::metrics::Metrics;
use crate::slot_owner::{self, Stopped};
use crate::store::{self, OwnerRow, ReadError, WriteStatements};
use crate::write_gate::{Opening, WriteGate};

/// How often a batch that Postgres refused for a reason that passes (a deadlock with another process, plans
/// invalidated by a migration) is tried again as it is.
const RETRIES: usize = 2;

/// For how many batches keys are looked up first after one met a key that was taken. Running a batch twice costs what
/// looking up the keys of six does (27 µs against 4.6 µs a row).
const WARY_BATCHES: u32 = 100;

/// How long a lane rests after it found no connection, so that it does not spin.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Those commands of a gateway's batch that belong to one lane.
#[derive(Debug)]
pub struct Job {
    /// The gateway's batch.
    pub commands: Arc<Vec<Command>>,
    /// Which of them.
    pub positions: Vec<usize>,
    /// Nobody waits any more after this.
    pub deadline: Instant,
}

/// What became of a [`Job`].
#[derive(Debug)]
pub struct Done {
    /// For the clients, one for each of the job's positions.
    pub outcomes: Vec<Outcome>,
    /// How long the slowest COMMIT took; zero when there was none.
    pub commit_time: Duration,
    /// Where the log has all that the outcomes tell of, replays included; `None` when no COMMIT was acknowledged.
    pub position: Option<LogPosition>,
    /// Whether all of it waited for whom the shard's durability names. What did not could be lost in a failover, and must
    /// not be replayed from anywhere else then.
    pub is_as_promised: bool,
}

impl Done {
    /// The same for all of `count` commands.
    pub fn all(outcome: Outcome, count: usize) -> Self {
        Self {
            outcomes: vec![outcome; count],
            commit_time: Duration::ZERO,
            position: None,
            is_as_promised: false,
        }
    }
}

/// Why a batch came to nothing.
#[derive(Debug)]
enum StoreError {
    /// Rolled back; another try at once may succeed.
    Contended(String),
    /// Rolled back; somebody held a user's row for longer than `lock_timeout`.
    Blocked(String),
    /// Rolled back; some key of it may have its answer already, and keys were not looked up.
    KeyTaken,
    /// Rolled back; some row of it is one that the database does not take.
    Refused(String),
    /// Never reached COMMIT. Nothing was written.
    Unreached(String),
    /// COMMIT was sent and its answer did not come, or came with a warning: written, or not.
    CommitUnanswered(String),
}

/// What all lanes of a node share.
pub struct LaneParts {
    /// Where to write.
    pub primary: Primary,
    /// Whether to.
    pub gate: WriteGate,
    /// Makes transaction ids.
    pub ids: Arc<IdSource>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Most commands of one database transaction.
    pub batch_max: usize,
    /// The longest wait for one flight.
    pub flight_timeout: Duration,
}

/// A lane's connection with its prepared statements.
struct Session {
    connection: Dedicated,
    sql: WriteStatements,
    /// Whether its commits wait for nobody only because an operator said so.
    is_degraded: bool,
}

impl Session {
    /// Whether it leads to what the gate has opened.
    fn is_for(&self, opening: &Opening) -> bool {
        self.connection.timeline == opening.timeline
            && self.connection.durability == opening.durability
            && self.is_degraded == opening.degraded.is_some()
    }
}

/// Works on batches until every entrance of the lane is gone.
pub async fn run(parts: Arc<LaneParts>, end: LaneEnd<Job, Done>) {
    let mut lane = Lane { parts, session: None, wary_batches: 0 };
    while let Some(batch) = end.next_batch(lane.parts.batch_max).await {
        lane.run_batch(batch).await;
        #[cfg(feature = "broken")]
        if let Some(session) = &lane.session {
            crate::broken::commit_late(&session.connection.client).await;
        }
    }
}

struct Lane {
    parts: Arc<LaneParts>,
    session: Option<Session>,
    /// How many more batches have their keys looked up before anything is decided.
    wary_batches: u32,
}

impl Lane {
    async fn run_batch(&mut self, batch: Vec<Pending<Job, Done>>) {
        let now = Instant::now();
        let mut jobs = Vec::with_capacity(batch.len());
        for pending in batch {
            let (job, reply) = pending.split();
            if job.deadline <= now {
                let late = unavailable("waited in the lane past its deadline");
                reply.send(Done::all(late, job.positions.len()));
            } else {
                jobs.push((job, reply));
            }
        }
        let commands: Vec<&Command> = jobs
            .iter()
            .flat_map(|(job, _)| job.positions.iter().map(|position| &job.commands[*position]))
            .collect();
        if commands.is_empty() {
            return;
        }
        let Done { outcomes, commit_time, position, is_as_promised } = self.run_halves(&commands).await;
        let mut outcomes = outcomes.into_iter();
        for (job, reply) in jobs {
            let outcomes = outcomes.by_ref().take(job.positions.len()).collect();
            reply.send(Done { outcomes, commit_time, position, is_as_promised });
        }
    }

    /// Runs the commands as one database transaction; if the database refuses it, each half on its own, so
    /// that one bad row does not fail its neighbours.
    async fn run_halves(&mut self, commands: &[&Command]) -> Done {
        match self.run_once(commands).await {
            Ok(done) => done,
            Err(StoreError::Refused(_)) if commands.len() > 1 => {
                self.parts.metrics.halved_batches.inc();
                let (earlier, later) = commands.split_at(commands.len() / 2);
                let mut done = Box::pin(self.run_halves(earlier)).await;
                let rest = Box::pin(self.run_halves(later)).await;
                done.outcomes.extend(rest.outcomes);
                done.commit_time = done.commit_time.max(rest.commit_time);
                done.position = done.position.max(rest.position);
                done.is_as_promised &= rest.is_as_promised;
                done
            }
            Err(error) => Done::all(outcome_of(&error, commands), commands.len()),
        }
    }

    async fn run_once(&mut self, commands: &[&Command]) -> Result<Done, StoreError> {
        let mut tries = 0;
        loop {
            let opening = self.parts.gate.check().map_err(StoreError::Unreached)?;
            let session = match self.session.take().filter(|session| session.is_for(&opening)) {
                Some(session) => session,
                None => self.connect(&opening).await.inspect_err(|error| self.close_gate(error))?,
            };
            let keys = if self.wary_batches > 0 { Keys::LookedUp } else { Keys::TakenAsNew };
            self.wary_batches = self.wary_batches.saturating_sub(1);
            let result = transact(&self.parts, &session, commands, keys).await;
            #[cfg(feature = "broken")]
            if result.is_err() {
                crate::broken::roll_back(&session.connection.client).await;
            }
            match &result {
                // The connection is dropped, and with it whatever it still waits for.
                Err(error @ StoreError::CommitUnanswered(_)) => self.close_gate(error),
                Err(error @ StoreError::Unreached(reason)) => {
                    tracing::warn!(reason, "a batch did not reach the primary");
                    self.close_gate(error);
                    self.parts.primary.drop_pool();
                }
                Err(StoreError::KeyTaken) => {
                    self.session = Some(session);
                    self.wary_batches = WARY_BATCHES;
                    self.parts.metrics.repeated_batches.inc();
                    continue;
                }
                Ok(_) | Err(StoreError::Contended(_) | StoreError::Blocked(_) | StoreError::Refused(_)) => {
                    self.session = Some(session);
                }
            }
            if matches!(result, Err(StoreError::Contended(_))) && tries < RETRIES {
                tries += 1;
                continue;
            }
            return result;
        }
    }

    /// Nobody else waits for a time-out of his own: what comes now is refused at once, until a commit of the gate's keeper
    /// comes back, which it tries at once.
    fn close_gate(&self, error: &StoreError) {
        match error {
            StoreError::CommitUnanswered(reason) => {
                self.parts.gate.close(&format!("a commit was not acknowledged: {reason}"));
            }
            StoreError::Unreached(reason) => {
                self.parts.gate.close(&format!("the primary was not reached: {reason}"));
            }
            _ => {}
        }
    }

    async fn connect(&self, opening: &Opening) -> Result<Session, StoreError> {
        let connected = async {
            let connecting = self.parts.primary.connect("picopay-node lane", opening.durability);
            let connection = connecting.await.map_err(|error| error.to_string())?;
            let sql = timeout(self.parts.flight_timeout, WriteStatements::prepare(&connection.client))
                .await
                .map_err(|_| "preparing the statements timed out".to_owned())?
                .map_err(|error| describe(&error))?;
            let session = Session { connection, sql, is_degraded: opening.degraded.is_some() };
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

/// What a batch does about the keys of its commands before it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Finds the transactions under them.
    LookedUp,
    /// Leaves it to the unique constraint to say that one is not new.
    TakenAsNew,
}

fn unavailable(reason: &str) -> Outcome {
    Outcome::Unavailable { reason: reason.to_owned() }
}

fn outcome_of(error: &StoreError, commands: &[&Command]) -> Outcome {
    let first = commands.first().map_or("", |command| command.request_id.as_str());
    match error {
        StoreError::Contended(reason) | StoreError::Blocked(reason) => {
            tracing::warn!(
                reason,
                commands = commands.len(),
                "a batch was given up: somebody holds its users"
            );
            unavailable(reason)
        }
        StoreError::Unreached(reason) => unavailable(reason),
        StoreError::KeyTaken => unreachable!("such a batch is run again"),
        StoreError::Refused(reason) => {
            tracing::error!(
                reason,
                request_id = first,
                "the database refuses a command that the rules let pass"
            );
            Outcome::Internal
        }
        StoreError::CommitUnanswered(reason) => {
            tracing::error!(
                reason,
                request_id = first,
                commands = commands.len(),
                "the outcome of a batch is unknown"
            );
            Outcome::OutcomeUnknown
        }
    }
}

/// The life of a batch between BEGIN and COMMIT.
async fn transact(
    parts: &LaneParts,
    session: &Session,
    commands: &[&Command],
    keys: Keys,
) -> Result<Done, StoreError> {
    let started = Instant::now();
    let read = timeout(parts.flight_timeout, read_under_lock(session, commands, keys));
    let (owners, known) = match read.await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return Err(roll_back_after(parts, session, error).await),
        Err(_) => return Err(StoreError::Unreached("the primary did not answer in time".to_owned())),
    };
    if session.is_degraded {
        confirm_degraded(parts, session).await?;
    }
    let mut outcomes = vec![Outcome::Internal; commands.len()];
    let batch = admit(parts, commands, &owners, &mut outcomes);
    let booked = book::decide(&batch, known);
    if keys == Keys::TakenAsNew && booked.outcomes.iter().any(|(_, outcome)| hides_a_replay(outcome)) {
        roll_back(parts, session).await?;
        return Err(StoreError::KeyTaken);
    }
    let (commit_time, lsn) = match write_and_commit(parts, session, &booked).await {
        // With the keys looked up under the users' locks, nobody can have taken one since.
        Err(StoreError::KeyTaken) if keys == Keys::LookedUp => {
            return Err(StoreError::Refused("a key is taken that was not found".to_owned()));
        }
        committed => committed?,
    };
    parts.metrics.batch_size.observe(f64::from(u32::try_from(commands.len()).unwrap_or(u32::MAX)));
    parts.metrics.transaction_seconds.observe(started.elapsed().as_secs_f64());
    for (position, outcome) in booked.outcomes {
        outcomes[position] = outcome;
    }
    let position = Some(LogPosition { timeline: session.connection.timeline, lsn });
    Ok(Done { outcomes, commit_time, position, is_as_promised: !session.is_degraded })
}

/// Under the fence, whether the shard is still degraded. Without this, a batch could be acknowledged by the primary alone
/// after `picopay shard restore` has said that this is over: the gate looks only every second.
async fn confirm_degraded(parts: &LaneParts, session: &Session) -> Result<(), StoreError> {
    let read = timeout(parts.flight_timeout, degradation::read(&session.connection.client)).await;
    match read {
        Ok(Ok(Some(_))) => Ok(()),
        Ok(Ok(None)) => Err(StoreError::Unreached("the shard was restored".to_owned())),
        Ok(Err(error)) => Err(roll_back_after(parts, session, error.into()).await),
        Err(_) => Err(StoreError::Unreached("the primary did not answer in time".to_owned())),
    }
}

/// Whether a command with this outcome writes no row under its key, so that the unique constraint would not speak up if
/// the key had its answer already.
fn hides_a_replay(outcome: &Outcome) -> bool {
    // A user or a charge that is not there has no keys either.
    matches!(outcome, Outcome::AmountInvalid { .. })
}

/// Holds each command against the fence. Those that may not pass get their answer here.
fn admit<'a>(
    parts: &LaneParts,
    commands: &[&'a Command],
    owners: &HashMap<Slot, OwnerRow>,
    outcomes: &mut [Outcome],
) -> Vec<Admitted<'a>> {
    let now = Timestamp::now().as_millisecond();
    let mut batch = Vec::with_capacity(commands.len());
    for (position, command) in commands.iter().enumerate() {
        match slot_owner::pass(command.operation.slot(), command.epoch, owners) {
            Ok(()) => batch.push(Admitted { position, command, stamp: parts.ids.next_stamp(now) }),
            Err(stopped) => {
                if let Stopped::StateLost { slot, own_epoch, seen_epoch } = &stopped {
                    parts.metrics.state_lost.inc();
                    tracing::error!(
                        slot = slot.get(),
                        own_epoch,
                        seen_epoch,
                        "this database has lost a change of owners"
                    );
                }
                outcomes[position] = stopped.into();
            }
        }
    }
    batch
}

/// BEGIN, the fence, the locks, and everything that the rules need to know.
async fn read_under_lock(
    session: &Session,
    commands: &[&Command],
    keys: Keys,
) -> Result<(HashMap<Slot, OwnerRow>, Known), ReadError> {
    let (client, sql) = (&session.connection.client, &session.sql);
    let mut slots: Vec<i16> = commands.iter().map(|command| command.operation.slot().as_i16()).collect();
    slots.sort_unstable();
    slots.dedup();
    let new_users = sorted_users(commands.iter().filter_map(|command| match &command.operation {
        Operation::CreateUser { user_id } => Some(*user_id),
        _ => None,
    }));
    let refunded_ids: Vec<TransactionId> = commands
        .iter()
        .filter_map(|command| match &command.operation {
            Operation::Refund { charge_id, .. } => Some(*charge_id),
            _ => None,
        })
        .collect();
    let opening = future::try_join5(
        client
            .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            .map(|result| result.map_err(ReadError::from)),
        store::take_fence(client, sql),
        store::read_owners(client, sql, &slots),
        store::insert_users(client, sql, &new_users),
        store::read_refunded(client, sql, &refunded_ids),
    );
    if refunded_ids.is_empty() {
        // One flight: the futures are polled, and so sent, in this order.
        let (opened, mut known) =
            future::try_join(opening, lock_and_read(session, commands, keys, HashMap::new())).await?;
        let ((), (), owners, created, _) = opened;
        known.users.extend(&created);
        known.created = created;
        Ok((owners, known))
    } else {
        let ((), (), owners, created, refunded) = opening.await?;
        let mut known = lock_and_read(session, commands, keys, refunded).await?;
        known.users.extend(&created);
        known.created = created;
        Ok((owners, known))
    }
}

async fn lock_and_read(
    session: &Session,
    commands: &[&Command],
    keys: Keys,
    refunded: HashMap<TransactionId, Transaction>,
) -> Result<Known, ReadError> {
    let (client, sql) = (&session.connection.client, &session.sql);
    let named: Vec<(UserId, Uuid)> = commands
        .iter()
        .filter_map(|command| {
            let user = match &command.operation {
                Operation::CreateUser { .. } => None,
                Operation::TopUp(payment) | Operation::Charge(payment) => Some(payment.user_id),
                Operation::Refund { charge_id, .. } => refunded.get(charge_id).map(|charge| charge.user_id),
            };
            user.map(|user| (user, command.idempotency_key))
        })
        .collect();
    let users =
        sorted_users(named.iter().map(|(user, _)| *user).chain(commands.iter().filter_map(|command| {
            match &command.operation {
                Operation::CreateUser { user_id } => Some(*user_id),
                _ => None,
            }
        })));
    let looked_up = if keys == Keys::LookedUp { named.as_slice() } else { &[] };
    let (users, balances, by_key, refund_totals) = future::try_join4(
        store::lock_users(client, sql, &users),
        store::read_balances(client, sql, &users),
        store::read_by_keys(client, sql, looked_up),
        store::read_refund_totals(client, sql, &refunded),
    )
    .await?;
    Ok(Known { users, balances, by_key, refunded, refund_totals, ..Known::default() })
}

/// In the order of keys, each once: the lock order.
fn sorted_users(users: impl Iterator<Item = UserId>) -> Vec<UserId> {
    let mut users: Vec<UserId> = users.collect();
    users.sort_unstable_by_key(|user| (user.slot(), *user));
    users.dedup();
    users
}

/// The second flight. All statements are waited for, whichever fails, so that the connection is known to be
/// idle afterwards; behind a statement that failed, COMMIT rolls back. Gives the time it took and the log's position.
async fn write_and_commit(
    parts: &LaneParts,
    session: &Session,
    booked: &Booked,
) -> Result<(Duration, u64), StoreError> {
    let (client, sql) = (&session.connection.client, &session.sql);
    session.connection.clear_warnings();
    let started = Instant::now();
    #[cfg(not(feature = "broken"))]
    let (rows, end) = (&booked.transactions, store::commit(client));
    #[cfg(feature = "broken")]
    let (rows, end) = (&crate::broken::under_fresh_keys(&booked.transactions), crate::broken::commit(client));
    let flight = future::join4(
        store::insert_transactions(client, sql, rows),
        store::write_balances(client, sql, booked),
        store::write_refund_totals(client, sql, &booked.refund_totals),
        end,
    );
    let (transactions, balances, totals, commit) = timeout(parts.flight_timeout, flight)
        .await
        .map_err(|_| StoreError::CommitUnanswered("the primary did not answer in time".to_owned()))?;
    for result in [transactions, balances, totals] {
        result.map_err(|error| match classify(&error) {
            // COMMIT was in the same flight, and nobody can tell how far it came.
            StoreError::Unreached(reason) => StoreError::CommitUnanswered(reason),
            rolled_back => rolled_back,
        })?;
    }
    let lsn = commit.map_err(|error| StoreError::CommitUnanswered(error.reason()))?;
    if session.connection.was_warned() {
        return Err(StoreError::CommitUnanswered("the wait for the standby was cancelled".to_owned()));
    }
    Ok((started.elapsed(), lsn))
}

/// Ends the database transaction in which `error` came up, and says what it means for the batch.
async fn roll_back_after(parts: &LaneParts, session: &Session, error: ReadError) -> StoreError {
    let meaning = match &error {
        ReadError::Database(error) => classify(error),
        ReadError::Corrupt(reason) => StoreError::Refused(reason.clone()),
    };
    if matches!(meaning, StoreError::Unreached(_)) {
        return meaning;
    }
    roll_back(parts, session).await.err().unwrap_or(meaning)
}

async fn roll_back(parts: &LaneParts, session: &Session) -> Result<(), StoreError> {
    match timeout(parts.flight_timeout, session.connection.client.batch_execute("ROLLBACK")).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(StoreError::Unreached(describe(&error))),
        Err(_) => Err(StoreError::Unreached("the primary did not answer in time".to_owned())),
    }
}

/// What an error of a statement means for its batch.
fn classify(error: &tokio_postgres::Error) -> StoreError {
    let reason = describe(error);
    let Some(code) = error.code() else {
        // No answer of the server at all, or one that the driver could not make sense of.
        return StoreError::Unreached(reason);
    };
    let passes = [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        // "cached plan must not change result type", once after a migration.
        SqlState::FEATURE_NOT_SUPPORTED,
    ];
    if passes.contains(code) {
        return StoreError::Contended(reason);
    }
    if *code == SqlState::LOCK_NOT_AVAILABLE {
        return StoreError::Blocked(reason);
    }
    if *code == SqlState::UNIQUE_VIOLATION
        && error.as_db_error().and_then(DbError::constraint) == Some(store::ONE_PER_KEY)
    {
        return StoreError::KeyTaken;
    }
    match &code.code()[..2] {
        // Data that the database does not take, or a constraint: some row of the batch is at fault.
        "22" | "23" => StoreError::Refused(reason),
        // Out of space, shutting down, read-only, cancelled: nothing is wrong with the batch.
        _ => StoreError::Unreached(reason),
    }
}
