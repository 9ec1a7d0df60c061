//! Who owns a slot, as one shard says, and what the rows of two shards mean together. Pure but for the reading.
//!
//! These rows are all that a mover goes by: whoever comes after one that was killed reads here how far it had come.

use picopay_postgres::{DbError, ShardDb};

/// What a shard says of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It may write it.
    Owned,
    /// It is being copied here.
    Importing,
    /// It was given to another.
    Released,
    /// It was to come here, and did not.
    Aborted,
}

/// A row of `slot_owner`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerRow {
    /// The slot.
    pub slot: i16,
    /// What the shard says.
    pub state: State,
    /// The shard that owns it, as far as this one knows.
    pub owner: String,
    /// Grows whenever the slot changes hands.
    pub epoch: i64,
}

impl OwnerRow {
    /// In words.
    pub fn describe(row: Option<&Self>) -> String {
        match row {
            None => "it was never there".to_owned(),
            Some(Self { state: State::Owned, epoch, .. }) => format!("owned at epoch {epoch}"),
            Some(Self { state: State::Importing, owner, epoch, .. }) => {
                format!("importing from {owner} at epoch {epoch}")
            }
            Some(Self { state: State::Released, owner, epoch, .. }) => {
                format!("released to {owner} at epoch {epoch}")
            }
            Some(Self { state: State::Aborted, epoch, .. }) => format!("given up at epoch {epoch}"),
        }
    }
}

/// All rows of one shard, by slot.
#[derive(Debug, Default)]
pub struct OwnerRows(Vec<OwnerRow>);

impl OwnerRows {
    /// Reads them.
    pub async fn read(database: &ShardDb) -> Result<Self, DbError> {
        let rows = database.query(include_str!("sql/read_owners.sql"), &[]).await?;
        let row = |row: &tokio_postgres::Row| OwnerRow {
            slot: row.get(0),
            state: match row.get(1) {
                "owned" => State::Owned,
                "importing" => State::Importing,
                "released" => State::Released,
                // The column takes no fifth word.
                _ => State::Aborted,
            },
            owner: row.get(2),
            epoch: row.get(3),
        };
        Ok(Self(rows.iter().map(row).collect()))
    }

    /// The row of one slot.
    pub fn of(&self, slot: i16) -> Option<&OwnerRow> {
        self.0.binary_search_by_key(&slot, |row| row.slot).ok().map(|position| &self.0[position])
    }

    /// All of them.
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

/// How far a move of one slot had come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nothing of it is under way.
    None,
    /// The target has begun, and may have to give up: at this epoch.
    Begun(i64),
    /// The target owns it.
    Done,
    /// The target does not know of what the source gave it.
    Lost,
}

/// What the rows of `source` and `target` say of a move of one slot between them.
pub fn progress(source_row: Option<&OwnerRow>, target: &str, target_row: Option<&OwnerRow>) -> Progress {
    let released = source_row.filter(|row| row.state == State::Released && row.owner == target);
    match (released, target_row) {
        (Some(source), Some(row)) if row.epoch < source.epoch => Progress::Lost,
        (Some(_), None) => Progress::Lost,
        // Released for this import, or the import was given up and the source has not taken the slot back yet.
        (Some(source), Some(row))
            if row.epoch == source.epoch && matches!(row.state, State::Importing | State::Aborted) =>
        {
            Progress::Begun(row.epoch)
        }
        (Some(_), Some(_)) => Progress::Done,
        (None, Some(row)) if row.state == State::Importing => Progress::Begun(row.epoch),
        (None, _) => Progress::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: State, owner: &str, epoch: i64) -> OwnerRow {
        OwnerRow { slot: 7, state, owner: owner.to_owned(), epoch }
    }

    #[test]
    fn two_rows_tell_how_far_a_move_had_come() {
        use State::{Aborted, Importing, Owned, Released};
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
