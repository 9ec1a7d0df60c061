//! How migrations are applied: one process at a time, and never in the way of charges for long.
//!
//! A statement that waits for a strong lock makes every later statement on the table wait behind it. So a try ends soon,
//! and charges flow before the next. Most tries are shorter than a node waits for a lock, so that charges come later and
//! none fails. autovacuum, though, gives way only to who has waited for `deadlock_timeout`: while it, or somebody who is
//! not to be seen, holds the lock, a try is longer than that.
//!
//! The history is refinery's, which clusters have since their first day: its table, its checksums. Its runner is not used:
//! it aborts on an applied migration that it does not know, takes no lock, and knows no try.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

use crate::migration::Migration;

/// The advisory lock of whoever applies migrations: "pico" and "migr" in ASCII.
const MIGRATION_LOCK: i64 = 0x7069_636f_6d69_6772;

/// How often the turn is asked for. Never by a statement that waits: its snapshot would hold up a `CREATE INDEX
/// CONCURRENTLY` of the one who has it, for ever.
const TURN_POLL: Duration = Duration::from_millis(250);

/// How often somebody is told what a statement waits for.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// How long a look at those who hold locks may take. It reads memory.
const WATCH_TIMEOUT: Duration = Duration::from_secs(1);

/// To be cancelled takes autovacuum some milliseconds.
const AFTER_DEADLOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// What is cut off begins anew, so the server's time limits do not hold.
const SESSION: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0; \
                       SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off";

/// Otherwise a server that runs a long statement does not see that its client is gone. Not every system can.
const NOTICE_A_LOST_CLIENT: &str = "SET client_connection_check_interval = '2s'";

/// As refinery makes it.
const HISTORY: &str = "CREATE TABLE IF NOT EXISTS refinery_schema_history (version INT4 PRIMARY KEY, name VARCHAR(255), \
                       applied_on VARCHAR(255), checksum VARCHAR(255))";

const ADD_TO_HISTORY: &str = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
    VALUES ($1, $2, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), $3)";

#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Below the `lock_timeout` of nodes, whose charges wait behind it.
    pub lock_try: Duration,
    pub pause: Duration,
    pub locks: Duration,
    /// One that rewrites or reads a large table is worth waiting for.
    pub run: Duration,
    /// For the standby, and for the answer of a plain statement.
    pub commit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // Nodes wait 800 ms for a lock.
            lock_try: Duration::from_millis(500),
            // Charges have three quarters of the time.
            pause: Duration::from_millis(1500),
            // Longer than a report or a dump of a small shard takes; who waits in vain is told who is in the way.
            locks: Duration::from_mins(10),
            run: Duration::from_hours(1),
            // A standby that is there confirms in milliseconds.
            commit: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    OtherAtWork { until: Duration },
    Waiting { migration: String, holders: Vec<String>, waited: Duration, until: Duration },
    Applied(String),
}

#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    #[error("{doing}")]
    Failed {
        /// What was under way. It was rolled back.
        doing: String,
        source: Error,
    },
    #[error("{doing}: no answer in {} s{}", after.as_secs(), hint)]
    TimedOut { doing: String, after: Duration, hint: &'static str },
    #[error("{migration}: its lock was not to be had in {} s. In the way: {}", waited.as_secs(), holders)]
    Blocked {
        /// The migration. It was rolled back.
        migration: String,
        waited: Duration,
        holders: String,
    },
    #[error("another one has been migrating this database for more than {} s", .0.as_secs())]
    OtherAtWork(Duration),
    /// What was applied under this number is not what this program has under it.
    #[error("{0} was applied with another content: this program and the database are of two histories")]
    Diverged(String),
}

/// In order. Returns their names. `watcher` looks meanwhile who is in the way, since `client` waits. Migrations that are
/// not among these are a newer program's, and left alone.
///
/// Two at once are safe, and so is one that was killed: what it had not committed is rolled back, and what runs outside of
/// a database transaction is begun anew.
///
/// # Errors
/// [`MigrationError`]; the schema is then as it was after the last migration that succeeded.
pub async fn apply(
    client: &Client,
    watcher: &Client,
    migrations: &[Migration],
    patience: Patience,
    tell: &mut (dyn FnMut(Progress) + Send + Sync),
) -> Result<Vec<String>, MigrationError> {
    let mut runner = Runner { client, watcher, patience, tell };
    runner.take_turn().await?;
    let applied = runner.apply_missing(migrations).await;
    // It goes with the connection in any case.
    let _ =
        timeout(patience.commit, client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK])).await;
    applied
}

struct Runner<'a> {
    client: &'a Client,
    watcher: &'a Client,
    patience: Patience,
    tell: &'a mut (dyn FnMut(Progress) + Send + Sync),
}

#[derive(Default)]
struct Holders {
    names: Vec<String>,
    /// Whether one of them gives way only after `deadlock_timeout`, if at all.
    give_way_late: bool,
}

impl Runner<'_> {
    async fn take_turn(&mut self) -> Result<(), MigrationError> {
        self.plain("setting up the session", self.client.batch_execute(SESSION)).await?;
        let _ = self.plain("setting up the session", self.client.batch_execute(NOTICE_A_LOST_CLIENT)).await;
        let (started, until) = (Instant::now(), self.patience.locks);
        let mut is_told = false;
        loop {
            let asked = self.client.query_one("SELECT pg_try_advisory_lock($1)", &[&MIGRATION_LOCK]);
            if self.plain("taking turns", asked).await?.get(0) {
                return Ok(());
            }
            if started.elapsed() > until {
                return Err(MigrationError::OtherAtWork(until));
            }
            if !std::mem::replace(&mut is_told, true) {
                (self.tell)(Progress::OtherAtWork { until });
            }
            sleep(TURN_POLL).await;
        }
    }

    async fn apply_missing(&mut self, migrations: &[Migration]) -> Result<Vec<String>, MigrationError> {
        self.plain("making the history", self.client.batch_execute(HISTORY)).await?;
        let read = self.client.query("SELECT version, name, checksum FROM refinery_schema_history", &[]);
        let history = self.plain("reading the history", read).await?;
        let mut applied = Vec::new();
        for migration in migrations {
            let known = history.iter().find(|row| row.get::<_, i32>(0) == migration.number());
            if let Some(row) = known {
                let (name, checksum): (String, String) = (row.get(1), row.get(2));
                if name != migration.name() || checksum != migration.checksum().to_string() {
                    return Err(MigrationError::Diverged(migration.to_string()));
                }
                continue;
            }
            if migration.is_transactional() {
                self.apply_in_transaction(migration).await?;
            } else {
                self.apply_statements(migration).await?;
            }
            (self.tell)(Progress::Applied(migration.to_string()));
            applied.push(migration.to_string());
        }
        Ok(applied)
    }

    /// Tries until the locks are to be had.
    async fn apply_in_transaction(&mut self, migration: &Migration) -> Result<(), MigrationError> {
        let started = Instant::now();
        let long = self.read_deadlock_timeout().await? + AFTER_DEADLOCK_TIMEOUT;
        let mut lock_try = self.patience.lock_try;
        loop {
            let mut holders = Holders::default();
            let tried = self.try_once(migration, lock_try, &mut holders).await;
            let Err(error) = tried else { return Ok(()) };
            let rolled_back = timeout(self.patience.commit, self.client.batch_execute("ROLLBACK")).await;
            if !is_blocked(&error) || !matches!(rolled_back, Ok(Ok(()))) {
                return Err(error);
            }
            let waited = started.elapsed();
            if waited > self.patience.locks {
                let holders = if holders.names.is_empty() {
                    "nobody who could be seen".to_owned()
                } else {
                    holders.names.join("; ")
                };
                return Err(MigrationError::Blocked { migration: migration.to_string(), waited, holders });
            }
            lock_try =
                if holders.give_way_late || holders.names.is_empty() { long } else { self.patience.lock_try };
            self.tell_waiting(migration, holders.names, waited);
            sleep(self.patience.pause).await;
        }
    }

    async fn try_once(
        &mut self,
        migration: &Migration,
        lock_try: Duration,
        holders: &mut Holders,
    ) -> Result<(), MigrationError> {
        self.plain("beginning", self.client.batch_execute("BEGIN")).await?;
        let limit = lock_try.as_millis().to_string();
        let set = "SELECT set_config('lock_timeout', $1, true)";
        self.plain("limiting the wait for locks", self.client.execute(set, &[&limit])).await?;
        let pid = self.own_pid().await?;
        let run = timeout(self.patience.run, self.client.batch_execute(migration.sql()));
        let mut run = pin!(run);
        // Late enough that whoever is in the way by then is what the try ends over.
        let ran = tokio::select! {
            ran = &mut run => ran,
            () = sleep(lock_try * 3 / 5) => {
                *holders = self.read_holders(pid).await;
                run.await
            }
        };
        self.judge(migration, ran)?;
        self.add_to_history(migration).await
    }

    /// Each commits by itself and can be run again.
    async fn apply_statements(&mut self, migration: &Migration) -> Result<(), MigrationError> {
        let pid = self.own_pid().await?;
        for statement in migration.statements() {
            self.drop_broken_index(&statement).await?;
            let started = Instant::now();
            let mut run = pin!(timeout(self.patience.run, self.client.batch_execute(&statement)));
            // Nobody else waits behind it: what it waits for is only told.
            let ran = loop {
                tokio::select! {
                    ran = &mut run => break ran,
                    () = sleep(WATCH_EVERY) => {
                        let Holders { names, .. } = self.read_holders(pid).await;
                        if !names.is_empty() {
                            self.tell_waiting(migration, names, started.elapsed());
                        }
                    }
                }
            };
            self.judge(migration, ran)?;
        }
        self.plain("beginning", self.client.batch_execute("BEGIN")).await?;
        self.add_to_history(migration).await
    }

    /// A `CREATE INDEX CONCURRENTLY` that broke off leaves an index which nobody reads and everybody writes.
    async fn drop_broken_index(&self, statement: &str) -> Result<(), MigrationError> {
        let Some((_, rest)) = statement.split_once("INDEX CONCURRENTLY IF NOT EXISTS ") else {
            return Ok(());
        };
        let name = rest.split_whitespace().next().unwrap_or_default();
        let find = "SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid";
        let broken = self.plain("looking for a broken index", self.client.query_opt(find, &[&name])).await?;
        if broken.is_some() {
            // The name is one of our own files', as is the statement that it is taken from.
            let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {name}");
            let dropped = timeout(self.patience.run, self.client.batch_execute(&drop)).await;
            let doing = format!("dropping the broken index {name}");
            dropped
                .map_err(|_| MigrationError::TimedOut {
                    doing: doing.clone(),
                    after: self.patience.run,
                    hint: "",
                })?
                .map_err(|source| MigrationError::Failed { doing, source })?;
        }
        Ok(())
    }

    /// In the database transaction that is open, which ends here.
    async fn add_to_history(&self, migration: &Migration) -> Result<(), MigrationError> {
        let checksum = migration.checksum().to_string();
        let row: [&(dyn ToSql + Sync); 3] = [&migration.number(), &migration.name(), &checksum];
        self.plain("writing the history", self.client.execute(ADD_TO_HISTORY, &row)).await?;
        if let Some(oldest_known) = migration.oldest_known() {
            let raise = "UPDATE schema_version SET oldest_known = greatest(oldest_known, $1)";
            self.plain("saying who may serve", self.client.execute(raise, &[&oldest_known])).await?;
        }
        let committed = timeout(self.patience.commit, self.client.batch_execute("COMMIT")).await;
        let doing = format!("{migration}: its COMMIT");
        committed
            .map_err(|_| MigrationError::TimedOut {
                doing: doing.clone(),
                after: self.patience.commit,
                hint: ": it may be done or not; is the synchronous standby up?",
            })?
            .map_err(|source| MigrationError::Failed { doing, source })
    }

    fn judge(
        &self,
        migration: &Migration,
        ran: Result<Result<(), Error>, tokio::time::error::Elapsed>,
    ) -> Result<(), MigrationError> {
        let doing = migration.to_string();
        match ran {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(MigrationError::Failed { doing, source }),
            Err(_) => Err(MigrationError::TimedOut { doing, after: self.patience.run, hint: "" }),
        }
    }

    fn tell_waiting(&mut self, migration: &Migration, holders: Vec<String>, waited: Duration) {
        let (migration, until) = (migration.to_string(), self.patience.locks);
        (self.tell)(Progress::Waiting { migration, holders, waited, until });
    }

    async fn read_deadlock_timeout(&self) -> Result<Duration, MigrationError> {
        let read = "SELECT setting::bigint FROM pg_settings WHERE name = 'deadlock_timeout'";
        let row = self.plain("reading deadlock_timeout", self.client.query_one(read, &[])).await?;
        Ok(Duration::from_millis(u64::try_from(row.get::<_, i64>(0)).unwrap_or_default()))
    }

    async fn own_pid(&self) -> Result<i32, MigrationError> {
        let read = self.client.query_one("SELECT pg_backend_pid()", &[]);
        Ok(self.plain("looking at the session", read).await?.get(0))
    }

    /// Nobody, when that cannot be found out.
    async fn read_holders(&self, pid: i32) -> Holders {
        let params: [&(dyn ToSql + Sync); 1] = [&pid];
        let read = self.watcher.query(include_str!("read_holders.sql"), &params);
        let Ok(Ok(rows)) = timeout(WATCH_TIMEOUT, read).await else { return Holders::default() };
        Holders {
            names: rows.iter().map(|row| row.get(0)).collect(),
            give_way_late: rows.iter().any(|row| row.get(1)),
        }
    }

    async fn plain<T>(
        &self,
        doing: &str,
        statement: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, MigrationError> {
        let after = self.patience.commit;
        timeout(after, statement)
            .await
            .map_err(|_| MigrationError::TimedOut { doing: doing.to_owned(), after, hint: "" })?
            .map_err(|source| MigrationError::Failed { doing: doing.to_owned(), source })
    }
}

/// A lock was not to be had, or a deadlock was broken.
fn is_blocked(error: &MigrationError) -> bool {
    let MigrationError::Failed { source, .. } = error else { return false };
    matches!(
        source.code(),
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED
    )
}
