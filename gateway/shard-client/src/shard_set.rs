//! The shards of the `cluster.toml` in force, each at a place that stays its own.
//!
//! The slot map names owners by these places, and outlives every reload with what it knows. A place that was given to a
//! name is never given to another: users of a shard that was removed must hear that theirs is gone, and not meet the next.

use std::ops::Deref;
use std::sync::Arc;

use picopay_shared::cluster::{self, Cluster};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::shard::Shard;

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

#[cfg(test)]
mod tests {
    use picopay_shared::cluster::Durability;
    use picopay_shared::config::Secret;

    use super::*;
    use prometheus::Registry;

    use crate::config::ShardClientConfig;
    use crate::metrics::Metrics;
    use crate::nodes::Nodes;
    use crate::wire::Wire;

    /// `a1` is shard `a` with a node at port 1.
    fn cluster(shards: &[&str]) -> Cluster {
        let shard = |text: &&str| cluster::Shard {
            cluster_id: None,
            name: text[..1].to_owned(),
            nodes: vec![format!("http://127.0.0.1:{}", &text[1..])],
            primary: format!("host={text}"),
            replicas: Vec::new(),
            password: None,
            redis: None,
            durability: Durability::Replicated,
        };
        Cluster { internal_secret: Secret::new("s"), shards: shards.iter().map(shard).collect() }
    }

    /// A way on which nothing is sent.
    fn open(place: usize, entry: &cluster::Shard) -> Arc<OpenShard> {
        let (config, metrics) = (ShardClientConfig::default(), Metrics::new(&Registry::new()));
        let wire = Wire::new(&config, &Secret::new("s"));
        let nodes = Nodes::new(entry, wire, |position| metrics.node(&entry.name, position));
        let shard = Arc::new(Shard::new(place, entry, nodes, &config, &metrics));
        Arc::new(OpenShard::new(shard, CancellationToken::new()))
    }

    #[tokio::test]
    async fn a_shard_keeps_its_place_for_ever_and_its_way_while_its_nodes_are_the_same() {
        let first = ShardSet::default().changed_to(&cluster(&["a1", "b2"]), open);
        let second = first.changed_to(&cluster(&["c3", "b4", "a1"]), open);
        let third = second.changed_to(&cluster(&["c3"]), open);
        let fourth = third.changed_to(&cluster(&["d5", "b4", "c3"]), open);
        let names = |set: &ShardSet| {
            let all = (0..4).map(|place| set.get(place).map_or("-", |shard| shard.name.as_str()).to_owned());
            all.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            [&first, &second, &third, &fourth].map(names),
            ["a b - -", "a b c -", "- - c -", "- b c d"]
        );
        assert_eq!(third.name(0), Some("a"), "so that its users can be told which shard is gone");
        let is_same = |before: &ShardSet, after: &ShardSet, place| {
            Arc::ptr_eq(before.get(place).unwrap().way(), after.get(place).unwrap().way())
        };
        assert!(is_same(&first, &second, 0) && is_same(&second, &fourth, 2));
        assert!(!is_same(&first, &second, 1), "another node");
        assert!(!is_same(&second, &fourth, 1), "it was gone in between");
    }

    #[tokio::test]
    async fn a_way_ends_when_the_last_who_holds_its_entrance_lets_go() {
        let before = ShardSet::default().changed_to(&cluster(&["a1"]), open);
        let request = Arc::clone(before.get(0).unwrap());
        let closing = request.closing();
        drop(before);
        assert!(!closing.is_cancelled());
        drop(request);
        assert!(closing.is_cancelled());
    }
}
