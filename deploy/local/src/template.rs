//! Databases that are made once on a machine and copied for every temporary cluster.
//!
//! `initdb`, a base backup and `picopay init` are most of a cluster's start, and the tests start more than a hundred. A
//! template is the data folders of servers that were ended in order. One copy is a primary, another its standby.
//! Configuration, passwords and the cluster's identity are written anew.
//!
//! A kept cluster is made by `initdb`. Each shard of a cluster has a server of its own in a template, since `picopay init`
//! takes two of one system identifier for one database.
//!
//! A template's name is a hash of all that went into it. One that nobody used for an hour is removed when the next is made.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::folder::{Folder, make_private, numbered, remove, rename, write_private};
use crate::postgres::Ground;
use crate::spec::ClusterSpec;
use crate::{LocalError, programs};

/// More shards are made by `initdb`.
const SHARDS_MAX: usize = 4;

/// A template may be removed in between, and not twice.
const TRIES: usize = 3;

/// Longer than the tests of one run take.
const KEPT_FOR: Duration = Duration::from_hours(1);

/// A standby needs as much of these as its primary.
/// (<https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-ADMIN>)
const NEEDED_BY_STANDBYS: [&str; 6] = [
    "max_connections",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "max_wal_senders",
    "max_worker_processes",
    "wal_level",
];

#[derive(Debug)]
pub(crate) struct Template {
    place: PathBuf,
}

/// A template that is whole, and stays so as long as this is held.
#[derive(Debug)]
pub(crate) struct Held {
    data: PathBuf,
    pub superuser: String,
    /// Shared; to make or remove a template takes the lock alone.
    _lock: Flock<File>,
}

/// The template of a whole cluster, and what the copy is to be called.
#[derive(Debug)]
pub(crate) struct Dealt {
    pub template: Held,
    pub cluster_id: Uuid,
}

impl Held {
    pub(crate) fn data(&self, shard: &str) -> PathBuf {
        self.data.join(shard)
    }
}

impl Template {
    /// For one shard, with an empty database. `None` where that is to be made without a template.
    pub(crate) fn empty(folder: &Folder, ground: &Ground, spec: &ClusterSpec, shard: &str) -> Option<Self> {
        if !numbered(SHARDS_MAX).iter().any(|name| name == shard) {
            return None;
        }
        Self::of(folder, ground, spec, &[shard])
    }

    /// For all shards of a new cluster, with the schema and their slots.
    pub(crate) fn dealt(folder: &Folder, ground: &Ground, spec: &ClusterSpec) -> Option<Self> {
        // What is founded is there before the schema; and other programs have another schema.
        if spec.shards > SHARDS_MAX || !spec.founding_sql.is_empty() || spec.programs.is_some() {
            return None;
        }
        let init = fs::metadata(programs::find_picopay("picopay").ok()?).ok()?;
        // Its content would be read at every start. Cargo writes the file anew when anything in it changes.
        let version = format!("{}.{} {}", init.mtime(), init.mtime_nsec(), init.len());
        Self::of(folder, ground, spec, &["dealt", &spec.shards.to_string(), &version])
    }

    /// `parts` are what it is for; the first ones are its name.
    fn of(folder: &Folder, ground: &Ground, spec: &ClusterSpec, parts: &[&str]) -> Option<Self> {
        let mut settings = spec.primary_settings.iter().chain(&spec.replica_settings);
        let is_special = settings.any(|(name, _)| NEEDED_BY_STANDBYS.contains(&name.as_str()));
        if !folder.is_temporary() || is_special {
            return None;
        }
        let all = beside_the_program()?;
        // Where nobody may write, each is made anew.
        make_private(&all).ok()?;
        let tls = if spec.has_tls { "tls" } else { "plain" };
        let parts = parts.iter().copied().chain([tls]).collect::<Vec<_>>();
        Some(Self { place: all.join(name(ground, &parts)) })
    }

    /// To copy it. `fill` makes it if it is not there: it puts a data folder for each shard into a folder, of servers that
    /// have ended in order, and returns their superuser's password.
    pub(crate) async fn hold_or_make(
        &self,
        fill: impl AsyncFn(&Path) -> Result<String, LocalError>,
    ) -> Result<Option<Held>, LocalError> {
        for _ in 0..TRIES {
            if let Some(held) = self.hold().await? {
                return Ok(Some(held));
            }
            self.make(&fill).await?;
        }
        Ok(None)
    }

    async fn hold(&self) -> Result<Option<Held>, LocalError> {
        let Some(lock) = self.lock(FlockArg::LockShared).await? else { return Ok(None) };
        let (data, superuser) = (self.place.join(DATA), fs::read_to_string(self.place.join(SUPERUSER)));
        let Ok(superuser) = superuser else { return Ok(None) };
        Ok(data.is_dir().then_some(Held { data, superuser, _lock: lock }))
    }

    /// If nobody else did meanwhile.
    async fn make(&self, fill: impl AsyncFn(&Path) -> Result<String, LocalError>) -> Result<(), LocalError> {
        self.remove_old_ones();
        make_private(&self.place)?;
        let Some(_alone) = self.lock(FlockArg::LockExclusive).await? else { return Ok(()) };
        let data = self.place.join(DATA);
        if data.is_dir() {
            return Ok(());
        }
        // Whole, or not at all.
        let next = data.with_extension("next");
        remove(&next)?;
        make_private(&next)?;
        let superuser = fill(&next).await?;
        write_private(&self.place.join(SUPERUSER), &superuser)?;
        rename(&next, &data)
    }

    /// Waits for the lock; `None` when the template was removed meanwhile, or was never there.
    async fn lock(&self, how: FlockArg) -> Result<Option<Flock<File>>, LocalError> {
        let path = self.place.join(LOCK);
        let doing = format!("lock {}", path.display());
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LocalError::system(doing)(error)),
        };
        // Whoever makes it holds the lock for seconds.
        let locking = tokio::task::spawn_blocking(move || Flock::lock(file, how));
        let lock = locking.await.expect("it cannot panic");
        let lock = lock.map_err(|(_, error)| LocalError::system(doing)(error.into()))?;
        let is_there = || Some(fs::metadata(&path).ok()?.ino() == lock.metadata().ok()?.ino());
        if is_there() != Some(true) {
            return Ok(None);
        }
        // When it was last used: see `KEPT_FOR`. A wrong time costs the making of another.
        let _ = lock.set_modified(SystemTime::now());
        Ok(Some(lock))
    }

    /// It is no matter if that fails: the next who makes one tries again.
    fn remove_old_ones(&self) {
        let all = self.place.parent().into_iter().flat_map(fs::read_dir).flatten().flatten();
        for place in all.map(|entry| entry.path()).filter(|place| *place != self.place) {
            let Ok(file) = File::open(place.join(LOCK)) else { continue };
            let used = file.metadata().and_then(|metadata| metadata.modified());
            let is_old = used.is_ok_and(|at| at.elapsed().is_ok_and(|since| since > KEPT_FOR));
            if is_old && let Ok(_alone) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                let _ = remove(&place);
            }
        }
    }
}

const LOCK: &str = "lock";
const DATA: &str = "data";
const SUPERUSER: &str = "superuser";

/// The code, PostgreSQL, the user, and this boot of the machine: a template does not wait for the disk, so one from before
/// a restart is not to be trusted.
fn name(ground: &Ground, parts: &[&str]) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let user = ground.user.as_ref().map_or("", |user| &user.name);
    let code = [
        include_str!("template.rs"),
        include_str!("postgres.rs"),
        include_str!("server_pair/beginning.rs"),
        include_str!("cluster/dealt.rs"),
    ];
    let programs = ground.programs.folder.to_string_lossy();
    let place = [&*programs, ground.programs.version.as_str(), user, &boot];
    let mut hash = Sha256::new();
    for part in place.iter().chain(parts) {
        hash.update(part);
        hash.update([0]);
    }
    for text in code {
        hash.update(text);
    }
    // 64 bits of it tell a handful of templates apart.
    format!("{}-{}", parts[0], &hex::encode(hash.finalize())[..16])
}

/// Beside what cargo has built, which `cargo clean` removes: a test run leaves nothing in the temporary folder.
fn beside_the_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program
        .ancestors()
        .skip(1)
        .find(|folder| !["deps", "examples"].iter().any(|part| folder.ends_with(part)))?;
    Some(folder.join("picopay-templates"))
}
