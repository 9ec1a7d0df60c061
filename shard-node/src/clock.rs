//! The wall clock of this machine, which the process reads only here.
//!
//! No clock of a node decides about money or order. Ids and times are the primary's, read under the users'
//! locks, and timeouts use the monotonic clock. This one serves logs and the age of cached answers. A test
//! can shift it (`testing.clock_offset_seconds`) to show that.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

static OFFSET_SECONDS: AtomicI64 = AtomicI64::new(0);

pub fn now() -> Timestamp {
    let offset = SignedDuration::from_secs(OFFSET_SECONDS.load(Ordering::Relaxed));
    Timestamp::now()
        .saturating_add(offset)
        .expect("a duration, unlike a calendar's month, can always be added")
}

pub fn now_text() -> String {
    format!("{:.6}", now())
}

pub fn set_offset(seconds: i64) {
    if seconds != 0 {
        tracing::warn!(seconds, "testing: this process takes its clock to be ahead by this much");
    }
    OFFSET_SECONDS.store(seconds, Ordering::Relaxed);
}
