//! Rows of `slot_owner` as PostgreSQL gives them.

use picopay_shared::slot::Slot;
use picopay_shared::slot_owner::{OwnerRow, SlotState};
use tokio_postgres::Row;

/// All that a shard says of slots: columns as [`owner_from_row`] takes them, in the order of slots.
pub(crate) const READ_OWNERS: &str = "SELECT slot, state, owner, epoch FROM slot_owner ORDER BY slot";

#[derive(Debug, thiserror::Error)]
#[error("slot_owner.{column} holds what no PicoPay writes")]
pub struct BadColumn {
    column: &'static str,
}

/// From the columns `slot`, `state`, `owner`, `epoch`, the first ones of the row.
pub fn owner_from_row(row: &Row) -> Result<OwnerRow, BadColumn> {
    let slot = row.try_get(0).map_err(|_| BadColumn { column: "slot" })?;
    owner_of(slot_of_column(slot)?, row, 1)
}

/// From the columns `state`, `owner`, `epoch`, of which `first` is the place of the first: for a statement that is asked about
/// one slot.
pub fn owner_of(slot: Slot, row: &Row, first: usize) -> Result<OwnerRow, BadColumn> {
    let state = row.try_get(first).map_err(|_| BadColumn { column: "state" })?;
    let owner = row.try_get(first + 1).map_err(|_| BadColumn { column: "owner" })?;
    let epoch = row.try_get(first + 2).map_err(|_| BadColumn { column: "epoch" })?;
    owner_of_slot(slot, state, owner, epoch)
}

/// From the values of the columns `slot`, `state`, `owner`, `epoch`.
pub fn owner_of_columns(slot: i16, state: &str, owner: &str, epoch: i64) -> Result<OwnerRow, BadColumn> {
    owner_of_slot(slot_of_column(slot)?, state, owner, epoch)
}

fn slot_of_column(slot: i16) -> Result<Slot, BadColumn> {
    u16::try_from(slot).ok().and_then(Slot::new).ok_or(BadColumn { column: "slot" })
}

fn owner_of_slot(slot: Slot, state: &str, owner: &str, epoch: i64) -> Result<OwnerRow, BadColumn> {
    let state = SlotState::of_column(state).ok_or(BadColumn { column: "state" })?;
    let epoch = u64::try_from(epoch).map_err(|_| BadColumn { column: "epoch" })?;
    Ok(OwnerRow { slot, state, owner: owner.to_owned(), epoch })
}
