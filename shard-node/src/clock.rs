//! The wall clock of this machine: the one place where the process reads it.
//!
//! No clock of a node decides about money or order: ids and times are the primary's, read under the users' locks, and
//! waiting goes by the monotonic clock. What is left is what people read (logs) and how old a remembered answer may be. A test
//! can set it (`testing.clock_offset_seconds`), to show just that.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

static OFFSET_SECONDS: AtomicI64 = AtomicI64::new(0);

/// What time it is, as far as this machine knows.
pub fn now() -> Timestamp {
    let offset = SignedDuration::from_secs(OFFSET_SECONDS.load(Ordering::Relaxed));
    Timestamp::now()
        .saturating_add(offset)
        .expect("a duration, unlike a calendar's month, can always be added")
}

/// The same for a line of the log.
pub fn now_text() -> String {
    format!("{:.6}", now())
}

/// From now on the process takes its clock to be so much ahead.
pub fn set_offset(seconds: i64) {
    if seconds != 0 {
        tracing::warn!(seconds, "testing: this process takes its clock to be ahead by this much");
    }
    OFFSET_SECONDS.store(seconds, Ordering::Relaxed);
}
