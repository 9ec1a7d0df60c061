//! How soon after a batch a pipe starts the next one.
//!
//! Each batch has a fixed cost on every machine. So a pipe starts at most one every `batch_interval`. The
//! first command after a batch waits that long at most, and takes along those that came meanwhile. After a
//! batch that took as long as that, nobody waits.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    next: Option<Instant>,
    alarm: Alarm,
}

impl Pace {
    /// One batch every `interval` at most; zero means no limit.
    pub fn new(interval: Duration) -> Self {
        Self { interval, next: None, alarm: Alarm::new() }
    }

    pub async fn wait(&mut self) {
        if let Some(next) = self.next.take() {
            self.alarm.sleep(next.saturating_duration_since(Instant::now())).await;
        }
    }

    pub fn start(&mut self) {
        self.next = (!self.interval.is_zero()).then(|| Instant::now() + self.interval);
    }
}

/// A timer with microseconds. tokio's counts whole milliseconds and rounds up, so that 2 ms become nearly 3;
/// the kernel's does not (timerfd_create(2)).
#[derive(Debug)]
pub struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Option<tokio::io::unix::AsyncFd<linux::Timer>>,
}

impl Alarm {
    #[cfg(target_os = "linux")]
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe, for types whose descriptor may change; this one's does not"
    )]
    pub fn new() -> Self {
        // A process without a free file descriptor uses tokio's timer.
        let timer = linux::Timer::new().and_then(|timer| tokio::io::unix::AsyncFd::new(timer).ok());
        Self { timer }
    }

    #[cfg(not(target_os = "linux"))]
    pub fn new() -> Self {
        Self {}
    }

    pub async fn sleep(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        #[cfg(target_os = "linux")]
        if let Some(timer) = &self.timer
            && timer.get_ref().set(time)
        {
            loop {
                let Ok(mut ready) = timer.readable().await else { break };
                match ready.try_io(|timer| timer.get_ref().take()) {
                    Ok(_) => return,
                    Err(_would_block) => {}
                }
            }
        }
        tokio::time::sleep(time).await;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::time::Duration;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    #[derive(Debug)]
    pub struct Timer(TimerFd);

    impl Timer {
        pub fn new() -> Option<Self> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).ok().map(Self)
        }

        /// Sets it to go off once, after this time. Returns whether it will.
        pub fn set(&self, time: Duration) -> bool {
            let once = Expiration::OneShot(TimeSpec::from_duration(time));
            self.0.set(once, TimerSetTimeFlags::empty()).is_ok()
        }

        pub fn take(&self) -> io::Result<()> {
            self.0.wait().map_err(io::Error::from)
        }
    }

    impl AsRawFd for Timer {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn the_first_batch_waits_for_nothing_and_the_next_for_what_is_left_of_the_interval() {
        let mut pace = Pace::new(INTERVAL);
        let began = Instant::now();
        pace.wait().await;
        pace.start();
        // Less than the interval, so that some of it is left.
        tokio::time::sleep(INTERVAL / 4).await;
        pace.wait().await;
        assert!(began.elapsed() >= INTERVAL, "{:?}", began.elapsed());
        pace.start();
        // Long after the interval of the last one.
        tokio::time::sleep(INTERVAL * 2).await;
        let next = pace.next.unwrap();
        assert!(next < Instant::now());
        pace.wait().await;
        assert!(pace.next.is_none());
    }

    #[tokio::test]
    async fn an_alarm_wakes_no_earlier_than_it_was_set_to_and_again_and_again() {
        let alarm = Alarm::new();
        for us in [100, 1_500, 700, 1] {
            let (began, time) = (std::time::Instant::now(), Duration::from_micros(us));
            // How long this takes is what is tested.
            alarm.sleep(time).await;
            assert!(began.elapsed() >= time);
        }
    }

    #[tokio::test]
    async fn without_an_interval_no_batch_waits() {
        let mut pace = Pace::new(Duration::ZERO);
        pace.start();
        assert!(pace.next.is_none());
    }
}
