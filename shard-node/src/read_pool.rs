//! Connections for reads, to the one of several servers that has the role that is asked for.
//!
//! A pool is let go as a whole when one of its connections turns out to lead to the wrong server, or nowhere: the others
//! lead to the same, those included that are in use and come back later.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Pool, PoolConfig, PoolError, RecyclingMethod, Runtime,
    Timeouts,
};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::config::PostgresConfig;
use crate::identity::{self, Expected, Unfit};
use crate::servers::Servers;
use crate::store;
use crate::timeline::Timelines;

/// Connections for reads. Clones share them.
#[derive(Clone)]
pub struct ReadPool {
    pool: Pool,
    /// Connections from before are not used any more.
    dropped: Arc<Mutex<Option<Instant>>>,
}

impl ReadPool {
    /// Connects when first asked to. With `timelines`, only to a server whose timeline is not older than theirs.
    pub fn new(
        servers: Servers,
        settings: &PostgresConfig,
        expected: Expected,
        timelines: Option<Timelines>,
    ) -> Self {
        let dropped: Arc<Mutex<Option<Instant>>> = Arc::default();
        let last_drop = Arc::clone(&dropped);
        let is_stale = Hook::sync_fn(move |_, metrics| {
            let dropped = *last_drop.lock().unwrap_or_else(PoisonError::into_inner);
            match dropped {
                Some(dropped) if metrics.created <= dropped => Err(HookError::message("the pool was let go")),
                _ => Ok(()),
            }
        });
        // For the last of several silent servers, and for a login that takes its time.
        let create = settings.connect_timeout * u32::try_from(servers.count() + 1).unwrap_or(u32::MAX);
        let connect = PoolConnect { servers, patience: settings.connect_timeout, expected, timelines };
        // `Fast` hands out a connection to a frozen server, so every read has its own bound and lets the pool go when
        // it is passed. `Verified` would cost each read a round trip.
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
        Self { pool, dropped }
    }

    /// A connection.
    ///
    /// # Errors
    /// [`PoolError`] when none is free in time, or none can be made.
    pub async fn get(&self) -> Result<deadpool_postgres::Client, PoolError> {
        self.pool.get().await
    }

    /// Lets all connections go.
    pub fn drop_all(&self) {
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.pool.retain(|_, _| false);
    }
}

/// Connects to the first server that answers within `patience` and has the role that its configuration asks for.
struct PoolConnect {
    servers: Servers,
    patience: Duration,
    expected: Expected,
    timelines: Option<Timelines>,
}

impl PoolConnect {
    /// `Ok(None)` when the server is on an older timeline, or its database is not what it is taken for.
    async fn connect_to(&self, config: &Config) -> Result<Option<(Client, JoinHandle<()>)>, Error> {
        let (client, connection) = config.connect(NoTls).await?;
        // Whoever uses the connection sees at the next statement that it is gone.
        let driver = tokio::spawn(connection.map(drop));
        match identity::check(&client, &self.expected).await {
            Ok(_) => {}
            Err(Unfit::Lost(error)) => return Err(error),
            Err(Unfit::WrongDatabase(_) | Unfit::NoCluster | Unfit::Schema(_)) => return Ok(None),
        }
        if let Some(timelines) = &self.timelines {
            let timeline = store::read_timeline(&client).await?;
            return Ok(timelines.admit(timeline).is_ok().then_some((client, driver)));
        }
        Ok(Some((client, driver)))
    }
}

impl Connect for PoolConnect {
    /// The servers' own configurations are used, not the manager's.
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        async move {
            let mut failed = None;
            for (position, config) in self.servers.in_order() {
                match timeout(self.patience, self.connect_to(config)).await {
                    Ok(Ok(Some(connected))) => {
                        self.servers.prefer(position);
                        return Ok(connected);
                    }
                    Ok(Err(error)) => failed = Some(error),
                    Ok(Ok(None)) | Err(_) => {}
                }
            }
            match failed {
                Some(error) => Err(error),
                // None was there to say an error, and only the driver can make one. The pool's own bound ends this wait.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}
