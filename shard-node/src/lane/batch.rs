//! The life of a batch between BEGIN and COMMIT.
//!
//! Every writer has the same lock order: the fence (shared), then the users in the order of (slot, user_id).
//! Balances, keys and refund totals are read after those locks, each by its own statement. So, in READ
//! COMMITTED, each sees what the last holder of the lock committed.
//!
//! There are two pipelined flights: read under lock, then write and COMMIT. Refunds need one more in front,
//! which finds the users of the charges. No answer leaves before COMMIT is acknowledged.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use futures_util::future::{self, FutureExt};
use picopay_postgres::degradation;
use picopay_postgres::{CommitError, describe};
use picopay_shared::command::{Attempt, Command, Operation, Outcome, Transaction};
use picopay_shared::hold::Hold;
use picopay_shared::id::TransactionId;
use picopay_shared::node_status::HOLDS;
use picopay_shared::session::LogPosition;
use picopay_shared::slot::{Slot, UserId};
use picopay_shared::slot_owner::OwnerRow;
use picopay_shared::transfer::Transfer;
use tokio::time::timeout;
use uuid::Uuid;

use super::store_error::StoreError;
use super::suspects::Why;
use super::{Done, LaneParts, Session};
use crate::book::{self, Admitted, Booked, Known, KnownHolds, KnownTransfers};
use crate::floor::Acknowledged;
use crate::slot_owner::{self, Stopped};
use crate::store::{self, Balances, Locked, Opened, ReadError};

/// An older program could not read what the operation leaves behind.
const NOT_FINISHED: &str = "it waits until no older program is left: run `picopay migrate --finish`";

/// Why a shard without its standby takes no first and no second step.
const NO_TRANSFERS: &str = "the shard is degraded: no transfer is begun or credited here";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    LookedUp,
    /// Lets the unique constraint report a used one.
    TakenAsNew,
}

#[derive(Debug, Clone, Copy)]
pub struct Manner {
    pub keys: Keys,
    /// Skips users whom somebody else holds, rather than wait for them.
    pub skips_held: bool,
    /// A limit for each statement; `None` for the usual one. Half of it may be spent on waiting for a row.
    pub limit: Option<Duration>,
}

pub struct Transacted {
    pub done: Done,
    /// Users whom somebody else holds: nothing was decided for them.
    pub held: HashSet<UserId>,
}

/// Runs a batch whole, or leaves nothing of it behind. After [`StoreError::CommitUnanswered`] nobody knows
/// which.
pub async fn transact(
    lane: usize,
    parts: &LaneParts,
    session: &Session,
    attempts: &[&Attempt],
    manner: Manner,
) -> Result<Transacted, StoreError> {
    let started = Instant::now();
    let keys = manner.keys;
    let read = timeout(parts.flight_timeout, read_under_lock(session, attempts, manner));
    let (owners, known, held) = match read.await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return Err(roll_back_after(parts, session, error).await),
        Err(_) => return Err(StoreError::Unreached("the primary did not answer in time".to_owned())),
    };
    if session.is_degraded {
        confirm_degraded(parts, session).await?;
    }
    let mut outcomes = vec![Outcome::Internal; attempts.len()];
    let mut batch = admit(parts, session, attempts, &owners, &mut outcomes);
    let charges: HashMap<TransactionId, UserId> =
        known.refunded.iter().map(|(id, charge)| (*id, charge.user_id)).collect();
    if !held.is_empty() {
        batch.retain(|Admitted { position, command }| {
            let is_held = user_of(command, &charges).is_some_and(|user| held.contains(&user));
            if is_held {
                outcomes[*position] = Outcome::Unavailable { reason: Why::Held.reason().to_owned() };
            }
            !is_held
        });
    }
    let booked = book::decide(&batch, known);
    if keys == Keys::TakenAsNew && hides_a_replay(parts, session, attempts, &booked, &charges).await? {
        roll_back(parts, session).await?;
        return Err(StoreError::KeyTaken);
    }
    let (commit_time, lsn) = match write_and_commit(parts, session, &booked, manner.limit).await {
        // With the keys looked up under the users' locks, nobody can have taken one since.
        Err(StoreError::KeyTaken) if keys == Keys::LookedUp => {
            return Err(StoreError::Refused("a key is taken that was not found".to_owned()));
        }
        committed => committed?,
    };
    parts.metrics.batch_size.observe(f64::from(u32::try_from(attempts.len()).unwrap_or(u32::MAX)));
    parts.metrics.transaction_seconds.observe(started.elapsed().as_secs_f64());
    if let Some(last) = booked.transactions.last() {
        let last = Acknowledged::of(&last.transaction, session.opening.generation);
        let field = format!("{} {lane}", parts.node_name);
        parts.cache.keep_floor(session.opening.cluster_id, &field, &last.to_bytes());
        parts.floors.note(lane, last);
    }
    if booked.ended_transfers.iter().any(Transfer::is_reversed) {
        let reversed = booked.ended_transfers.iter().filter(|transfer| transfer.is_reversed()).count();
        parts.metrics.transfers_reversed.inc_by(u64::try_from(reversed).unwrap_or(u64::MAX));
    }
    for (position, outcome) in booked.outcomes {
        outcomes[position] = outcome;
    }
    let position = Some(LogPosition { timeline: session.connection.server.timeline, lsn });
    let opening = Some(session.opening.clone());
    let done = Done { outcomes, commit_time, position, is_as_promised: !session.is_degraded, opening };
    Ok(Transacted { done, held })
}

fn user_of(command: &Command, charges: &HashMap<TransactionId, UserId>) -> Option<UserId> {
    match &command.operation {
        Operation::CreateUser { user_id } | Operation::Sweep { user_id } => Some(*user_id),
        Operation::TopUp(payment)
        | Operation::Charge(payment)
        | Operation::Hold { payment, .. }
        | Operation::Transfer { payment, .. } => Some(payment.user_id),
        Operation::Credit(credit) => Some(credit.to_user_id),
        Operation::Settle { transfer_id, .. } => transfer_id.user(),
        Operation::Refund { charge_id, .. } => charges.get(charge_id).copied(),
        // Ids from before they named their users are of no hold.
        Operation::Capture { hold_id, .. } | Operation::Void { hold_id } => hold_id.user(),
    }
}

/// Checks, under the fence, that the shard is still degraded. The gate looks only every second. Otherwise the
/// primary alone could acknowledge a batch after `picopay shard restore` has ended this.
async fn confirm_degraded(parts: &LaneParts, session: &Session) -> Result<(), StoreError> {
    let read = timeout(parts.flight_timeout, degradation::read(session.connection.client())).await;
    match read {
        Ok(Ok(Some(_))) => Ok(()),
        Ok(Ok(None)) => Err(StoreError::Unreached("the shard was restored".to_owned())),
        Ok(Err(error)) => Err(roll_back_after(parts, session, error.into()).await),
        Err(_) => Err(StoreError::Unreached("the primary did not answer in time".to_owned())),
    }
}

/// Whether the key of a command that writes no row already has its answer. Then the unique constraint would
/// not report it, and the batch must run again with its keys looked up. Only keys of such commands are looked
/// up here.
async fn hides_a_replay(
    parts: &LaneParts,
    session: &Session,
    attempts: &[&Attempt],
    booked: &Booked,
    charges: &HashMap<TransactionId, UserId>,
) -> Result<bool, StoreError> {
    // An unknown user or charge has no keys either.
    let writes_nothing = |position: usize, outcome: &Outcome| {
        let operation = &attempts[position].command.operation;
        let only_replays = matches!(operation, Operation::Transfer { only_replays: true, .. });
        matches!(outcome, Outcome::AmountInvalid { .. })
            || (only_replays && *outcome == Outcome::UserNotFound)
    };
    let hidden: Vec<(UserId, Uuid)> = (booked.outcomes.iter())
        .filter(|(position, outcome)| writes_nothing(*position, outcome))
        .filter_map(|(position, _)| {
            let command = &attempts[*position].command;
            user_of(command, charges).map(|user| (user, command.idempotency_key))
        })
        .collect();
    if hidden.is_empty() {
        return Ok(false);
    }
    let (client, sql) = (session.connection.client(), &session.sql);
    match timeout(parts.flight_timeout, store::read_by_keys(client, sql, &hidden)).await {
        Ok(Ok(found)) => Ok(!found.is_empty()),
        Ok(Err(error)) => Err(roll_back_after(parts, session, error).await),
        Err(_) => Err(StoreError::Unreached("the primary did not answer in time".to_owned())),
    }
}

fn admit<'a>(
    parts: &LaneParts,
    session: &Session,
    attempts: &[&'a Attempt],
    owners: &HashMap<Slot, OwnerRow>,
    outcomes: &mut [Outcome],
) -> Vec<Admitted<'a>> {
    let mut batch = Vec::with_capacity(attempts.len());
    for (position, Attempt { command, epoch }) in attempts.iter().enumerate() {
        match slot_owner::pass(command.operation.slot(), *epoch, owners) {
            Ok(()) if command.operation.wire_version() > session.opening.finished => {
                let step = command.operation.name_of_step();
                tracing::warn!(request = %command.origin, reason = NOT_FINISHED, "{step} was refused");
                outcomes[position] = Outcome::Unavailable { reason: NOT_FINISHED.to_owned() };
            }
            // Its ledger may be lost, and then the money would be at both users, or at none.
            Ok(())
                if session.is_degraded
                    && matches!(command.operation, Operation::Transfer { .. } | Operation::Credit(_)) =>
            {
                outcomes[position] = Outcome::Unavailable { reason: NO_TRANSFERS.to_owned() };
            }
            Ok(()) => batch.push(Admitted { position, command }),
            Err(stopped) => {
                if let Stopped::StateLost { slot, own_epoch, seen_epoch } = &stopped {
                    parts.metrics.state_lost.inc();
                    tracing::error!(
                        slot = slot.get(),
                        own_epoch,
                        seen_epoch,
                        request = %command.origin,
                        "this database has lost a change of owners"
                    );
                }
                outcomes[position] = stopped.into();
            }
        }
    }
    batch
}

async fn read_under_lock(
    session: &Session,
    attempts: &[&Attempt],
    manner: Manner,
) -> Result<(HashMap<Slot, OwnerRow>, Known, HashSet<UserId>), ReadError> {
    let (client, sql) = (session.connection.client(), &session.sql);
    let mut slots: Vec<i16> =
        attempts.iter().map(|attempt| attempt.command.operation.slot().as_i16()).collect();
    slots.sort_unstable();
    slots.dedup();
    let mut new_users: Vec<(UserId, u64)> = attempts
        .iter()
        .filter_map(|Attempt { command, epoch }| match &command.operation {
            Operation::CreateUser { user_id } => Some((*user_id, *epoch)),
            _ => None,
        })
        .collect();
    // Each once, with the lowest epoch of its commands: if any may pass, that one may.
    new_users.sort_unstable_by_key(|(user, epoch)| (user.slot(), *user, *epoch));
    new_users.dedup_by_key(|(user, _)| *user);
    let refunded_ids: Vec<TransactionId> = attempts
        .iter()
        .filter_map(|attempt| match &attempt.command.operation {
            Operation::Refund { charge_id, .. } => Some(*charge_id),
            _ => None,
        })
        .collect();
    let begin = match manner.limit {
        None => "BEGIN ISOLATION LEVEL READ COMMITTED".to_owned(),
        Some(limit) => format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}",
            limit.as_millis().max(2),
            limit.as_millis().max(2) / 2
        ),
    };
    let begin = client.batch_execute(&begin).map(|result| result.map_err(ReadError::from));
    // What these read or create must be read or created under the fence.
    let needs_fence = !(new_users.is_empty() && refunded_ids.is_empty());
    let before = future::try_join4(
        begin,
        async { if needs_fence { store::take_fence(client, sql).await } else { Ok(()) } },
        store::insert_users(client, sql, &new_users),
        store::read_refunded(client, sql, &refunded_ids),
    );
    // The futures are polled, and so sent, in this order.
    let (created, read) = if refunded_ids.is_empty() {
        let (((), (), created, _), read) =
            future::try_join(before, lock_and_read(session, attempts, manner, &slots, HashMap::new()))
                .await?;
        (created, read)
    } else {
        let ((), (), created, refunded) = before.await?;
        (created, lock_and_read(session, attempts, manner, &slots, refunded).await?)
    };
    let (owners, mut known, held) = read;
    known.users.extend(&created);
    known.created = created;
    Ok((owners, known, held))
}

async fn lock_and_read(
    session: &Session,
    attempts: &[&Attempt],
    manner: Manner,
    slots: &[i16],
    refunded: HashMap<TransactionId, Transaction>,
) -> Result<(HashMap<Slot, OwnerRow>, Known, HashSet<UserId>), ReadError> {
    let (client, sql) = (session.connection.client(), &session.sql);
    let charges: HashMap<TransactionId, UserId> =
        refunded.iter().map(|(id, charge)| (*id, charge.user_id)).collect();
    let hold_ids: Vec<TransactionId> = attempts
        .iter()
        .filter_map(|attempt| match &attempt.command.operation {
            Operation::Capture { hold_id, .. } | Operation::Void { hold_id } => Some(*hold_id),
            _ => None,
        })
        .collect();
    let named: Vec<(UserId, Uuid)> = attempts
        .iter()
        .filter_map(|Attempt { command, .. }| match &command.operation {
            Operation::CreateUser { .. } => None,
            _ => user_of(command, &charges).map(|user| (user, command.idempotency_key)),
        })
        .collect();
    let users =
        sorted_users(named.iter().map(|(user, _)| *user).chain(attempts.iter().filter_map(|attempt| {
            match &attempt.command.operation {
                Operation::CreateUser { user_id } => Some(*user_id),
                _ => None,
            }
        })));
    let looked_up = if manner.keys == Keys::LookedUp { named.as_slice() } else { &[] };
    let transfers = name_transfers(attempts, manner.keys);
    let mut read = None;
    if !manner.skips_held {
        let (opened, by_key, totals, more) = future::try_join4(
            store::open_batch(client, sql, slots, &users),
            store::read_by_keys(client, sql, looked_up),
            store::read_refund_totals(client, sql, &refunded),
            Box::pin(read_more(session, &hold_ids, &transfers)),
        )
        .await?;
        read = opened.map(|opened| (opened, by_key, totals, more));
    }
    let (opened, by_key, refund_totals, (rows, transfers)) = match read {
        Some(read) => read,
        // Somebody holds a user, or changes an owner now: each is waited for by a statement of its own.
        None => {
            // Boxed, because it is rare, and would make every batch larger.
            Box::pin(future::try_join4(
                store::open_batch_slowly(client, sql, slots, &users, manner.skips_held),
                store::read_by_keys(client, sql, looked_up),
                store::read_refund_totals(client, sql, &refunded),
                Box::pin(read_more(session, &hold_ids, &transfers)),
            ))
            .await?
        }
    };
    let Opened { owners, locked: Locked { users, held, now }, balances: read } = opened;
    let Balances { balances, held: held_money, last_stamps } = read;
    let mut holds = KnownHolds {
        held: held_money,
        rows,
        are_told: session.opening.finished >= HOLDS,
        ..KnownHolds::default()
    };
    let due = holds.users_due(now.unix_ms());
    if !due.is_empty() {
        Box::pin(store::holds::read_due(client, &sql.holds, &due, now.unix_ms(), &mut holds)).await?;
    }
    store::holds::check_sums(&holds)?;
    let known = Known {
        users,
        balances,
        last_stamps,
        now,
        by_key,
        refunded,
        refund_totals,
        holds,
        transfers,
        ..Known::default()
    };
    Ok((owners, known, held))
}

/// What only some batches have to know: holds and transfers.
async fn read_more(
    session: &Session,
    hold_ids: &[TransactionId],
    transfers: &store::transfers::Named,
) -> Result<(HashMap<TransactionId, Hold>, KnownTransfers), ReadError> {
    let (client, sql) = (session.connection.client(), &session.sql);
    future::try_join(
        store::holds::read_named(client, &sql.holds, hold_ids),
        store::transfers::read_known(client, &sql.transfers, transfers),
    )
    .await
}

/// Credits are taken as new, like keys: the constraint reports one that was decided before.
fn name_transfers(attempts: &[&Attempt], keys: Keys) -> store::transfers::Named {
    let mut named = store::transfers::Named::default();
    for Attempt { command, .. } in attempts {
        match &command.operation {
            Operation::Settle { transfer_id, .. } => {
                named.ids.extend(transfer_id.user().map(|user| (user, *transfer_id)));
            }
            Operation::Transfer { payment, .. } if keys == Keys::LookedUp => {
                named.keys.push((payment.user_id, command.idempotency_key));
            }
            Operation::Credit(credit) if keys == Keys::LookedUp => {
                named.credits.push((credit.to_user_id, credit.transfer_id));
            }
            _ => {}
        }
    }
    named
}

fn sorted_users(users: impl Iterator<Item = UserId>) -> Vec<UserId> {
    let mut users: Vec<UserId> = users.collect();
    users.sort_unstable_by_key(|user| (user.slot(), *user));
    users.dedup();
    users
}

/// The second flight. Waits for all statements, whichever fails, so that the connection is idle afterwards.
/// Behind a failed statement, COMMIT rolls back. Returns its time and the log's position.
async fn write_and_commit(
    parts: &LaneParts,
    session: &Session,
    booked: &Booked,
    limit: Option<Duration>,
) -> Result<(Duration, u64), StoreError> {
    let (client, sql) = (session.connection.client(), &session.sql);
    let commits = &session.connection.commits;
    session.connection.connection.take_warning();
    let started = Instant::now();
    // The limit is for statements, not for the standby: a COMMIT that is cut short has an unknown outcome.
    let unlimited = async {
        match limit {
            None => Ok(()),
            Some(_) => client.batch_execute("SET LOCAL statement_timeout TO DEFAULT").await,
        }
    };
    let flight = future::join3(store::write_booked(client, sql, booked), unlimited, commits.commit(client));
    let (written, unlimited, commit) = timeout(parts.flight_timeout, flight)
        .await
        .map_err(|_| StoreError::CommitUnanswered("the primary did not answer in time".to_owned()))?;
    for result in [written, unlimited] {
        result.map_err(|error| match StoreError::of(&error) {
            // COMMIT was in the same flight, and may have arrived.
            StoreError::Unreached(reason) | StoreError::Cut(reason) => StoreError::CommitUnanswered(reason),
            rolled_back => rolled_back,
        })?;
    }
    let unknown = |error: CommitError| StoreError::CommitUnanswered(error.to_string());
    let committed = commit.map_err(|error| unknown(error.into()))?;
    let judged = commits.judge(&session.connection.connection, committed, parts.flight_timeout).await;
    let lsn = judged.map_err(unknown)?;
    // Meanwhile another server was found to have taken over.
    if parts.primary.was_replaced(session.connection.server) {
        return Err(StoreError::CommitUnanswered("the primary was replaced".to_owned()));
    }
    Ok((started.elapsed(), lsn))
}

async fn roll_back_after(parts: &LaneParts, session: &Session, error: ReadError) -> StoreError {
    let meaning = match &error {
        ReadError::Database(error) => StoreError::of(error),
        ReadError::Corrupt(reason) => StoreError::Refused(reason.clone()),
        ReadError::Held => StoreError::Held,
    };
    if matches!(meaning, StoreError::Unreached(_) | StoreError::Cut(_)) {
        return meaning;
    }
    roll_back(parts, session).await.err().unwrap_or(meaning)
}

async fn roll_back(parts: &LaneParts, session: &Session) -> Result<(), StoreError> {
    match timeout(parts.flight_timeout, session.connection.client().batch_execute("ROLLBACK")).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(StoreError::Unreached(describe(&error))),
        Err(_) => Err(StoreError::Unreached("the primary did not answer in time".to_owned())),
    }
}
