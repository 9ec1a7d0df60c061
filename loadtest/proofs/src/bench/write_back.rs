//! Writes changed data to disk bit by bit. Otherwise the kernel writes it all at once after half a minute, while every
//! commit waits. An operator sets `vm.dirty_background_bytes`, which belongs to the whole machine and not to a load test.

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

/// In this time 12 MB change, which is some milliseconds of the disk.
const PAUSE: Duration = Duration::from_millis(250);

const LARGE: u64 = 1 << 20;

/// Where the tables and indexes of a database are.
const FOLDER: &str = "\
    SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database WHERE datname = current_database()";

/// Otherwise the kernel writes during another measurement than the one that is to blame.
pub async fn all() -> anyhow::Result<()> {
    Ok(spawn_blocking(nix::unistd::sync).await?)
}

/// Starts writing the tables and indexes of a cluster for as long as this is awaited. `sync` would wait, and hold up every
/// other write.
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

/// `POSIX_FADV_DONTNEED` starts the write. What is on disk leaves the kernel's memory, and PostgreSQL has it in its own.
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
