//! Where a run on a cluster of its own does its work.

use tokio::runtime::Builder;

/// Clients and wires are nearly always idle.
const THREADS: usize = 2;

/// Runs what breaks and changes a cluster on a thread of its own, since it may block, and clients must not wait for it.
pub async fn on_threads<T: Send + 'static>(
    run: impl AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let running = tokio::task::spawn_blocking(move || {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
        runtime.block_on(run())
    });
    running.await?
}
