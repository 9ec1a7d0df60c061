//! How many threads run the tasks of a service.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use tokio::runtime::{Builder, Runtime};

/// What a service takes of the processors that the process may use, when nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// For a service that may have a machine to itself, and whose own work is the limit there.
    All,
    /// For one whose work is a small part of what it asks of a database. A thread that is asleep when work comes is woken
    /// through the kernel, often to find that another one has it. Fewer threads sleep less.
    Half,
}

/// A runtime with `worker_threads` threads; `None` for the service's share.
///
/// # Errors
/// When the system starts no more threads.
pub fn start(worker_threads: Option<NonZeroUsize>, share: Share) -> io::Result<Runtime> {
    // Its affinity and its control group's quota count, not what the machine has.
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let count = worker_threads.map_or_else(|| share.of(processors), NonZeroUsize::get);
    Builder::new_multi_thread().worker_threads(count).enable_all().build()
}

impl Share {
    fn of(self, processors: usize) -> usize {
        match self {
            Self::All => processors,
            Self::Half => (processors / 2).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_follows_the_processors_and_is_at_least_one() {
        for (processors, half) in [(1, 1), (2, 1), (3, 1), (4, 2), (64, 32)] {
            assert_eq!((Share::All.of(processors), Share::Half.of(processors)), (processors, half));
        }
    }
}
