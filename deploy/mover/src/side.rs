//! One shard's primary, on a connection of this mover's alone, whose commits mean two machines.

use std::time::{Duration, Instant};

use picopay_postgres::{DbError, Patience, ShardDb};
use picopay_shared::cluster::{Durability, Shard};
use picopay_shared::slot::FENCE_LOCK;
use tokio::time::sleep;
use uuid::Uuid;

use crate::error::MoveError;
use crate::owner::OwnerRows;

/// A statement copies or counts some ten thousand rows, or waits for a standby.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(2), statement: Duration::from_secs(30) };

/// In every shard that takes part, so that of two movers one is refused: "pico" and "move" in ASCII. Safety rests on the
/// rows' locks and epochs instead.
pub const MOVER_LOCK: i64 = 0x7069_636f_6d6f_7665;

/// The server takes some time to notice that a mover was killed.
const LOCK_WAIT: Duration = Duration::from_secs(3);
const LOCK_POLL: Duration = Duration::from_millis(100);

/// Each time batches wait behind this for a quarter of a second at most.
const FENCE_TRIES: usize = 20;
const FENCE_PAUSE: Duration = Duration::from_millis(100);

struct Fitness {
    degraded_since: Option<String>,
    cluster_id: Uuid,
}

pub struct Side {
    pub name: String,
    pub database: ShardDb,
    durability: Durability,
}

impl Side {
    pub async fn connect(shard: &Shard) -> Result<Self, MoveError> {
        let database = ShardDb::primary(shard, PATIENCE).await?;
        database.require_schema().await?;
        database.execute_all(include_str!("sql/session.sql")).await?;
        let side = Self { name: shard.name.clone(), database, durability: shard.durability };
        let started = Instant::now();
        loop {
            let row = side.database.query_one("SELECT pg_try_advisory_lock($1)", &[&MOVER_LOCK]).await?;
            if row.get(0) {
                return Ok(side);
            }
            if started.elapsed() > LOCK_WAIT {
                // Of a mover that was ended, a commit may be left that waits for a standby: that is to be mended then.
                side.read_fitness().await?;
                return Err(MoveError::Busy(side.name));
            }
            sleep(LOCK_POLL).await;
        }
    }

    /// Whether the shard may give or take slots. Returns the cluster's id.
    pub async fn check_fit(&self) -> Result<Uuid, MoveError> {
        let Fitness { degraded_since, cluster_id } = self.read_fitness().await?;
        match degraded_since {
            None => Ok(cluster_id),
            Some(since) => Err(self.unfit(format!(
                "it is degraded since {since}, so what it acknowledges can be lost, and with it who owns a slot. \
                 `picopay shard restore {}` first",
                self.name
            ))),
        }
    }

    /// Also at a degraded shard, whose word is its primary's alone: no slot comes to a second owner if it is lost, and to
    /// wait for the standby would leave users without one.
    pub async fn begin_settling(&self) -> Result<(), MoveError> {
        self.database.execute_all("BEGIN").await?;
        if self.read_fitness().await?.degraded_since.is_some() {
            self.database.execute_all("SET LOCAL synchronous_commit = local").await?;
        }
        Ok(())
    }

    /// Makes sure that what this shard shows is on two machines, unless it is degraded.
    pub async fn confirm(&self) -> Result<(), MoveError> {
        if self.read_fitness().await?.degraded_since.is_none() {
            self.database.confirm().await?;
        }
        Ok(())
    }

    async fn read_fitness(&self) -> Result<Fitness, MoveError> {
        let row = self.database.query_one(include_str!("sql/read_fitness.sql"), &[]).await?;
        let (degraded_since, names_standby): (Option<String>, bool) = (row.get(0), row.get(1));
        let (has_standby, cluster_id): (bool, Option<Uuid>) = (row.get(2), row.get(3));
        let name: Option<String> = row.get(4);
        let is_alone = self.durability == Durability::Replicated && !(names_standby && has_standby);
        if is_alone && degraded_since.is_none() {
            let reason = "no synchronous standby follows its primary; see `picopay status`";
            return Err(self.unfit(reason.to_owned()));
        }
        match (cluster_id, name) {
            (Some(cluster_id), Some(name)) if name == self.name => Ok(Fitness { degraded_since, cluster_id }),
            (_, Some(name)) => Err(self.unfit(format!("its database says that it is {name}"))),
            (_, None) => Err(self
                .unfit(format!("its database belongs to no cluster yet: `picopay shard add {}`", self.name))),
        }
    }

    pub fn unfit(&self, reason: String) -> MoveError {
        MoveError::Unfit { shard: self.name.clone(), reason }
    }

    pub async fn owners(&self) -> Result<OwnerRows, DbError> {
        OwnerRows::read(&self.database).await
    }

    /// Rows of another shard are compared with that shard's before they count.
    pub async fn begin_copy(&self) -> Result<(), DbError> {
        self.database.execute_all(include_str!("sql/begin_copy.sql")).await
    }

    /// Begins a database transaction that holds the fence alone.
    pub async fn begin_fenced(&self) -> Result<(), DbError> {
        for _ in 1..FENCE_TRIES {
            match self.try_to_begin_fenced().await {
                Err(error) if error.is_lock_timeout() => {}
                other => return other,
            }
            self.database.execute_all("ROLLBACK").await?;
            sleep(FENCE_PAUSE).await;
        }
        self.try_to_begin_fenced().await
    }

    async fn try_to_begin_fenced(&self) -> Result<(), DbError> {
        self.database.execute_all(include_str!("sql/begin_fenced.sql")).await?;
        self.database.query(include_str!("sql/take_fence.sql"), &[&FENCE_LOCK]).await?;
        Ok(())
    }
}
