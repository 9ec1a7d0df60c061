//! Who owns which slot, as one map: put together from what each shard's own database says.

use picopay_shared::slot::SLOT_COUNT;
use picopay_shared::slot_owner::{OwnerRow, SlotState};
use serde::Serialize;

/// What one shard's database said, in the order of the cluster's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub rows: Vec<OwnerRow>,
    /// Why its database does not answer now; its rows are then what it said last.
    pub silence: Option<String>,
    /// Whether it has ever answered.
    pub is_known: bool,
}

/// The map that the page draws.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct SlotMap {
    shards: Vec<MapShard>,
    runs: Vec<MapRun>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct MapShard {
    name: String,
    owned: usize,
    silence: Option<String>,
}

/// Slots in a row of which the same is true.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct MapRun {
    first: u16,
    last: u16,
    #[serde(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Place {
    state: PlaceState,
    /// Who owns it, or had it last: a place in the list of shards.
    shard: Option<usize>,
    /// Who gets it, or owns it too.
    to: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum PlaceState {
    Owned,
    /// Its rows are copied to another shard, and its owner still serves it.
    Moving,
    /// In the pause of a move: the old owner has let go of it, and the new one does not have it yet.
    Between,
    Twice,
    /// No shard says that it owns it, and all were heard.
    Nobody,
    /// Nobody says that they own it, and a shard that may own it does not answer.
    Unknown,
}

impl SlotMap {
    pub fn new(names: &[String], said: &[Said]) -> Self {
        let place = |slot: u16| {
            let rows = said.iter().enumerate().filter_map(|(position, said)| {
                let row =
                    said.rows.binary_search_by_key(&slot, |row| row.slot.get()).ok().map(|at| &said.rows[at]);
                Some((position, row?))
            });
            Place::new(names, &rows.collect::<Vec<_>>(), said.iter().all(|said| said.is_known))
        };
        let mut runs: Vec<MapRun> = Vec::new();
        for slot in 0..SLOT_COUNT {
            let place = place(slot);
            match runs.last_mut() {
                Some(run) if run.place == place => run.last = slot,
                _ => runs.push(MapRun { first: slot, last: slot, place }),
            }
        }
        let shards = names.iter().zip(said).map(|(name, said)| MapShard {
            name: name.clone(),
            owned: said.rows.iter().filter(|row| row.is_owned()).count(),
            silence: said.silence.clone(),
        });
        Self { shards: shards.collect(), runs }
    }
}

impl Place {
    fn new(names: &[String], rows: &[(usize, &OwnerRow)], all_known: bool) -> Self {
        let with = |state: SlotState| rows.iter().filter(move |(_, row)| row.state == state);
        let mut owners = with(SlotState::Owned).map(|(position, _)| *position);
        let first = owners.next();
        if let Some(second) = owners.next() {
            return Self { state: PlaceState::Twice, shard: first, to: Some(second) };
        }
        let importing = with(SlotState::Importing).max_by_key(|(_, row)| row.epoch).map(|(at, _)| *at);
        match (first, importing) {
            (Some(_), None) => Self { state: PlaceState::Owned, shard: first, to: None },
            (Some(_), Some(_)) => Self { state: PlaceState::Moving, shard: first, to: importing },
            (None, _) => {
                let released = with(SlotState::Released).max_by_key(|(_, row)| row.epoch);
                let shard = released.map(|(position, _)| *position);
                let to = released.and_then(|(_, row)| names.iter().position(|name| *name == row.owner));
                let state = match (shard, all_known) {
                    (Some(_), true) => PlaceState::Between,
                    (_, false) => PlaceState::Unknown,
                    (None, true) => PlaceState::Nobody,
                };
                Self { state, shard, to }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use picopay_shared::slot::Slot;

    use super::PlaceState::{Between, Moving, Nobody, Owned, Twice, Unknown};
    use super::*;

    fn row(slot: u16, state: SlotState, owner: &str, epoch: u64) -> OwnerRow {
        OwnerRow { slot: Slot::new(slot).unwrap(), state, owner: owner.to_owned(), epoch }
    }

    fn said(rows: Vec<OwnerRow>) -> Said {
        Said { rows, silence: None, is_known: true }
    }

    #[test]
    fn a_slot_is_where_the_rows_of_all_shards_together_say() {
        use SlotState::{Aborted, Importing, Owned as Own, Released};
        let names = ["a".to_owned(), "b".to_owned()];
        for (of_a, of_b, expected) in [
            (Some((Own, "a", 1)), None, (Owned, Some(0), None)),
            (Some((Own, "a", 3)), Some((Aborted, "a", 2)), (Owned, Some(0), None)),
            (Some((Own, "a", 1)), Some((Importing, "a", 2)), (Moving, Some(0), Some(1))),
            (Some((Released, "b", 2)), Some((Importing, "a", 2)), (Between, Some(0), Some(1))),
            (Some((Released, "b", 2)), Some((Own, "b", 3)), (Owned, Some(1), None)),
            (Some((Own, "a", 1)), Some((Own, "b", 1)), (Twice, Some(0), Some(1))),
            (None, None, (Nobody, None, None)),
        ] {
            let rows = |given: Option<(SlotState, &str, u64)>| {
                said(given.map(|(state, owner, epoch)| row(7, state, owner, epoch)).into_iter().collect())
            };
            let map = SlotMap::new(&names, &[rows(of_a), rows(of_b)]);
            let run = map.runs.iter().find(|run| run.first <= 7 && run.last >= 7).unwrap();
            assert_eq!((run.place.state, run.place.shard, run.place.to), expected, "{of_a:?} {of_b:?}");
        }
    }

    #[test]
    fn slots_without_an_owner_are_unknown_while_a_shard_was_never_heard() {
        let all = (0..SLOT_COUNT / 2).map(|slot| row(slot, SlotState::Owned, "a", 1)).collect();
        let map = SlotMap::new(&["a".to_owned(), "b".to_owned()], &[said(all), Said::default()]);
        let told: Vec<_> = map.runs.iter().map(|run| (run.first, run.last, run.place.state)).collect();
        assert_eq!(told, [(0, 2047, Owned), (2048, 4095, Unknown)]);
        let json = serde_json::to_value(&map).unwrap();
        assert_eq!(json["runs"][1]["state"], "unknown");
        assert_eq!((&json["shards"][0]["owned"], &json["shards"][1]["name"]), (&2048.into(), &"b".into()));
    }
}
