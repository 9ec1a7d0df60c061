//! What the owner rows of two shards mean together.
//!
//! A mover goes by these rows alone: after one that was killed, they say how far it had come.

use picopay_postgres::{DbError, ShardDb};
use picopay_shared::slot_owner::{OwnerRow, SlotState};

pub fn describe(row: Option<&OwnerRow>) -> String {
    let Some(OwnerRow { state, owner, epoch, .. }) = row else { return "it was never there".to_owned() };
    match state {
        SlotState::Owned => format!("owned at epoch {epoch}"),
        SlotState::Importing => format!("importing from {owner} at epoch {epoch}"),
        SlotState::Released => format!("released to {owner} at epoch {epoch}"),
        SlotState::Aborted => format!("given up at epoch {epoch}"),
    }
}

#[derive(Debug, Default)]
pub struct OwnerRows(Vec<OwnerRow>);

impl OwnerRows {
    pub async fn read(database: &ShardDb) -> Result<Self, DbError> {
        Ok(Self(database.read_owners().await?))
    }

    pub fn of(&self, slot: i16) -> Option<&OwnerRow> {
        self.0.binary_search_by_key(&slot, |row| row.slot.as_i16()).ok().map(|position| &self.0[position])
    }

    pub fn iter(&self) -> impl Iterator<Item = &OwnerRow> {
        self.0.iter()
    }
}

#[cfg(test)]
impl FromIterator<OwnerRow> for OwnerRows {
    fn from_iter<I: IntoIterator<Item = OwnerRow>>(rows: I) -> Self {
        Self(rows.into_iter().collect())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    None,
    /// The target has begun, and may have to give up: at this epoch.
    Begun(u64),
    Done,
    /// The target does not know of what the source gave it.
    Lost,
}

/// What the rows of `source` and `target` say of a move of one slot between them.
pub fn progress(source_row: Option<&OwnerRow>, target: &str, target_row: Option<&OwnerRow>) -> Progress {
    let released = source_row.filter(|row| row.state == SlotState::Released && row.owner == target);
    match (released, target_row) {
        (Some(source), Some(row)) if row.epoch < source.epoch => Progress::Lost,
        (Some(_), None) => Progress::Lost,
        // Released for this import, or the import was given up and the source has not taken the slot back yet.
        (Some(source), Some(row))
            if row.epoch == source.epoch
                && matches!(row.state, SlotState::Importing | SlotState::Aborted) =>
        {
            Progress::Begun(row.epoch)
        }
        (Some(_), Some(_)) => Progress::Done,
        (None, Some(row)) if row.state == SlotState::Importing => Progress::Begun(row.epoch),
        (None, _) => Progress::None,
    }
}

#[cfg(test)]
mod tests {
    use picopay_shared::slot::Slot;

    use super::*;

    fn row(state: SlotState, owner: &str, epoch: u64) -> OwnerRow {
        OwnerRow { slot: Slot::new(7).unwrap(), state, owner: owner.to_owned(), epoch }
    }

    #[test]
    fn two_rows_tell_how_far_a_move_had_come() {
        use SlotState::{Aborted, Importing, Owned, Released};
        for (source, target, expected) in [
            (Some(row(Owned, "a", 1)), None, Progress::None),
            (Some(row(Owned, "a", 1)), Some(row(Importing, "a", 2)), Progress::Begun(2)),
            (Some(row(Released, "b", 2)), Some(row(Importing, "a", 2)), Progress::Begun(2)),
            (Some(row(Released, "b", 2)), Some(row(Owned, "b", 2)), Progress::Done),
            (Some(row(Released, "b", 2)), Some(row(Aborted, "a", 2)), Progress::Begun(2)),
            (Some(row(Owned, "a", 3)), Some(row(Aborted, "a", 2)), Progress::None),
            // It went on from there.
            (Some(row(Released, "b", 2)), Some(row(Released, "c", 3)), Progress::Done),
            (Some(row(Released, "b", 2)), Some(row(Importing, "c", 4)), Progress::Done),
            // To another.
            (Some(row(Released, "c", 2)), Some(row(Importing, "a", 2)), Progress::Begun(2)),
            (Some(row(Released, "c", 2)), Some(row(Aborted, "a", 2)), Progress::None),
            (Some(row(Released, "b", 2)), None, Progress::Lost),
            (Some(row(Released, "b", 4)), Some(row(Released, "a", 3)), Progress::Lost),
            (None, None, Progress::None),
        ] {
            assert_eq!(progress(source.as_ref(), "b", target.as_ref()), expected, "{source:?} {target:?}");
        }
    }
}
