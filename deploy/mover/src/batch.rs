//! What a mover is asked to do, and the figures of what it did.

use std::num::NonZeroU32;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub slots: Vec<u16>,
    pub from: String,
    pub to: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A move that takes longer is given up, and the source serves again.
    pub pause_budget: Duration,
    /// While charges go on. `None` for as fast as the shards can. What is copied in the pause is never held back.
    pub rows_per_second: Option<NonZeroU32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    pub rows: u64,
    pub copy: Duration,
    /// How long users waited: from the fence on until the target had taken the slots.
    pub pause: Duration,
}
