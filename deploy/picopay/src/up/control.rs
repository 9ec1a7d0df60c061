//! What `picopay up` does for other commands while it runs: it owns the processes, so only it can.
//!
//! It listens on a Unix socket in the cluster's folder, in a room that only its user may enter. A request is one line,
//! `failover SHARD`, and so is the answer, in JSON.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use picopay_local::{LocalCluster, LocalShard};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::output::print;

/// The answer to a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It was done.
    Done(Failover),
    /// It was not, for this reason.
    Failed(String),
}

/// A failover that was done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failover {
    /// The shard.
    pub shard: String,
    /// The server that is its primary now.
    pub primary: String,
    /// From the order to a primary that takes statements.
    pub promoted_in_ms: u64,
    /// From there to a standby that follows it.
    pub rebuilt_in_ms: u64,
}

/// Where the `up` of this folder listens. Of the folder as it was given, since the path of a socket ends at 107 bytes.
fn socket(folder: &Path) -> PathBuf {
    // Nobody else may enter this room, so nobody else can connect.
    folder.join("secrets").join("control")
}

/// Listens for requests to the cluster in `folder`. It must be this process's: what an earlier one left is removed.
pub fn listen(folder: &Path) -> anyhow::Result<UnixListener> {
    let path = socket(folder);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(&path),
    }
    .with_context(|| {
        format!("cannot listen on {}: is the path too long? A shorter --data helps", path.display())
    })
}

/// Serves requests, one after the other, for as long as it is let.
pub async fn serve(listener: Option<UnixListener>, cluster: &LocalCluster) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        // It fails when this process has too many files open; the one who asks sees that nobody answers.
        let Ok((stream, _)) = listener.accept().await else { continue };
        if let Err(error) = answer(stream, cluster).await {
            print(&format!("A request from another terminal broke off: {error}"));
        }
    }
}

async fn answer(stream: UnixStream, cluster: &LocalCluster) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let answer = match request.trim_end().split_once(' ') {
        Some(("failover", shard)) => fail_over(cluster, shard).await,
        _ => Answer::Failed("this `picopay up` does not know such a request: is it an older one?".to_owned()),
    };
    let mut line = serde_json::to_string(&answer).expect("texts and numbers always serialize");
    line.push('\n');
    stream.write_all(line.as_bytes()).await
}

async fn fail_over(cluster: &LocalCluster, shard: &str) -> Answer {
    let Some(position) = cluster.shards().iter().position(|one| one.name() == shard) else {
        let names: Vec<&str> = cluster.shards().iter().map(LocalShard::name).collect();
        return Answer::Failed(format!("there is no shard {shard:?} here, only {}", names.join(", ")));
    };
    print(&format!("\nFailing over {shard}, as another terminal asks …"));
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    match cluster.failover(position).await {
        Ok(done) => {
            print(&format!("{} is the primary of {shard} now.", done.primary));
            Answer::Done(Failover {
                shard: shard.to_owned(),
                primary: done.primary,
                promoted_in_ms: ms(done.promoted_in),
                rebuilt_in_ms: ms(done.rebuilt_in),
            })
        }
        Err(error) => {
            print(&format!("It failed: {error}"));
            Answer::Failed(error.to_string())
        }
    }
}

/// Asks the `up` of this folder for a failover of `shard`, and waits for it.
pub async fn ask_for_failover(folder: &Path, shard: &str) -> anyhow::Result<Answer> {
    let path = socket(folder);
    let stream = UnixStream::connect(&path).await.with_context(|| {
        format!(
            "no cluster of `picopay up` runs in {}: start it there, or name its folder with --data. Elsewhere, Patroni or \
             whatever keeps the databases fails over",
            folder.display()
        )
    })?;
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("failover {shard}\n").as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    serde_json::from_str(&line).context("`picopay up` ended before it was done: see its terminal")
}
