//! Connections to the shard's Postgres: the primary and its replicas, as two types, so that only functions for
//! which a stale answer is right can be given a replica.
//!
//! Every wait has a bound. `connect_timeout` of the driver covers the TCP connect only, so the whole of it is
//! wrapped; a frozen server would otherwise hang a client for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{PoolError, TimeoutType};
use futures_util::future::poll_fn;
use picopay_shared::cluster::{Durability, Shard};
use picopay_shared::config::Secret;
use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

use crate::config::PostgresConfig;
use crate::read_pool::ReadPool;
use crate::servers::Servers;
use crate::store;
use crate::timeline::{Admitted, OlderTimeline, Timelines};

/// A connection string that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard}: the connection string of its {role} is wrong: {source}")]
pub struct ConnectionStringError {
    shard: String,
    role: &'static str,
    source: tokio_postgres::Error,
}

/// No connection in time.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answered within `connect_timeout`.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// Postgres refused, or is not there.
    #[error("no connection: {}", describe(.0))]
    Failed(#[from] tokio_postgres::Error),
    /// It takes writes, and should not any more.
    #[error(transparent)]
    Replaced(#[from] OlderTimeline),
    /// None of several servers, for these reasons.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoneOf(Vec<ConnectError>),
}

/// The cause of a driver error in one line; its own `Display` is only "db error".
pub fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(cause) => format!("{} (SQLSTATE {})", cause.message(), cause.code().code()),
        None => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

/// Whether this error says that the connection, and so the pool it came from, leads to the wrong server or
/// nowhere: read-only (a demoted primary), shutting down, crashed, starting up, or simply gone.
pub fn is_server_lost(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        None => true,
        Some(code) => {
            *code == SqlState::READ_ONLY_SQL_TRANSACTION
                || *code == SqlState::ADMIN_SHUTDOWN
                || *code == SqlState::CRASH_SHUTDOWN
                || *code == SqlState::CANNOT_CONNECT_NOW
                || code.code().starts_with("08")
        }
    }
}

/// The same for a pool that has no connection to give. When all are in use, the server is busy and not lost.
pub fn is_pool_lost(error: &PoolError) -> bool {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => false,
        PoolError::Backend(error) => is_server_lost(error),
        _ => true,
    }
}

/// The shard's primary.
#[derive(Clone)]
pub struct Primary {
    servers: Servers,
    settings: PostgresConfig,
    timelines: Timelines,
    pool: ReadPool,
    is_silent: Arc<AtomicBool>,
}

/// One of the shard's replicas.
#[derive(Clone)]
pub struct Replica {
    pool: ReadPool,
    /// One connection to the same server, which no read takes.
    watcher: ReadPool,
}

/// A connection of its own, for a task that writes, with an ear for the warnings that the server sends.
pub struct Dedicated {
    /// To send statements.
    pub client: Client,
    /// The timeline that the server writes. It stays: a promotion begins one, and ends every connection.
    pub timeline: u32,
    /// Whom its commits wait for.
    pub durability: Durability,
    warned: Arc<AtomicBool>,
}

impl Dedicated {
    /// Forgets the warnings so far.
    pub fn clear_warnings(&self) {
        self.warned.store(false, Ordering::Relaxed);
    }

    /// Whether the server warned since. A COMMIT whose wait for the standby was cancelled reports success
    /// and such a warning: it is not replicated.
    pub fn was_warned(&self) -> bool {
        self.warned.load(Ordering::Relaxed)
    }
}

impl Primary {
    /// Reads the connection string; connects when first asked to.
    pub fn new(
        shard: &Shard,
        settings: &PostgresConfig,
        timelines: Timelines,
    ) -> Result<Self, ConnectionStringError> {
        let mut config = parse(&shard.primary, shard.password.as_ref(), settings)
            .map_err(|source| ConnectionStringError { shard: shard.name.clone(), role: "primary", source })?;
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        let servers = Servers::of(&config);
        let readers = servers.clone().with(|config| add_options(config, &read_options(settings)));
        let pool = ReadPool::new(readers, settings, Some(timelines.clone()));
        Ok(Self { servers, settings: settings.clone(), timelines, pool, is_silent: Arc::default() })
    }

    /// A connection for a task that writes, whose commits wait as `durability` says. Of several servers, the one that takes
    /// writes, on no older timeline than was seen before.
    ///
    /// # Errors
    /// [`ConnectError`], when `connect_timeout` for each of the servers is over at the latest.
    pub async fn connect(
        &self,
        application_name: &str,
        durability: Durability,
    ) -> Result<Dedicated, ConnectError> {
        let options = write_options(&self.settings, durability);
        let limit = self.settings.connect_timeout;
        let mut failed = Vec::new();
        for (position, config) in self.servers.in_order() {
            let mut config = config.clone();
            config.application_name(application_name);
            add_options(&mut config, &options);
            match timeout(limit, self.connect_to(&config, durability)).await {
                Ok(Ok(connection)) => {
                    self.servers.prefer(position);
                    return Ok(connection);
                }
                Ok(Err(error)) => failed.push(error),
                Err(_) => failed.push(ConnectError::TimedOut(limit)),
            }
        }
        Err(if failed.len() == 1 { failed.remove(0) } else { ConnectError::NoneOf(failed) })
    }

    async fn connect_to(&self, config: &Config, durability: Durability) -> Result<Dedicated, ConnectError> {
        let (client, mut connection) = config.connect(NoTls).await?;
        let warned = Arc::new(AtomicBool::new(false));
        let ear = Arc::clone(&warned);
        tokio::spawn(async move {
            // Ends with the connection: when the client is dropped, or the server is gone. Whoever waits for
            // an answer on it is told by the driver.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message {
                    if notice.severity() == "WARNING" {
                        ear.store(true, Ordering::Relaxed);
                    }
                    tracing::debug!(severity = notice.severity(), "postgres: {}", notice.message());
                }
            }
        });
        let timeline = store::read_timeline(&client).await?;
        if self.timelines.admit(timeline)? == Admitted::Newer {
            // They lead to a server that has been replaced by this one.
            self.drop_pool();
        }
        Ok(Dedicated { client, timeline, durability, warned })
    }

    /// Whether the server behind this connection was replaced since, as another connection has found.
    pub fn was_replaced(&self, connection: &Dedicated) -> bool {
        self.timelines.is_over(connection.timeline)
    }

    /// A pooled connection for a read.
    pub async fn reader(&self) -> Result<deadpool_postgres::Client, PoolError> {
        self.pool.get().await
    }

    /// Lets all pooled connections go: they lead to a server that is no primary any more.
    pub fn drop_pool(&self) {
        self.pool.drop_all();
    }

    /// Whether the keeper of the write gate, who asks it every second, was not answered last. Reads need not find out
    /// for themselves then, each after its own time-out.
    pub fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// The keeper's finding.
    pub fn note_silence(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::Relaxed);
    }
}

impl Replica {
    /// Reads the connection strings of all replicas of a shard; connects when first asked to.
    pub fn all(shard: &Shard, settings: &PostgresConfig) -> Result<Vec<Self>, ConnectionStringError> {
        shard
            .replicas
            .iter()
            .map(|text| {
                let mut config = parse(text, shard.password.as_ref(), settings).map_err(|source| {
                    ConnectionStringError { shard: shard.name.clone(), role: "replica", source }
                })?;
                // Of several servers, the one that is no primary now: roles change at a failover.
                config.target_session_attrs(TargetSessionAttrs::ReadOnly);
                add_options(&mut config, &read_options(settings));
                let servers = Servers::of(&config);
                let watching = servers.clone().with(|config| {
                    config.application_name("picopay-node lag");
                });
                let alone = PostgresConfig { read_connections: 1, ..settings.clone() };
                Ok(Self {
                    pool: ReadPool::new(servers, settings, None),
                    watcher: ReadPool::new(watching, &alone, None),
                })
            })
            .collect()
    }

    /// A pooled connection for a read.
    pub async fn reader(&self) -> Result<deadpool_postgres::Client, PoolError> {
        self.pool.get().await
    }

    /// The connection of whoever watches how far it is.
    pub async fn watcher(&self) -> Result<deadpool_postgres::Client, PoolError> {
        self.watcher.get().await
    }

    /// Lets all pooled connections for reads go.
    pub fn drop_pool(&self) {
        self.pool.drop_all();
    }

    /// Lets all connections go, the watcher's too.
    pub fn drop_pools(&self) {
        self.pool.drop_all();
        self.watcher.drop_all();
    }
}

fn parse(
    text: &str,
    password: Option<&Secret>,
    settings: &PostgresConfig,
) -> Result<Config, tokio_postgres::Error> {
    let mut config: Config = text.parse()?;
    if let Some(password) = password {
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
    Ok(config)
}

fn add_options(config: &mut Config, more: &str) {
    let options = match config.get_options() {
        Some(given) => format!("{given} {more}"),
        None => more.to_owned(),
    };
    config.options(options);
}

/// What keeps the planner to the one good plan of a batch, whatever it believes of the tables: each row by its key.
///
/// For a few hundred rows it guesses hash joins and sequential scans for the `unnest` joins, and the write rate falls by
/// two thirds. And of a table that was empty or small when it was last looked at, it believes that it still is: it reads
/// all of it for each batch, by an index when that is the only way left, until somebody looks again. So the statements
/// themselves (`sql/`) say what is found for what: `LATERAL`, with an `OFFSET 0` that the planner does not look through.
pub const WRITE_PLANS: &str = "-c plan_cache_mode=force_generic_plan -c enable_hashjoin=off -c enable_mergejoin=off \
                               -c enable_seqscan=off -c enable_memoize=off -c jit=off";

/// The same for reads, which look for the rows of one user. Their first plans see values, and know which are `NULL`.
pub const READ_PLANS: &str = "-c enable_seqscan=off -c jit=off";

/// Of a session that writes batches.
fn write_options(settings: &PostgresConfig, durability: Durability) -> String {
    let synchronous_commit = match durability {
        Durability::Replicated => "on",
        Durability::Local => "local",
    };
    format!(
        "-c lock_timeout={} -c statement_timeout={} -c idle_in_transaction_session_timeout={} \
         -c synchronous_commit={synchronous_commit} -c default_transaction_isolation=read\\ committed {WRITE_PLANS}",
        settings.lock_timeout.as_millis(),
        settings.statement_timeout.as_millis(),
        settings.flight_timeout.as_millis(),
    )
}

/// Of a session that reads. Not `default_transaction_read_only`: the check for read-write would take the primary for a
/// replica.
fn read_options(settings: &PostgresConfig) -> String {
    format!("-c statement_timeout={} {READ_PLANS}", settings.statement_timeout.as_millis())
}
