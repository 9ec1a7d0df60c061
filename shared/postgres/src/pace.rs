//! A pace: so many rows a second at most, so that users have the rest of the machine.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How far behind its pace something may be and still make up for it: two ticks of the clock that wakes it.
///
/// What is behind is so because the machine is busy. Whoever then makes up for more takes a whole processor, just when
/// users miss it most.
const LAG_MAX: Duration = Duration::from_millis(2);

pub fn time_for(rows: u64, rows_per_second: NonZeroU32) -> Duration {
    Duration::from_secs(rows) / rows_per_second.get()
}

#[derive(Debug)]
pub struct Pace {
    rows_per_second: Option<NonZeroU32>,
    due: Instant,
}

impl Pace {
    pub fn new(rows_per_second: Option<NonZeroU32>) -> Self {
        Self { rows_per_second, due: Instant::now() }
    }

    /// Waits until so many more rows have had their time.
    pub async fn spend(&mut self, rows: u64) {
        if let Some(rows_per_second) = self.rows_per_second {
            let earliest = Instant::now().checked_sub(LAG_MAX).unwrap_or(self.due);
            self.due = self.due.max(earliest) + time_for(rows, rows_per_second);
            sleep_until(self.due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, pause};

    use super::*;

    const A_MILLISECOND: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn rows_have_their_time_however_few_come_at_once() {
        pause();
        let mut pace = Pace::new(NonZeroU32::new(75_000));
        let began = Instant::now();
        for _ in 0..1_500 {
            pace.spend(50).await;
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(1) && took <= Duration::from_secs(1) + A_MILLISECOND, "{took:?}");
    }

    #[tokio::test]
    async fn what_is_far_behind_does_not_run_to_make_up_for_it() {
        pause();
        let mut pace = Pace::new(NonZeroU32::new(1_000));
        advance(Duration::from_secs(5)).await;
        let began = Instant::now();
        pace.spend(100).await;
        let took = began.elapsed();
        let with_the_lag = took + LAG_MAX;
        assert!(with_the_lag >= 100 * A_MILLISECOND && with_the_lag <= 101 * A_MILLISECOND, "{took:?}");
        let unhurried = Instant::now();
        Pace::new(None).spend(u64::MAX).await;
        assert_eq!(unhurried.elapsed(), Duration::ZERO);
    }
}
