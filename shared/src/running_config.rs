//! What a running process goes by, as it tells operators, and where another `cluster.toml` differs.
//!
//! Each process reports only what it uses: a gateway the shards and their nodes, a node its own shard's databases. No
//! secret and no connection string crosses the wire. People see a name for each; digests show whether two are equal,
//! under a salt that is new for every answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::Secret;
use crate::node_status::{WIRE_VERSION, unnamed_version};
use crate::reload::InForce;

/// The path where gateways and nodes report their configuration to operators.
pub const CONFIG_PATH: &str = "/internal/v1/config";

/// The configuration of one process. JSON, so that people can read it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningConfig {
    /// The salt of all digests in it.
    pub salt: Salt,
    /// The highest version of the wire that it speaks.
    #[serde(default = "unnamed_version")]
    pub wire: u16,
    /// The secret that gateways, nodes and operators show to each other.
    pub internal_secret: SecretDigest,
    /// The cluster that the databases must belong to, if its file names it. It is no secret.
    #[serde(default)]
    pub cluster_id: Option<Uuid>,
    /// The shards that the process knows: all of them, or the one that it serves.
    pub shards: Vec<RunningShard>,
    /// Set while the process refuses the file on disk.
    #[serde(default)]
    pub refused: Option<RefusedReload>,
}

/// What a process uses of a shard's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningShard {
    /// Its name in `cluster.toml`.
    pub name: String,
    /// In the order of `cluster.toml`, each with its key there.
    pub settings: Vec<Setting>,
}

/// One value of a shard's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its key in `cluster.toml`.
    pub key: String,
    /// For people; a secret is replaced by a description.
    pub shown: String,
    /// Shows whether the value differs, also where `shown` does not.
    pub digest: SecretDigest,
}

/// A changed file that the process did not take over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedReload {
    /// The reason, a line for each problem.
    pub reason: String,
    /// How long ago it was refused, in seconds.
    pub for_s: u64,
}

/// Makes digests that are useless with another salt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salt(String);

/// Compares two secrets: the first 64 bits of a SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDigest(String);

impl Salt {
    /// A new random salt.
    pub fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; 16]>()))
    }

    /// The digest of a text.
    pub fn digest(&self, text: &str) -> SecretDigest {
        let digest = Sha256::new().chain_update(&self.0).chain_update(text).finalize();
        SecretDigest(hex::encode(&digest[..8]))
    }
}

impl RunningShard {
    /// A shard without settings yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), settings: Vec::new() }
    }

    /// Adds a value that everybody may see.
    #[must_use]
    pub fn with(self, salt: &Salt, key: &str, value: &str) -> Self {
        self.with_hidden(salt, key, value, value)
    }

    /// Adds a value that may hold a secret, with the text to show for it.
    #[must_use]
    pub fn with_hidden(mut self, salt: &Salt, key: &str, value: &str, shown: &str) -> Self {
        let (key, shown) = (key.to_owned(), shown.to_owned());
        self.settings.push(Setting { key, shown, digest: salt.digest(value) });
        self
    }
}

impl RunningConfig {
    /// A configuration of these shards.
    pub fn new(salt: Salt, internal_secret: &Secret, shards: Vec<RunningShard>) -> Self {
        let internal_secret = salt.digest(internal_secret.expose());
        Self { internal_secret, salt, wire: WIRE_VERSION, cluster_id: None, shards, refused: None }
    }

    /// Adds the cluster that the file names.
    #[must_use]
    pub fn with_cluster_id(mut self, cluster_id: Option<Uuid>) -> Self {
        self.cluster_id = cluster_id;
        self
    }

    /// Adds whether the file on disk was refused. Of several files, the first that was.
    #[must_use]
    pub fn with_refusal<T>(mut self, in_force: &InForce<T>) -> Self {
        let refusal = self.refused.is_none().then(|| in_force.refusal()).flatten();
        self.refused = self.refused.or(refusal.map(|refusal| RefusedReload {
            reason: refusal.reason,
            for_s: refusal.since.elapsed().as_secs(),
        }));
        self
    }

    /// The entries of `cluster.toml` that `other`, of the same salt, has otherwise: `internal_secret`, `cluster_id`, `shard-1` for a
    /// shard that only one of them has, or `shard-1.redis`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        assert_eq!(self.salt, other.salt, "digests under two salts say nothing");
        let (ours, theirs) = (self.entries(), other.entries());
        let is_whole = |shard: &str| !ours.contains_key(shard) || !theirs.contains_key(shard);
        let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let names = names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name));
        // Of a shard that only one of them has, the name says everything.
        names.filter(|name| name.split_once('.').is_none_or(|(shard, _)| !is_whole(shard))).cloned().collect()
    }

    fn entries(&self) -> BTreeMap<String, Option<SecretDigest>> {
        let mut entries =
            BTreeMap::from([("internal_secret".to_owned(), Some(self.internal_secret.clone()))]);
        entries.extend(
            self.cluster_id.map(|id| ("cluster_id".to_owned(), Some(self.salt.digest(&id.to_string())))),
        );
        for shard in &self.shards {
            entries.insert(shard.name.clone(), None);
            let settings = shard.settings.iter();
            entries.extend(
                settings.map(|Setting { key, digest, .. }| {
                    (format!("{}.{key}", shard.name), Some(digest.clone()))
                }),
            );
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard's name, and its settings by key: what they are and what is shown.
    type Told<'a> = (&'a str, &'a [(&'a str, &'a str, &'a str)]);

    fn config(salt: &Salt, secret: &str, shards: &[Told<'_>]) -> RunningConfig {
        let shards = shards.iter().map(|(name, settings)| {
            settings.iter().fold(RunningShard::new(name), |shard, (key, value, shown)| {
                shard.with_hidden(salt, key, value, shown)
            })
        });
        RunningConfig::new(salt.clone(), &Secret::new(secret), shards.collect())
    }

    #[test]
    fn what_differs_is_named_by_its_entry() {
        let salt = Salt::random();
        let config = |secret: &str, shards: &[Told<'_>]| config(&salt, secret, shards);
        let a = ("a", [("primary", "host=x password=p", "x"), ("durability", "local", "local")]);
        let before = config("s", &[(a.0, &a.1), ("gone", &[("primary", "host=g", "g")])]);
        assert!(before.differences(&before).is_empty());
        let after = config(
            "t",
            &[
                ("new", &[("primary", "host=n", "n"), ("redis", "redis://r", "r")]),
                ("a", &[("primary", "host=x password=q", "x"), ("redis", "redis://:p@r", "r")]),
            ],
        );
        let after = after.with_cluster_id(Some(Uuid::from_u128(7)));
        let expected =
            ["a.durability", "a.primary", "a.redis", "cluster_id", "gone", "internal_secret", "new"];
        assert_eq!(before.differences(&after), expected);
    }

    #[test]
    fn what_is_told_holds_no_secret_and_is_of_no_use_with_the_next_salt() {
        let told = |salt: &Salt| {
            let config = config(salt, "s3cret", &[("a", &[("primary", "host=x password=s3cret", "x")])]);
            serde_json::to_string(&config).unwrap()
        };
        let (first, second) = (Salt::random(), Salt::random());
        assert!(!told(&first).contains("s3cret"));
        assert_eq!(told(&first), told(&first));
        assert_ne!(first.digest("s3cret"), second.digest("s3cret"));
    }
}
