//! Wakes a worker in time for the next arrival.
//!
//! epoll's time-outs are whole milliseconds, and a request that is sent a millisecond late shows in every percentile. A
//! timer descriptor is exact on Linux; kqueue is so by itself.

use std::io;
use std::time::Duration;

use mio::{Registry, Token};

#[cfg(target_os = "linux")]
pub use exact::Alarm;
#[cfg(not(target_os = "linux"))]
pub use plain::Alarm;

#[cfg(target_os = "linux")]
mod exact {
    use std::os::fd::{AsFd, AsRawFd};

    use mio::Interest;
    use mio::unix::SourceFd;
    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    use super::{Duration, Registry, Token, io};

    /// Shorter than setting an alarm and being woken takes: not worth a sleep.
    const TOO_SHORT: Duration = Duration::from_micros(5);

    #[derive(Debug)]
    pub struct Alarm(TimerFd);

    impl Alarm {
        pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let timer =
                TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
            // Edge-triggered, and each setting is an edge: nobody needs to read it.
            registry.register(&mut SourceFd(&timer.as_fd().as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self(timer))
        }

        /// Wakes the poll after this long; returns the time-out to poll with.
        pub fn arm(&mut self, after: Duration) -> io::Result<Duration> {
            if after < TOO_SHORT {
                return Ok(Duration::ZERO);
            }
            self.0.set(Expiration::OneShot(TimeSpec::from_duration(after)), TimerSetTimeFlags::empty())?;
            // A net below the timer, in case it is ever missed.
            Ok(after + Duration::from_millis(20))
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod plain {
    use super::{Duration, Registry, Token, io};

    #[derive(Debug)]
    pub struct Alarm;

    impl Alarm {
        pub fn new(_registry: &Registry, _token: Token) -> io::Result<Self> {
            Ok(Self)
        }

        pub fn arm(&mut self, after: Duration) -> io::Result<Duration> {
            Ok(after)
        }
    }
}
