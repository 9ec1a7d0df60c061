//! The hint: which shard most likely owns a slot, how that is refreshed, and which slots are moving.
//!
//! The shard's own database decides. A wrong entry costs one more try and books nothing in the wrong place.
//! So the map may be old, and a gateway starts with an empty one.

mod claims;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use arc_swap::ArcSwap;
use picopay_shared::command::Moved;
use picopay_shared::node_status::OwnedRange;
use picopay_shared::slot::Slot;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use self::claims::{Claims, Table};

/// The shortest time between refreshes for slots that nobody claims. Otherwise every request for such a slot
/// would ask all shards.
const FRUITLESS_REFRESH_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub place: usize,
    pub epoch: u64,
}

/// A slot that was given up or is being imported, and has no known owner.
#[derive(Debug, Clone, PartialEq)]
pub struct OnTheWay {
    pub since: Instant,
    /// A claim below this epoch is older than the release.
    pub least_epoch: u64,
    /// The numbers of the shards that may own it next: the source, which may take it back, and the target.
    /// Empty when neither is known.
    pub places: Vec<usize>,
    /// A shard that had or wants it could not say who owns it, so that any shard may.
    pub may_be_anywhere: bool,
    /// The name of the target, when this gateway's `cluster.toml` does not name it.
    pub unlisted_owner: Option<String>,
}

/// Slot → owner. Every request reads it, and it is replaced as a whole.
#[derive(Debug)]
pub struct SlotMap {
    table: ArcSwap<Table>,
    known: Mutex<Known>,
    changes: watch::Sender<()>,
    refreshing: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last claims of each shard, by its number. A shard that cannot be asked keeps its claims, so its
    /// users hear "unavailable" and not "nobody's".
    claims: Vec<Claims>,
    on_the_way: HashMap<usize, OnTheWay>,
}

impl Default for SlotMap {
    fn default() -> Self {
        Self {
            table: ArcSwap::from_pointee(claims::build_table(&[])),
            known: Mutex::default(),
            changes: watch::Sender::default(),
            refreshing: tokio::sync::Mutex::new(None),
        }
    }
}

impl SlotMap {
    pub fn owner(&self, slot: Slot) -> Option<Owner> {
        self.table.load()[slot.index()]
    }

    pub fn count_unowned(&self) -> i64 {
        self.table.load().iter().filter(|owner| owner.is_none()).map(|_| 1).sum()
    }

    pub async fn owner_before(&self, slot: Slot, until: Instant) -> Option<Owner> {
        // Subscribed before the first look, so that no change is missed.
        let mut changes = self.changes.subscribe();
        loop {
            if let Some(owner) = self.owner(slot) {
                return Some(owner);
            }
            timeout_at(until, changes.changed()).await.ok()?.ok()?;
        }
    }

    /// A slot without an owner; `None` when nobody is known to have had or to want it.
    pub fn on_the_way(&self, slot: Slot) -> Option<OnTheWay> {
        self.known().on_the_way.get(&slot.index()).cloned()
    }

    pub fn take_claims(&self, place: usize, owned: &[OwnedRange], importing: &[OwnedRange]) {
        let mut known = self.known();
        if known.claims.len() <= place {
            known.claims.resize(place + 1, Claims::default());
        }
        if !known.claims[place].are(owned, importing) {
            known.claims[place] = Claims::new(owned, importing);
            self.redraw(&mut known);
        }
    }

    /// Records that a shard does not own a slot. `next` is the number of the shard that it names, if this
    /// gateway has that one.
    pub fn note_moved(&self, moved: &Moved, next: Option<usize>) {
        // A named owner has the slot at this epoch or later. Without a name, the answering shard imports the
        // slot or gave it up, one epoch above its owner's.
        let least_epoch = if moved.owner.is_some() { moved.epoch } else { moved.epoch.saturating_sub(1) };
        let mut known = self.known();
        let slot = moved.slot.index();
        let owner = self.table.load()[slot];
        if owner.is_some_and(|owner| owner.epoch >= least_epoch) {
            return;
        }
        let entry = known.on_the_way.entry(slot).or_insert_with(|| OnTheWay::new(owner));
        if entry.least_epoch < least_epoch {
            // This is another change of owner than the one before.
            entry.least_epoch = least_epoch;
            entry.since = Instant::now();
        }
        match next {
            Some(next) => entry.concerns(next),
            None => entry.unlisted_owner.clone_from(&moved.owner),
        }
        entry.may_be_anywhere |= moved.owner.is_none();
        self.redraw(&mut known);
    }

    fn redraw(&self, known: &mut Known) {
        let before = self.table.load();
        let table = claims::draw(&known.claims, &before, &mut known.on_the_way);
        self.table.store(table.into());
        self.changes.send_replace(());
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it is held")
    }

    /// Runs `ask_all`, which asks every shard for its claims, for a slot that nobody claims. Not again right
    /// after the last time.
    pub async fn refresh_for_orphan(&self, ask_all: impl AsyncFnOnce()) {
        let mut last = self.refreshing.lock().await;
        if last.is_some_and(|ended| ended.elapsed() < FRUITLESS_REFRESH_PAUSE) {
            return;
        }
        ask_all().await;
        *last = Some(Instant::now());
    }
}

impl OnTheWay {
    fn new(last: Option<Owner>) -> Self {
        Self {
            since: Instant::now(),
            least_epoch: 0,
            places: last.map(|owner| owner.place).into_iter().collect(),
            may_be_anywhere: false,
            unlisted_owner: None,
        }
    }

    fn concerns(&mut self, place: usize) {
        if !self.places.contains(&place) {
            self.places.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn range(first: u16, last: u16, epoch: u64) -> OwnedRange {
        OwnedRange { first, last, epoch }
    }

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    fn owner(map: &SlotMap, number: u16) -> Option<(usize, u64)> {
        map.owner(slot(number)).map(|owner| (owner.place, owner.epoch))
    }

    fn released(number: u16, owner: &str, epoch: u64) -> Moved {
        Moved { slot: slot(number), owner: Some(owner.to_owned()), epoch }
    }

    #[test]
    fn each_shard_owns_what_it_says_and_the_higher_epoch_wins() {
        let map = SlotMap::default();
        assert_eq!(owner(&map, 0), None);
        map.take_claims(0, &[range(0, 2047, 1)], &[]);
        map.take_claims(1, &[range(2048, 4095, 1)], &[]);
        assert_eq!((owner(&map, 2047), owner(&map, 2048)), (Some((0, 1)), Some((1, 1))));
        // The target reports first; the source still has its old answer.
        map.take_claims(1, &[range(100, 100, 3), range(2048, 4095, 1)], &[]);
        assert_eq!(owner(&map, 100), Some((1, 3)));
        assert_eq!(owner(&map, 101), Some((0, 1)));
        map.take_claims(0, &[range(0, 99, 1), range(100, 100, 4), range(101, 2047, 1)], &[]);
        assert_eq!(owner(&map, 100), Some((0, 4)));
        assert_eq!(map.on_the_way(slot(100)), None);
    }

    #[test]
    fn a_claim_past_the_last_slot_harms_nobody() {
        let map = SlotMap::default();
        map.take_claims(0, &[range(4095, u16::MAX, 1), range(9, 3, 1)], &[]);
        assert_eq!((owner(&map, 4095), owner(&map, 5)), (Some((0, 1)), None));
    }

    #[test]
    fn a_slot_is_on_its_way_once_somebody_gave_it_up_or_wants_it_and_until_somebody_owns_it() {
        let map = SlotMap::default();
        map.take_claims(0, &[range(0, 9, 1)], &[]);
        assert_eq!(map.on_the_way(slot(10)), None);
        let before = map.count_unowned();
        map.take_claims(0, &[range(0, 4, 1), range(6, 9, 1)], &[]);
        assert_eq!((owner(&map, 5), map.on_the_way(slot(5)).unwrap().places), (None, vec![0]));
        assert_eq!((before, map.count_unowned()), (4086, 4087));
        map.take_claims(1, &[], &[range(5, 5, 2)]);
        assert_eq!(map.on_the_way(slot(5)).unwrap().places, [0, 1]);
        map.take_claims(1, &[range(5, 5, 2)], &[]);
        assert_eq!((owner(&map, 5), map.on_the_way(slot(5))), (Some((1, 2)), None));
        // While it is imported, a slot still belongs to its owner.
        map.take_claims(2, &[], &[range(0, 0, 2), range(20, 20, 2)]);
        assert_eq!((owner(&map, 0), map.on_the_way(slot(0))), (Some((0, 1)), None));
        // A gateway that started during the pause never saw the owner.
        assert_eq!(map.on_the_way(slot(20)).unwrap().places, [2]);
    }

    #[test]
    fn a_claim_that_a_moved_answer_has_overtaken_sends_nobody_back() {
        let map = SlotMap::default();
        map.take_claims(0, &[range(0, 9, 1)], &[]);
        map.note_moved(&released(5, "shard-2", 2), Some(1));
        assert_eq!((owner(&map, 5), owner(&map, 6)), (None, Some((0, 1))));
        let known = map.on_the_way(slot(5)).unwrap();
        assert_eq!((known.places, known.may_be_anywhere), (vec![0, 1], false));
        // The source's answer from before the release arrives late.
        map.take_claims(0, &[range(0, 8, 1)], &[]);
        map.take_claims(0, &[range(0, 9, 1)], &[]);
        assert_eq!(owner(&map, 5), None);
        map.take_claims(1, &[range(5, 5, 2)], &[]);
        assert_eq!(owner(&map, 5), Some((1, 2)));
        map.note_moved(&released(5, "shard-2", 2), Some(1));
        assert_eq!(owner(&map, 5), Some((1, 2)));
    }

    #[test]
    fn a_move_that_was_given_up_leads_back_to_the_source() {
        let map = SlotMap::default();
        map.take_claims(0, &[range(0, 9, 1)], &[]);
        map.note_moved(&released(5, "shard-2", 2), Some(1));
        map.take_claims(0, &[range(0, 4, 1), range(5, 5, 3), range(6, 9, 1)], &[]);
        assert_eq!(owner(&map, 5), Some((0, 3)));
    }

    #[test]
    fn an_importer_that_is_asked_too_early_does_not_make_the_owners_claim_old() {
        let map = SlotMap::default();
        // The gateway missed that shard 1 released the slot at epoch 4 and shard 0 owns it; it comes back to
        // 1 at 5.
        map.take_claims(1, &[range(5, 5, 3)], &[]);
        map.note_moved(&Moved { slot: slot(5), owner: None, epoch: 5 }, None);
        assert_eq!(owner(&map, 5), None);
        assert!(map.on_the_way(slot(5)).unwrap().may_be_anywhere, "the owner is another than those two");
        map.take_claims(0, &[range(5, 5, 4)], &[]);
        assert_eq!(owner(&map, 5), Some((0, 4)));
    }

    #[test]
    fn a_target_that_is_not_in_the_configuration_is_remembered_by_its_name() {
        let map = SlotMap::default();
        map.take_claims(0, &[range(0, 9, 1)], &[]);
        map.note_moved(&released(5, "shard-9", 2), None);
        let known = map.on_the_way(slot(5)).unwrap();
        assert_eq!((known.places, known.unlisted_owner.as_deref()), (vec![0], Some("shard-9")));
    }

    #[tokio::test]
    async fn whoever_waits_for_an_owner_is_woken_by_it_and_else_not_kept_longer_than_asked() {
        let map = SlotMap::default();
        map.take_claims(0, &[range(0, 9, 1)], &[]);
        map.note_moved(&released(5, "shard-2", 2), Some(1));
        let soon = || Instant::now() + Duration::from_millis(20);
        assert_eq!(map.owner_before(slot(5), soon()).await, None);
        let flip = async { map.take_claims(1, &[range(5, 5, 2)], &[]) };
        let late = Instant::now() + Duration::from_mins(10);
        let (found, ()) = tokio::join!(map.owner_before(slot(5), late), flip);
        assert_eq!(found, Some(Owner { place: 1, epoch: 2 }));
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
