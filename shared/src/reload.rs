//! Reloads of a changed file by a running process: `cluster.toml` with its secrets, and a service's own file.
//!
//! The file is read when it may have changed (`nudges.rs`), checked as at the start, and taken over as a
//! whole. A file that cannot be used is refused with its reason, and the old one stays in force. Of `node.toml` only
//! the certificates are taken over; the rest of it is read at the start.

mod nudges;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use self::nudges::Nudges;
pub use self::nudges::{LOOK_EVERY, Nudge};
use crate::cluster::Cluster;
use crate::config::ConfigError;

/// A configuration that a process takes over anew when its file changes.
pub trait Reloadable: PartialEq + Send + Sync + Sized + 'static {
    /// How often the file is read without a reason.
    const LOOK_EVERY: Duration;

    /// Reads and checks the file, as at the start.
    ///
    /// # Errors
    /// [`ConfigError`] when it cannot be used.
    fn load(file: &Path) -> Result<Self, ConfigError>;
}

impl Reloadable for Cluster {
    const LOOK_EVERY: Duration = LOOK_EVERY;

    fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::load(file)
    }
}

/// The configuration in force, usually a `cluster.toml`, and whether the file on disk was refused.
#[derive(Debug)]
pub struct InForce<T = Cluster> {
    state: Mutex<ReloadState<T>>,
}

#[derive(Debug)]
struct ReloadState<T> {
    current: Arc<T>,
    refusal: Option<RefusedReload>,
}

/// Why the file on disk is not the one in force.
#[derive(Debug, Clone)]
pub struct RefusedReload {
    /// For an operator, a line for each problem.
    pub reason: String,
    /// When it was refused first.
    pub since: Instant,
}

/// How a reload ended, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The changed file is in force.
    Taken,
    /// The changed file was refused, and the previous one stays in force.
    Refused,
}

impl InForce {
    /// The `cluster.toml` in force.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.current()
    }
}

impl<T> InForce<T> {
    /// The configuration from the start.
    pub fn new(current: T) -> Self {
        Self { state: Mutex::new(ReloadState { current: Arc::new(current), refusal: None }) }
    }

    /// The configuration in force.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.lock().current)
    }

    /// Set while the file on disk is a refused one.
    pub fn refusal(&self) -> Option<RefusedReload> {
        self.lock().refusal.clone()
    }

    /// Keeps the reason. Returns whether it is new.
    fn refuse(&self, reason: &str) -> bool {
        let mut state = self.lock();
        let is_news = state.refusal.as_ref().is_none_or(|known| known.reason != reason);
        if is_news {
            state.refusal = Some(RefusedReload { reason: reason.to_owned(), since: Instant::now() });
        }
        is_news
    }

    fn take(&self, current: T) {
        *self.lock() = ReloadState { current: Arc::new(current), refusal: None };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ReloadState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows one configuration file.
#[derive(Debug)]
pub struct Reloads<T = Cluster> {
    file: PathBuf,
    in_force: Arc<InForce<T>>,
    nudges: Nudges,
}

impl<T: Reloadable> Reloads<T> {
    /// Watches the folder of `file`, and handles SIGHUP from now on: before, the signal ends the process.
    ///
    /// # Errors
    /// When the process cannot listen for signals. A folder that cannot be watched is only logged,
    /// because the file is read every [`Reloadable::LOOK_EVERY`] in any case.
    pub fn watch(file: &Path, in_force: Arc<InForce<T>>) -> std::io::Result<Self> {
        Ok(Self { file: file.to_owned(), in_force, nudges: Nudges::listen(file, T::LOOK_EVERY)? })
    }

    /// Never returns. Hands each changed and valid file to `take_over`, which returns a reason if it still
    /// cannot use it. Reports to `count` how each reload ended.
    pub async fn follow(
        mut self,
        take_over: impl AsyncFn(&T) -> Result<(), String>,
        count: impl Fn(Reload),
    ) -> std::convert::Infallible {
        loop {
            let nudge = self.nudges.next().await;
            if let Some(reload) = self.look(nudge, &take_over).await {
                count(reload);
            }
        }
    }

    /// `None` when there is nothing new.
    async fn look(&self, nudge: Nudge, take_over: impl AsyncFn(&T) -> Result<(), String>) -> Option<Reload> {
        let refused = match self.load().await {
            Ok(changed) if changed == *self.in_force.current() => {
                self.note_unchanged(nudge);
                return None;
            }
            Ok(changed) => match take_over(&changed).await {
                Ok(()) => {
                    self.in_force.take(changed);
                    info!(file = %self.file.display(), "reloaded");
                    return Some(Reload::Taken);
                }
                Err(reason) => reason,
            },
            Err(error) => error.to_string(),
        };
        // A file that stays wrong is read again and again; it is reported again only to somebody who asked.
        if !self.in_force.refuse(&refused) && nudge != Nudge::Signal {
            return None;
        }
        warn!(file = %self.file.display(), reason = refused, "the changed file is refused; the old one stays in force");
        Some(Reload::Refused)
    }

    async fn load(&self) -> Result<T, ConfigError> {
        let file = self.file.clone();
        // A file system may hang, and requests must not.
        let loading = tokio::task::spawn_blocking(move || T::load(&file)).await;
        loading.unwrap_or_else(|panicked| Err(ConfigError::Invalid(vec![panicked.to_string()])))
    }

    fn note_unchanged(&self, nudge: Nudge) {
        let was_refused = self.in_force.lock().refusal.take().is_some();
        if was_refused {
            info!(file = %self.file.display(), "the file says again what is in force");
        } else if nudge == Nudge::Signal {
            info!(file = %self.file.display(), "asked to reload, and nothing has changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn text(shards: &[&str]) -> String {
        let shard = |name: &&str| {
            format!("[[shards]]\nname = {name:?}\nnodes = [\"http://{name}:1\"]\nprimary = \"host={name}\"\n")
        };
        format!("internal_secret_file = \"secret\"\n{}", shards.iter().map(shard).collect::<String>())
    }

    /// A file in force with one shard, and its follower.
    fn reloads() -> (tempfile::TempDir, Reloads) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.toml");
        std::fs::write(folder.path().join("secret"), "1".repeat(32)).unwrap();
        std::fs::write(&file, text(&["a"])).unwrap();
        let in_force = Arc::new(InForce::new(Cluster::load(&file).unwrap()));
        let reloads = Reloads::watch(&file, in_force).unwrap();
        (folder, reloads)
    }

    fn names(cluster: &Cluster) -> Vec<String> {
        cluster.shards.iter().map(|shard| shard.name.clone()).collect()
    }

    #[tokio::test]
    async fn a_changed_file_is_taken_once_and_a_bad_one_leaves_the_old_one_in_force() {
        let (_folder, reloads) = reloads();
        let taken = RefCell::new(Vec::new());
        let look = async |nudge| {
            reloads
                .look(nudge, async |cluster: &Cluster| {
                    if cluster.shard("refused").is_some() {
                        return Err("not this one".to_owned());
                    }
                    taken.borrow_mut().push(names(cluster));
                    Ok(())
                })
                .await
        };
        let reason = || reloads.in_force.refusal().map(|refusal| refusal.reason);
        let write = |text: &str| std::fs::write(&reloads.file, text).unwrap();

        assert_eq!(look(Nudge::Signal).await, None, "an unchanged file is no reload");
        write("shards = = 1");
        assert_eq!(look(Nudge::Look).await, Some(Reload::Refused));
        assert!(reason().unwrap().contains("line 1"), "{:?}", reason());
        assert_eq!(look(Nudge::Look).await, None, "said once");
        assert_eq!(look(Nudge::Signal).await, Some(Reload::Refused), "and again to whoever asks");
        write(&text(&["a", "refused"]));
        assert_eq!(look(Nudge::Look).await, Some(Reload::Refused));
        assert_eq!(
            (reason().as_deref(), names(&reloads.in_force.cluster())),
            (Some("not this one"), vec!["a".into()])
        );
        write(&text(&["a"]));
        assert_eq!(
            (look(Nudge::Look).await, reason()),
            (None, None),
            "as it was: nothing is refused any more"
        );
        write(&text(&["a", "b"]));
        assert_eq!((look(Nudge::Look).await, look(Nudge::Look).await), (Some(Reload::Taken), None));
        assert_eq!((names(&reloads.in_force.cluster()), reason()), (vec!["a".into(), "b".into()], None));
        assert_eq!(taken.into_inner(), [["a", "b"]]);
    }

    #[tokio::test]
    async fn a_secret_that_changes_beside_the_file_is_a_change() {
        let (folder, reloads) = reloads();
        std::fs::write(folder.path().join("secret"), "2".repeat(32)).unwrap();
        assert_eq!(reloads.look(Nudge::Look, async |_: &Cluster| Ok(())).await, Some(Reload::Taken));
        assert_eq!(reloads.in_force.cluster().internal_secret.expose(), "2".repeat(32));
    }
}
