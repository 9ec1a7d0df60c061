//! One database of a shard, as the operator's command and the mover talk to it: every wait is bounded here, and whatever
//! goes wrong is one line that names the database.
//!
//! A frozen server accepts a connection and never answers; `connect_timeout` alone does not notice. So the
//! whole connect and each statement stand under a timeout of this program's own. A node has connections of its own
//! (`shard-node/src/db.rs`), whose waits are a batch's.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use picopay_migrations::{MigrationError, Progress, Schema, Unfit};
use picopay_shared::cluster::Shard;
use picopay_shared::node_status::Degradation;
use picopay_shared::slot_owner::OwnerRow;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement, ToStatement};
use uuid::Uuid;

use crate::commit::{CommitError, Commits};
use crate::connection::Connection;
use crate::db_error::{DbError, Place};
use crate::degradation;
use crate::error::describe_with_detail as reason;
use crate::servers::{Servers, address, addresses_of};
use crate::session::set_session;
use crate::slot_owner::{READ_OWNERS, owner_from_row};
use crate::standing::{Answer, Standing, ask_all};
use crate::tls::Endpoint;

mod copy;

/// How long a command waits for a database before it gives up on it.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connect to one host: login and the check for a writable server included.
    pub connect: Duration,
    pub statement: Duration,
}

/// How long unacknowledged data may stand on a connection before it counts as dead: short of what makes an
/// operator press Ctrl-C, long enough for a lossy line.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer that is gone is noticed after nine seconds, also while a statement runs for long. The system's own defaults take two
/// hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 2;

/// How long a goodbye may take. Nothing depends on it.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(200);

/// A connection to one database of a shard, on which no statement waits for ever.
pub struct ShardDb {
    connection: Connection,
    /// None at a replica, which commits nothing.
    commits: Option<Commits>,
    place: Place,
    statement_timeout: Duration,
    copies: copy::Prepared,
}

impl ShardDb {
    /// Connects to the primary: of all servers that take writes, the one on the highest timeline. Another one was replaced
    /// and does not know it. Nor is one used that is of another cluster than the cluster's file names, or made for a newer
    /// release.
    pub async fn primary(shard: &Shard, patience: Patience) -> Result<Self, DbError> {
        let database = Self::primary_of_anybody(shard, patience).await?;
        let schema = database.bounded(Schema::read(&database.connection.client), "").await?;
        if let Err(too_new @ Unfit::TooNew { .. }) = schema.check() {
            return Err(database.unfit(too_new.to_string()));
        }
        if let Some(expected) = shard.cluster_id
            && schema != Schema::default()
        {
            let found = database.read_cluster_id().await?.filter(|found| *found != expected);
            if let Some(found) = found {
                return Err(database.unfit(format!(
                    "it is of cluster {found}, and the cluster's file is of {expected} (cluster_id): does its connection \
                     string lead to another environment? Nothing was changed"
                )));
            }
        }
        Ok(database)
    }

    /// The same for a command that only looks, and says what is wrong with what it finds.
    pub async fn primary_of_anybody(shard: &Shard, patience: Patience) -> Result<Self, DbError> {
        let role = format!("primary of {}", shard.name);
        let rank = |standing: &Standing| standing.writes_on();
        Self::connect(&role, shard, &shard.primary, rank, patience).await
    }

    /// Connects to the replica with this connection string: of several servers, one in recovery. One that is named alone is
    /// looked at whatever it does, so that it can be said what is wrong with it.
    pub async fn replica(
        shard: &Shard,
        connection_string: &str,
        patience: Patience,
    ) -> Result<Self, DbError> {
        let role = format!("replica of {}", shard.name);
        let is_one_of_several = addresses_of(connection_string).is_ok_and(|addresses| addresses.len() > 1);
        let rank = |standing: &Standing| (!is_one_of_several || standing.timeline.is_none()).then_some(0);
        Self::connect(&role, shard, connection_string, rank, patience).await
    }

    /// Connects to the server of the highest `rank`, the first of them in the order of the connection string. Those without
    /// one are not what is looked for.
    async fn connect(
        role: &str,
        shard: &Shard,
        connection_string: &str,
        rank: impl Fn(&Standing) -> Option<u32>,
        patience: Patience,
    ) -> Result<Self, DbError> {
        let mut endpoint = Endpoint::parse(connection_string, &shard.certificates)
            .map_err(|reason| DbError::ConnectionString { place: Place(role.to_owned()), reason })?;
        let config = &mut endpoint.config;
        if let Some(password) = &shard.password {
            config.password(password.expose());
        }
        config
            .application_name("picopay")
            .connect_timeout(patience.connect)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        set_session(config, "");
        let servers = Servers::of(&endpoint);
        let addresses: Vec<String> = servers.iter().map(|server| address(&server.config)).collect();
        let (mut best, mut reasons): (Option<(u32, Connection, Standing, &String)>, _) = (None, Vec::new());
        for (answer, address) in ask_all(&servers, patience.connect).await.into_iter().zip(&addresses) {
            let why_not = match answer {
                Answer::Stands(connection, standing) => match rank(&standing) {
                    Some(rank) => {
                        if best.as_ref().is_none_or(|(highest, ..)| rank > *highest) {
                            best = Some((rank, connection, standing, address));
                        }
                        continue;
                    }
                    None if standing.timeline.is_some() && standing.is_read_only => {
                        "it is configured to take no writes".to_owned()
                    }
                    None => {
                        format!("it is a {}", if standing.timeline.is_some() { "primary" } else { "replica" })
                    }
                },
                Answer::Refused(error) => error.to_string(),
                Answer::Unknown(reason) => reason,
            };
            reasons.push(if servers.count() == 1 { why_not } else { format!("{address}: {why_not}") });
        }
        let unreachable = |reason| {
            let place = Place(format!("{role} ({})", addresses.join(", ")));
            DbError::Unreachable { place, reason }
        };
        let Some((_, connection, standing, address)) = best else {
            return Err(unreachable(reasons.join("; ")));
        };
        let commits = if standing.timeline.is_some() {
            let watched = timeout(patience.connect, Commits::watch(&connection.client)).await;
            let watched =
                watched.map_err(|_| unreachable(format!("no answer within {:?}", patience.connect)))?;
            Some(watched.map_err(|error| unreachable(reason(&error)))?)
        } else {
            None
        };
        let place = Place(format!("{role} ({address})"));
        let copies = copy::Prepared::default();
        Ok(Self { connection, commits, place, statement_timeout: patience.statement, copies })
    }

    pub async fn require_schema(&self) -> Result<(), DbError> {
        self.check_schema().await?.map_err(|unfit| self.unfit(unfit.to_string()))
    }

    pub async fn check_schema(&self) -> Result<Result<(), Unfit>, DbError> {
        Ok(self.bounded(Schema::read(&self.connection.client), "").await?.check())
    }

    /// Whether the shard is degraded, as its database says. The migration that brings the table must have been applied.
    pub async fn read_degradation(&self) -> Result<Option<Degradation>, DbError> {
        self.bounded(degradation::read(&self.connection.client), "").await
    }

    /// What the shard says of every slot that it has to do with, in the order of slots: as of now, or as of the database
    /// transaction that was begun here.
    pub async fn read_owners(&self) -> Result<Vec<OwnerRow>, DbError> {
        let rows = self.query(READ_OWNERS, &[]).await?;
        rows.iter().map(|row| owner_from_row(row).map_err(|bad| self.unfit(bad.to_string()))).collect()
    }

    async fn read_cluster_id(&self) -> Result<Option<Uuid>, DbError> {
        match self.query("SELECT cluster_id FROM shard_identity", &[]).await {
            Ok(rows) => Ok(rows.first().map(|row| row.get(0))),
            Err(DbError::Failed { code: Some(code), .. }) if code == SqlState::UNDEFINED_TABLE => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn unfit(&self, reason: String) -> DbError {
        DbError::Unfit { place: self.place.clone(), reason }
    }

    pub async fn prepare(&self, sql: &str) -> Result<Statement, DbError> {
        self.bounded(self.connection.client.prepare(sql), "").await
    }

    /// Runs `sql`, a text or what [`Self::prepare`] made of one, and gives its rows.
    pub async fn query<T: ?Sized + ToStatement>(
        &self,
        sql: &T,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DbError> {
        self.bounded(self.connection.client.query(sql, params), "").await
    }

    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, DbError> {
        self.bounded(self.connection.client.query_one(sql, params), "").await
    }

    /// Runs `sql` and hands its rows over one by one, so that any number of them fits in memory: the server is
    /// read no faster than `each` takes them.
    pub async fn for_each_row(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        mut each: impl FnMut(&Row),
    ) -> Result<(), DbError> {
        let read = async {
            let rows = self.connection.client.query_raw(sql, params.iter().copied()).await?;
            let mut rows = pin!(rows);
            while let Some(row) = rows.try_next().await? {
                each(&row);
            }
            Ok(())
        };
        self.bounded(read, "").await
    }

    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, DbError> {
        self.bounded(self.connection.client.execute(sql, params), "").await
    }

    pub async fn execute_all(&self, sql: &str) -> Result<(), DbError> {
        self.bounded(self.connection.client.batch_execute(sql), "").await
    }

    /// Commits what was begun with [`Self::execute_all`].
    ///
    /// # Errors
    /// [`DbError`]; whether it is committed is then unknown.
    pub async fn commit(&self) -> Result<(), DbError> {
        let hint = " to COMMIT: it may be done or not; is the synchronous standby up?";
        let Some(commits) = &self.commits else {
            let reason = "a replica commits nothing".to_owned();
            return Err(DbError::Failed { place: self.place.clone(), reason, code: None });
        };
        self.connection.take_warning();
        let committed = self.bounded(commits.commit(&self.connection.client), hint).await?;
        match commits.judge(&self.connection, committed, self.statement_timeout).await {
            Ok(_) => Ok(()),
            Err(CommitError::Failed(error)) => Err(self.failed(&error)),
            Err(error @ (CommitError::Cancelled(_) | CommitError::Unconfirmed)) => Err(DbError::Failed {
                place: self.place.clone(),
                reason: format!("COMMIT may be done or not: {error}"),
                code: None,
            }),
        }
    }

    /// A commit of its own, which stands behind everything in the log that was visible before: once it is acknowledged,
    /// so is all of that. In a session with `synchronous_commit = on`.
    ///
    /// # Errors
    /// [`DbError`]; nothing is known then.
    pub async fn confirm(&self) -> Result<(), DbError> {
        self.execute_all("BEGIN").await?;
        self.query("SELECT pg_logical_emit_message(true, 'picopay', 'confirm')", &[]).await?;
        self.commit().await
    }

    pub fn is_closed(&self) -> bool {
        self.connection.client.is_closed()
    }

    /// Brings the schema of the shard's primary up to date, on connections of its own, and gives the names of the migrations
    /// that it took.
    ///
    /// # Errors
    /// [`DbError`]; the schema is then as after the last migration that succeeded.
    pub async fn migrate(
        shard: &Shard,
        connect: Patience,
        patience: picopay_migrations::Patience,
        tell: &mut (dyn FnMut(Progress) + Send + Sync),
    ) -> Result<Vec<String>, DbError> {
        let (database, watcher) =
            tokio::try_join!(Self::primary(shard, connect), Self::primary_of_anybody(shard, connect))?;
        let (client, watching) = (&database.connection.client, &watcher.connection.client);
        let all = picopay_migrations::all();
        let applied = picopay_migrations::apply(client, watching, &all, patience, tell);
        let failed = |reason| DbError::Failed { place: database.place.clone(), reason, code: None };
        let applied = applied.await.map_err(|error| {
            failed(match &error {
                MigrationError::Failed { source, .. } => format!("{error}: {}", reason(source)),
                _ => error.to_string(),
            })
        })?;
        // What let a wait for the standby go is found here at the latest: a failover could bring the old schema back.
        if !applied.is_empty() {
            if let Some(warning) = database.connection.take_warning() {
                return Err(failed(format!("{} may be on one machine only: {warning}", applied.join(", "))));
            }
            database.confirm().await?;
        }
        tokio::join!(database.close(), watcher.close());
        Ok(applied)
    }

    /// Records that no program from before this one's newest migration is left, nor comes back. Returns whether that is new.
    ///
    /// # Errors
    /// [`DbError`]; what was not committed on two machines may be done or not.
    pub async fn finish(&self) -> Result<bool, DbError> {
        let newest = picopay_migrations::newest_known();
        self.execute_all("BEGIN").await?;
        let raise = "UPDATE schema_version SET oldest_known = $1 WHERE oldest_known < $1";
        let raised = self.execute(raise, &[&newest]).await?;
        self.commit().await?;
        Ok(raised > 0)
    }

    /// Whether that is recorded.
    pub async fn is_finished(&self) -> Result<bool, DbError> {
        let row = self.query_one("SELECT oldest_known FROM schema_version", &[]).await?;
        Ok(row.get::<_, i32>(0) >= picopay_migrations::newest_known())
    }

    /// Says goodbye, so that the server does not log a client that was lost.
    pub async fn close(self) {
        self.connection.close(GOODBYE_TIMEOUT).await;
    }

    async fn bounded<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
        hint: &'static str,
    ) -> Result<T, DbError> {
        let after = self.statement_timeout;
        let answered = timeout(after, statement).await;
        answered
            .map_err(|_| DbError::Timeout { place: self.place.clone(), after, hint })?
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &tokio_postgres::Error) -> DbError {
        DbError::Failed { place: self.place.clone(), reason: reason(error), code: error.code().cloned() }
    }
}
