//! What a fault strikes, and who looks at it meanwhile.

use std::time::Duration;

use picopay_local::LocalCluster;

use crate::chaos::probe::Probe;

#[derive(Debug)]
pub struct Scene<'a> {
    pub cluster: &'a LocalCluster,
    pub probe: &'a mut Probe,
    pub seed: u64,
    /// Only of a fault during which users have to be served.
    pub waited_during: Option<Duration>,
}
