//! `cluster.toml`: the shards, read by every component from the same file.
//!
//! It says where things are. Which shard owns a slot is in the shards' own databases.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use picopay_tls::Caller;
use serde::Deserialize;
use uuid::Uuid;

use crate::config::{self, ConfigError, Secret};

mod tls;
use tls::CallerEntry;
pub use tls::{DatabaseCertificates, RedisAccess, read_identity};

/// Environment variables that override `cluster.toml`: `PICOPAY_CLUSTER__INTERNAL_SECRET`, for example.
pub const ENV_PREFIX: &str = "PICOPAY_CLUSTER__";

/// The shortest `internal_secret`: 128 bits in hexadecimal digits. Whoever guesses it may charge any user,
/// and a node does not slow down guesses.
pub const INTERNAL_SECRET_MIN: usize = 32;

/// `cluster.toml`, checked, with its secrets read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The secret that gateways and operators show to a shard node.
    pub internal_secret: Secret,
    /// How nodes with an `https` URL are called; `None` where there are none.
    pub caller: Option<Caller>,
    /// All shards, at least one.
    pub shards: Vec<Shard>,
}

/// One shard, checked, with its secrets read.
#[derive(Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its name, equal to the one in its database's `shard_identity`.
    pub name: String,
    /// The cluster that its databases must belong to: `cluster_id` of the file, equal for all shards. Every
    /// environment has a `shard-1`; this id distinguishes them. Without it, a process keeps to the first one
    /// that it sees.
    pub cluster_id: Option<Uuid>,
    /// Base URLs of its node processes, `http://host:port` or `https://host:port`, in order of preference.
    pub nodes: Vec<String>,
    /// Connection string of the primary (libpq keywords or URL), without the password. It may name several
    /// hosts.
    pub primary: String,
    /// Connection strings of the replicas, without the password.
    pub replicas: Vec<String>,
    /// The password for all of them.
    pub password: Option<Secret>,
    /// What these connection strings name of certificates.
    pub certificates: DatabaseCertificates,
    /// `redis://host:port` or `rediss://host:port`, if there is a cache.
    pub redis: Option<String>,
    /// How Redis is entered.
    pub redis_access: RedisAccess,
    /// What an acknowledged write survives.
    pub durability: Durability,
}

/// What an acknowledged write survives.
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
    cluster_id: Option<String>,
    internal_secret: Option<Secret>,
    internal_secret_file: Option<PathBuf>,
    tls: Option<CallerEntry>,
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
    redis_user: Option<String>,
    redis_password: Option<Secret>,
    redis_password_file: Option<PathBuf>,
    redis_ca_file: Option<PathBuf>,
    redis_cert_file: Option<PathBuf>,
    redis_key_file: Option<PathBuf>,
    #[serde(default)]
    durability: Durability,
}

impl Cluster {
    /// Reads and checks `cluster.toml`. Files that it names are relative to it.
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
        match &secret {
            None if problems.found.is_empty() => {
                problems.add(&format!("internal_secret or internal_secret_file is missing; {MAKE_A_SECRET}"));
            }
            Some(secret) => problems.check_internal_secret(secret),
            None => {}
        }
        let cluster_id = read.cluster_id.and_then(|text| problems.cluster_id(&text));
        let caller = read.tls.and_then(|entry| problems.keep("tls", entry.read(base)));
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
            let redis_access = problems.redis(&place, &entry, base);
            let mut certificates = DatabaseCertificates::default();
            problems.keep(&format!("{place}: primary"), certificates.add(&entry.primary, base));
            for (position, string) in entry.replicas.iter().enumerate() {
                problems.keep(&format!("{place}: replicas[{position}]"), certificates.add(string, base));
            }
            let key = format!("{place}: password");
            let password =
                problems.secret(&key, entry.password.as_ref(), entry.password_file.as_deref(), base);
            shards.push(Shard {
                name: entry.name,
                cluster_id,
                nodes: entry.nodes.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
                primary: entry.primary,
                replicas: entry.replicas,
                password,
                certificates,
                redis: entry.redis,
                redis_access,
                durability: entry.durability,
            });
        }
        problems.check_https(caller.as_ref(), &shards);
        match secret {
            Some(internal_secret) if problems.found.is_empty() => {
                Ok(Self { internal_secret, caller, shards })
            }
            _ => Err(ConfigError::Invalid(problems.found)),
        }
    }

    /// The cluster that all databases must belong to, if the file names it.
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.shards.first().and_then(|shard| shard.cluster_id)
    }

    /// Each certificate that the callers of nodes use, with when it expires.
    pub fn caller_expiries(&self) -> Vec<(String, SystemTime)> {
        let Some(caller) = &self.caller else { return Vec::new() };
        let authorities = ("cluster tls.ca_file".to_owned(), caller.authorities.expires());
        let own = caller.identity.as_ref().map(|own| ("cluster tls.cert_file".to_owned(), own.expires()));
        std::iter::once(authorities).chain(own).collect()
    }

    /// The shard with this name.
    pub fn shard(&self, name: &str) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.name == name)
    }
}

/// A connection string or a URL may hold a password, so none is shown.
impl fmt::Debug for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cluster_id, nodes, replicas, password, redis, redis_access, durability, .. } = self;
        formatter
            .debug_struct("Shard")
            .field("name", name)
            .field("cluster_id", cluster_id)
            .field("nodes", nodes)
            .field("primary", &Hidden)
            .field("replicas", &vec![Hidden; replicas.len()])
            .field("password", password)
            .field("redis", &redis.as_ref().map(|_| Hidden))
            .field("redis_access", redis_access)
            .field("durability", durability)
            .finish_non_exhaustive()
    }
}

/// Shown instead of a hidden value.
#[derive(Clone)]
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// How an operator makes one.
const MAKE_A_SECRET: &str = "make one with `openssl rand -hex 32`";

/// Everything that is wrong with one file, so that an operator corrects it in one go.
struct Problems<'a> {
    file: &'a Path,
    found: Vec<String>,
}

impl Problems<'_> {
    fn add(&mut self, text: &str) {
        self.found.push(format!("{}: {text}", self.file.display()));
    }

    /// The value, or its problem noted with the place where it stands.
    fn keep<T>(&mut self, place: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|reason| self.add(&format!("{place}: {reason}"))).ok()
    }

    fn redis(&mut self, place: &str, entry: &ShardEntry, base: &Path) -> RedisAccess {
        let is_tls = match entry.redis.as_deref().map(|url| url.split_once("://")) {
            Some(Some(("redis", _))) => Some(false),
            Some(Some(("rediss", _))) => Some(true),
            Some(_) => {
                self.add(&format!("{place}: redis must start with redis:// or rediss://"));
                return RedisAccess::default();
            }
            None => None,
        };
        let ShardEntry { redis_ca_file: ca, redis_cert_file: cert, redis_key_file: key, .. } = entry;
        if is_tls != Some(true) && (ca.is_some() || cert.is_some() || key.is_some()) {
            self.add(&format!(
                "{place}: redis_ca_file, redis_cert_file and redis_key_file need redis = \"rediss://…\""
            ));
        }
        let password = self.secret(
            &format!("{place}: redis_password"),
            entry.redis_password.as_ref(),
            entry.redis_password_file.as_deref(),
            base,
        );
        if is_tls.is_none() && (entry.redis_user.is_some() || password.is_some()) {
            self.add(&format!("{place}: redis_user and redis_password mean nothing without redis"));
        }
        let read = RedisAccess::read(base, ca.as_deref(), cert.as_deref(), key.as_deref());
        let access = self.keep(&format!("{place}: redis"), read).unwrap_or_default();
        RedisAccess { user: entry.redis_user.clone(), password, ..access }
    }

    fn check_https(&mut self, caller: Option<&Caller>, shards: &[Shard]) {
        let secure = |shard: &&Shard| shard.nodes.iter().any(|url| url.starts_with("https://"));
        if let (None, Some(shard)) = (caller, shards.iter().find(secure))
            && self.found.is_empty()
        {
            self.add(&format!(
                "a node of {} has an https URL, which needs [tls] with ca_file (and cert_file, key_file)",
                shard.name
            ));
        }
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

    fn check_internal_secret(&mut self, secret: &Secret) {
        let length = secret.expose().chars().count();
        if length < INTERNAL_SECRET_MIN {
            self.add(&format!(
                "internal_secret has {length} characters and needs at least {INTERNAL_SECRET_MIN}: {MAKE_A_SECRET}, and \
                 give it to all gateways, nodes and operators"
            ));
        }
    }

    fn cluster_id(&mut self, text: &str) -> Option<Uuid> {
        match Uuid::try_parse(text) {
            Ok(id) if !id.is_nil() => Some(id),
            Ok(_) => {
                self.add(
                    "cluster_id is nil, which is no cluster's: `picopay init` prints the line to write here",
                );
                None
            }
            Err(_) => {
                self.add(&format!(
                    "cluster_id {text:?} is no UUID: copy the one that `picopay init` printed, or leave the line out"
                ));
                None
            }
        }
    }

    /// A shard's name is used in metrics, Redis keys and command lines.
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
            if url.contains('@') {
                // Node URLs are shown in many places.
                self.add(&format!(
                    "{place}: a node's URL has no user and no password: nodes ask for the internal_secret"
                ));
                continue;
            }
            let host = url.strip_prefix("http://").or(url.strip_prefix("https://"));
            if host.is_none_or(str::is_empty) {
                self.add(&format!(
                    "{place}: node {url:?} must look like http://host:port or https://host:port"
                ));
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

    const SECRET: &str = "internal_secret = \"0123456789abcdef0123456789abcdef\"\n";

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
            cluster_id = "0192f7a0-5c3e-7c11-9a55-0d2f6f1f2a3b"
            internal_secret = "0123456789abcdef0123456789abcdef"
            [[shards]]
            name = "shard-1"
            nodes = ["http://127.0.0.1:7100/"]
            primary = "host=127.0.0.1 dbname=picopay password=s3cret"
            replicas = ["postgresql://picopay:s3cret@10.0.0.2/picopay"]
            redis = "redis://:s3cret@10.0.0.3:6379"
            password_file = "password"
            "#,
        )
        .unwrap();
        assert_eq!(cluster.cluster_id(), Some(Uuid::from_u128(0x0192_f7a0_5c3e_7c11_9a55_0d2f_6f1f_2a3b)));
        let shard = cluster.shard("shard-1").unwrap();
        assert_eq!(shard.nodes, ["http://127.0.0.1:7100"]);
        assert_eq!(shard.password.as_ref().unwrap().expose(), "s3cret");
        assert_eq!(shard.durability, Durability::Replicated);
        for shown in [format!("{cluster:?}"), format!("{cluster:#?}")] {
            assert!(!shown.contains("s3cret") && shown.contains("shard-1"), "{shown}");
        }
    }

    #[test]
    fn a_cluster_id_is_a_uuid_that_stands_for_a_cluster() {
        let with = |line: &str| {
            let shard = "[[shards]]\nname = \"a\"\nnodes = [\"http://x:1\"]\nprimary = \"host=x\"\n";
            load(&format!("{line}\n{SECRET}{shard}"))
        };
        assert_eq!(with("").unwrap().cluster_id(), None);
        for (text, needle) in [
            ("production", "is no UUID"),
            ("0192f7a0-5c3e-7c11-9a55", "is no UUID"),
            ("00000000-0000-0000-0000-000000000000", "is nil"),
        ] {
            let message = with(&format!("cluster_id = {text:?}")).unwrap_err();
            assert!(message.contains("cluster_id") && message.contains(needle), "{message}");
        }
    }

    #[test]
    fn a_short_internal_secret_is_refused_with_what_to_do_and_without_showing_it() {
        let shard = "[[shards]]\nname = \"a\"\nnodes = [\"http://x:1\"]\nprimary = \"host=x\"\n";
        let with = |secret: &str| load(&format!("internal_secret = {secret:?}\n{shard}"));
        let short = "s3cret-s3cret-s3cret-s3cret-s3c";
        for (given, has) in [("", "has 0 "), ("x", "has 1 "), (short, "has 31 ")] {
            let message = with(given).unwrap_err();
            assert!(message.contains(has) && message.contains("openssl rand -hex 32"), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
        with(&format!("{short}r")).unwrap();
    }

    #[test]
    fn a_mistake_in_the_file_shows_no_password() {
        for text in [
            // Not a list; a list instead of a text; no TOML; under another key; in a node's URL; another
            // scheme.
            "replicas = \"host=r password=s3cret\"",
            "redis = [\"redis://:s3cret@r\"]",
            "redis = redis://:s3cret@r",
            "durability = \"host=x password=s3cret\"",
            "nodes = [\"http://user:s3cret@x:1\"]",
            "redis = \"redisss://:s3cret@r\"",
        ] {
            let file = format!("{SECRET}[[shards]]\nname = \"a\"\nprimary = \"host=x\"\n{text}\n");
            let message = load(&file).unwrap_err();
            assert!(!message.contains("s3cret"), "{text} gave {message}");
        }
        let message = load("shards = \"host=x password=s3cret\"").unwrap_err();
        assert!(!message.contains("s3cret") && message.contains("shards"), "{message}");
    }

    #[test]
    fn what_cannot_be_done_over_tls_is_refused_with_what_to_write() {
        let with = |node: &str, primary: &str, more: &str| {
            let shard =
                format!("[[shards]]\nname = \"a\"\nnodes = [{node:?}]\nprimary = {primary:?}\n{more}\n");
            load(&format!("{SECRET}{shard}")).unwrap_err()
        };
        for (node, primary, more, needle) in [
            ("https://x:1", "host=x", "", "[tls] with ca_file"),
            ("http://x:1", "host=x sslmode=require", "", "does not look who the server is"),
            ("http://x:1", "host=x sslmode=verify-full sslrootcert=none.pem", "", "none.pem: cannot be read"),
            (
                "http://x:1",
                "host=x",
                "redis = \"redis://r\"\nredis_ca_file = \"password\"",
                "need redis = \"rediss:",
            ),
            (
                "http://x:1",
                "host=x",
                "redis = \"rediss://r\"\nredis_ca_file = \"password\"",
                "holds no certificate",
            ),
            ("http://x:1", "host=x", "redis_password = \"s3cret\"", "mean nothing without redis"),
        ] {
            let message = with(node, primary, more);
            assert!(message.contains(needle) && !message.contains("s3cret"), "{needle} in {message}");
        }
        let message = load(&format!("{SECRET}[tls]\nca_file = \"password\"\n")).unwrap_err();
        assert!(message.contains("tls: ") && message.contains("holds no certificate"), "{message}");
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
        let message = load(&format!("{SECRET}{entry}{entry}")).unwrap_err();
        assert!(
            message.contains("another shard has this name") && message.contains("named twice"),
            "{message}"
        );
    }
}
