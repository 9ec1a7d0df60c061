//! The shards of the `cluster.toml` in force, each with a number that stays its own.
//!
//! The slot map names owners by these numbers and survives every reload. So a number is never reused: users
//! of a removed shard must not reach the next one.

use std::ops::Deref;
use std::sync::Arc;

use picopay_shared::cluster::{self, Cluster};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::shard::Shard;

#[derive(Debug, Default)]
pub struct ShardSet {
    places: Vec<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    name: String,
    /// `None` once `cluster.toml` no longer names it.
    shard: Option<Arc<OpenShard>>,
}

/// The handle of a shard. Its holders may hand in requests. When the last one drops it, the shard finishes
/// what it accepted and ends.
#[derive(Debug)]
pub struct OpenShard {
    shard: Arc<Shard>,
    closing: DropGuard,
}

impl OpenShard {
    pub fn new(shard: Arc<Shard>, closing: CancellationToken) -> Self {
        Self { shard, closing: closing.drop_guard() }
    }

    /// What the shard's tasks work on. Not for requests, because it does not keep the shard open.
    pub fn inner(&self) -> &Arc<Shard> {
        &self.shard
    }

    /// Cancelled when the last handle is dropped.
    pub fn closing(&self) -> CancellationToken {
        self.closing.token().clone()
    }
}

impl Deref for OpenShard {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl ShardSet {
    pub fn get(&self, place: usize) -> Option<&Arc<OpenShard>> {
        self.places.get(place)?.shard.as_ref()
    }

    pub fn name(&self, place: usize) -> Option<&str> {
        self.places.get(place).map(|place| place.name.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<OpenShard>> {
        self.places.iter().filter_map(|place| place.shard.as_ref())
    }

    /// The set after a reload. A shard with unchanged entries stays as it is, with its lanes, its breaker and
    /// its waiting commands. `open` opens each other shard under its number.
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
    use picopay_shared::cluster::{DatabaseCertificates, Durability, RedisAccess};
    use picopay_shared::config::Secret;

    use super::*;
    use prometheus::Registry;

    use crate::config::ShardClientConfig;
    use crate::metrics::Metrics;
    use crate::nodes::Nodes;
    use crate::wire::Wire;

    fn cluster(shards: &[&str]) -> Cluster {
        let shard = |text: &&str| cluster::Shard {
            cluster_id: None,
            name: text[..1].to_owned(),
            nodes: vec![format!("http://127.0.0.1:{}", &text[1..])],
            primary: format!("host={text}"),
            replicas: Vec::new(),
            password: None,
            certificates: DatabaseCertificates::default(),
            redis: None,
            redis_access: RedisAccess::default(),
            durability: Durability::Replicated,
        };
        Cluster {
            internal_secret: Secret::new("s"),
            caller: None,
            shards: shards.iter().map(shard).collect(),
        }
    }

    fn open(place: usize, entry: &cluster::Shard) -> Arc<OpenShard> {
        let (config, metrics) = (ShardClientConfig::default(), Metrics::new(&Registry::new()));
        let wire = Wire::new(&config, &Secret::new("s"), None);
        let nodes =
            Nodes::new(entry, &wire, config.batch_interval, |position| metrics.node(&entry.name, position));
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
            Arc::ptr_eq(before.get(place).unwrap().inner(), after.get(place).unwrap().inner())
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
