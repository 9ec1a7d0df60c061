//! Whether the shard can promise what it acknowledges: open while a COMMIT comes back from primary and standby.
//!
//! Without it, every batch during an outage of the standby would leave a backend behind that waits for the
//! standby with its users locked, until the primary has no connection left. So the first COMMIT that is not
//! answered closes the gate, one probe at a time tries a commit of its own, and its success opens it. Nor does it open,
//! or stay open, while the primary says that no synchronous standby follows it.
//!
//! What opens is one primary, on one timeline, in one durability: lanes write on no other. So a server that was promoted
//! is looked at before the first charge on it, and an operator's word that the shard goes on without its standby, or
//! does not any more, comes to all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use picopay_shared::cluster::Durability;
use picopay_shared::node_status::Degradation;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::db::{Dedicated, Primary, describe};
use crate::degradation;
use crate::identity::{self, Generation, Identity};

/// A database without an identity, as it is before an operator has said what it is for.
const NO_CLUSTER: &str = "the shard is of no cluster yet: run `picopay init` for a new cluster, or `picopay shard add` for a \
                          shard that joins one";

/// How often an open gate looks whether the primary answers and replication is still set up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a closed one tries again: after a failover every charge waits for this.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// How long such a look may take. It reads a handful of rows, in a millisecond; on a machine that is overloaded it waits for
/// its turn, and to stop writes for that would be a failure of our own making.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one probe may wait for the standby before it is given up for a new connection. Long, since each one
/// given up leaves a backend waiting.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// What may be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Of the cluster, as the database says.
    pub cluster_id: Uuid,
    /// Of the database: another one after it was restored to an earlier moment.
    pub generation: Generation,
    /// Of the primary.
    pub timeline: u32,
    /// Whom commits wait for now.
    pub durability: Durability,
    /// Set while an operator lets the shard go on without its standby.
    pub degraded: Option<Arc<Degradation>>,
}

/// Open, or closed and why.
#[derive(Clone)]
pub struct WriteGate {
    state: Arc<watch::Sender<Result<Opening, String>>>,
    /// Whether it is the one that writes go through. What another one finds is no news of the shard.
    is_in_use: Arc<AtomicBool>,
}

impl Default for WriteGate {
    fn default() -> Self {
        Self { state: Arc::new(watch::Sender::new(Err("starting".to_owned()))), is_in_use: Arc::default() }
    }
}

impl WriteGate {
    /// From now on writes go through it, and the log says when they cannot.
    pub fn take_up(&self) {
        self.is_in_use.store(true, Ordering::Relaxed);
    }

    /// What may be written to, while writes may go on.
    ///
    /// # Errors
    /// Why they may not, for the log and for operators.
    pub fn check(&self) -> Result<Opening, String> {
        self.state.borrow().clone()
    }

    /// Closes it. Only the probe opens it again.
    pub fn close(&self, reason: &str) {
        self.state.send_if_modified(|state| {
            let was_open = state.is_ok();
            if was_open {
                tracing::warn!(reason, "writes are stopped");
                *state = Err(reason.to_owned());
            }
            was_open
        });
    }

    /// Waits until it is open.
    pub async fn opened(&self) -> Opening {
        let mut watch = self.state.subscribe();
        let state = watch.wait_for(Result::is_ok).await.expect("the gate lives as long as self");
        state.clone().expect("waited for Ok")
    }

    /// Waits until it is closed.
    pub async fn closed(&self) {
        let mut watch = self.state.subscribe();
        let _ = watch.wait_for(Result::is_err).await.expect("the gate lives as long as self");
    }

    fn open(&self, opening: Opening) {
        if self.is_in_use.load(Ordering::Relaxed) && self.check().is_err() {
            match &opening.degraded {
                None => tracing::info!(timeline = opening.timeline, "writes go on"),
                Some(degraded) => tracing::warn!(
                    since = degraded.since,
                    by = degraded.by,
                    reason = degraded.reason,
                    "writes go on without a standby: the shard is degraded"
                ),
            }
        }
        let _ = self.state.send_replace(Ok(opening));
    }

    /// Closes it, or gives a new reason for its being closed.
    pub fn explain(&self, reason: String) {
        self.state.send_if_modified(|state| {
            let is_new = state.as_ref().err() != Some(&reason);
            if is_new {
                if self.is_in_use.load(Ordering::Relaxed) {
                    tracing::warn!(reason, "writes are stopped");
                }
                *state = Err(reason);
            }
            is_new
        });
    }
}

/// The database is not the shard this node was started for. No node must serve it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct WrongDatabase(pub String);

/// Keeps the gate, until the database turns out to be the wrong one.
pub async fn keep(
    gate: WriteGate,
    primary: Primary,
    shard_name: String,
    durability: Durability,
) -> WrongDatabase {
    let mut keeper = Keeper { gate, primary, shard_name, promised: durability, durability };
    loop {
        match keeper.connect_and_keep().await {
            Lost::WrongDatabase(wrong) => return wrong,
            Lost::NotReady(reason) => {
                keeper.gate.explain(reason);
                sleep(TRY_EVERY).await;
            }
            Lost::Changed { durability, reason } => {
                keeper.gate.explain(reason);
                keeper.durability = durability;
            }
        }
    }
}

struct Keeper {
    gate: WriteGate,
    primary: Primary,
    shard_name: String,
    /// What `cluster.toml` says.
    promised: Durability,
    /// What the shard keeps now: less than it promised while it is degraded.
    durability: Durability,
}

enum Lost {
    WrongDatabase(WrongDatabase),
    NotReady(String),
    /// Somebody degraded or restored the shard.
    Changed {
        durability: Durability,
        reason: String,
    },
}

impl From<tokio_postgres::Error> for Lost {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::NotReady(format!("the primary was lost: {}", describe(&error)))
    }
}

impl Keeper {
    /// Looks after the gate on one connection, until that is lost or something is not as it must be.
    async fn connect_and_keep(&self) -> Lost {
        let connection = match self.primary.connect("picopay-node gate", self.durability).await {
            Ok(connection) => connection,
            Err(error) => {
                self.primary.note_silence(true);
                return Lost::NotReady(format!("the primary cannot be reached: {error}"));
            }
        };
        loop {
            if let Err(lost) = self.look_once(&connection).await {
                return lost;
            }
            // A lane that closes it has it tried again at once: its reason may have been one dropped connection.
            let _ = timeout(LOOK_EVERY, self.gate.closed()).await;
        }
    }

    async fn look_once(&self, connection: &Dedicated) -> Result<(), Lost> {
        let look = timeout(LOOK_TIMEOUT, self.look(connection)).await;
        self.primary.note_silence(look.is_err());
        let seen = look.map_err(|_| Lost::NotReady("the primary does not answer".to_owned()))??;
        if self.gate.check().as_ref() == Ok(&seen) {
            return Ok(());
        }
        connection.clear_warnings();
        let probed = timeout(PROBE_TIMEOUT, probe(&connection.client)).await;
        probed.map_err(|_| Lost::NotReady("no standby confirms a commit".to_owned()))??;
        if connection.was_warned() {
            return Err(Lost::NotReady("the wait for the standby was cancelled".to_owned()));
        }
        self.gate.open(seen);
        Ok(())
    }

    /// Whether the database is ours and set up to keep what the shard promises.
    async fn look(&self, connection: &Dedicated) -> Result<Opening, Lost> {
        // A lane came to its successor first. The old one may answer for as long as nobody stops it.
        if self.primary.was_replaced(connection) {
            return Err(Lost::NotReady("the primary was replaced: looking for the new one".to_owned()));
        }
        let client = &connection.client;
        let (cluster_id, generation) = match identity::read(client, &self.shard_name).await? {
            Identity::Mismatch(reason) => return Err(Lost::WrongDatabase(WrongDatabase(reason))),
            Identity::NotInitialised => {
                return Err(Lost::NotReady(NO_CLUSTER.to_owned()));
            }
            Identity::Ours { cluster_id, generation } => (cluster_id, generation),
        };
        // A shard that promises no more than it keeps cannot be degraded.
        let degraded = match self.promised {
            Durability::Replicated => degradation::read(client).await?,
            Durability::Local => None,
        };
        let durability = if degraded.is_some() { Durability::Local } else { self.promised };
        if durability != self.durability {
            let reason = match &degraded {
                Some(degraded) => format!("{} degraded the shard: {}", degraded.by, degraded.reason),
                None => "the shard was restored".to_owned(),
            };
            return Err(Lost::Changed { durability, reason });
        }
        let row = client.query_one(include_str!("sql/read_durability.sql"), &[]).await?;
        let [names_standby, waits, is_safe, has_standby]: [bool; 4] =
            [row.get(0), row.get(1), row.get(2), row.get(3)];
        let missing = match durability {
            _ if !is_safe => Some("fsync and full_page_writes must be on at the primary"),
            Durability::Replicated if !names_standby => {
                Some("durability is \"replicated\" but the primary's synchronous_standby_names is empty")
            }
            Durability::Replicated if !waits => Some(
                "durability is \"replicated\" but synchronous_commit is not on in a session that asks for it",
            ),
            Durability::Replicated if !has_standby => Some(
                "no standby that synchronous_standby_names names follows the primary; \
                 `picopay shard degrade` goes on without one",
            ),
            Durability::Replicated | Durability::Local => None,
        };
        if let Some(missing) = missing {
            return Err(Lost::NotReady(missing.to_owned()));
        }
        let degraded = degraded.map(Arc::new);
        Ok(Opening { cluster_id, generation, timeline: connection.timeline, durability, degraded })
    }
}

/// A commit that has to come back from the standby like any charge's. It writes to the log alone, so that a probe
/// that hangs holds no row.
async fn probe(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.execute("SELECT pg_logical_emit_message(true, 'picopay', 'probe')", &[]).await?;
    Ok(())
}
