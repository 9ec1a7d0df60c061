//! A pace: so many rows a second and no more, so that users have the rest of the machine.

use std::num::NonZeroU32;
use std::time::Duration;

/// How long so many rows take at this pace.
pub fn time_for(rows: u64, rows_per_second: NonZeroU32) -> Duration {
    Duration::from_millis(rows.saturating_mul(1000) / u64::from(rows_per_second.get()))
}
