//! What servers have changed goes to disk bit by bit, not all at once when the kernel finds that it is half a minute old, while
//! every commit waits. An operator has `vm.dirty_background_bytes` against that, which is the whole machine's and not a load
//! test's to change.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use picopay_local::{LocalCluster, LocalShard};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// A growth changes 12 MB in this time: the disk is busy with that for some milliseconds.
const PAUSE: Duration = Duration::from_millis(250);

/// Smaller files are not worth a look: there are some hundred, and all of them change less than one of the large ones.
const LARGE: u64 = 1 << 20;

/// Where the tables and indexes of a database are.
const FOLDER: &str = "\
    SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database WHERE datname = current_database()";

/// Has everything written that was changed so far, and waits for it. The kernel would do so in the middle of another measurement
/// than the one that is to blame.
pub async fn all() -> anyhow::Result<()> {
    Ok(spawn_blocking(nix::unistd::sync).await?)
}

/// Has the tables and indexes of a cluster written for as long as this is awaited, and waits for none of it. (`sync` does,
/// and every other write with it.)
pub async fn keep_up(cluster: &LocalCluster) -> anyhow::Result<Infallible> {
    let mut folders =
        folders_of(&cluster.shards()).await.context("servers do not say where their files are")?;
    loop {
        sleep(PAUSE).await;
        let shards = cluster.shards();
        if folders.len() < 2 * shards.len() {
            // A shard that is just being added does not answer yet.
            if let Ok(found) = folders_of(&shards).await {
                folders = found;
            }
        }
        let folders = folders.clone();
        let write = move || folders.iter().try_for_each(|folder| begin(folder));
        spawn_blocking(write).await?.context("what was changed cannot be written back")?;
    }
}

async fn folders_of(shards: &[&LocalShard]) -> anyhow::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for shard in shards {
        for server in [shard.connect_as_superuser().await?, shard.connect_replica_as_superuser().await?] {
            let folder: String = server.query_one(FOLDER, &[]).await?.try_get(0)?;
            folders.push(folder.into());
        }
    }
    Ok(folders)
}

/// Begins to write what was changed of the files in `folder`. "Will not need it" is what starts that; what is on disk already
/// leaves the kernel's memory then, and PostgreSQL has it in its own.
fn begin(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let file = match File::open(&path) {
            Ok(file) if file.metadata()?.len() >= LARGE => file,
            Ok(_) => continue,
            // A table that was dropped meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}
