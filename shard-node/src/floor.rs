//! The acknowledged floor: the last transaction that each lane has acknowledged.
//!
//! The log is replicated in order, so where the last one is, all before it are. A primary that lacks one has lost money:
//! a lagging standby was promoted, or an older copy restored. A row and not a position in the log, since the position
//! that is read after a COMMIT includes what other sessions wrote. It may keep the gate shut, and never opens it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use picopay_shared::command::Transaction;
use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

/// A transaction that a client was told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    slot: i16,
    user_id: i64,
    id: Uuid,
}

impl Acknowledged {
    /// This one was.
    pub fn of(transaction: &Transaction) -> Self {
        Self {
            slot: transaction.user_id.slot().as_i16(),
            user_id: transaction.user_id.get(),
            id: transaction.id.as_uuid(),
        }
    }
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "transaction {} of user {} in slot {}", self.id, self.user_id, self.slot)
    }
}

/// The last one of each lane, for the life of the process.
#[derive(Debug, Default)]
pub struct Floors {
    lanes: Mutex<HashMap<usize, Acknowledged>>,
}

impl Floors {
    /// This is now the last one of a lane.
    pub fn note(&self, lane: usize, last: Acknowledged) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).insert(lane, last);
    }

    /// All of them.
    pub fn all(&self) -> Vec<Acknowledged> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// The first of these that a database lacks although it says that it owns the slot. A database without tables has none of
/// the slots.
pub async fn find_missing(client: &Client, floor: &[Acknowledged]) -> Result<Option<Acknowledged>, Error> {
    if floor.is_empty() {
        return Ok(None);
    }
    let slots: Vec<i16> = floor.iter().map(|one| one.slot).collect();
    let users: Vec<i64> = floor.iter().map(|one| one.user_id).collect();
    let ids: Vec<Uuid> = floor.iter().map(|one| one.id).collect();
    let found = client.query_opt(include_str!("sql/find_missing.sql"), &[&slots, &users, &ids]).await;
    match found {
        Ok(row) => Ok(row.map(|row| Acknowledged { slot: row.get(0), user_id: row.get(1), id: row.get(2) })),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(error),
    }
}
