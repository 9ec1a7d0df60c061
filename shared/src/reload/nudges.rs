//! When to read a file again: after a signal, after a change in its folder, or after some time.
//!
//! The folder is watched and not the file. Editors rename a new file over the old one, and Kubernetes swaps
//! the link `..data` on the path to the file. A watch on the file would stay with the old one. An event in
//! the folder is only a reason to look.

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

/// How often `cluster.toml` is read without a reason. Network file systems report no changes, nor does a
/// folder whose secrets or link targets are elsewhere. A look reads a few small files.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long the folder must be quiet after a change, so that a writer of several files is done.
const QUIET: Duration = Duration::from_millis(100);
/// The longest wait for a folder that is never quiet.
const QUIET_WAIT: Duration = Duration::from_secs(1);

/// Why to read the file again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// Somebody sent SIGHUP and wants an answer.
    Signal,
    /// Something changed in the folder, or it was time.
    Look,
}

/// All reasons to look, as they come.
#[derive(Debug)]
pub struct Nudges {
    hang_up: Signal,
    /// `None` when the folder cannot be watched.
    folder: Option<FolderWatch>,
    ticks: tokio::time::Interval,
}

#[derive(Debug)]
struct FolderWatch {
    /// At most one: many changes are one reason.
    changes: mpsc::Receiver<()>,
    /// Ends the watch when it is dropped.
    _watcher: RecommendedWatcher,
}

impl Nudges {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the process cannot listen for signals.
    pub fn listen(file: &Path, look_every: Duration) -> std::io::Result<Self> {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let watch = FolderWatch::new(folder).map_err(|error| {
            warn!(
                folder = %folder.display(), %error,
                "the folder cannot be watched: changes are seen every {} s and at SIGHUP", look_every.as_secs()
            );
        });
        let mut ticks = interval(look_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Ok(Self { hang_up: signal(SignalKind::hangup())?, folder: watch.ok(), ticks })
    }

    /// Waits for the next reason.
    pub async fn next(&mut self) -> Nudge {
        tokio::select! {
            biased; // A signal is answered first.
            _ = self.hang_up.recv() => Nudge::Signal,
            () = changed(&mut self.folder) => Nudge::Look,
            _ = self.ticks.tick() => Nudge::Look,
        }
    }
}

async fn changed(folder: &mut Option<FolderWatch>) {
    match folder {
        Some(watch) => watch.changed().await,
        None => pending().await,
    }
}

impl FolderWatch {
    fn new(folder: &Path) -> notify::Result<Self> {
        let (nudge, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error says that events were lost, which is also a reason to look.
            if event.map_or(true, |event| is_change(event.kind)) {
                // A full queue means that a look is due already.
                let _ = nudge.try_send(());
            }
        })?;
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(Self { changes, _watcher: watcher })
    }

    /// Waits for a change and then until the folder is quiet. It can be cancelled: nothing is lost, since the
    /// next tick looks too.
    async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            return pending().await;
        }
        let is_quiet = async { while let Ok(Some(())) = timeout(QUIET, self.changes.recv()).await {} };
        let _ = timeout(QUIET_WAIT, is_quiet).await;
    }
}

/// Reading a file is no change, or our own reads would cause the next one.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Longer than any machine needs to report a change, and shorter than the next look without a reason.
    const SOON: Duration = Duration::from_secs(4);

    async fn is_nudged(nudges: &mut Nudges) -> bool {
        nudges.ticks.reset();
        timeout(SOON, nudges.next()).await == Ok(Nudge::Look)
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_or_written_or_reached_through_a_swapped_link_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (data, text) in [("..1", "old"), ("..2", "new")] {
            std::fs::create_dir(path(data)).unwrap();
            std::fs::write(path(data).join("cluster.toml"), text).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/cluster.toml", path("cluster.toml")).unwrap();
        let mut nudges = Nudges::listen(&path("cluster.toml"), LOOK_EVERY).unwrap();
        // As the kubelet does it.
        symlink("..2", path("..tmp")).unwrap();
        std::fs::rename(path("..tmp"), path("..data")).unwrap();
        assert!(is_nudged(&mut nudges).await);
        assert_eq!(std::fs::read_to_string(path("cluster.toml")).unwrap(), "new");
        // As editors do it, twice: the second file is not the one from when the watch began.
        for text in ["newer", "newest"] {
            std::fs::write(path("other"), text).unwrap();
            std::fs::rename(path("other"), path("cluster.toml")).unwrap();
            assert!(is_nudged(&mut nudges).await, "{text}");
        }
        std::fs::write(path("cluster.toml"), "in place").unwrap();
        assert!(is_nudged(&mut nudges).await);
    }

    #[tokio::test]
    async fn to_read_the_file_is_no_reason_to_read_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.toml");
        std::fs::write(&file, "text").unwrap();
        let mut watch = FolderWatch::new(folder.path()).unwrap();
        std::fs::read_to_string(&file).unwrap();
        assert!(timeout(Duration::from_millis(500), watch.changed()).await.is_err());
    }

    #[tokio::test]
    async fn without_any_reason_the_file_is_looked_at_all_the_same() {
        let mut nudges = Nudges::listen(Path::new("/no/such/folder/cluster.toml"), LOOK_EVERY).unwrap();
        nudges.ticks.reset_immediately();
        assert_eq!(nudges.next().await, Nudge::Look);
    }
}
