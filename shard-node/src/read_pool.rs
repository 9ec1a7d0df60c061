//! Connections for reads, to the server with the wanted role.
//!
//! All of a pool is dropped when one of its connections leads to the wrong server, or nowhere. The others
//! lead to the same server, also those in use.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Pool, PoolConfig, PoolError, RecyclingMethod, Runtime,
    Timeouts,
};
use futures_util::future::{BoxFuture, FutureExt};
use picopay_postgres::{Answer, OpenError, Servers, Tls, ask};
use picopay_shard_node_config::PostgresConfig;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error};

use crate::identity::{self, Expected, Unfit};
use crate::server_id::ServerId;

mod lease;
pub use lease::Lease;

/// Failures in a row after which the server counts as lost, rather than a statement as slow.
const FAILURES_MAX: u32 = 3;

#[derive(Clone)]
pub struct ReadPool {
    pool: Pool,
    tls: Tls,
    /// Connections from before are not used any more.
    dropped: Arc<Mutex<Option<Instant>>>,
    failures: Arc<AtomicU32>,
}

pub enum Target {
    /// The server that the gate's keeper has found to be the primary, if there is one now.
    Primary(Arc<dyn Fn() -> Option<ServerId> + Send + Sync>),
    /// A server in recovery: roles change at a failover.
    Replica,
}

impl ReadPool {
    pub fn new(servers: Servers, settings: &PostgresConfig, expected: Expected, target: Target) -> Self {
        let dropped: Arc<Mutex<Option<Instant>>> = Arc::default();
        let last_drop = Arc::clone(&dropped);
        let is_stale = Hook::sync_fn(move |_, metrics| {
            let dropped = *last_drop.lock().unwrap_or_else(PoisonError::into_inner);
            match dropped {
                Some(dropped) if metrics.created <= dropped => Err(HookError::message("the pool was let go")),
                _ => Ok(()),
            }
        });
        // For the last of several silent servers, and for a slow login.
        let create = settings.connect_timeout * u32::try_from(servers.count() + 1).unwrap_or(u32::MAX);
        let tls = servers.at(0).tls.clone();
        let connect = PoolConnect {
            servers,
            patience: settings.connect_timeout,
            expected,
            target,
            served_last: AtomicUsize::default(),
        };
        // `Fast` returns a connection to a frozen server, so every read has its own limit and drops the pool
        // when it is passed. `Verified` would cost each read a round trip.
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool_config = PoolConfig {
            max_size: settings.read_connections,
            timeouts: Timeouts {
                wait: Some(settings.pool_wait),
                create: Some(create),
                recycle: Some(settings.pool_wait),
            },
            ..PoolConfig::default()
        };
        let pool = Pool::builder(Manager::from_connect(Config::new(), connect, manager_config))
            .config(pool_config)
            .runtime(Runtime::Tokio1)
            .pre_recycle(is_stale)
            .build()
            .expect("a pool with a runtime can have timeouts");
        Self { pool, tls, dropped, failures: Arc::default() }
    }

    /// A connection.
    ///
    /// # Errors
    /// [`PoolError`] when none is free in time, or none can be made.
    pub async fn lease(&self) -> Result<Lease, PoolError> {
        self.pool.get().await.map(|client| Lease::of(client, &self.tls))
    }

    pub fn note_success(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// A read failed. Returns whether the server counts as lost: at once if the read found that, else after
    /// some failures in a row, because one slow statement proves nothing. Then all connections are dropped.
    pub fn note_failure(&self, is_lost: bool) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let gives_up = is_lost || failures >= FAILURES_MAX;
        if gives_up {
            self.failures.store(0, Ordering::Relaxed);
            self.drop_all();
        }
        gives_up
    }

    pub fn drop_all(&self) {
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.pool.retain(|_, _| false);
    }
}

struct PoolConnect {
    servers: Servers,
    patience: Duration,
    expected: Expected,
    target: Target,
    served_last: AtomicUsize,
}

impl PoolConnect {
    /// The positions to try, in order, with the server that must be there, or `None` for any in recovery.
    fn wanted(&self) -> Vec<(usize, Option<ServerId>)> {
        match &self.target {
            Target::Primary(found) => {
                found().map(|server| (server.position, Some(server))).into_iter().collect()
            }
            Target::Replica => {
                let (first, count) = (self.served_last.load(Ordering::Relaxed), self.servers.count());
                (0..count).map(|step| ((first + step) % count, None)).collect()
            }
        }
    }
}

impl Connect for PoolConnect {
    /// The servers' own configurations are used, not the manager's.
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        async move {
            let mut failed = None;
            for (position, wanted) in self.wanted() {
                match ask(self.servers.at(position), self.patience).await {
                    Answer::Stands(connection, standing) => {
                        let is_right = match wanted {
                            Some(server) => {
                                standing.writes_on() == Some(server.timeline)
                                    && standing.started_us == server.started_us
                            }
                            None => standing.timeline.is_none(),
                        };
                        if !is_right {
                            continue;
                        }
                        match identity::check(&connection.client, &self.expected).await {
                            Ok(_) => {
                                self.served_last.store(position, Ordering::Relaxed);
                                return Ok(connection.into_parts());
                            }
                            Err(Unfit::Lost(error)) => failed = Some(error),
                            Err(Unfit::WrongDatabase(_) | Unfit::NoCluster | Unfit::Schema(_)) => {}
                        }
                    }
                    Answer::Refused(OpenError::Failed(error)) => failed = Some(error),
                    Answer::Refused(OpenError::TimedOut(_)) | Answer::Unknown(_) => {}
                }
            }
            match failed {
                Some(error) => Err(error),
                // No server returned an error, and only the driver can make one. The pool's own limit ends
                // this wait.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}
