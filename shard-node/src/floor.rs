//! The acknowledged floor: the last transaction that each lane has acknowledged.
//!
//! The log is replicated in order, so where the last one is, all before it are. A primary that lacks one has
//! lost money: a lagging standby was promoted, or an older copy restored. It is a row and not a log position,
//! because a position that is read after a COMMIT includes other sessions' writes. It may keep the gate shut,
//! and never opens it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use picopay_shared::command::Transaction;
use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::identity::Generation;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    slot: i16,
    user_id: i64,
    id: Uuid,
    generation: Generation,
}

impl Acknowledged {
    pub fn of(transaction: &Transaction, generation: Generation) -> Self {
        Self {
            slot: transaction.user_id.slot().as_i16(),
            user_id: transaction.user_id.get(),
            id: transaction.id.as_uuid(),
            generation,
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always serializes")
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// Whether it must be in a ledger of this generation. An operator who raises the generation accepts the
    /// loss of what came before. A database of an older generation has lost that decision as well. Two
    /// restorations of one backup have the same number.
    fn counts_in(&self, generation: Generation) -> bool {
        self.generation.number > generation.number || self.generation == generation
    }
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, user_id, id, generation } = self;
        write!(
            formatter,
            "transaction {id} of user {user_id} in slot {slot} (generation {})",
            generation.number
        )
    }
}

#[derive(Debug, Default)]
pub struct Floors {
    lanes: Mutex<HashMap<usize, Acknowledged>>,
}

impl Floors {
    pub fn note(&self, lane: usize, last: Acknowledged) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).insert(lane, last);
    }

    pub fn all(&self) -> Vec<Acknowledged> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// The first of these that a database lacks although it owns the slot. A database without tables owns none.
pub async fn find_missing(
    client: &Client,
    floor: &[Acknowledged],
    generation: Generation,
) -> Result<Option<Acknowledged>, Error> {
    let floor: Vec<&Acknowledged> = floor.iter().filter(|one| one.counts_in(generation)).collect();
    if floor.is_empty() {
        return Ok(None);
    }
    let slots: Vec<i16> = floor.iter().map(|one| one.slot).collect();
    let users: Vec<i64> = floor.iter().map(|one| one.user_id).collect();
    let ids: Vec<Uuid> = floor.iter().map(|one| one.id).collect();
    let found = client.query_opt(include_str!("sql/find_missing.sql"), &[&slots, &users, &ids]).await;
    match found {
        Ok(row) => {
            let missing = row.map(|row| row.get::<_, Uuid>(2));
            Ok(missing.and_then(|id| floor.into_iter().find(|one| one.id == id).cloned()))
        }
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_counts_in_its_own_ledger_and_in_one_that_has_lost_its_generation() {
        let generation = |number: i64, id: u128| Generation { number, id: Uuid::from_u128(id) };
        let floor =
            Acknowledged { slot: 1, user_id: 2, id: Uuid::from_u128(3), generation: generation(2, 7) };
        assert_eq!(Acknowledged::from_bytes(&floor.to_bytes()), Some(floor.clone()));
        assert_eq!(Acknowledged::from_bytes(b"of another version"), None);
        for (ledger, counts) in [
            (generation(2, 7), true),
            // Restored from a backup, which nobody has declared yet.
            (generation(1, 6), true),
            // Declared.
            (generation(2, 8), false),
            (generation(3, 9), false),
        ] {
            assert_eq!(floor.counts_in(ledger), counts, "{ledger:?}");
        }
    }
}
