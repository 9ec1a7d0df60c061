//! The shards of the `cluster.toml` in force, each at a place that stays its own.
//!
//! The slot map names owners by these places, and outlives every reload with what it knows. A place that was given to a
//! name is never given to another: users of a shard that was removed must hear that theirs is gone, and not meet the next.

use std::ops::Deref;
use std::sync::Arc;

use picopay_shared::cluster::{self, Cluster};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::shard::Shard;

/// All shards, replaced as a whole.
#[derive(Debug, Default)]
pub struct ShardSet {
    places: Vec<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    name: String,
    /// `None` once `cluster.toml` names it no more.
    shard: Option<Arc<OpenShard>>,
}

/// The entrance to a shard's way. Who holds it may hand in requests; when the last has let go of it, the way finishes what
/// it accepted and ends.
#[derive(Debug)]
pub struct OpenShard {
    way: Arc<Shard>,
    closing: DropGuard,
}

impl OpenShard {
    /// The entrance to `way`, whose pipes and poll end with `closing`.
    pub fn new(way: Arc<Shard>, closing: CancellationToken) -> Self {
        Self { way, closing: closing.drop_guard() }
    }

    /// What its tasks work on. Not for requests: it does not keep the entrance open.
    pub fn way(&self) -> &Arc<Shard> {
        &self.way
    }

    /// Cancelled when nobody holds the entrance any more.
    pub fn closing(&self) -> CancellationToken {
        self.closing.token().clone()
    }
}

impl Deref for OpenShard {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.way
    }
}

impl ShardSet {
    /// The shard at this place, while there is one.
    pub fn get(&self, place: usize) -> Option<&Arc<OpenShard>> {
        self.places.get(place)?.shard.as_ref()
    }

    /// Whose place it is, or was.
    pub fn name(&self, place: usize) -> Option<&str> {
        self.places.get(place).map(|place| place.name.as_str())
    }

    /// Those that are there.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<OpenShard>> {
        self.places.iter().filter_map(|place| place.shard.as_ref())
    }

    /// The set after a reload. A shard whose entry says the same of what a gateway uses is taken over as it is, with its
    /// lanes, its breaker and who waits in it; `open` makes a new way for each other one, at its place.
    pub fn changed_to(
        &self,
        cluster: &Cluster,
        mut open: impl FnMut(usize, &cluster::Shard) -> Arc<OpenShard>,
    ) -> Self {
        let mut places: Vec<Place> =
            self.places.iter().map(|place| Place { name: place.name.clone(), shard: None }).collect();
        for entry in &cluster.shards {
            let number = places.iter().position(|place| place.name == entry.name).unwrap_or_else(|| {
                places.push(Place { name: entry.name.clone(), shard: None });
                places.len() - 1
            });
            let same = self.get(number).filter(|shard| shard.nodes.are(&entry.nodes)).cloned();
            places[number].shard = Some(same.unwrap_or_else(|| open(number, entry)));
        }
        Self { places }
    }
}
