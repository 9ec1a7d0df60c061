//! Moves slots from shard to shard while their users charge.
//!
//! Its state is the rows of `slot_owner` in the two databases: a mover can be killed at any moment, and the next one sees
//! how far it had come.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use picopay_shared::cluster::{Cluster, Shard};
use picopay_shared::slot_owner::SlotState;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::batch::{Batch, Figures, Limits};
use crate::error::MoveError;
use crate::handover::{Handover, Stop};
use crate::owner;
use crate::purge;
use crate::recovery::{self, Settled};
use crate::side::Side;
use crate::step::{Unwatched, Watcher};

/// Shards that do not answer in the middle of a move leave users without an owner; a failover under Patroni takes 12 s.
const RECOVERY_MAX: Duration = Duration::from_mins(1);
const RECOVERY_POLL: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Moved(Figures),
    Aborted { reason: String, is_worth_another_try: bool, settled: Settled },
}

/// Several batches may run at once, if no shard takes part in two of them.
pub struct Mover {
    cluster: Cluster,
    limits: Limits,
    sides: Mutex<HashMap<String, Side>>,
}

impl Mover {
    pub fn new(cluster: &Cluster, limits: Limits) -> Self {
        Self { cluster: cluster.clone(), limits, sides: Mutex::default() }
    }

    /// It may be dropped at any moment; the next mover settles what is left.
    ///
    /// # Errors
    /// When it was not begun, and nothing was changed; or [`MoveError::Unsettled`].
    pub async fn run(&self, batch: &Batch, watcher: &dyn Watcher) -> Result<Ended, MoveError> {
        let mut slots: Vec<i16> = batch.slots.iter().map(|slot| slot.cast_signed()).collect();
        slots.sort_unstable();
        slots.dedup();
        if batch.from == batch.to {
            let reason = "it would give slots to itself".to_owned();
            return Err(MoveError::Unfit { shard: batch.from.clone(), reason });
        }
        let (source, target) = (self.side(&batch.from).await?, self.side(&batch.to).await?);
        let (limits, source_ref, target_ref) = (&self.limits, &source, &target);
        let handover = Handover { source: source_ref, target: target_ref, slots: &slots, limits, watcher };
        handover.check().await?;
        match handover.run().await {
            Ok(figures) => {
                self.keep(source).await;
                self.keep(target).await;
                Ok(Ended::Moved(figures))
            }
            Err(stop) => {
                // Whatever state they are in, the server rolls back when they go.
                drop((source, target));
                let settled = self.recover(batch, &slots, &stop, watcher).await?;
                let is_worth_another_try = !matches!(stop, Stop::Unequal(_));
                Ok(Ended::Aborted { reason: stop.to_string(), is_worth_another_try, settled })
            }
        }
    }

    /// Settles what earlier movers left, and returns which slots, by source and target.
    pub async fn settle(&self) -> Result<Vec<(Batch, Settled)>, MoveError> {
        let mut owners = Vec::new();
        for shard in &self.cluster.shards {
            let side = self.side(&shard.name).await?;
            owners.push((shard.name.clone(), side.owners().await?));
            self.keep(side).await;
        }
        let mut settled = Vec::new();
        for (target, targets) in &owners {
            for (source, sources) in owners.iter().filter(|(source, _)| source != target) {
                let is_between = |slot: &i16| {
                    let (source_row, target_row) = (sources.of(*slot), targets.of(*slot));
                    let is_from_there = target_row
                        .is_some_and(|row| row.state == SlotState::Importing && row.owner == *source);
                    let was_given = source_row
                        .is_some_and(|row| row.state == SlotState::Released && row.owner == *target);
                    let progress = owner::progress(source_row, target, target_row);
                    (is_from_there || was_given)
                        && !matches!(progress, owner::Progress::None | owner::Progress::Done)
                };
                let slots: Vec<i16> = targets
                    .iter()
                    .chain(sources.iter())
                    .map(|row| row.slot.as_i16())
                    .filter(is_between)
                    .collect();
                if slots.is_empty() {
                    continue;
                }
                let mut unsigned: Vec<u16> = slots.iter().map(|slot| slot.cast_unsigned()).collect();
                unsigned.sort_unstable();
                unsigned.dedup();
                let batch = Batch { slots: unsigned, from: source.clone(), to: target.clone() };
                let one = self.settle_batch(&batch, &Unwatched).await?;
                settled.push((batch, one));
            }
        }
        Ok(settled)
    }

    /// Deletes what `shard` still has of slots that another shard owns, in small batches.
    ///
    /// # Errors
    /// When the shard owns one of them or never had it, or no other shard owns it on two machines; or when one
    /// does not answer, or has no standby.
    pub async fn purge(&self, shard: &str, slots: &[u16], watcher: &dyn Watcher) -> Result<u64, MoveError> {
        let slots: Vec<i16> = slots.iter().map(|slot| slot.cast_signed()).collect();
        let side = self.side(shard).await?;
        // Or every deletion waits for a standby that is not there.
        side.check_fit().await?;
        self.check_owned_elsewhere(&side, &slots).await?;
        let deleted = purge::delete(&side, &slots, watcher).await?;
        self.keep(side).await;
        Ok(deleted)
    }

    /// Of rows that are deleted at `side`, another shard has the only ones, so its word that it owns them has to be one that
    /// a failover does not take back.
    async fn check_owned_elsewhere(&self, side: &Side, slots: &[i16]) -> Result<(), MoveError> {
        let rows = side.owners().await?;
        let mut missing: Vec<i16> = slots.to_vec();
        for shard in self.cluster.shards.iter().filter(|shard| shard.name != side.name) {
            let other = self.side(&shard.name).await?;
            let owners = other.owners().await?;
            let is_there = |slot: i16| {
                let (own, theirs) = (rows.of(slot), owners.of(slot));
                own.zip(theirs).is_some_and(|(own, theirs)| {
                    theirs.state == SlotState::Owned
                        && (theirs.epoch >= own.epoch || own.state == SlotState::Aborted)
                })
            };
            if missing.iter().any(|slot| is_there(*slot)) {
                other.check_fit().await?;
                other.confirm().await?;
                missing.retain(|slot| !is_there(*slot));
            }
            self.keep(other).await;
        }
        match missing.iter().find(|slot| rows.of(**slot).is_none_or(|row| row.state != SlotState::Owned)) {
            None => Ok(()),
            Some(slot) => {
                let reason = format!("no other shard owns slot {slot}, and these may be the only rows of it");
                Err(side.unfit(reason))
            }
        }
    }

    async fn recover(
        &self,
        batch: &Batch,
        slots: &[i16],
        cause: &Stop,
        watcher: &dyn Watcher,
    ) -> Result<Settled, MoveError> {
        let started = Instant::now();
        loop {
            match self.settle_slots(batch, slots, watcher).await {
                Ok(settled) => return Ok(settled),
                Err(lost @ MoveError::StateLost { .. }) => return Err(lost),
                Err(_) if started.elapsed() < RECOVERY_MAX => sleep(RECOVERY_POLL).await,
                Err(error) => {
                    return Err(MoveError::Unsettled {
                        from: batch.from.clone(),
                        to: batch.to.clone(),
                        cause: format!("{cause}; then: {error}"),
                    });
                }
            }
        }
    }

    async fn settle_batch(&self, batch: &Batch, watcher: &dyn Watcher) -> Result<Settled, MoveError> {
        let slots: Vec<i16> = batch.slots.iter().map(|slot| slot.cast_signed()).collect();
        self.settle_slots(batch, &slots, watcher).await
    }

    async fn settle_slots(
        &self,
        batch: &Batch,
        slots: &[i16],
        watcher: &dyn Watcher,
    ) -> Result<Settled, MoveError> {
        let (source, target) = (self.side(&batch.from).await?, self.side(&batch.to).await?);
        let settled = recovery::settle(&source, &target, slots, watcher).await?;
        self.keep(source).await;
        self.keep(target).await;
        Ok(settled)
    }

    async fn side(&self, name: &str) -> Result<Side, MoveError> {
        let kept = self.sides.lock().await.remove(name);
        match kept {
            Some(side) if !side.database.is_closed() => Ok(side),
            _ => Side::connect(self.shard(name)?).await,
        }
    }

    async fn keep(&self, side: Side) {
        self.sides.lock().await.insert(side.name.clone(), side);
    }

    fn shard(&self, name: &str) -> Result<&Shard, MoveError> {
        self.cluster.shard(name).ok_or_else(|| MoveError::NoShard(name.to_owned()))
    }
}
