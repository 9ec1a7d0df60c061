//! Which slots should change hands: pure, from who owns what to the moves that make it even.
//!
//! By slots, no slot moves needlessly: each shard ends with 4096/N slots, rounded up or down. By rows, shards end within
//! the largest slot of each other. Slots are taken as runs next to what the target has, so that a map of ranges stays
//! short.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

#[derive(Debug, Clone)]
pub struct Holdings {
    /// How many shards there are; more than own slots now, when one is new.
    pub shards: usize,
    pub owners: Vec<usize>,
    pub rows: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// In rising order; at least one.
    pub slots: Vec<u16>,
    pub from: usize,
    pub to: usize,
}

impl Holdings {
    pub fn slots_per_shard(&self) -> Vec<usize> {
        let mut counts = vec![0; self.shards];
        for owner in &self.owners {
            counts[*owner] += 1;
        }
        counts
    }

    pub fn rows_per_shard(&self) -> Vec<u64> {
        let mut sums = vec![0; self.shards];
        for (owner, rows) in self.owners.iter().zip(&self.rows) {
            sums[*owner] += rows;
        }
        sums
    }

    pub fn rows_of(&self, slots: &[u16]) -> u64 {
        slots.iter().map(|slot| self.rows[usize::from(*slot)]).sum()
    }

    #[must_use]
    pub fn after(&self, moves: &[Move]) -> Self {
        let mut after = self.clone();
        for one in moves {
            for slot in &one.slots {
                after.owners[usize::from(*slot)] = one.to;
            }
        }
        after
    }
}

/// The fewest moves after which every shard owns 4096/N slots, rounded up or down.
pub fn even_by_slots(now: &Holdings) -> Vec<Move> {
    let counts = now.slots_per_shard();
    let (share, rest) = (now.owners.len() / now.shards, now.owners.len() % now.shards);
    let mut by_count: Vec<usize> = (0..now.shards).collect();
    by_count.sort_by_key(|shard| std::cmp::Reverse(counts[*shard]));
    let mut targets = vec![share; now.shards];
    for shard in by_count.into_iter().take(rest) {
        targets[shard] += 1;
    }
    reach(now, &targets)
}

/// Afterwards the rows of any two shards differ by no more than the largest slot has. Slots without rows stay.
///
/// Slots are taken in runs: hashing makes them nearly equal, so taking the largest first would spare few moves and scatter
/// the ranges.
pub fn even_by_rows(now: &Holdings) -> Vec<Move> {
    let largest = now.rows.iter().copied().max().unwrap_or(0);
    let mean = now.rows.iter().sum::<u64>() / u64::try_from(now.shards).expect("a count of shards");
    let mut then = now.clone();
    let mut loads = now.rows_per_shard();
    loop {
        let most = (0..now.shards).max_by_key(|shard| loads[*shard]).expect("at least one shard");
        let least = (0..now.shards).min_by_key(|shard| loads[*shard]).expect("at least one shard");
        // Whatever is moved has fewer rows than this difference, so the sum of the squares of the loads falls: it ends.
        if loads[most] - loads[least] <= largest {
            return difference(now, &then);
        }
        let room = (loads[most] - mean).min(mean - loads[least]);
        for slot in slots_up_to(&then, most, least, room) {
            then.owners[usize::from(slot)] = least;
            loads[most] -= then.rows[usize::from(slot)];
            loads[least] += then.rows[usize::from(slot)];
        }
    }
}

/// Each slot goes to whoever has the fewest by then. The others keep what they have.
pub fn drain(now: &Holdings, shard: usize) -> Vec<Move> {
    let mut targets = now.slots_per_shard();
    for _ in 0..std::mem::take(&mut targets[shard]) {
        let others = (0..now.shards).filter(|other| *other != shard);
        let Some(least) = others.min_by_key(|other| targets[*other]) else { return Vec::new() };
        targets[least] += 1;
    }
    reach(now, &targets)
}

pub fn gather(now: &Holdings, slots: &[u16], to: usize) -> Vec<Move> {
    let mut then = now.clone();
    for slot in slots {
        then.owners[usize::from(*slot)] = to;
    }
    difference(now, &then)
}

fn reach(now: &Holdings, targets: &[usize]) -> Vec<Move> {
    let mut then = now.clone();
    let mut counts = now.slots_per_shard();
    for from in 0..now.shards {
        for to in 0..now.shards {
            let surplus = counts[from].saturating_sub(targets[from]);
            let count = surplus.min(targets[to].saturating_sub(counts[to]));
            take_runs(&mut then.owners, from, to, count);
            counts[from] -= count;
            counts[to] += count;
        }
    }
    difference(now, &then)
}

/// Whole runs where they fit, and the rest cut from the end of a run.
fn take_runs(owners: &mut [usize], from: usize, to: usize, count: usize) {
    let mut left = count;
    while left > 0 {
        let runs = runs_of(owners, from);
        let length = |run: &RangeInclusive<usize>| run.end() - run.start() + 1;
        let whole = runs.iter().filter(|run| length(run) <= left).max_by_key(|run| length(run));
        let taken = if let Some(run) = whole {
            run.clone()
        } else {
            let side = |run: &RangeInclusive<usize>| neighbour(owners, run, to);
            let cut = runs.iter().min_by_key(|run| (side(run).is_none(), length(run)));
            let cut = cut.expect("no more is asked for than the shard has");
            match side(cut) {
                Some(RunEnd::Head) => *cut.start()..=cut.start() + left - 1,
                Some(RunEnd::Tail) | None => cut.end() - (left - 1)..=*cut.end(),
            }
        };
        left -= length(&taken);
        owners[taken].fill(to);
    }
}

/// Next to what `to` has, if there is such a place; the smallest single one when none fits.
fn slots_up_to(then: &Holdings, from: usize, to: usize, room: u64) -> Vec<u16> {
    let runs = runs_of(&then.owners, from);
    let beside = runs.iter().find_map(|run| Some((run, neighbour(&then.owners, run, to)?)));
    let mut order: Vec<usize> = match beside {
        Some((run, RunEnd::Head)) => run.clone().collect(),
        Some((run, RunEnd::Tail)) => run.clone().rev().collect(),
        None => Vec::new(),
    };
    order.extend(runs.iter().rev().flat_map(|run| run.clone().rev()));
    order.retain(|slot| then.rows[*slot] > 0);
    let smallest = order.iter().copied().min_by_key(|slot| then.rows[*slot]);
    let (mut taken, mut sum) = (Vec::new(), 0);
    for slot in order {
        let fits = sum + then.rows[slot] <= room;
        if fits && !taken.contains(&slot) {
            taken.push(slot);
            sum += then.rows[slot];
        } else if !fits && !taken.is_empty() {
            break;
        }
    }
    if taken.is_empty() {
        taken.extend(smallest);
    }
    taken.into_iter().map(to_slot).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunEnd {
    Head,
    Tail,
}

/// At which end of `run` the next slot is `other`'s.
fn neighbour(owners: &[usize], run: &RangeInclusive<usize>, other: usize) -> Option<RunEnd> {
    if run.start().checked_sub(1).is_some_and(|before| owners[before] == other) {
        Some(RunEnd::Head)
    } else if owners.get(run.end() + 1) == Some(&other) {
        Some(RunEnd::Tail)
    } else {
        None
    }
}

fn runs_of(owners: &[usize], shard: usize) -> Vec<RangeInclusive<usize>> {
    let mut runs: Vec<RangeInclusive<usize>> = Vec::new();
    for slot in (0..owners.len()).filter(|slot| owners[*slot] == shard) {
        match runs.last_mut() {
            Some(run) if run.end() + 1 == slot => *run = *run.start()..=slot,
            _ => runs.push(slot..=slot),
        }
    }
    runs
}

fn difference(now: &Holdings, then: &Holdings) -> Vec<Move> {
    let mut moves: BTreeMap<(usize, usize), Vec<u16>> = BTreeMap::new();
    for (slot, (from, to)) in now.owners.iter().zip(&then.owners).enumerate() {
        if from != to {
            moves.entry((*from, *to)).or_default().push(to_slot(slot));
        }
    }
    moves.into_iter().map(|((from, to), slots)| Move { slots, from, to }).collect()
}

fn to_slot(position: usize) -> u16 {
    u16::try_from(position).expect("at most the number of slots")
}

#[cfg(test)]
mod tests;
