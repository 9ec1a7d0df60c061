//! When something happened: since the run began for comparing, by the wall's clock for finding it in a log.

use std::time::{Duration, Instant, SystemTime};

#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    began_at: SystemTime,
}

impl Clock {
    pub fn start() -> Self {
        Self { began: Instant::now(), began_at: SystemTime::now() }
    }

    pub fn now(self) -> Duration {
        self.began.elapsed()
    }

    pub fn unix_ms(self, moment: Duration) -> i64 {
        let since = (self.began_at + moment).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}
