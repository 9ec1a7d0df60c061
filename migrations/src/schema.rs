//! What a database says of its schema, and whether a program can serve it.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::migration;

/// The migration that brought holds. Programs that were built with it can read what holds leave behind.
const HOLDS: i32 = 10;

/// The one that brought transfers.
const TRANSFERS: i32 = 13;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    applied: BTreeSet<i32>,
    oldest_known: i32,
}

/// Why a program must not serve a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("there is no schema yet")]
    Empty,
    #[error("the schema lacks {} of this program: run `picopay migrate`", names(.missing))]
    TooOld { missing: Vec<i32> },
    /// What stands there can be misread by this program.
    #[error(
        "the schema is for programs that know V{oldest_known}, and this one knows no more than V{known}: start a newer \
         release"
    )]
    TooNew {
        /// The number that a program must know.
        oldest_known: i32,
        known: i32,
    },
}

fn names(numbers: &[i32]) -> String {
    numbers.iter().map(|number| format!("V{number}")).collect::<Vec<_>>().join(", ")
}

impl Schema {
    /// A table that is not there is no error: the schema is an old one, or none.
    pub async fn read(client: &Client) -> Result<Self, Error> {
        let read = client.query_one(include_str!("read_schema.sql"), &[]).await;
        match read {
            Ok(row) => Ok(Self::of(row.get(0), row.get(1))),
            // From before V5, or of no use at all.
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                let read = client.query("SELECT version FROM refinery_schema_history", &[]).await;
                match read {
                    Ok(rows) => Ok(Self::of(rows.iter().map(|row| row.get(0)).collect(), None)),
                    Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Self::default()),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn of(applied: Vec<i32>, oldest_known: Option<i32>) -> Self {
        Self { applied: applied.into_iter().collect(), oldest_known: oldest_known.unwrap_or_default() }
    }

    /// Whether no program serves that could not read what holds leave behind, as `picopay migrate --finish` has made sure.
    pub fn takes_holds(&self) -> bool {
        self.oldest_known >= HOLDS
    }

    /// The same for transfers.
    pub fn takes_transfers(&self) -> bool {
        self.oldest_known >= TRANSFERS
    }

    pub fn check(&self) -> Result<(), Unfit> {
        let known: Vec<i32> = migration::all().iter().map(migration::Migration::number).collect();
        self.check_against(&known)
    }

    fn check_against(&self, known: &[i32]) -> Result<(), Unfit> {
        let newest = known.last().copied().unwrap_or_default();
        if self.applied.is_empty() {
            return Err(Unfit::Empty);
        }
        // First: one that is too new for this program is nothing that it should change.
        if self.oldest_known > newest {
            return Err(Unfit::TooNew { oldest_known: self.oldest_known, known: newest });
        }
        let missing: Vec<i32> =
            known.iter().copied().filter(|number| !self.applied.contains(number)).collect();
        if missing.is_empty() { Ok(()) } else { Err(Unfit::TooOld { missing }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_serves_what_it_knows_and_what_came_later_without_asking_for_more() {
        let known: Vec<i32> = (1..=7).collect();
        let too_old = |missing: &[i32]| Err(Unfit::TooOld { missing: missing.to_vec() });
        for (applied, oldest_known, expected) in [
            ((1..=7).collect(), Some(5), Ok(())),
            ((1..=9).collect(), Some(7), Ok(())),
            ((1..=9).collect(), Some(8), Err(Unfit::TooNew { oldest_known: 8, known: 7 })),
            ((1..=6).collect(), Some(5), too_old(&[7])),
            ((1..=4).collect(), None, too_old(&[5, 6, 7])),
            (vec![1, 2, 3, 4, 5, 7], Some(5), too_old(&[6])),
            (vec![], None, Err(Unfit::Empty)),
        ] {
            assert_eq!(Schema::of(applied, oldest_known).check_against(&known), expected);
        }
        let told = Unfit::TooOld { missing: vec![6, 7] }.to_string();
        assert!(told.contains("V6, V7") && told.contains("picopay migrate"), "{told}");
    }
}
