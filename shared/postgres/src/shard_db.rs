//! Every SQL connection of this command is made here, and every wait for one is bounded here.
//!
//! A frozen server accepts a connection and never answers; `connect_timeout` alone does not notice. So the
//! whole connect and each statement stand under a timeout of this program's own.

use std::fmt;
use std::mem;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, SinkExt as _, TryStreamExt as _};
use picopay_migrations::{MigrationError, Progress, Schema, Unfit};
use picopay_postgres::{
    Answer, CommitError, Commits, Connection, Servers, Standing, address, ask_all,
    describe_with_detail as reason, parse, set_session,
};
use picopay_shared::cluster::Shard;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CopyOutStream, Row, Statement, ToStatement};
use uuid::Uuid;

use crate::pace::Pace;

/// How long a command waits for a database before it gives up on it.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connect to one host: login and the check for a writable server included.
    pub connect: Duration,
    /// For one statement's answer.
    pub statement: Duration,
}

/// How long unacknowledged data may stand on a connection before it counts as dead: short of what makes an
/// operator press Ctrl-C, long enough for a lossy line.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// What is sent at once of a copy. Rows come one by one, and to send them so costs a message and a wake-up each.
/// A server has a third of a millisecond of work with so many; with more, whoever shares its processor waits that much longer.
const COPY_CHUNK: usize = 16 * 1024;
/// Room for one more row, as most are.
const COPY_ROW: usize = 1024;
/// Rows after which a copy that is only read looks whether it is ahead of its pace: about as many as a chunk has.
const PACED_ROWS: u64 = 64;

/// A peer that is gone is noticed after nine seconds, also while a statement runs for long. The system's own defaults take two
/// hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 2;

/// How long a goodbye may take. Nothing depends on it.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(200);

/// Which database of a shard, for messages: it never holds a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What went wrong between this command and a database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The connection string cannot be read.
    #[error("{place}: the connection string is wrong: {reason}")]
    ConnectionString {
        /// Which database.
        place: Place,
        /// What the parser says.
        reason: String,
    },
    /// No connection was made.
    #[error("{place}: cannot connect: {reason}")]
    Unreachable {
        /// Which database.
        place: Place,
        /// Why.
        reason: String,
    },
    /// A statement failed.
    #[error("{place}: {reason}")]
    Failed {
        /// Which database.
        place: Place,
        /// What the server says.
        reason: String,
        /// Its code, if it was the server that said it.
        code: Option<SqlState>,
    },
    /// It is not the database that it is taken for, or not one that this program can serve.
    #[error("{place}: {reason}")]
    Unfit {
        /// Which database.
        place: Place,
        /// Why, and what to do about it.
        reason: String,
    },
    /// A statement was not answered in time.
    #[error("{place}: no answer in {} s{hint}", .after.as_secs())]
    Timeout {
        /// Which database.
        place: Place,
        /// After how long.
        after: Duration,
        /// What it may be.
        hint: &'static str,
    },
}

impl DbError {
    /// Whether a lock was not to be had within `lock_timeout`. The database transaction is rolled back then, and the
    /// connection as good as before.
    pub fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Failed { code: Some(code), .. } if *code == SqlState::LOCK_NOT_AVAILABLE)
    }
}

/// A connection to one database of a shard, on which no statement waits for ever.
pub struct ShardDb {
    connection: Connection,
    /// None at a replica, which commits nothing.
    commits: Option<Commits>,
    place: Place,
    statement_timeout: Duration,
}

impl ShardDb {
    /// Connects to the primary: of all servers that take writes, the one on the highest timeline. Another one was replaced
    /// and does not know it. Nor is one used that is of another cluster than the cluster's file names, or made for a newer
    /// release.
    ///
    /// # Errors
    /// [`DbError`], when the patience is at an end at the latest.
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
    ///
    /// # Errors
    /// [`DbError`], when the patience is at an end at the latest.
    pub async fn primary_of_anybody(shard: &Shard, patience: Patience) -> Result<Self, DbError> {
        let role = format!("primary of {}", shard.name);
        let rank = |standing: &Standing| standing.writes_on();
        Self::connect(&role, shard, &shard.primary, rank, patience).await
    }

    /// Connects to the replica with this connection string: of several servers, one in recovery. One that is named alone is
    /// looked at whatever it does, so that it can be said what is wrong with it.
    ///
    /// # Errors
    /// [`DbError`], when the patience is at an end at the latest.
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
        let mut config = parse(connection_string)
            .map_err(|reason| DbError::ConnectionString { place: Place(role.to_owned()), reason })?;
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
        set_session(&mut config, "");
        let servers = Servers::of(&config);
        let addresses: Vec<String> = servers.iter().map(address).collect();
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
        Ok(Self { connection, commits, place, statement_timeout: patience.statement })
    }

    /// Refuses a database whose schema lacks what this program relies on.
    ///
    /// # Errors
    /// [`DbError`], which says what to run.
    pub async fn require_schema(&self) -> Result<(), DbError> {
        self.check_schema().await?.map_err(|unfit| self.unfit(unfit.to_string()))
    }

    /// Whether this program can serve its schema, and why not.
    ///
    /// # Errors
    /// [`DbError`], when it does not say.
    pub async fn check_schema(&self) -> Result<Result<(), Unfit>, DbError> {
        Ok(self.bounded(Schema::read(&self.connection.client), "").await?.check())
    }

    /// The cluster that the database says it is of, if any.
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

    /// Has the server read `sql`, for a statement that runs often.
    ///
    /// # Errors
    /// [`DbError`]; the connection is then of no more use.
    pub async fn prepare(&self, sql: &str) -> Result<Statement, DbError> {
        self.bounded(self.connection.client.prepare(sql), "").await
    }

    /// Runs `sql`, a text or what [`Self::prepare`] made of one, and gives its rows.
    ///
    /// # Errors
    /// [`DbError`]; the connection is then of no more use.
    pub async fn query<T: ?Sized + ToStatement>(
        &self,
        sql: &T,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DbError> {
        self.bounded(self.connection.client.query(sql, params), "").await
    }

    /// Runs `sql`, which gives one row.
    ///
    /// # Errors
    /// [`DbError`]; the connection is then of no more use.
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, DbError> {
        self.bounded(self.connection.client.query_one(sql, params), "").await
    }

    /// Runs `sql` and hands its rows over one by one, so that any number of them fits in memory: the server is
    /// read no faster than `each` takes them.
    ///
    /// # Errors
    /// [`DbError`]; the connection is then of no more use.
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

    /// Runs `sql`, which gives no rows, and says how many it changed.
    ///
    /// # Errors
    /// [`DbError`]; the connection is then of no more use.
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, DbError> {
        self.bounded(self.connection.client.execute(sql, params), "").await
    }

    /// Runs statements without parameters or rows.
    ///
    /// # Errors
    /// [`DbError`]; the connection is then of no more use.
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

    /// Whether the server, or the way to it, is known to be gone.
    pub fn is_closed(&self) -> bool {
        self.connection.client.is_closed()
    }

    /// Gives each message that `from` (`COPY … TO STDOUT`) comes in to `each`: one row, as a rule. No more than
    /// `rows_per_second`; each wait is bounded, not the whole.
    ///
    /// # Errors
    /// [`DbError`]; the connection is then of no more use.
    pub async fn copy_out(
        &self,
        from: &str,
        rows_per_second: Option<NonZeroU32>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), DbError> {
        let mut source = pin!(self.bounded(self.connection.client.copy_out(from), "").await?);
        let (mut pace, mut rows) = (Pace::new(rows_per_second), 0_u64);
        while let Some(row) = self.next_row(source.as_mut()).await? {
            each(&row);
            rows += 1;
            if rows.is_multiple_of(PACED_ROWS) {
                pace.spend(PACED_ROWS).await;
            }
        }
        Ok(())
    }

    /// Copies the rows that `from` (`COPY … TO STDOUT`) gives here into `target` by `into` (`COPY … FROM STDIN`), no more than
    /// `rows_per_second`, gives `each` message to look at on its way, and says how many rows there were. Any number of them
    /// fits in memory, and each wait is bounded, not the whole.
    ///
    /// # Errors
    /// [`DbError`]; both connections are then of no more use.
    pub async fn copy_into(
        &self,
        from: &str,
        target: &Self,
        into: &str,
        rows_per_second: Option<NonZeroU32>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<u64, DbError> {
        let source = self.bounded(self.connection.client.copy_out(from), "").await?;
        let sink = target.bounded(target.connection.client.copy_in::<_, Bytes>(into), "").await?;
        let (mut source, mut sink) = (pin!(source), pin!(sink));
        let mut chunk = BytesMut::with_capacity(COPY_CHUNK);
        let (mut pace, mut rows) = (Pace::new(rows_per_second), 0);
        while let Some(row) = self.next_row(source.as_mut()).await? {
            each(&row);
            chunk.extend_from_slice(&row);
            rows += 1;
            if chunk.len() > COPY_CHUNK - COPY_ROW {
                target.bounded(sink.feed(chunk.split().freeze()), "").await?;
                chunk.reserve(COPY_CHUNK);
                pace.spend(mem::take(&mut rows)).await;
            }
        }
        target.bounded(sink.feed(chunk.freeze()), "").await?;
        target.bounded(sink.as_mut().finish(), "").await
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

    /// Says goodbye, so that the server does not log a client that was lost.
    pub async fn close(self) {
        self.connection.close(GOODBYE_TIMEOUT).await;
    }

    /// The next message of a copy. Most are there already, and then there is nothing to bound.
    async fn next_row(&self, mut rows: Pin<&mut CopyOutStream>) -> Result<Option<Bytes>, DbError> {
        match rows.try_next().now_or_never() {
            Some(next) => next.map_err(|error| self.failed(&error)),
            None => self.bounded(rows.try_next(), "").await,
        }
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

/// The hosts and ports that a connection string names, for people.
///
/// # Errors
/// What is wrong with it.
pub fn addresses_of(connection_string: &str) -> Result<Vec<String>, String> {
    let config = parse(connection_string)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("it names no host".to_owned());
    }
    Ok(Servers::of(&config).iter().map(address).collect())
}

/// The databases that a connection string leads to, one for each host.
///
/// # Errors
/// What is wrong with it.
pub fn databases_of(connection_string: &str) -> Result<Vec<String>, String> {
    let config = parse(connection_string)?;
    // As in libpq: without a name, the database is called like the user.
    let name = config.get_dbname().or(config.get_user()).unwrap_or_default();
    Ok(addresses_of(connection_string)?.iter().map(|address| format!("{address}/{name}")).collect())
}
