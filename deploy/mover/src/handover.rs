//! The steps by which a batch of slots changes hands, when nothing goes wrong.
//!
//! The target's rows say `importing`, durably, before anything is copied. The source's rows say `released`, on two
//! machines, before the tail is read. The target takes the slots in the database transaction that brings their last rows,
//! after both sides were compared. So there is no moment with two owners, and none in which an owner lacks a row. Whatever
//! fails is an error here, which `recovery` undoes.

use std::iter;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use picopay_shared::slot_owner::{OwnerRow, SlotState};
use tokio::time::timeout;

use crate::batch::{Figures, Limits};
use crate::bound::Bound;
use crate::digest::Digest;
use crate::error::MoveError;
use crate::owner::describe;
use crate::purge;
use crate::side::Side;
use crate::step::{Step, Unwatched, Watcher};
use crate::tally::Tally;

/// By the source primary's clock. An id is made under the fence, at most a flight of statements (1.5 s) before its COMMIT,
/// by that clock or ahead of it. The rest is room for a clock that is set back while the copy runs; more than that is found
/// before anything changes hands.
const TAIL: Duration = Duration::from_secs(5);

/// A new user has the time at which its transaction began, and its COMMIT may wait for a standby. If it waits longer than
/// this, the two sides differ.
const TAIL_OF_USERS: Duration = Duration::from_mins(1);

const COPY_OLDER_OUT: &str = include_str!("sql/copy_older_out.sql");

/// What is copied in the pause: from the source, into the target.
const NEWER_USERS: (&str, &str) =
    (include_str!("sql/copy_newer_users_out.sql"), include_str!("sql/copy_moved_users_in.sql"));

/// After the users. Transactions come first: holds, refund totals, transfers and credits refer to them.
const REST: [(&str, &str); 6] = [
    (include_str!("sql/copy_newer_out.sql"), include_str!("sql/copy_transactions_in.sql")),
    (include_str!("sql/copy_balances_out.sql"), include_str!("sql/copy_balances_in.sql")),
    (include_str!("sql/copy_refund_totals_out.sql"), include_str!("sql/copy_refund_totals_in.sql")),
    (include_str!("sql/copy_newer_holds_out.sql"), include_str!("sql/copy_holds_in.sql")),
    (include_str!("sql/copy_newer_transfers_out.sql"), include_str!("sql/copy_transfers_in.sql")),
    (include_str!("sql/copy_newer_credits_out.sql"), include_str!("sql/copy_credits_in.sql")),
];

/// A row that is read back takes a sixth of the work, at one database.
const READ_BACK: NonZeroU32 = NonZeroU32::new(6).unwrap();

#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error(transparent)]
    Failed(#[from] MoveError),
    #[error("{0}")]
    Unequal(String),
    /// A transaction came with an id from before the copy. The next copy has it.
    #[error("{0}")]
    Late(String),
    #[error("the pause would have been longer than {} ms", .0.as_millis())]
    OverBudget(Duration),
}

impl From<picopay_postgres::DbError> for Stop {
    fn from(error: picopay_postgres::DbError) -> Self {
        Self::Failed(error.into())
    }
}

pub struct Handover<'a> {
    pub source: &'a Side,
    pub target: &'a Side,
    pub slots: &'a [i16],
    pub limits: &'a Limits,
    pub watcher: &'a dyn Watcher,
}

impl Handover<'_> {
    /// Whether both shards may take part, and the source owns the slots. Nothing is changed.
    pub async fn check(&self) -> Result<(), MoveError> {
        let (source, target) = (self.source.check_fit().await?, self.target.check_fit().await?);
        if source != target {
            return Err(MoveError::Unfit {
                shard: self.target.name.clone(),
                reason: format!("it is of cluster {target}, and {} of {source}", self.source.name),
            });
        }
        let owners = self.source.owners().await?;
        for slot in self.slots {
            let row = owners.of(*slot);
            if row.is_none_or(|row| row.state != SlotState::Owned) {
                return Err(self.not_owned(*slot, row));
            }
        }
        Ok(())
    }

    pub async fn run(&self) -> Result<Figures, Stop> {
        let started = Instant::now();
        self.watcher.reached(Step::Import).await;
        let epochs = self.import().await?;
        self.watcher.reached(Step::Clean).await;
        purge::delete(self.target, self.slots, &Unwatched).await?;
        let bound = self.set_scope().await?;
        self.watcher.reached(Step::Copy).await;
        let sent = self.copy_older().await?;
        self.watcher.reached(Step::Compare).await;
        let older = self.compare_older(sent).await?;
        let finished = self.compare_finished(bound).await?;
        self.watcher.rows(older.rows() + finished.rows());
        let copy = started.elapsed();
        self.watcher.reached(Step::Lock).await;
        self.lock_import(&epochs, bound, &older, &finished).await?;
        self.watcher.reached(Step::Release).await;
        let paused = self.release(&epochs).await?;
        let rest = self.within_budget(paused, Box::pin(self.bring_rest(bound, &older, &finished))).await?;
        self.watcher.reached(Step::Take).await;
        if paused.elapsed() > self.limits.pause_budget {
            return Err(Stop::OverBudget(self.limits.pause_budget));
        }
        self.take(&epochs).await?;
        let pause = paused.elapsed();
        self.watcher.rows(rest.rows());
        self.watcher.reached(Step::Done).await;
        Ok(Figures { rows: older.rows() + finished.rows() + rest.rows(), copy, pause })
    }

    /// At epochs higher than any that either side has seen.
    async fn import(&self) -> Result<Vec<i64>, Stop> {
        let (sources, targets) = (self.source.owners().await?, self.target.owners().await?);
        let mut epochs = Vec::with_capacity(self.slots.len());
        for slot in self.slots {
            let Some(row) = sources.of(*slot).filter(|row| row.state == SlotState::Owned) else {
                return Err(self.not_owned(*slot, sources.of(*slot)).into());
            };
            let seen = targets.of(*slot).map_or(0, |row| row.epoch);
            epochs.push((row.epoch.max(seen) + 1).cast_signed());
        }
        let (sql, database) = (include_str!("sql/import.sql"), &self.target.database);
        database.execute_all("BEGIN").await?;
        let changed = database.execute(sql, &[&self.slots, &epochs, &self.source.name.as_str()]).await?;
        database.commit().await?;
        self.all_of_them(changed, self.target, "already owns some of the slots")?;
        Ok(epochs)
    }

    /// Returns the ids from which on transactions are left for the pause.
    async fn set_scope(&self) -> Result<Bound, Stop> {
        let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let now_ms: i64 = self.source.database.query_one(now, &[]).await?.get(0);
        let before = |tail: Duration| now_ms - i64::try_from(tail.as_millis()).expect("a minute at most");
        let (bound, since_ms) = (Bound::at(before(TAIL)), before(TAIL_OF_USERS));
        let sql = include_str!("sql/scope.sql");
        for side in [self.source, self.target] {
            side.database
                .query(sql, &[&self.slots, &bound.booked, &bound.refused, &since_ms, &bound.time_ms])
                .await?;
        }
        Ok(bound)
    }

    /// As of one moment, in one database transaction of the target. Returns what the transactions come to.
    async fn copy_older(&self) -> Result<Tally, Stop> {
        let (source, target) = (&self.source.database, &self.target.database);
        let (pace, mut sent) = (self.limits.rows_per_second, Tally::default());
        // One moment, or a transaction could come whose user was made after the users had been copied.
        source.execute_all("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        self.target.begin_copy().await?;
        let (from, into) = (include_str!("sql/copy_users_out.sql"), include_str!("sql/copy_users_in.sql"));
        source.copy_into(from, target, into, pace, |_| ()).await?;
        let into = include_str!("sql/copy_transactions_in.sql");
        source.copy_into(COPY_OLDER_OUT, target, into, pace, |row| sent.take(row)).await?;
        for (from, into) in [
            (include_str!("sql/copy_finished_holds_out.sql"), include_str!("sql/copy_holds_in.sql")),
            (include_str!("sql/copy_finished_transfers_out.sql"), include_str!("sql/copy_transfers_in.sql")),
            (include_str!("sql/copy_older_credits_out.sql"), include_str!("sql/copy_credits_in.sql")),
        ] {
            source.copy_into(from, target, into, pace, |_| ()).await?;
        }
        target.commit().await?;
        source.execute_all("COMMIT").await?;
        Ok(sent)
    }

    async fn compare_older(&self, sent: Tally) -> Result<Digest, Stop> {
        let pace = self.limits.rows_per_second.map(|pace| pace.saturating_mul(READ_BACK));
        let mut kept = Tally::default();
        self.target.database.copy_out(COPY_OLDER_OUT, pace, |row| kept.take(row)).await?;
        let (Some(sent), Some(kept)) = (sent.into_digest(), kept.into_digest()) else {
            return Err(Stop::Unequal(format!(
                "a copy from {} to {} had something that is no row of a transaction",
                self.source.name, self.target.name
            )));
        };
        match Digest::difference(&sent, &kept) {
            None => Ok(sent),
            Some(difference) => Err(Stop::Unequal(difference)),
        }
    }

    /// Holds need no second look in the pause: one that came late would have come with a transaction that did.
    async fn compare_finished(&self, bound: Bound) -> Result<Digest, Stop> {
        let (source, target) = futures_util::try_join!(
            Digest::of_finished(&self.source.database, self.slots, bound),
            Digest::of_finished(&self.target.database, self.slots, bound),
        )?;
        match Digest::difference(&source, &target) {
            None => Ok(source),
            Some(difference) => Err(Stop::Unequal(difference)),
        }
    }

    /// From here on no mover and no purge changes what was compared.
    async fn lock_import(
        &self,
        epochs: &[i64],
        bound: Bound,
        older: &Digest,
        finished: &Digest,
    ) -> Result<(), Stop> {
        self.target.begin_copy().await?;
        self.target.database.execute_all(include_str!("sql/make_moved_users.sql")).await?;
        let sql = include_str!("sql/lock_importing.sql");
        let locked =
            self.target.database.query(sql, &[&self.slots, &epochs, &self.source.name.as_str()]).await?.len();
        self.all_of_them(locked as u64, self.target, "does not import some of the slots any more")?;
        let now = Digest::count_older(&self.target.database, self.slots, bound).await?;
        if let Some((slot, more)) = older.recount(now) {
            return Err(Stop::Unequal(format!(
                "slot {slot}: the target has {more:+} transactions since its copy was compared"
            )));
        }
        let now = Digest::count_finished(&self.target.database, self.slots, bound).await?;
        if let Some((rows, slot, more)) = finished.recount_finished(now) {
            return Err(Stop::Unequal(format!(
                "slot {slot}: the target has {more:+} {rows} since its copy was compared"
            )));
        }
        for (from, into) in iter::once(NEWER_USERS).chain(REST) {
            self.source.database.prepare_copy(from).await?;
            self.target.database.prepare_copy(into).await?;
        }
        // The copy took a while. Better to find out now than when users wait.
        self.target.check_fit().await?;
        Ok(())
    }

    /// On two machines. Returns the moment from which on its users waited.
    async fn release(&self, epochs: &[i64]) -> Result<Instant, Stop> {
        self.source.begin_fenced().await?;
        let paused = Instant::now();
        // Under the fence: what was true a moment ago may not be any more.
        self.source.check_fit().await?;
        let (source, target) = (self.source.name.as_str(), self.target.name.as_str());
        let sql = include_str!("sql/release.sql");
        let released = self.source.database.execute(sql, &[&self.slots, &epochs, &source, &target]).await?;
        self.all_of_them(released, self.source, "does not own some of the slots any more")?;
        self.source.database.commit().await?;
        Ok(paused)
    }

    async fn within_budget(
        &self,
        paused: Instant,
        work: impl Future<Output = Result<Digest, Stop>>,
    ) -> Result<Digest, Stop> {
        let left = self.limits.pause_budget.saturating_sub(paused.elapsed());
        timeout(left, work).await.unwrap_or(Err(Stop::OverBudget(self.limits.pause_budget)))
    }

    /// What came since, and everything that can change; then both sides compared.
    async fn bring_rest(&self, bound: Bound, older: &Digest, finished: &Digest) -> Result<Digest, Stop> {
        self.watcher.reached(Step::Tail).await;
        let (source, target) = (&self.source.database, &self.target.database);
        let (from, into) = NEWER_USERS;
        source.copy_into(from, target, into, None, |_| ()).await?;
        target.execute(include_str!("sql/add_moved_users.sql"), &[]).await?;
        // Begun at once: on busy servers each wait for an answer is most of what a copy takes.
        try_join_all(REST.map(|(from, into)| source.copy_into(from, target, into, None, |_| ()))).await?;
        self.watcher.reached(Step::Verify).await;
        let (source_now, finished_now, source, target) = futures_util::try_join!(
            Digest::count_older(source, self.slots, bound),
            Digest::count_finished(source, self.slots, bound),
            Digest::of_rest(source, self.slots, bound),
            Digest::of_rest(target, self.slots, bound),
        )?;
        // Older transactions cannot change, but one of them could have come late.
        match older.recount(source_now) {
            Some((slot, late @ 1..)) => {
                return Err(Stop::Late(format!(
                    "slot {slot}: {late} transactions came with an id that was older than it should be: was the clock of the \
                     source's primary set back?"
                )));
            }
            Some((slot, gone)) => {
                return Err(Stop::Unequal(format!(
                    "slot {slot}: {} of the source's transactions are gone since they were copied",
                    gone.unsigned_abs()
                )));
            }
            None => {}
        }
        match finished.recount_finished(finished_now) {
            Some((rows, slot, late @ 1..)) => {
                return Err(Stop::Late(format!("slot {slot}: {late} {rows} came late")));
            }
            Some((rows, slot, _)) => {
                return Err(Stop::Unequal(format!("slot {slot}: some {rows} of the source are gone")));
            }
            None => {}
        }
        match Digest::difference(&source, &target).or_else(|| Digest::flaw(older, &source)) {
            None => Ok(source),
            Some(difference) => Err(Stop::Unequal(difference)),
        }
    }

    async fn take(&self, epochs: &[i64]) -> Result<(), Stop> {
        let sql = include_str!("sql/take.sql");
        let taken =
            self.target.database.execute(sql, &[&self.slots, &epochs, &self.target.name.as_str()]).await?;
        self.all_of_them(taken, self.target, "does not import some of the slots any more")?;
        self.target.check_fit().await?;
        self.target.database.commit().await?;
        Ok(())
    }

    fn not_owned(&self, slot: i16, row: Option<&OwnerRow>) -> MoveError {
        MoveError::NotOwned { slot, shard: self.source.name.clone(), found: describe(row) }
    }

    /// Otherwise it met another mover, or a database that is not what it was.
    fn all_of_them(&self, changed: u64, side: &Side, otherwise: &str) -> Result<(), Stop> {
        if changed == self.slots.len() as u64 {
            return Ok(());
        }
        Err(side.unfit(format!("it {otherwise}")).into())
    }
}
