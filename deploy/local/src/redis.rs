//! The cluster's one Redis: a cache that may lose everything at any time, and does when it restarts.

use std::sync::Arc;

use crate::folder::Folder;
use crate::guardian::Guardian;
use crate::process::{Kind, Process, Recipe};
use crate::{LocalError, programs};

/// For the nodes of four shards; with more, the least recently used goes first.
const MEMORY: &str = "256mb";

pub(crate) fn prepare(folder: &Folder, guardian: &Arc<Guardian>, port: u16) -> Result<Process, LocalError> {
    let port_text = port.to_string();
    let arguments = [
        "--port",
        &port_text,
        "--bind",
        "127.0.0.1",
        // Nothing is written to disk: a restart loses all, and nothing may depend on it.
        "--save",
        "",
        "--appendonly",
        "no",
        "--maxmemory",
        MEMORY,
        "--maxmemory-policy",
        "allkeys-lru",
        "--daemonize",
        "no",
    ];
    let recipe = Recipe {
        name: "redis".to_owned(),
        program: programs::find_redis()?,
        arguments: arguments.iter().map(Into::into).collect(),
        environment: crate::process::plain_environment(),
        user: None,
        log: folder.log("redis"),
        kind: Kind::Redis { port },
    };
    Ok(Process::new(recipe, Arc::clone(guardian)))
}
