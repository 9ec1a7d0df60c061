//! Whether a connection's database is the expected one: this shard of this cluster, with a schema that this
//! program can serve. Every new connection is checked, and the keeper checks again and again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use picopay_migrations::Schema;
use picopay_shared::node_status::{HOLDS, TRANSFERS, WIRE_BEFORE_HOLDS};
use picopay_shared::slot::{SLOT_COUNT, SLOT_HASH};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

const NO_CLUSTER: &str = "the shard is of no cluster yet: run `picopay init` for a new cluster, or `picopay shard add` for a \
                          shard that joins one";

/// Which of its own pasts a ledger continues (`V6__restore_generation.sql`). An answer of another generation
/// may be in no ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// For people, and for the order of generations. Two restorations of one backup have the same.
    pub number: i64,
    /// Random, so that no two are equal.
    pub id: Uuid,
}

#[derive(Clone)]
pub struct Expected {
    shard_name: Arc<str>,
    kept: Arc<Kept>,
    /// Why this process serves nobody although the database is ours.
    refusal: Arc<Mutex<Option<String>>>,
    is_primary: bool,
}

#[derive(Default)]
pub struct Kept {
    /// `cluster_id` of `cluster.toml`; without that line, the first one that a primary showed.
    pub cluster_id: OnceLock<Uuid>,
    /// Each is logged once: a replica is tried twice a second, and a refused file every five.
    logged: Mutex<HashSet<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: Uuid,
    /// Raised when the database is restored to an earlier moment.
    pub generation: Generation,
    /// The version of the wire that all programs speak which may serve this schema. What only a higher one can read waits.
    pub finished: u16,
}

#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Another shard or cluster, or another hash of slots: probably swapped connection strings.
    #[error("{0}")]
    WrongDatabase(String),
    /// `picopay init` has not run, or, for a replica, the cluster is not known yet.
    #[error("{NO_CLUSTER}")]
    NoCluster,
    #[error("{0}")]
    Schema(picopay_migrations::Unfit),
    #[error("the database does not say who it is")]
    Lost(#[from] tokio_postgres::Error),
}

impl Expected {
    pub fn new(shard_name: &str, kept: Arc<Kept>) -> Self {
        Self { shard_name: shard_name.into(), kept, refusal: Arc::default(), is_primary: true }
    }

    pub fn cluster_id(&self) -> Option<Uuid> {
        self.kept.cluster_id.get().copied()
    }

    /// The same of its replicas, which do not set the cluster.
    #[must_use]
    pub fn of_replica(&self) -> Self {
        Self { is_primary: false, ..self.clone() }
    }

    /// Why this process serves nobody now: the primary's database is ours, but this program cannot serve its
    /// schema.
    pub fn refusal(&self) -> Option<String> {
        lock(&self.refusal).clone()
    }

    fn is_of_cluster(&self, id: Uuid) -> bool {
        let known = self.kept.cluster_id.get_or_init(|| {
            tracing::warn!(
                "cluster.toml does not say which cluster its databases are of, so this process keeps to the one that it \
                 found. Add the line: cluster_id = \"{id}\""
            );
            id
        });
        *known == id
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks whether this connection may be used.
///
/// # Errors
/// [`Unfit`]. A wrong database is logged.
pub async fn check(client: &Client, expected: &Expected) -> Result<Identity, Unfit> {
    let found = Schema::read(client).await?;
    let schema = found.check();
    if schema == Err(picopay_migrations::Unfit::Empty) {
        return Err(Unfit::NoCluster);
    }
    // The identity comes first: the schema of another shard's database is not our concern. These four columns
    // are in every schema.
    let cluster_id = read_cluster_id(client, expected).await;
    if let Err(Unfit::WrongDatabase(reason)) = &cluster_id {
        let is_news = lock(&expected.kept.logged).insert(reason.clone());
        if is_news {
            let role = if expected.is_primary { "primary" } else { "replica" };
            tracing::error!(role, reason, "a connection leads to a wrong database, and is not used");
        }
    }
    let cluster_id = cluster_id?;
    if expected.is_primary {
        *lock(&expected.refusal) = schema.as_ref().err().map(ToString::to_string);
    }
    schema.map_err(Unfit::Schema)?;
    let row = client.query_one("SELECT generation, generation_id FROM shard_identity", &[]).await?;
    let generation = Generation { number: row.get(0), id: row.get(1) };
    Ok(Identity { cluster_id, generation, finished: finished_version(&found) })
}

/// As `picopay migrate --finish` has made sure.
fn finished_version(schema: &Schema) -> u16 {
    match (schema.takes_transfers(), schema.takes_holds()) {
        (true, _) => TRANSFERS,
        (false, true) => HOLDS,
        (false, false) => WIRE_BEFORE_HOLDS,
    }
}

async fn read_cluster_id(client: &Client, expected: &Expected) -> Result<Uuid, Unfit> {
    let read = client
        .query_opt("SELECT cluster_id, shard_name, slot_count, slot_hash FROM shard_identity", &[])
        .await;
    let row = match read {
        Ok(Some(row)) => row,
        Ok(None) => return Err(Unfit::NoCluster),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Err(Unfit::NoCluster),
        Err(error) => return Err(error.into()),
    };
    let cluster_id: Uuid = row.get(0);
    let (name, count, hash): (String, i32, String) = (row.get(1), row.get(2), row.get(3));
    let mismatch = |what: &str, found: &str, expected: &str| {
        Err(Unfit::WrongDatabase(format!(
            "the database's shard_identity says {what} {found}, but this node is configured for {expected}: \
             are the connection strings in cluster.toml swapped?"
        )))
    };
    if name != *expected.shard_name {
        return mismatch("shard", &name, &expected.shard_name);
    }
    if count != i32::from(SLOT_COUNT) {
        return mismatch("slot count", &count.to_string(), &SLOT_COUNT.to_string());
    }
    if hash != SLOT_HASH {
        return mismatch("slot hash", &hash, SLOT_HASH);
    }
    if !expected.is_primary && expected.kept.cluster_id.get().is_none() {
        return Err(Unfit::NoCluster);
    }
    if !expected.is_of_cluster(cluster_id) {
        let known = expected.kept.cluster_id.get().map(Uuid::to_string).unwrap_or_default();
        return Err(Unfit::WrongDatabase(format!(
            "the database's shard_identity says cluster {cluster_id}, but this node serves cluster {known}: does a \
             connection string in cluster.toml lead to another environment?"
        )));
    }
    Ok(cluster_id)
}
