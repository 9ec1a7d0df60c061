//! Where one cluster keeps its files, and who may use them now.
//!
//! ```text
//! lock              held while a cluster runs here; the owner's process id
//! layout            the shards that databases were made for
//! initialised       the slots are dealt out
//! cluster-id        which cluster this is
//! databases-at      only when the databases cannot be here: where they are instead
//! databases/        one folder for each shard, with `postgres-a`, `postgres-b`, `made` when both are complete, and
//!                   `joining` while a shard that was added later is no full member yet
//! secrets/          generated passwords
//! logs/             one file for each process; `.previous` are those of the run before
//! guardian.sh       runs as long as the cluster does
//! cluster.toml  gateway.toml  shard-1-node-1.toml …
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::LocalError;
use crate::database_user::DatabaseUser;
use crate::os_process::is_alive;
use crate::spec::Data;

/// 2 s until PostgreSQL is killed, 2 s more until it is gone, and some.
const GUARDIAN_WAIT: Duration = Duration::from_secs(6);

/// For databases that cannot be where they should; the first survives a restart of the machine.
const ELSEWHERE: [&str; 2] = ["/var/tmp", "/tmp"];

#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    databases: PathBuf,
    pub note: Option<String>,
    lock: Option<Flock<File>>,
    /// Removed on drop, or by the guardian when the owner is killed.
    temporary: Option<TempDir>,
}

impl Folder {
    pub(crate) async fn open(data: &Data, user: Option<&DatabaseUser>) -> Result<Self, LocalError> {
        match data {
            Data::Temporary => Self::open_temporary(user),
            Data::Kept { folder, is_fresh } => Self::open_kept(folder, *is_fresh, user).await,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    pub(crate) fn shard(&self, name: &str) -> PathBuf {
        self.databases.join(name)
    }

    pub(crate) fn lock_for_guardian(&self) -> Result<Option<File>, LocalError> {
        let duplicate = self.lock.as_ref().map(|lock| lock.try_clone()).transpose();
        duplicate.map_err(LocalError::system("duplicate the lock file"))
    }

    pub(crate) fn shards_made(&self) -> Option<Vec<String>> {
        read_layout(&self.root)
    }

    pub(crate) fn write_layout(&self, shards: &[String]) -> Result<(), LocalError> {
        replace(&self.file(LAYOUT), &format!("{LAYOUT_KEY}{}\n", shards.join(" ")))
    }

    pub(crate) fn joining_mark(&self, shard: &str) -> PathBuf {
        self.shard(shard).join("joining")
    }

    fn open_temporary(user: Option<&DatabaseUser>) -> Result<Self, LocalError> {
        let candidates = [std::env::temp_dir()].into_iter().chain(ELSEWHERE.map(PathBuf::from));
        let is_reachable = |folder: &PathBuf| user.is_none_or(|user| user.can_reach(folder));
        let parent = candidates.into_iter().find(is_reachable).ok_or_else(|| no_place_for(user))?;
        let made = tempfile::Builder::new().prefix("picopay-").tempdir_in(&parent);
        let temporary = made.map_err(LocalError::system(format!("make a folder in {}", parent.display())))?;
        let root = temporary.path().to_owned();
        let databases = root.join("databases");
        let folder = Self { root, databases, note: None, lock: None, temporary: Some(temporary) };
        folder.make_rooms(user)?;
        Ok(folder)
    }

    async fn open_kept(
        folder: &Path,
        is_fresh: bool,
        user: Option<&DatabaseUser>,
    ) -> Result<Self, LocalError> {
        let doing = || format!("make the folder {}", folder.display());
        fs::create_dir_all(folder).map_err(LocalError::system(doing()))?;
        let root = fs::canonicalize(folder).map_err(LocalError::system(doing()))?;
        refuse_foreign_folder(&root)?;
        let lock = take_lock(&root).await?;

        let databases = root.join("databases");
        let mut opened = Self { root, databases, note: None, lock: Some(lock), temporary: None };
        if is_fresh {
            opened.wipe(user)?;
        }
        opened.choose_place_for_databases(user)?;
        if opened.shards_made().is_some() && !opened.databases.is_dir() {
            let (root, databases) = (opened.root.display(), opened.databases.display());
            let text = format!(
                "{root} belongs to databases in {databases}, which are gone. Begin anew with --fresh"
            );
            return Err(LocalError::Unfit(text));
        }
        opened.make_rooms(user)?;
        opened.set_logs_aside();
        Ok(opened)
    }

    fn choose_place_for_databases(&mut self, user: Option<&DatabaseUser>) -> Result<(), LocalError> {
        let pointer = self.file("databases-at");
        if let Ok(text) = fs::read_to_string(&pointer) {
            self.databases = PathBuf::from(text.trim());
        } else {
            let Some(user) = user else { return Ok(()) };
            open_to_pass(&self.root)?;
            if user.can_reach(&self.root) {
                return Ok(());
            }
            let parent = ELSEWHERE.iter().map(Path::new).find(|folder| user.can_reach(folder));
            let digest = hex::encode(Sha256::digest(self.root.as_os_str().as_encoded_bytes()));
            // 48 bits of it tell the folders of one machine apart.
            self.databases =
                parent.ok_or_else(|| no_place_for(Some(user)))?.join(format!("picopay-{}", &digest[..12]));
            write(&pointer, &format!("{}\n", self.databases.display()))?;
        }
        self.note = Some(format!(
            "PostgreSQL runs as another user, who cannot reach {}: its databases are in {}",
            self.root.display(),
            self.databases.display()
        ));
        Ok(())
    }

    fn make_rooms(&self, user: Option<&DatabaseUser>) -> Result<(), LocalError> {
        open_to_pass(&self.root)?;
        make_private(&self.file("secrets"))?;
        make_private(&self.file("logs"))?;
        make_private(&self.databases)?;
        if let Some(user) = user {
            refuse_foreign_databases(&self.databases, user)?;
            user.give(&self.databases)?;
        }
        Ok(())
    }

    fn wipe(&self, user: Option<&DatabaseUser>) -> Result<(), LocalError> {
        if let Ok(text) = fs::read_to_string(self.file("databases-at")) {
            let databases = PathBuf::from(text.trim());
            if databases.is_dir() {
                if let Some(user) = user {
                    refuse_foreign_databases(&databases, user)?;
                }
                remove(&databases)?;
            }
        }
        let doing = format!("read the folder {}", self.root.display());
        for entry in fs::read_dir(&self.root).map_err(LocalError::system(doing.clone()))? {
            let entry = entry.map_err(LocalError::system(doing.clone()))?;
            if entry.file_name() != LOCK {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// So that a log is of one run, and the run before can still be looked at.
    fn set_logs_aside(&self) {
        let Ok(entries) = fs::read_dir(self.file("logs")) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.extension().is_some_and(|extension| extension == "log") {
                // A log that cannot be renamed is appended to; nothing is lost.
                let _ = fs::rename(&path, path.with_extension("log.previous"));
            }
        }
    }
}

const LOCK: &str = "lock";

const LAYOUT: &str = "layout";
const LAYOUT_KEY: &str = "shards = ";

pub(crate) fn read_layout(root: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(root.join(LAYOUT)).ok()?;
    let shards = text.trim().strip_prefix(LAYOUT_KEY)?;
    // Before shards could come and go, their number said it all.
    let names = match shards.parse() {
        Ok(count) => numbered(count),
        Err(_) => shards.split_whitespace().map(str::to_owned).collect(),
    };
    Some(names)
}

pub(crate) fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("shard-{number}")).collect()
}

/// In one step: a reader sees the old or the new file.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), LocalError> {
    let next = path.with_extension("next");
    write(&next, text)?;
    fs::rename(&next, path).map_err(LocalError::system(format!("write {}", path.display())))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), LocalError> {
    fs::write(path, text).map_err(LocalError::system(format!("write {}", path.display())))
}

pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), LocalError> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(LocalError::system(format!("write {}", path.display())))
}

pub(crate) fn remove(path: &Path) -> Result<(), LocalError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(LocalError::system(format!("remove {}", path.display())))
}

pub(crate) async fn copy_folder(from: &Path, to: &Path) -> Result<(), LocalError> {
    let copied = tokio::process::Command::new("cp").arg("-a").arg(from).arg(to).output().await;
    let output = copied.map_err(LocalError::system("run cp"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(LocalError::Unfit(format!("{} cannot be copied: {}", from.display(), said.trim())))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), LocalError> {
    fs::rename(from, to).map_err(LocalError::system(format!("rename {}", from.display())))
}

pub(crate) fn make_private(path: &Path) -> Result<(), LocalError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(LocalError::system(format!("make the folder {}", path.display()))),
    }
}

/// Lets the database user pass through, and nobody list it.
pub(crate) fn open_to_pass(path: &Path) -> Result<(), LocalError> {
    fs::set_permissions(path, Permissions::from_mode(0o711))
        .map_err(LocalError::system(format!("set the permissions of {}", path.display())))
}

/// `--fresh` empties the folder: it must be one that this program made.
fn refuse_foreign_folder(root: &Path) -> Result<(), LocalError> {
    let mut entries = fs::read_dir(root).map_err(LocalError::system(format!("read {}", root.display())))?;
    if root.join(LOCK).is_file() || entries.next().is_none() {
        return Ok(());
    }
    let text = format!("{} holds other things: name a new or an empty folder with --data", root.display());
    Err(LocalError::Unfit(text))
}

/// A folder in `/var/tmp` could be anybody's: it is used, and emptied, only if it is ours.
fn refuse_foreign_databases(path: &Path, user: &DatabaseUser) -> Result<(), LocalError> {
    let metadata =
        fs::symlink_metadata(path).map_err(LocalError::system(format!("look at {}", path.display())))?;
    if metadata.is_dir() && (user.is(metadata.uid()) || metadata.uid() == 0) {
        return Ok(());
    }
    Err(LocalError::Unfit(format!("{} belongs to somebody else: remove it", path.display())))
}

fn no_place_for(user: Option<&DatabaseUser>) -> LocalError {
    let name = user.map_or("you", |user| &user.name);
    LocalError::Unfit(format!(
        "user {name} cannot reach {}: set TMPDIR to where it can",
        ELSEWHERE.join(" nor ")
    ))
}

async fn take_lock(root: &Path) -> Result<Flock<File>, LocalError> {
    let path = root.join(LOCK);
    let doing = format!("lock {}", path.display());
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(LocalError::system(doing.clone()))?;
    let started = Instant::now();
    let mut lock = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => break lock,
            Err((unlocked, nix::errno::Errno::EWOULDBLOCK)) => file = unlocked,
            Err((_, error)) => return Err(LocalError::system(doing)(error.into())),
        }
        let mut pid = String::new();
        file.rewind().map_err(LocalError::system(doing.clone()))?;
        file.read_to_string(&mut pid).map_err(LocalError::system(doing.clone()))?;
        let pid = pid.trim().to_owned();
        // The owner was killed and its guardian is at work: that ends soon.
        let is_ending = pid.parse().is_ok_and(|pid| !is_alive(pid));
        if !is_ending || started.elapsed() > GUARDIAN_WAIT {
            return Err(LocalError::AlreadyRunning { folder: root.to_owned(), pid });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let written = lock
        .set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
    written.map_err(LocalError::system(doing))?;
    Ok(lock)
}
