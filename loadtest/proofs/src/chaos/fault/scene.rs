//! What a fault strikes, and who looks at it meanwhile.

use std::time::Duration;

use picopay_local::LocalCluster;

use crate::chaos::probe::Probe;

/// What a fault strikes, and who looks at it meanwhile.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The cluster.
    pub cluster: &'a LocalCluster,
    /// A user of each shard.
    pub probe: &'a mut Probe,
    /// The seed, for what a fault draws itself.
    pub seed: u64,
    /// How long users waited at most although the fault went on: only where they have to be served.
    pub waited_during: Option<Duration>,
}
