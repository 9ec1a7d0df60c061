//! The hint: which shard most likely owns a slot, and how that is refreshed.
//!
//! A hint, because the shard's own database decides. A wrong entry costs one more try and can never book anything
//! in the wrong place; so the map may be old, and a gateway starts with an empty one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use picopay_shared::node_status::OwnedRange;
use picopay_shared::slot::{SLOT_COUNT, Slot};

/// Refreshes for slots that nobody claims are at least this far apart: during a move that is soon enough, and a
/// slot that was never dealt out does not turn every request into a round of questions.
const FRUITLESS_REFRESH_PAUSE: Duration = Duration::from_millis(200);

/// Who is believed to own a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Which shard: its place in the client's set of shards, which stays its own for the life of the process.
    pub place: usize,
    /// Since which change of hands.
    pub epoch: u64,
}

/// Slot → owner, read by every request and replaced as a whole.
#[derive(Debug)]
pub struct SlotMap {
    table: ArcSwap<Table>,
    /// What each shard said last of its own slots, by its place. A shard that cannot be asked keeps its claims: its users are
    /// then told that it is unavailable, not that they belong to nobody.
    claims: Mutex<Vec<Vec<OwnedRange>>>,
    refreshing: tokio::sync::Mutex<Option<Instant>>,
    refreshes_started: AtomicU64,
}

type Table = Box<[Option<Owner>]>;

/// Empty: nobody owns anything.
impl Default for SlotMap {
    fn default() -> Self {
        Self {
            table: ArcSwap::from_pointee(build_table(&[])),
            claims: Mutex::default(),
            refreshing: tokio::sync::Mutex::new(None),
            refreshes_started: AtomicU64::new(0),
        }
    }
}

impl SlotMap {
    /// Who most likely owns the slot.
    pub fn owner(&self, slot: Slot) -> Option<Owner> {
        self.table.load()[slot.index()]
    }

    /// Takes in what a shard says of its own slots.
    pub fn take_claims(&self, place: usize, owned: &[OwnedRange]) {
        let mut claims = self.claims.lock().expect("nothing panics while it is held");
        if claims.len() <= place {
            claims.resize(place + 1, Vec::new());
        }
        if claims[place] != owned {
            owned.clone_into(&mut claims[place]);
            self.table.store(build_table(&claims).into());
        }
    }

    /// Runs `ask_all`, which asks every shard and hands in their claims, unless a refresh that began after this call
    /// has ended meanwhile: a thousand *moved* answers lead to one round of questions, and none of them to an
    /// answer from before the move.
    pub async fn refresh(&self, ask_all: impl AsyncFnOnce()) {
        let seen = self.refreshes_started.load(Ordering::SeqCst);
        let mut last = self.refreshing.lock().await;
        if self.refreshes_started.load(Ordering::SeqCst) > seen {
            return;
        }
        self.refreshes_started.fetch_add(1, Ordering::SeqCst);
        ask_all().await;
        *last = Some(Instant::now());
    }

    /// Like [`SlotMap::refresh`] for a slot that nobody claims, but not again right after the last.
    pub async fn refresh_for_orphan(&self, ask_all: impl AsyncFnOnce()) {
        let mut last = self.refreshing.lock().await;
        if last.is_some_and(|ended| ended.elapsed() < FRUITLESS_REFRESH_PAUSE) {
            return;
        }
        self.refreshes_started.fetch_add(1, Ordering::SeqCst);
        ask_all().await;
        *last = Some(Instant::now());
    }
}

/// Where two shards claim a slot, the higher epoch is newer. (Equal ones cannot be: an epoch grows with each change
/// of hands. Should it happen, the first shard is asked, and its database decides.)
fn build_table(claims: &[Vec<OwnedRange>]) -> Table {
    let mut table: Vec<Option<Owner>> = vec![None; usize::from(SLOT_COUNT)];
    for (place, owned) in claims.iter().enumerate() {
        for range in owned {
            for slot in range.first..=range.last.min(SLOT_COUNT - 1) {
                let entry = &mut table[usize::from(slot)];
                if entry.is_none_or(|known| known.epoch < range.epoch) {
                    *entry = Some(Owner { place, epoch: range.epoch });
                }
            }
        }
    }
    table.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn range(first: u16, last: u16, epoch: u64) -> OwnedRange {
        OwnedRange { first, last, epoch }
    }

    fn owner(map: &SlotMap, slot: u16) -> Option<(usize, u64)> {
        map.owner(Slot::new(slot).unwrap()).map(|owner| (owner.place, owner.epoch))
    }

    #[test]
    fn each_shard_owns_what_it_says_and_the_higher_epoch_wins() {
        let map = SlotMap::default();
        assert_eq!(owner(&map, 0), None);
        map.take_claims(0, &[range(0, 2047, 1)]);
        map.take_claims(1, &[range(2048, 4095, 1)]);
        assert_eq!((owner(&map, 2047), owner(&map, 2048)), (Some((0, 1)), Some((1, 1))));
        // The target says so first; the source still has its old answer.
        map.take_claims(1, &[range(100, 100, 3), range(2048, 4095, 1)]);
        assert_eq!(owner(&map, 100), Some((1, 3)));
        assert_eq!(owner(&map, 101), Some((0, 1)));
        // And back, with a higher epoch still.
        map.take_claims(0, &[range(0, 99, 1), range(100, 100, 4), range(101, 2047, 1)]);
        assert_eq!(owner(&map, 100), Some((0, 4)));
    }

    #[test]
    fn a_slot_that_its_owner_released_belongs_to_nobody() {
        let map = SlotMap::default();
        map.take_claims(0, &[range(0, 4095, 1)]);
        map.take_claims(0, &[range(0, 9, 1), range(11, 4095, 1)]);
        assert_eq!(owner(&map, 10), None);
    }

    #[test]
    fn a_claim_past_the_last_slot_harms_nobody() {
        let map = SlotMap::default();
        map.take_claims(0, &[range(4095, u16::MAX, 1), range(9, 3, 1)]);
        assert_eq!((owner(&map, 4095), owner(&map, 5)), (Some((0, 1)), None));
    }

    #[tokio::test]
    async fn many_moved_answers_at_once_lead_to_one_round_of_questions() {
        let map = Arc::new(SlotMap::default());
        let rounds = Arc::new(AtomicUsize::new(0));
        let asking = (0..100).map(|_| {
            let (map, rounds) = (Arc::clone(&map), Arc::clone(&rounds));
            async move {
                map.refresh(async || {
                    rounds.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                })
                .await;
            }
        });
        futures_util::future::join_all(asking).await;
        // Those that came while the first round was under way may need a second one, but they share it.
        assert!(rounds.load(Ordering::SeqCst) <= 2, "{rounds:?}");
    }

    #[tokio::test]
    async fn a_slot_of_nobody_does_not_make_every_request_ask_around() {
        let map = SlotMap::default();
        let rounds = AtomicUsize::new(0);
        for _ in 0..10 {
            map.refresh_for_orphan(async || {
                rounds.fetch_add(1, Ordering::SeqCst);
            })
            .await;
        }
        assert_eq!(rounds.into_inner(), 1);
    }
}
