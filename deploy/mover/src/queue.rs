//! What shares a pause, and what runs next: the batches of a plan, in the order in which they may run.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::plan::{Holdings, Move};

/// A second or so of copying, so that Ctrl-C is soon obeyed. Only what is new, users and balances are left for the pause.
/// Each batch stops its source for a moment at the fence, so larger ones stop it less.
pub const ROWS_MAX: u64 = 60_000;

/// In a nearly empty cluster, this bounds the users whom one pause meets.
pub const SLOTS_MAX: usize = 128;

/// Four halvings make 128 slots 8: then the size is not why it exceeds the pause budget.
pub const TRIES_MAX: u32 = 5;

/// Slots that share a pause. Shards are positions in the plan's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBatch {
    /// In rising order; at least one.
    pub slots: Vec<u16>,
    pub from: usize,
    pub to: usize,
    pub rows: u64,
    pub tries: u32,
}

impl PlannedBatch {
    #[must_use]
    pub fn without(&self, slots: &[i16]) -> Self {
        let is_left = |slot: &u16| !slots.contains(&slot.cast_signed());
        Self { slots: self.slots.iter().copied().filter(is_left).collect(), ..self.clone() }
    }
}

/// A pause that is longer makes the next batches half as large. A client that retries once a second then still succeeds at
/// its first retry. Most of a pause grows with the users whose balances are compared in it.
const PAUSE_GOAL: Duration = Duration::from_millis(200);

/// One that is shorter makes them twice as large, up to the most: then they pause for about the goal.
const PAUSE_SHORT: Duration = Duration::from_millis(100);

/// An eighth of the most: a smaller batch pauses hardly less, and stops its source at the fence as long.
const HALVINGS_MAX: u32 = 3;

/// The first batch is small, since nobody knows yet how long one pauses here.
const HALVINGS_AT_FIRST: u32 = 2;

#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<PlannedBatch>,
    busy: HashSet<usize>,
    parallel_max: usize,
    rows: Vec<u64>,
    halvings: u32,
}

impl Queue {
    /// Of which `parallel_max` may run at once, no two of them on one shard.
    pub fn new(holdings: &Holdings, moves: &[Move], parallel_max: usize) -> Self {
        let batches = moves.iter().flat_map(|one| batches_of(one, holdings));
        Self {
            waiting: batches.collect(),
            busy: HashSet::new(),
            parallel_max,
            rows: holdings.rows.clone(),
            halvings: HALVINGS_AT_FIRST,
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the next one whose shards are idle. [`Self::ended`] frees them.
    pub fn take(&mut self) -> Option<PlannedBatch> {
        if self.busy.len() >= 2 * self.parallel_max {
            return None;
        }
        let is_idle =
            |batch: &PlannedBatch| !self.busy.contains(&batch.from) && !self.busy.contains(&batch.to);
        let position = self.waiting.iter().position(is_idle)?;
        let mut batch = self.waiting.remove(position)?;
        if let Some(rest) = self.split_off(&mut batch) {
            self.waiting.insert(position, rest);
        }
        self.busy.extend([batch.from, batch.to]);
        Some(batch)
    }

    /// Adapts the size of the next batches to how long one of them paused.
    pub fn note_pause(&mut self, pause: Duration) {
        if pause > PAUSE_GOAL {
            self.halvings = (self.halvings + 1).min(HALVINGS_MAX);
        } else if pause < PAUSE_SHORT {
            self.halvings = self.halvings.saturating_sub(1);
        }
    }

    /// What exceeds the size that batches have now.
    fn split_off(&self, batch: &mut PlannedBatch) -> Option<PlannedBatch> {
        let (rows_max, slots_max) = (ROWS_MAX >> self.halvings, SLOTS_MAX >> self.halvings);
        let sums = batch.slots.iter().take(slots_max).scan(0, |sum, slot| {
            *sum += self.rows[usize::from(*slot)];
            Some(*sum)
        });
        // At least one, however many rows it has.
        let fitting = sums.take_while(|sum| *sum <= rows_max).count().max(1);
        let slots = batch.slots.split_off(fitting);
        if slots.is_empty() {
            return None;
        }
        let rest_rows = self.rows_of(&slots);
        batch.rows = self.rows_of(&batch.slots);
        Some(PlannedBatch { slots, rows: rest_rows, ..*batch })
    }

    fn rows_of(&self, slots: &[u16]) -> u64 {
        slots.iter().map(|slot| self.rows[usize::from(*slot)]).sum()
    }

    pub fn ended(&mut self, batch: &PlannedBatch) {
        self.busy.remove(&batch.from);
        self.busy.remove(&batch.to);
    }

    /// In halves, at the end of the queue. Returns `false` when its slots were tried often enough.
    pub fn try_again(&mut self, batch: &PlannedBatch) -> bool {
        if batch.tries >= TRIES_MAX {
            return false;
        }
        for slots in batch.slots.chunks(batch.slots.len().div_ceil(2)) {
            let (rows, tries) = (self.rows_of(slots), batch.tries + 1);
            self.waiting.push_back(PlannedBatch { slots: slots.to_vec(), rows, tries, ..*batch });
        }
        true
    }
}

fn batches_of(planned: &Move, holdings: &Holdings) -> Vec<PlannedBatch> {
    let mut batches: Vec<PlannedBatch> = Vec::new();
    for slot in &planned.slots {
        let rows = holdings.rows[usize::from(*slot)];
        match batches.last_mut() {
            Some(batch) if batch.slots.len() < SLOTS_MAX && batch.rows + rows <= ROWS_MAX => {
                batch.slots.push(*slot);
                batch.rows += rows;
            }
            _ => batches.push(PlannedBatch {
                slots: vec![*slot],
                from: planned.from,
                to: planned.to,
                rows,
                tries: 1,
            }),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holdings(rows_of_each: u64) -> Holdings {
        Holdings { shards: 4, owners: vec![0; 4096], rows: vec![rows_of_each; 4096] }
    }

    fn one_move(slots: std::ops::Range<u16>, from: usize, to: usize) -> Move {
        Move { slots: slots.collect(), from, to }
    }

    /// 1,024 slots, after batches that paused hardly at all.
    fn at_full_size(rows_of_each: u64) -> Queue {
        let mut queue = Queue::new(&holdings(rows_of_each), &[one_move(0..1024, 0, 1)], 1);
        (0..HALVINGS_AT_FIRST).for_each(|_| queue.note_pause(Duration::ZERO));
        queue
    }

    #[test]
    fn a_batch_has_as_many_slots_as_fit_its_rows_and_at_least_one() {
        for (rows_of_each, slots, batches) in
            [(0, 128, 8), (300, 128, 8), (1_000, 60, 18), (59_999, 1, 1024), (1_000_000, 1, 1024)]
        {
            let mut queue = at_full_size(rows_of_each);
            assert_eq!(queue.len(), batches);
            let first = queue.take().unwrap();
            assert_eq!((first.slots.len(), first.rows), (slots, rows_of_each * slots as u64));
        }
    }

    #[test]
    fn batches_shrink_while_pauses_are_long_and_grow_when_they_are_short() {
        let mut queue = Queue::new(&holdings(1_000), &[one_move(0..1024, 0, 1)], 1);
        let mut slots = Vec::new();
        for pause_ms in [201, 200, 201, 201, 500, 100, 99, 99, 99, 99] {
            let batch = queue.take().unwrap();
            assert_eq!(batch.rows, 1_000 * batch.slots.len() as u64);
            slots.extend(batch.slots.clone());
            queue.ended(&batch);
            queue.note_pause(Duration::from_millis(pause_ms));
            let next = queue.waiting.front().unwrap().slots.first();
            assert_eq!(next, slots.last().map(|last| last + 1).as_ref(), "the rest is next");
        }
        let mut sizes = Vec::new();
        while let Some(batch) = queue.take() {
            sizes.push(batch.slots.len());
            slots.extend(batch.slots.clone());
            queue.ended(&batch);
        }
        assert_eq!(slots, (0..1024).collect::<Vec<_>>(), "each slot once");
        assert!(sizes.contains(&60), "as large as before: {sizes:?}");
    }

    #[test]
    fn long_pauses_halve_what_a_batch_has_three_times_at_most() {
        let first = Queue::new(&holdings(0), &[one_move(0..1024, 0, 1)], 1).take().unwrap();
        assert_eq!(first.slots.len(), 32, "a quarter, until one has paused");
        let mut queue = at_full_size(0);
        let sizes = [128, 64, 32, 16, 16].map(|_| {
            let batch = queue.take().unwrap();
            queue.ended(&batch);
            queue.note_pause(Duration::from_secs(1));
            batch.slots.len()
        });
        assert_eq!(sizes, [128, 64, 32, 16, 16]);
        let huge = Queue::new(&holdings(1_000_000), &[one_move(0..2, 0, 1)], 1).take().unwrap();
        assert_eq!(huge.slots, [0], "a slot is never split");
    }

    #[test]
    fn no_shard_has_two_moves_at_once() {
        let moves = [one_move(0..1, 0, 1), one_move(1..2, 2, 1), one_move(2..3, 2, 3), one_move(3..4, 0, 3)];
        let mut queue = Queue::new(&holdings(1), &moves, 2);
        let (first, second) = (queue.take().unwrap(), queue.take().unwrap());
        assert_eq!(((first.from, first.to), (second.from, second.to)), ((0, 1), (2, 3)));
        assert_eq!(queue.take(), None);
        queue.ended(&second);
        assert_eq!(queue.take(), None, "shard 1 still takes from 0");
        queue.ended(&first);
        assert_eq!(queue.take().map(|next| (next.from, next.to)), Some((2, 1)));
        let mut one_at_once = Queue::new(&holdings(1), &moves, 1);
        assert!(one_at_once.take().is_some() && one_at_once.take().is_none());
    }

    #[test]
    fn an_aborted_batch_is_tried_in_halves_and_given_up_in_the_end() {
        let mut queue = Queue::new(&holdings(1), &[one_move(0..128, 0, 1)], 1);
        (0..HALVINGS_AT_FIRST).for_each(|_| queue.note_pause(Duration::ZERO));
        let (mut given_up, mut sizes) = (0, Vec::new());
        while let Some(batch) = queue.take() {
            queue.ended(&batch);
            sizes.push(batch.slots.len());
            if !queue.try_again(&batch) {
                given_up += batch.slots.len();
            }
        }
        assert_eq!((sizes[0], sizes[1], sizes.last(), given_up), (128, 64, Some(&8), 128));
        let single = PlannedBatch { slots: vec![9], from: 0, to: 1, rows: 1, tries: 1 };
        assert!(queue.try_again(&single));
        assert_eq!(
            queue.take(),
            Some(PlannedBatch { tries: 2, ..single }),
            "a single slot is tried as it is"
        );
    }
}
