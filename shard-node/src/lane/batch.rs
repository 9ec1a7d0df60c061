//! The life of a batch between BEGIN and COMMIT.
//!
//! Lock order, the same for every writer: the fence (shared), then the users in the order of (slot, user_id).
//! Balances, keys and refund totals are read after those locks are held, each by a statement of its own, so
//! that in READ COMMITTED each sees what the last holder of the lock committed.
//!
//! Two flights of statements, each pipelined: read under lock, then write and COMMIT. A batch with refunds takes
//! one more in front, which finds the users of the charges. No answer leaves before COMMIT is acknowledged.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::{self, FutureExt};
use picopay_postgres::{CommitError, describe};
use picopay_shared::command::{Command, Operation, Outcome, Transaction};
use picopay_shared::id::TransactionId;
use picopay_shared::session::LogPosition;
use picopay_shared::slot::{Slot, UserId};
use tokio::time::timeout;
use uuid::Uuid;

use super::store_error::StoreError;
use super::{Done, LaneParts, Session};
use crate::book::{self, Admitted, Booked, Known};
use crate::degradation;
use crate::floor::Acknowledged;
use crate::slot_owner::{self, Stopped};
use crate::store::{self, Locked, OwnerRow, ReadError};

/// What a batch does about the keys of its commands before it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Finds the transactions under them.
    LookedUp,
    /// Leaves it to the unique constraint to say that one is not new.
    TakenAsNew,
}

/// Runs a batch whole, or leaves nothing of it behind; after [`StoreError::CommitUnanswered`] nobody knows which.
pub async fn transact(
    lane: usize,
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
    if let Some(last) = booked.transactions.last() {
        let last = Acknowledged::of(&last.transaction, session.opening.generation);
        let field = format!("{} {lane}", parts.node_name);
        parts.cache.keep_floor(session.opening.cluster_id, &field, &last.to_bytes());
        parts.floors.note(lane, last);
    }
    for (position, outcome) in booked.outcomes {
        outcomes[position] = outcome;
    }
    let position = Some(LogPosition { timeline: session.connection.server.timeline, lsn });
    let opening = Some(session.opening.clone());
    Ok(Done { outcomes, commit_time, position, is_as_promised: !session.is_degraded, opening })
}

/// Under the fence, whether the shard is still degraded. Without this, a batch could be acknowledged by the primary alone
/// after `picopay shard restore` has said that this is over: the gate looks only every second.
async fn confirm_degraded(parts: &LaneParts, session: &Session) -> Result<(), StoreError> {
    let read = timeout(parts.flight_timeout, degradation::read(session.connection.client())).await;
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
    let mut batch = Vec::with_capacity(commands.len());
    for (position, command) in commands.iter().enumerate() {
        match slot_owner::pass(command.operation.slot(), command.epoch, owners) {
            Ok(()) => batch.push(Admitted { position, command, random: rand::random() }),
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
    let (client, sql) = (session.connection.client(), &session.sql);
    let mut slots: Vec<i16> = commands.iter().map(|command| command.operation.slot().as_i16()).collect();
    slots.sort_unstable();
    slots.dedup();
    let mut new_users: Vec<(UserId, u64)> = commands
        .iter()
        .filter_map(|command| match &command.operation {
            Operation::CreateUser { user_id } => Some((*user_id, command.epoch)),
            _ => None,
        })
        .collect();
    // Each once, with the lowest epoch that one of its commands has seen: if any may pass, that one may.
    new_users.sort_unstable_by_key(|(user, epoch)| (user.slot(), *user, *epoch));
    new_users.dedup_by_key(|(user, _)| *user);
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
    let (client, sql) = (session.connection.client(), &session.sql);
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
    let (locked, (balances, last_stamps), by_key, refund_totals) = future::try_join4(
        store::lock_users(client, sql, &users),
        store::read_balances(client, sql, &users),
        store::read_by_keys(client, sql, looked_up),
        store::read_refund_totals(client, sql, &refunded),
    )
    .await?;
    let Locked { users, now } = locked;
    Ok(Known { users, balances, last_stamps, now, by_key, refunded, refund_totals, ..Known::default() })
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
    let (client, sql) = (session.connection.client(), &session.sql);
    let commits = &session.connection.commits;
    session.connection.connection.take_warning();
    let started = Instant::now();
    #[cfg(not(feature = "broken"))]
    let (rows, end) = (&booked.transactions, commits.commit(client));
    #[cfg(feature = "broken")]
    let (rows, end) =
        (&crate::broken::under_fresh_keys(&booked.transactions), crate::broken::commit(commits, client));
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
        result.map_err(|error| match StoreError::of(&error) {
            // COMMIT was in the same flight, and nobody can tell how far it came.
            StoreError::Unreached(reason) | StoreError::Cut(reason) => StoreError::CommitUnanswered(reason),
            rolled_back => rolled_back,
        })?;
    }
    let unknown = |error: CommitError| StoreError::CommitUnanswered(error.to_string());
    let committed = commit.map_err(|error| unknown(error.into()))?;
    let judged = commits.judge(&session.connection.connection, committed, parts.flight_timeout).await;
    let lsn = judged.map_err(unknown)?;
    // While it was on its way, another server was found to have taken over from this one.
    if parts.primary.was_replaced(session.connection.server) {
        return Err(StoreError::CommitUnanswered("the primary was replaced".to_owned()));
    }
    Ok((started.elapsed(), lsn))
}

/// Ends the database transaction in which `error` came up, and says what it means for the batch.
async fn roll_back_after(parts: &LaneParts, session: &Session, error: ReadError) -> StoreError {
    let meaning = match &error {
        ReadError::Database(error) => StoreError::of(error),
        ReadError::Corrupt(reason) => StoreError::Refused(reason.clone()),
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
