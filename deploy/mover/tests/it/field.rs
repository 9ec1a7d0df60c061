//! A cluster, some users in slots of its first shard, and what its databases say of them.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use picopay_local::{ClusterSpec, LocalCluster, eventually, programs};
use picopay_mover::{Batch, Ended, Limits, Mover, Step, Unwatched, Watcher};
use picopay_shared::cluster::Cluster;
use tokio::process::Command;

use super::owners::{owners, slot_of};
use super::traffic::Traffic;

/// Longer than a move takes on a machine that runs other tests.
pub const PATIENT: Limits = Limits { pause_budget: Duration::from_secs(20), rows_per_second: None };

/// How many users move.
const MOVING: usize = 4;

/// A cluster, and users of it who move together and charge all the while.
pub struct Field {
    pub cluster: Arc<LocalCluster>,
    pub slots: Vec<u16>,
    traffic: Traffic,
}

impl Field {
    /// With clients of four users who will move, and one who stays.
    pub async fn start(shards: usize) -> Self {
        Self::start_with(ClusterSpec::default().with_shards(shards)).await
    }

    pub async fn start_with(cluster: ClusterSpec) -> Self {
        let cluster = Arc::new(LocalCluster::start(cluster).await.unwrap());
        let owners = owners(&cluster).await;
        let (first, others): (Vec<i64>, Vec<i64>) = (1..100).partition(|user| owners[&slot_of(*user)] == 0);
        let moving = &first[..MOVING];
        let users: Vec<i64> = moving.iter().chain(&others[..1]).copied().collect();
        let slots = moving.iter().map(|user| slot_of(*user)).collect();
        let traffic = Traffic::start(&cluster, &users).await;
        Self { cluster, slots, traffic }
    }

    pub fn mover(&self) -> Mover {
        self.mover_with(PATIENT)
    }

    pub fn mover_with(&self, limits: Limits) -> Mover {
        Mover::new(&self.cluster_file(), limits)
    }

    pub fn cluster_file(&self) -> Cluster {
        Cluster::load(&self.cluster.cluster_file()).unwrap()
    }

    /// Also checks that each slot of the cluster has one owner.
    pub async fn owner(&self) -> usize {
        let owners = owners(&self.cluster).await;
        let owner = owners[&self.slots[0]];
        assert!(self.slots.iter().all(|slot| owners[slot] == owner), "a batch goes as one");
        owner
    }

    pub fn batch(&self, from: usize, to: usize) -> Batch {
        let name = |position: usize| self.cluster.shard(position).name().to_owned();
        Batch { slots: self.slots.clone(), from: name(from), to: name(to) }
    }

    pub async fn row(&self, shard: usize) -> Option<(String, i64)> {
        let database = self.cluster.connect_primary(shard).await.unwrap();
        let sql = "SELECT DISTINCT state, epoch FROM slot_owner WHERE slot = ANY ($1)";
        let rows = database.query(sql, &[&self.signed_slots()]).await.unwrap();
        assert!(rows.len() < 2, "a batch goes as one: {rows:?}");
        rows.first().map(|row| (row.get(0), row.get(1)))
    }

    /// How many of the moving users have their row at a shard, whoever owns them.
    pub async fn users_at(&self, shard: usize) -> i64 {
        let database = self.cluster.connect_primary(shard).await.unwrap();
        let sql = "SELECT count(*) FROM users WHERE slot = ANY ($1)";
        database.query_one(sql, &[&self.signed_slots()]).await.unwrap().get(0)
    }

    pub fn signed_slots(&self) -> Vec<i16> {
        self.slots.iter().map(|slot| slot.cast_signed()).collect()
    }

    /// As often as it takes: servers and their standbys come back.
    pub async fn move_at_last(&self, batch: &Batch) {
        let mover = self.mover();
        eventually("a move that is not broken off", async || match mover.run(batch, &Unwatched).await {
            Ok(Ended::Moved(_)) => Ok(()),
            ended => Err(format!("{ended:?}")),
        })
        .await;
    }

    pub async fn end(self) {
        let Self { cluster, slots, traffic } = self;
        traffic.end().await;
        let mover = Mover::new(&Cluster::load(&cluster.cluster_file()).unwrap(), PATIENT);
        let owner = owners(&cluster).await[&slots[0]];
        for (position, shard) in cluster.shards().iter().enumerate() {
            let database = cluster.connect_primary(position).await.unwrap();
            let sql = "SELECT EXISTS (SELECT FROM slot_owner WHERE slot = $1)";
            let was_there: bool = database.query_one(sql, &[&slots[0].cast_signed()]).await.unwrap().get(0);
            if position != owner && was_there {
                mover.purge(shard.name(), &slots, &Unwatched).await.unwrap();
            }
        }
        verify(&cluster).await;
        if let Some(cluster) = Arc::into_inner(cluster) {
            cluster.stop().await;
        }
    }
}

pub async fn verify(cluster: &LocalCluster) {
    let mut verify = Command::new(programs::find_picopay("picopay").unwrap());
    verify.arg("verify").arg("--cluster").arg(cluster.cluster_file());
    let said = verify.output().await.unwrap();
    assert!(said.status.success(), "{said:?}");
}

pub struct At {
    step: Step,
    deed: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl At {
    pub fn new(step: Step, deed: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { step, deed: Mutex::new(Some(Box::pin(deed))) }
    }
}

impl Watcher for At {
    fn reached(&self, step: Step) -> BoxFuture<'_, ()> {
        if step != self.step {
            return Box::pin(ready(()));
        }
        let deed = self.deed.lock().unwrap_or_else(PoisonError::into_inner).take();
        deed.unwrap_or_else(|| Box::pin(ready(())))
    }
}
