//! The cluster's one Redis: a cache that may lose everything at any time, and does when it restarts.

use std::ffi::OsString;
use std::sync::Arc;

use crate::certificates::REDIS;
use crate::folder::{Folder, write_private};
use crate::postgres::Ground;
use crate::process::{Kind, Process, Recipe};
use crate::{LocalError, programs};

/// For the nodes of four shards; with more, the least recently used goes first.
const MEMORY: &str = "256mb";

pub(crate) fn prepare(folder: &Folder, ground: &Ground, port: u16) -> Result<Process, LocalError> {
    let port_text = port.to_string();
    let certificates = ground.secrets.certificates.as_ref();
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(own) = certificates {
        // A password on the command line could be read by every user of the machine.
        let file = folder.file("redis.conf");
        write_private(&file, &format!("requirepass {}\n", ground.secrets.redis))?;
        arguments.extend([file.into(), "--tls-port".into(), port_text.clone().into()]);
        for (option, path) in [
            ("--tls-cert-file", own.certificate(REDIS)),
            ("--tls-key-file", own.key(REDIS)),
            ("--tls-ca-cert-file", own.authority()),
        ] {
            arguments.extend([option.into(), path.into()]);
        }
    }
    let more = [
        "--port",
        if certificates.is_some() { "0" } else { &port_text },
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
    arguments.extend(more.iter().map(Into::into));
    let recipe = Recipe {
        name: "redis".to_owned(),
        program: programs::find_redis()?,
        arguments,
        environment: crate::process::plain_environment(),
        user: None,
        log: folder.log("redis"),
        kind: Kind::Redis { port, is_tls: certificates.is_some() },
    };
    Ok(Process::new(recipe, Arc::clone(&ground.guardian)))
}
