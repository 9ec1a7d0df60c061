//! How many threads run the tasks of a service.
//!
//! Tokio takes one for each processor. At a low rate such a thread is asleep when work comes, is woken through the kernel to
//! look for it, and finds that another one has it: a third of a node's processor time for a small batch. So the default
//! leaves a processor out. What runs beside the service needs one anyhow, and the network's share of the kernel does.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use tokio::runtime::{Builder, Runtime};

/// A runtime with `worker_threads` threads; `None` for one fewer than this process may use processors, and at least one.
///
/// # Errors
/// When the system starts no more threads.
pub fn start(worker_threads: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let count = worker_threads.map_or_else(default_count, NonZeroUsize::get);
    Builder::new_multi_thread().worker_threads(count).enable_all().build()
}

/// Counts what the process may use: its affinity and its control group's quota, not what the machine has.
fn default_count() -> usize {
    threads_for(thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

fn threads_for(processors: usize) -> usize {
    processors.saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_thread_fewer_than_processors_and_at_least_one() {
        for (processors, threads) in [(1, 1), (2, 1), (3, 2), (4, 3), (16, 15), (64, 63)] {
            assert_eq!(threads_for(processors), threads);
        }
    }
}
