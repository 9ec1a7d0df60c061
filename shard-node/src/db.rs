//! Connections to the shard's Postgres. Primary and replica are two types, so that only functions for which a
//! stale answer is right can take a replica.
//!
//! The gate's keeper (`gate_keeper.rs`) asks all servers and finds the primary. Connections here lead to that
//! one, or fail.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{PoolError, TimeoutType};
use picopay_postgres::{
    Answer, Commits, Connection, Endpoint, OpenError, Servers, address, ask, is_server_lost, set_session,
};
use picopay_shard_node_config::PostgresConfig;
use picopay_shared::cluster::{Durability, Shard};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::identity::{self, Expected, Unfit};
use crate::read_pool::{Lease, ReadPool, Target};
use crate::server_id::ServerId;
use crate::timeline::{Admission, OlderTimeline, Timelines};

#[derive(Debug, thiserror::Error)]
#[error("shard {shard}: the connection string of its {role} is wrong: {reason}")]
pub struct ConnectionStringError {
    shard: String,
    role: &'static str,
    reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no primary is known now")]
    NoneKnown,
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{0}")]
    Unknown(String),
    #[error("another server is there now, or it takes no writes any more")]
    Changed,
    #[error(transparent)]
    Replaced(#[from] OlderTimeline),
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// Whether a pool's error says that the server is lost. When all connections are in use, the server is only
/// busy.
pub fn is_pool_lost(error: &PoolError) -> bool {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => false,
        PoolError::Backend(error) => is_server_lost(error),
        _ => true,
    }
}

/// How long the keeper's result about reads is valid: a look each second, which may take two, and one more
/// for a busy machine.
const READS_GOOD_FOR: Duration = Duration::from_secs(4);

/// The sweeper and the courier: one that waits for a lock does not stop the other.
const TASKS: usize = 2;

#[derive(Clone)]
pub struct Primary {
    servers: Servers,
    settings: PostgresConfig,
    timelines: Timelines,
    expected: Expected,
    pool: ReadPool,
    own: ReadPool,
    tasks: ReadPool,
    found: Arc<Mutex<Found>>,
}

struct Found {
    server: Option<ServerId>,
    reads: (Instant, Result<(), String>),
}

/// A server that an entry of `replicas` names. No connection is made while it is the primary or does not
/// answer.
#[derive(Clone)]
pub struct Replica {
    entry: usize,
    pool: ReadPool,
    watcher: ReadPool,
}

pub struct Dedicated {
    pub connection: Connection,
    pub commits: Commits,
    pub server: ServerId,
    pub durability: Durability,
}

impl Dedicated {
    pub fn client(&self) -> &Client {
        &self.connection.client
    }
}

impl Primary {
    /// Reads the connection string; connects when first used.
    pub fn new(
        shard: &Shard,
        settings: &PostgresConfig,
        timelines: Timelines,
        expected: Expected,
    ) -> Result<Self, ConnectionStringError> {
        let endpoint = parse(&shard.primary, shard, settings).map_err(|reason| ConnectionStringError {
            shard: shard.name.clone(),
            role: "primary",
            reason,
        })?;
        let servers = Servers::of(&endpoint);
        let readers = servers.clone().with(|config| set_session(config, &read_options(settings)));
        let nothing = Found { server: None, reads: (Instant::now(), Err("starting".to_owned())) };
        let found = Arc::new(Mutex::new(nothing));
        let target = || {
            let chosen = Arc::clone(&found);
            Target::Primary(Arc::new(move || lock(&chosen).server))
        };
        let asking = readers.clone().with(|config| {
            config.application_name("picopay-node status");
        });
        let own = ReadPool::new(asking, &alone(settings), expected.clone(), target());
        let tasks = readers.clone().with(|config| {
            config.application_name("picopay-node tasks");
        });
        let for_tasks = PostgresConfig { read_connections: TASKS, ..settings.clone() };
        let tasks = ReadPool::new(tasks, &for_tasks, expected.clone(), target());
        let pool = ReadPool::new(readers, settings, expected.clone(), target());
        Ok(Self { servers, settings: settings.clone(), timelines, expected, pool, own, tasks, found })
    }

    /// The servers of its connection string, for the keeper, with options for looking only.
    pub fn candidates(&self) -> Servers {
        let options = write_options(&self.settings, Durability::Local);
        self.servers.clone().with(|config| {
            config.application_name("picopay-node gate");
            set_session(config, &options);
        })
    }

    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    pub fn patience(&self) -> Duration {
        self.settings.connect_timeout
    }

    /// This server is the primary from now on.
    ///
    /// # Errors
    /// [`OlderTimeline`], when this process has seen a newer one.
    pub fn use_server(&self, server: ServerId) -> Result<(), OlderTimeline> {
        let admitted = self.timelines.admit(server.timeline)?;
        let before = lock(&self.found).server.replace(server);
        if admitted == Admission::Newer || before.is_some_and(|before| before != server) {
            // They lead to the server that this one replaced.
            self.drop_pools();
        }
        Ok(())
    }

    pub fn forget_server(&self) {
        lock(&self.found).server = None;
    }

    /// A connection to the primary for a task that writes, whose commits wait as `durability` says.
    ///
    /// # Errors
    /// [`ConnectError`], after `connect_timeout` at the latest.
    pub async fn connect(
        &self,
        application_name: &str,
        durability: Durability,
    ) -> Result<Dedicated, ConnectError> {
        let server = lock(&self.found).server.ok_or(ConnectError::NoneKnown)?;
        let mut endpoint = self.servers.at(server.position).clone();
        endpoint.config.application_name(application_name);
        set_session(&mut endpoint.config, &write_options(&self.settings, durability));
        let limit = self.settings.connect_timeout;
        let connection = match ask(&endpoint, limit).await {
            Answer::Stands(connection, standing)
                if standing.writes_on() == Some(server.timeline)
                    && standing.started_us == server.started_us =>
            {
                connection
            }
            Answer::Stands(..) => return Err(ConnectError::Changed),
            Answer::Refused(error) => return Err(error.into()),
            Answer::Unknown(reason) => return Err(ConnectError::Unknown(reason)),
        };
        let checked = async {
            identity::check(&connection.client, &self.expected).await?;
            Ok::<_, ConnectError>(Commits::watch(&connection.client).await.map_err(OpenError::from)?)
        };
        let commits = timeout(limit, checked).await.map_err(|_| OpenError::TimedOut(limit))??;
        Ok(Dedicated { connection, commits, server, durability })
    }

    pub fn is_known(&self) -> bool {
        lock(&self.found).server.is_some()
    }

    pub fn is_in_use(&self, server: ServerId) -> bool {
        lock(&self.found).server == Some(server)
    }

    pub fn note_older(&self, timeline: u32) {
        let _ = self.timelines.admit(timeline);
    }

    pub fn was_replaced(&self, server: ServerId) -> bool {
        self.timelines.is_over(server.timeline)
    }

    pub fn readers(&self) -> &ReadPool {
        &self.pool
    }

    pub async fn asker(&self) -> Result<Lease, PoolError> {
        self.own.lease().await
    }

    /// A connection for the sweeper's and the courier's questions. Apart from [`Primary::asker`]: whoever locks the rows of
    /// holds or transfers stops those, and not the node's status.
    pub async fn for_task(&self) -> Result<Lease, PoolError> {
        self.tasks.lease().await
    }

    /// Drops all pooled connections: they lead to a server that is no longer the primary.
    pub fn drop_pools(&self) {
        self.pool.drop_all();
        self.own.drop_all();
        self.tasks.drop_all();
    }

    /// Whether a read there sees everything acknowledged.
    ///
    /// # Errors
    /// Why this is not known: there is no primary, it does not answer the keeper, or it may have
    /// been replaced.
    pub fn may_read(&self) -> Result<(), String> {
        let found = lock(&self.found);
        let (looked, leave) = &found.reads;
        leave.clone()?;
        if looked.elapsed() > READS_GOOD_FOR {
            return Err("nobody has looked at the primary for some seconds".to_owned());
        }
        Ok(())
    }

    pub fn note_reads(&self, leave: Result<(), String>) {
        lock(&self.found).reads = (Instant::now(), leave);
    }
}

fn lock(found: &Mutex<Found>) -> std::sync::MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replica {
    /// The replicas of a shard, server by server, each once. Connects when first used.
    pub fn all(
        shard: &Shard,
        settings: &PostgresConfig,
        expected: &Expected,
    ) -> Result<Vec<Self>, ConnectionStringError> {
        let mut all: Vec<Self> = Vec::new();
        let mut seen = HashSet::new();
        for (entry, text) in shard.replicas.iter().enumerate() {
            let mut endpoint = parse(text, shard, settings).map_err(|reason| ConnectionStringError {
                shard: shard.name.clone(),
                role: "replica",
                reason,
            })?;
            set_session(&mut endpoint.config, &read_options(settings));
            let is_new = |server: &&Endpoint| seen.insert(address(&server.config));
            for server in Servers::of(&endpoint).iter().filter(is_new) {
                let readers = Servers::of(server);
                let watching = readers.clone().with(|config| {
                    config.application_name("picopay-node lag");
                });
                all.push(Self {
                    entry,
                    pool: ReadPool::new(readers, settings, expected.of_replica(), Target::Replica),
                    watcher: ReadPool::new(
                        watching,
                        &alone(settings),
                        expected.of_replica(),
                        Target::Replica,
                    ),
                });
            }
        }
        Ok(all)
    }

    pub fn entry(&self) -> usize {
        self.entry
    }

    pub fn readers(&self) -> &ReadPool {
        &self.pool
    }

    pub async fn watcher(&self) -> Result<Lease, PoolError> {
        self.watcher.lease().await
    }

    pub fn drop_pools(&self) {
        self.pool.drop_all();
        self.watcher.drop_all();
    }
}

fn alone(settings: &PostgresConfig) -> PostgresConfig {
    PostgresConfig { read_connections: 1, ..settings.clone() }
}

fn parse(text: &str, shard: &Shard, settings: &PostgresConfig) -> Result<Endpoint, String> {
    let mut endpoint = Endpoint::parse(text, &shard.certificates)?;
    let config = &mut endpoint.config;
    if let Some(password) = &shard.password {
        config.password(password.expose());
    }
    // The system's own defaults notice a lost peer after two hours.
    config
        .connect_timeout(settings.connect_timeout)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(2)
        .tcp_user_timeout(Duration::from_secs(3))
        .application_name("picopay-node reads");
    Ok(endpoint)
}

/// Keeps the planner to the one good plan of a batch: each row by its key.
///
/// For a few hundred rows it guesses hash joins and sequential scans for the `unnest` joins, and the write
/// rate falls by two thirds. A table that was empty when it was last analysed looks empty until the next
/// time, so all of it is read for each batch. So the statements themselves (`sql/`) fix the joins: `LATERAL`,
/// with an `OFFSET 0` that the planner does not look through.
pub const WRITE_PLANS: &str = "-c plan_cache_mode=force_generic_plan -c enable_hashjoin=off -c enable_mergejoin=off \
                               -c enable_seqscan=off -c enable_memoize=off -c jit=off";

/// The same for reads, which are batches too. With other plans than the generic one, each batch would be planned
/// anew, which takes as long as two pages of history.
pub const READ_PLANS: &str = "-c plan_cache_mode=force_generic_plan -c enable_hashjoin=off -c enable_mergejoin=off \
                              -c enable_seqscan=off -c enable_memoize=off -c jit=off";

fn write_options(settings: &PostgresConfig, durability: Durability) -> String {
    let synchronous_commit = match durability {
        Durability::Replicated => "on",
        Durability::Local => "local",
    };
    format!(
        "-c lock_timeout={} -c statement_timeout={} -c idle_in_transaction_session_timeout={} \
         -c synchronous_commit={synchronous_commit} {WRITE_PLANS}",
        settings.lock_timeout.as_millis(),
        settings.statement_timeout.as_millis(),
        settings.flight_timeout.as_millis(),
    )
}

fn read_options(settings: &PostgresConfig) -> String {
    format!("-c statement_timeout={} {READ_PLANS}", settings.statement_timeout.as_millis())
}
