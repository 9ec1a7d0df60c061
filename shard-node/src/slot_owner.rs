//! The fence: which slots this shard owns, and the check of each command against it.
//!
//! The gateway's map is a hint; these rows decide. They are read inside the database transaction that writes,
//! after the shared advisory lock, as a second statement in READ COMMITTED. Read together with the lock, or
//! in REPEATABLE READ, they would show the owner from before the lock.

use std::collections::HashMap;

use picopay_shared::command::{Moved, Outcome};
use picopay_shared::slot::Slot;
use picopay_shared::slot_owner::{OwnerRow, SlotState};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    Moved(Moved),
    /// The gateway has seen a higher epoch than this database. A bad failover has lost a change of owner, so
    /// it must not write, and an operator must look.
    StateLost {
        slot: Slot,
        own_epoch: u64,
        seen_epoch: u64,
    },
}

impl From<Stopped> for Outcome {
    fn from(stopped: Stopped) -> Outcome {
        match stopped {
            Stopped::Moved(moved) => Outcome::Moved(moved),
            Stopped::StateLost { slot, own_epoch, seen_epoch } => Outcome::Unavailable {
                reason: format!(
                    "slot {slot} has epoch {own_epoch} here, and {seen_epoch} was seen: this database has lost state"
                ),
            },
        }
    }
}

pub fn pass(slot: Slot, seen_epoch: u64, owners: &HashMap<Slot, OwnerRow>) -> Result<(), Stopped> {
    check(slot, seen_epoch, owners.get(&slot))
}

pub fn check(slot: Slot, seen_epoch: u64, row: Option<&OwnerRow>) -> Result<(), Stopped> {
    let Some(row) = row else {
        return Err(Stopped::Moved(Moved { slot, owner: None, epoch: 0 }));
    };
    match row.state {
        SlotState::Owned if seen_epoch > row.epoch => {
            Err(Stopped::StateLost { slot, own_epoch: row.epoch, seen_epoch })
        }
        SlotState::Owned => Ok(()),
        SlotState::Released => {
            Err(Stopped::Moved(Moved { slot, owner: Some(row.owner.clone()), epoch: row.epoch }))
        }
        // It is being imported, or was given up: the owner is not known here.
        SlotState::Importing | SlotState::Aborted => {
            Err(Stopped::Moved(Moved { slot, owner: None, epoch: row.epoch }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: SlotState, epoch: u64) -> OwnerRow {
        OwnerRow { slot: Slot::new(7).unwrap(), state, owner: "shard-2".into(), epoch }
    }

    #[test]
    fn only_an_owned_slot_passes_and_only_up_to_its_own_epoch() {
        let slot = Slot::new(7).unwrap();
        let moved = |owner: Option<&str>, epoch| {
            Err(Stopped::Moved(Moved { slot, owner: owner.map(str::to_owned), epoch }))
        };
        for (row, seen_epoch, expected) in [
            (Some(row(SlotState::Owned, 3)), 3, Ok(())),
            (Some(row(SlotState::Owned, 3)), 0, Ok(())),
            (
                Some(row(SlotState::Owned, 3)),
                4,
                Err(Stopped::StateLost { slot, own_epoch: 3, seen_epoch: 4 }),
            ),
            (Some(row(SlotState::Released, 4)), 3, moved(Some("shard-2"), 4)),
            (Some(row(SlotState::Released, 4)), 5, moved(Some("shard-2"), 4)),
            (Some(row(SlotState::Importing, 4)), 4, moved(None, 4)),
            (Some(row(SlotState::Aborted, 4)), 4, moved(None, 4)),
            (None, 1, moved(None, 0)),
        ] {
            assert_eq!(check(slot, seen_epoch, row.as_ref()), expected, "{row:?} seen {seen_epoch}");
        }
    }
}
