//! `cluster.toml`: the shards, read by every component from the same file.
//!
//! It says where things are. It does not say who owns which slot: the shards' own databases do.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{self, ConfigError, Secret};

/// The environment variables that go over `cluster.toml`: `PICOPAY_CLUSTER__INTERNAL_SECRET`, for example.
pub const ENV_PREFIX: &str = "PICOPAY_CLUSTER__";

/// `cluster.toml`, checked, with its secrets read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// What gateways and operators show to a shard node.
    pub internal_secret: Secret,
    /// At least one.
    pub shards: Vec<Shard>,
}

/// One shard, checked, with its secrets read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its name, equal to the one in its database's `shard_identity`.
    pub name: String,
    /// Base URLs of its node processes, `http://host:port`, in order of preference.
    pub nodes: Vec<String>,
    /// Connection string of the primary (libpq keywords or URL), without the password. Several hosts are tried in order.
    pub primary: String,
    /// Connection strings of the replicas, without the password.
    pub replicas: Vec<String>,
    /// The password for all of them.
    pub password: Option<Secret>,
    /// `redis://host:port`, if there is a cache.
    pub redis: Option<String>,
    /// What an acknowledged write has survived.
    pub durability: Durability,
}

/// What an acknowledged write has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Flushed by the primary and by a synchronous standby: the loss of either machine loses nothing.
    #[default]
    Replicated,
    /// Flushed by the primary alone.
    Local,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    internal_secret: Option<Secret>,
    internal_secret_file: Option<PathBuf>,
    #[serde(default)]
    shards: Vec<ShardEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardEntry {
    name: String,
    nodes: Vec<String>,
    primary: String,
    #[serde(default)]
    replicas: Vec<String>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    redis: Option<String>,
    #[serde(default)]
    durability: Durability,
}

impl Cluster {
    /// Reads and checks `cluster.toml`. Files it names are looked for beside it.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found, not only the first.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let read: ClusterFile = config::load(file, ENV_PREFIX)?;
        let base = file.parent().unwrap_or(Path::new("."));
        let mut problems = Problems { file, found: Vec::new() };
        let secret = problems.secret(
            "internal_secret",
            read.internal_secret.as_ref(),
            read.internal_secret_file.as_deref(),
            base,
        );
        if secret.is_none() && problems.found.is_empty() {
            problems.add("internal_secret or internal_secret_file is missing");
        }
        if read.shards.is_empty() {
            problems.add("there is no [[shards]] entry");
        }
        let (mut names, mut nodes) = (HashSet::new(), HashSet::new());
        let mut shards = Vec::new();
        for (position, entry) in read.shards.into_iter().enumerate() {
            let place = format!("shards[{position}] ({})", entry.name);
            problems.check_name(&place, &entry.name, &mut names);
            problems.check_nodes(&place, &entry.nodes, &mut nodes);
            if entry.primary.trim().is_empty() {
                problems.add(&format!("{place}: primary is empty; write for example \"host=10.0.0.1 dbname=picopay user=picopay\""));
            }
            if let Some(url) = &entry.redis
                && !url.starts_with("redis://")
            {
                problems.add(&format!("{place}: redis must start with redis://"));
            }
            let key = format!("{place}: password");
            let password =
                problems.secret(&key, entry.password.as_ref(), entry.password_file.as_deref(), base);
            shards.push(Shard {
                name: entry.name,
                nodes: entry.nodes.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
                primary: entry.primary,
                replicas: entry.replicas,
                password,
                redis: entry.redis,
                durability: entry.durability,
            });
        }
        match secret {
            Some(internal_secret) if problems.found.is_empty() => Ok(Self { internal_secret, shards }),
            _ => Err(ConfigError::Invalid(problems.found)),
        }
    }

    /// The shard with this name.
    pub fn shard(&self, name: &str) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.name == name)
    }
}

/// Everything wrong with one file, so that an operator mends it in one go.
struct Problems<'a> {
    file: &'a Path,
    found: Vec<String>,
}

impl Problems<'_> {
    fn add(&mut self, text: &str) {
        self.found.push(format!("{}: {text}", self.file.display()));
    }

    fn secret(
        &mut self,
        key: &str,
        given: Option<&Secret>,
        file: Option<&Path>,
        base: &Path,
    ) -> Option<Secret> {
        Secret::resolve(key, given, file, base).unwrap_or_else(|error| {
            self.add(&error.to_string());
            None
        })
    }

    /// A shard's name stands in metrics, in Redis keys and on command lines.
    fn check_name(&mut self, place: &str, name: &str, seen: &mut HashSet<String>) {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(is_plain) {
            self.add(&format!("{place}: a name has 1 to 63 lower-case letters, digits and hyphens"));
        }
        if !seen.insert(name.to_owned()) {
            self.add(&format!("{place}: another shard has this name"));
        }
    }

    fn check_nodes(&mut self, place: &str, urls: &[String], seen: &mut HashSet<String>) {
        if urls.is_empty() {
            self.add(&format!("{place}: nodes is empty; write for example [\"http://10.0.0.1:7100\"]"));
        }
        for url in urls {
            if !url.starts_with("http://") || url.len() == "http://".len() {
                self.add(&format!("{place}: node {url:?} must look like http://host:port"));
            }
            if !seen.insert(url.trim_end_matches('/').to_owned()) {
                self.add(&format!("{place}: node {url} is named twice"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Cluster, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "s3cret\n").unwrap();
        let file = folder.path().join("cluster.toml");
        std::fs::write(&file, text).unwrap();
        Cluster::load(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn a_cluster_is_read_with_its_secrets() {
        let cluster = load(
            r#"
            internal_secret = "abc"
            [[shards]]
            name = "shard-1"
            nodes = ["http://127.0.0.1:7100/"]
            primary = "host=127.0.0.1 dbname=picopay"
            password_file = "password"
            "#,
        )
        .unwrap();
        let shard = cluster.shard("shard-1").unwrap();
        assert_eq!(shard.nodes, ["http://127.0.0.1:7100"]);
        assert_eq!(shard.password.as_ref().unwrap().expose(), "s3cret");
        assert_eq!(shard.durability, Durability::Replicated);
        assert!(!format!("{cluster:?}").contains("s3cret"));
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let message = load(
            r#"
            [[shards]]
            name = "Shard 1"
            nodes = []
            primary = ""
            redis = "localhost"
            password_file = "missing"
            "#,
        )
        .unwrap_err();
        for needle in
            ["internal_secret", "lower-case", "nodes is empty", "primary is empty", "redis://", "missing"]
        {
            assert!(message.contains(needle), "{needle} in {message}");
        }
    }

    #[test]
    fn two_shards_share_neither_a_name_nor_a_node() {
        let entry = "[[shards]]\nname = \"a\"\nnodes = [\"http://x:1\"]\nprimary = \"host=x\"\n";
        let message = load(&format!("internal_secret = \"abc\"\n{entry}{entry}")).unwrap_err();
        assert!(
            message.contains("another shard has this name") && message.contains("named twice"),
            "{message}"
        );
    }
}
