//! What `picopay up` does for other commands: it owns the processes.
//!
//! It listens on a Unix socket in the cluster's folder, which only its user may enter. A request is one line, such as
//! `failover SHARD`, and the answer is one line of JSON.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use picopay_local::{LocalCluster, LocalError, LocalShard};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::output::print;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Make a shard's replica its primary. The answer is a [`Failover`].
    Failover,
    /// Start the servers of a new shard. The answer is a [`Started`].
    StartShard,
    /// End those of one that owns nothing. The answer is `null`.
    StopShard,
}

impl Request {
    const ALL: [Self; 3] = [Self::Failover, Self::StartShard, Self::StopShard];

    fn word(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::StartShard => "start-shard",
            Self::StopShard => "stop-shard",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Done(Value),
    Failed(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Failover {
    pub shard: String,
    pub primary: String,
    pub promoted_in_ms: u64,
    pub rebuilt_in_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Started {
    pub shard: String,
    pub cluster_file: PathBuf,
    pub entry: String,
}

/// The folder as it was given, since the path of a socket ends at 107 bytes.
fn socket(folder: &Path) -> PathBuf {
    // Nobody else may enter this room, so nobody else can connect.
    folder.join("secrets").join("control")
}

/// It must be this process's cluster: an old socket is removed.
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
    let asked = request.trim_end().split_once(' ');
    let known = asked.and_then(|(word, shard)| {
        let request = Request::ALL.into_iter().find(|request| request.word() == word)?;
        Some((request, shard))
    });
    let done = match known {
        Some((Request::Failover, shard)) => fail_over(cluster, shard).await,
        Some((Request::StartShard, shard)) => start_shard(cluster, shard).await,
        Some((Request::StopShard, shard)) => stop_shard(cluster, shard).await,
        None => Err("this `picopay up` does not know such a request: is it an older one?".to_owned()),
    };
    let answer = match done {
        Ok(done) => Answer::Done(done),
        Err(reason) => Answer::Failed(reason),
    };
    let mut line = serde_json::to_string(&answer).expect("texts and numbers always serialize");
    line.push('\n');
    stream.write_all(line.as_bytes()).await
}

async fn fail_over(cluster: &LocalCluster, name: &str) -> Result<Value, String> {
    let members = cluster.shards();
    let Some(shard) = members.iter().find(|shard| shard.name() == name) else {
        let names: Vec<&str> = members.into_iter().map(LocalShard::name).collect();
        return Err(format!("there is no shard {name:?} here, only {}", names.join(", ")));
    };
    print(&format!("\nFailing over {name}, as another terminal asks …"));
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let done = cluster.fail_over(shard).await.map_err(|error| told(&error))?;
    print(&format!("{} is the primary of {name} now.", done.primary));
    Ok(json!(Failover {
        shard: name.to_owned(),
        primary: done.primary,
        promoted_in_ms: ms(done.promoted_in),
        rebuilt_in_ms: ms(done.rebuilt_in),
    }))
}

async fn start_shard(cluster: &LocalCluster, name: &str) -> Result<Value, String> {
    print(&format!("\nStarting {name}, as another terminal asks …"));
    let shard = cluster.add_shard_named(name).await.map_err(|error| told(&error))?;
    print(&format!("{name} is a member now. It owns no slot yet."));
    let entry = cluster.shard_toml(shard).unwrap_or_default();
    Ok(json!(Started { shard: name.to_owned(), cluster_file: cluster.cluster_file(), entry }))
}

async fn stop_shard(cluster: &LocalCluster, name: &str) -> Result<Value, String> {
    print(&format!("\nStopping {name}, as another terminal asks …"));
    cluster.remove_shard(name).await.map_err(|error| told(&error))?;
    print(&format!("{name} is gone."));
    Ok(Value::Null)
}

fn told(error: &LocalError) -> String {
    print(&format!("It failed: {error}"));
    error.to_string()
}

pub async fn ask<T: DeserializeOwned>(folder: &Path, request: Request, shard: &str) -> anyhow::Result<T> {
    let path = socket(folder);
    let stream = UnixStream::connect(&path).await.with_context(|| {
        format!(
            "no cluster of `picopay up` runs in {}: start it there, or name its folder with --data. {}",
            folder.display(),
            match request {
                Request::Failover => "Elsewhere, Patroni or whatever keeps the databases fails over",
                Request::StartShard | Request::StopShard =>
                    "Elsewhere, servers come and go by other means, and `cluster.toml` is edited by hand",
            }
        )
    })?;
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("{} {shard}\n", request.word()).as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    match serde_json::from_str(&line) {
        Ok(Answer::Done(done)) => serde_json::from_value(done).context("`picopay up` is of another version"),
        Ok(Answer::Failed(reason)) => bail!("{reason}"),
        Err(error) => Err(error).context("`picopay up` ended before it was done: see its terminal"),
    }
}
