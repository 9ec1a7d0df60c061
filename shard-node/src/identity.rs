//! Whether the database behind the connection string is the shard that it is taken for.

use picopay_shared::slot::{SLOT_COUNT, SLOT_HASH};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

/// Which of its own pasts a ledger goes on from (`V6__restore_generation.sql`). What was answered in another generation may be in
/// no ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// For people, and for the order of generations. Two restorations of one backup have the same.
    pub number: i64,
    /// Random, and so never the same for two.
    pub id: Uuid,
}

/// What `shard_identity` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The shard we serve, of this cluster.
    Ours {
        /// The cluster.
        cluster_id: Uuid,
        /// Raised when the database was restored to an earlier moment.
        generation: Generation,
    },
    /// `picopay init` has not been here yet.
    NotInitialised,
    /// Another shard, or another way of counting slots: swapped connection strings, most likely.
    Mismatch(String),
}

/// Reads the identity of the database.
pub async fn read(client: &Client, shard_name: &str) -> Result<Identity, tokio_postgres::Error> {
    let read = client
        .query_opt(
            "SELECT cluster_id, shard_name, slot_count, slot_hash, generation, generation_id FROM shard_identity",
            &[],
        )
        .await;
    let row = match read {
        Ok(Some(row)) => row,
        Ok(None) => return Ok(Identity::NotInitialised),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            return Ok(Identity::NotInitialised);
        }
        Err(error) => return Err(error),
    };
    let (name, count, hash): (String, i32, String) = (row.get(1), row.get(2), row.get(3));
    let mismatch = |what: &str, found: &str, expected: &str| {
        Ok(Identity::Mismatch(format!(
            "the database's shard_identity says {what} {found}, but this node is configured for {expected}: \
             are the connection strings in cluster.toml swapped?"
        )))
    };
    if name != shard_name {
        return mismatch("shard", &name, shard_name);
    }
    if count != i32::from(SLOT_COUNT) {
        return mismatch("slot count", &count.to_string(), &SLOT_COUNT.to_string());
    }
    if hash != SLOT_HASH {
        return mismatch("slot hash", &hash, SLOT_HASH);
    }
    let generation = Generation { number: row.get(4), id: row.get(5) };
    Ok(Identity::Ours { cluster_id: row.get(0), generation })
}
