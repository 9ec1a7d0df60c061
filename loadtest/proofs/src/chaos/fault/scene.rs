//! What a fault strikes, and who looks at it meanwhile.

use std::time::Duration;

use picopay_local::LocalCluster;

use crate::chaos::probe::Probe;

#[derive(Debug)]
pub struct Scene<'a> {
    pub cluster: &'a LocalCluster,
    pub probe: &'a mut Probe,
    pub seed: u64,
    /// How long users waited at most although the fault went on: only where they have to be served.
    pub waited_during: Option<Duration>,
}
