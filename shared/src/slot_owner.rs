//! Who owns a slot, as one shard records it: a row of `slot_owner`. Node, mover and operator decide by the
//! same rows.
//!
//! The mover knows what the rows of two shards mean together; `shared/postgres` reads them.

use std::fmt;

use serde::Serialize;

use crate::slot::Slot;

/// What a shard records of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotState {
    /// The shard may write it.
    Owned,
    /// It is being copied here.
    Importing,
    /// It was given to another shard.
    Released,
    /// It was to come here, and did not.
    Aborted,
}

impl SlotState {
    /// What the column says; `None` for a word of a later release. Nobody acts on a state that he does not know: taken for
    /// `Aborted`, it would let the source own the slot again.
    pub fn of_column(word: &str) -> Option<Self> {
        match word {
            "owned" => Some(Self::Owned),
            "importing" => Some(Self::Importing),
            "released" => Some(Self::Released),
            "aborted" => Some(Self::Aborted),
            _ => None,
        }
    }

    /// The word in the column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owned => "owned",
            Self::Importing => "importing",
            Self::Released => "released",
            Self::Aborted => "aborted",
        }
    }
}

impl fmt::Display for SlotState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A row of `slot_owner`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerRow {
    /// The slot of the row.
    pub slot: Slot,
    /// What the shard records of it.
    pub state: SlotState,
    /// The owner, as far as this shard knows: itself when it is owned.
    pub owner: String,
    /// A counter that grows each time the slot changes hands.
    pub epoch: u64,
}

impl OwnerRow {
    /// Whether the shard may write the slot.
    pub fn is_owned(&self) -> bool {
        self.state == SlotState::Owned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_is_written_and_an_unknown_one_is_no_state() {
        use SlotState::{Aborted, Importing, Owned, Released};
        for state in [Owned, Importing, Released, Aborted] {
            assert_eq!(SlotState::of_column(state.as_str()), Some(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
        }
        assert_eq!(SlotState::of_column("OWNED"), None);
        assert_eq!(SlotState::of_column("frozen"), None);
    }
}
