//! Whether the shard can promise what it acknowledges: open while a COMMIT comes back from primary and standby.
//!
//! Without it, every batch during an outage of the standby would leave a backend behind that waits for the
//! standby with its users locked, until the primary has no connection left. So the first COMMIT that is not
//! answered closes the gate, one probe at a time tries a commit of its own, and its success opens it.

use std::sync::Arc;
use std::time::Duration;

use picopay_shared::cluster::Durability;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use crate::db::{Dedicated, Primary, describe};
use crate::identity::{self, Identity};

/// How often an open gate looks whether the primary answers and replication is still set up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a closed one tries again: after a failover every charge waits for this.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// How long such a look may take. It reads a handful of rows; whoever takes longer does not serve charges either.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one probe may wait for the standby before it is given up for a new connection. Long, since each one
/// given up leaves a backend waiting.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Open, or closed and why.
#[derive(Clone)]
pub struct WriteGate {
    state: Arc<watch::Sender<Result<Identity, String>>>,
}

impl Default for WriteGate {
    fn default() -> Self {
        Self { state: Arc::new(watch::Sender::new(Err("starting".to_owned()))) }
    }
}

impl WriteGate {
    /// `Ok` while writes may go on.
    ///
    /// # Errors
    /// Why not, for the log and for operators.
    pub fn check(&self) -> Result<(), String> {
        self.state.borrow().as_ref().map(|_| ()).map_err(Clone::clone)
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

    /// Waits until it is open, and gives the identity of the database.
    pub async fn opened(&self) -> Identity {
        let mut watch = self.state.subscribe();
        let state = watch.wait_for(Result::is_ok).await.expect("the gate lives as long as self");
        state.clone().expect("waited for Ok")
    }

    /// Waits until it is closed.
    async fn closed(&self) {
        let mut watch = self.state.subscribe();
        let _ = watch.wait_for(Result::is_err).await.expect("the gate lives as long as self");
    }

    fn open(&self, identity: Identity) {
        if self.check().is_err() {
            tracing::info!("writes go on");
        }
        let _ = self.state.send_replace(Ok(identity));
    }

    /// Closes it, or gives a new reason for its being closed.
    pub fn explain(&self, reason: String) {
        self.state.send_if_modified(|state| {
            let is_new = state.as_ref().err() != Some(&reason);
            if is_new {
                tracing::warn!(reason, "writes are stopped");
                *state = Err(reason);
            }
            is_new
        });
    }
}

/// The database is not the shard this node was started for. No node must serve it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongDatabase(pub String);

/// Keeps the gate, until the database turns out to be the wrong one.
pub async fn keep(
    gate: WriteGate,
    primary: Primary,
    shard_name: String,
    durability: Durability,
) -> WrongDatabase {
    loop {
        match primary.connect("picopay-node gate").await {
            Err(error) => {
                primary.note_silence(true);
                gate.explain(format!("the primary cannot be reached: {error}"));
            }
            Ok(connection) => match keep_on(&gate, &primary, &connection, &shard_name, durability).await {
                Lost::WrongDatabase(wrong) => return wrong,
                Lost::NotReady(reason) => gate.explain(reason),
            },
        }
        sleep(TRY_EVERY).await;
    }
}

enum Lost {
    WrongDatabase(WrongDatabase),
    NotReady(String),
}

impl From<tokio_postgres::Error> for Lost {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::NotReady(format!("the primary was lost: {}", describe(&error)))
    }
}

/// Looks after the gate on one connection, until that is lost or something is not as it must be.
async fn keep_on(
    gate: &WriteGate,
    primary: &Primary,
    connection: &Dedicated,
    shard_name: &str,
    durability: Durability,
) -> Lost {
    loop {
        if let Err(lost) = look_once(gate, primary, connection, shard_name, durability).await {
            return lost;
        }
        // A lane that closes it has it tried again at once: its reason may have been one dropped connection.
        let _ = timeout(LOOK_EVERY, gate.closed()).await;
    }
}

async fn look_once(
    gate: &WriteGate,
    primary: &Primary,
    connection: &Dedicated,
    shard_name: &str,
    durability: Durability,
) -> Result<(), Lost> {
    let client = &connection.client;
    let look = timeout(LOOK_TIMEOUT, look(client, shard_name, durability)).await;
    primary.note_silence(look.is_err());
    let identity = look.map_err(|_| Lost::NotReady("the primary does not answer".to_owned()))??;
    if gate.check().is_ok() {
        return Ok(());
    }
    connection.clear_warnings();
    let probed = timeout(PROBE_TIMEOUT, probe(client)).await;
    probed.map_err(|_| Lost::NotReady("no standby confirms a commit".to_owned()))??;
    if connection.was_warned() {
        return Err(Lost::NotReady("the wait for the standby was cancelled".to_owned()));
    }
    gate.open(identity);
    Ok(())
}

/// Whether the database is ours and set up to keep what `durability` promises.
async fn look(client: &Client, shard_name: &str, durability: Durability) -> Result<Identity, Lost> {
    let identity = match identity::read(client, shard_name).await? {
        Identity::Mismatch(reason) => return Err(Lost::WrongDatabase(WrongDatabase(reason))),
        Identity::NotInitialised => {
            return Err(Lost::NotReady("the shard is not initialised: run `picopay init`".to_owned()));
        }
        ours @ Identity::Ours { .. } => ours,
    };
    let row = client
        .query_one(
            "SELECT current_setting('synchronous_standby_names'), current_setting('fsync'), \
             current_setting('full_page_writes')",
            &[],
        )
        .await?;
    let [standbys, fsync, pages]: [&str; 3] = [row.get(0), row.get(1), row.get(2)];
    if durability == Durability::Replicated && standbys.trim().is_empty() {
        return Err(Lost::NotReady(
            "durability is \"replicated\" but the primary's synchronous_standby_names is empty".to_owned(),
        ));
    }
    if fsync != "on" || pages != "on" {
        return Err(Lost::NotReady("fsync and full_page_writes must be on at the primary".to_owned()));
    }
    Ok(identity)
}

/// A commit that has to come back from the standby like any charge's. It writes to the log alone, so that a probe
/// that hangs holds no row.
async fn probe(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.execute("SELECT pg_logical_emit_message(true, 'picopay', 'probe')", &[]).await?;
    Ok(())
}
