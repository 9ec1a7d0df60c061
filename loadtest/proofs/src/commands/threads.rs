//! Where a run on a cluster of its own does its work.

use tokio::runtime::Builder;

/// For clients and wires of a run on a cluster of its own, which are idle nearly always.
const THREADS: usize = 2;

/// Runs what starts, breaks and changes a cluster on a thread of its own, beside others for clients and wires: what blocks
/// the one, such as the files of a server that is made anew, must not hold up the others.
pub async fn on_threads<T: Send + 'static>(
    run: impl AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let running = tokio::task::spawn_blocking(move || {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
        runtime.block_on(run())
    });
    running.await?
}
