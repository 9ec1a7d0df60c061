//! What a running process goes by, as it tells operators, and what another `cluster.toml` would change there.
//!
//! Each process reports only what it uses: a gateway the shards and their nodes, a node its own shard's databases. No
//! secret and no connection string crosses the wire. People see a name for each; digests show whether two are equal,
//! under a salt that is new for every answer.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::Secret;
use crate::reload::InForce;

/// The path where gateways and nodes report their configuration to operators.
pub const CONFIG_PATH: &str = "/internal/v1/config";

/// The configuration of one process. JSON, so that people can read it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningConfig {
    /// The salt of all digests in it.
    pub salt: Salt,
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

/// A value that a reload would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Of which shard; `None` for the cluster.
    pub shard: Option<String>,
    /// The key in `cluster.toml`, or `shard` for a whole entry.
    pub key: String,
    /// What the process goes by now. `None` for what comes new.
    pub now: Option<String>,
    /// What it would go by. `None` for what goes away.
    pub then: Option<String>,
}

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
        Self { internal_secret, salt, cluster_id: None, shards, refused: None }
    }

    /// Adds the cluster that the file names.
    #[must_use]
    pub fn with_cluster_id(mut self, cluster_id: Option<Uuid>) -> Self {
        self.cluster_id = cluster_id;
        self
    }

    /// Adds whether the file on disk was refused.
    #[must_use]
    pub fn with_refusal(mut self, in_force: &InForce) -> Self {
        self.refused = in_force.refusal().map(|refusal| RefusedReload {
            reason: refusal.reason,
            for_s: refusal.since.elapsed().as_secs(),
        });
        self
    }

    /// What is different in `then`, which has the same salt, in its order, what goes away last.
    pub fn changes_to(&self, then: &Self) -> Vec<Change> {
        assert_eq!(self.salt, then.salt, "digests under two salts say nothing");
        let mut changes = Vec::new();
        if self.internal_secret != then.internal_secret {
            changes.push(Change {
                shard: None,
                key: "internal_secret".to_owned(),
                now: Some("a secret".to_owned()),
                then: Some("another".to_owned()),
            });
        }
        if self.cluster_id != then.cluster_id {
            let shown = |id: Option<Uuid>| id.map(|id| id.to_string());
            changes.push(Change {
                shard: None,
                key: "cluster_id".to_owned(),
                now: shown(self.cluster_id),
                then: shown(then.cluster_id),
            });
        }
        for shard in &then.shards {
            match self.shards.iter().find(|known| known.name == shard.name) {
                Some(known) => changes.extend(known.changes_to(shard)),
                None => changes.push(shard.as_change(|shown| (None, Some(shown)))),
            }
        }
        let is_gone = |known: &&RunningShard| then.shards.iter().all(|shard| shard.name != known.name);
        changes.extend(
            self.shards.iter().filter(is_gone).map(|shard| shard.as_change(|shown| (Some(shown), None))),
        );
        changes
    }
}

impl RunningShard {
    fn changes_to(&self, then: &Self) -> Vec<Change> {
        let mut keys: Vec<&str> = then.settings.iter().map(|setting| setting.key.as_str()).collect();
        let gone = self.settings.iter().map(|setting| setting.key.as_str());
        let gone: Vec<&str> = gone.filter(|key| !keys.contains(key)).collect();
        keys.extend(gone);
        keys.into_iter()
            .filter_map(|key| {
                let (now, then) = (self.setting(key), then.setting(key));
                let is_equal = now.map(|setting| &setting.digest) == then.map(|setting| &setting.digest);
                let is_seen = now.map(|setting| &setting.shown) != then.map(|setting| &setting.shown);
                // Two that look the same differ in what is not shown.
                let shown_then = |setting: &Setting| {
                    if is_seen {
                        setting.shown.clone()
                    } else {
                        format!("{} (differs unseen)", setting.shown)
                    }
                };
                (!is_equal).then(|| Change {
                    shard: Some(self.name.clone()),
                    key: key.to_owned(),
                    now: now.map(|setting| setting.shown.clone()),
                    then: then.map(shown_then),
                })
            })
            .collect()
    }

    fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    fn as_change(&self, place: impl Fn(String) -> (Option<String>, Option<String>)) -> Change {
        let shown: Vec<&str> = self.settings.iter().map(|setting| setting.shown.as_str()).collect();
        let (now, then) = place(shown.join(", "));
        Change { shard: Some(self.name.clone()), key: "shard".to_owned(), now, then }
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
    fn what_a_reload_would_change_is_named_value_by_value() {
        let salt = Salt::random();
        let config = |secret: &str, shards: &[Told<'_>]| config(&salt, secret, shards);
        let a = ("a", [("primary", "host=x password=p", "x"), ("durability", "local", "local")]);
        let before = config("s", &[(a.0, &a.1), ("gone", &[("primary", "host=g", "g")])]);
        assert_eq!(before.changes_to(&before), []);
        let after = config(
            "t",
            &[
                ("new", &[("primary", "host=n", "n"), ("redis", "redis://r", "r")]),
                ("a", &[("primary", "host=x password=q", "x"), ("redis", "redis://:p@r", "r")]),
            ],
        );
        let after = after.with_cluster_id(Some(Uuid::from_u128(7)));
        let told: Vec<String> = before
            .changes_to(&after)
            .into_iter()
            .map(|Change { shard, key, now, then }| {
                let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
                format!("{} {key}: {} > {}", or_none(shard), or_none(now), or_none(then))
            })
            .collect();
        assert_eq!(
            told,
            [
                "- internal_secret: a secret > another",
                "- cluster_id: - > 00000000-0000-0000-0000-000000000007",
                "new shard: - > n, r",
                "a primary: x > x (differs unseen)",
                "a redis: - > r",
                "a durability: local > -",
                "gone shard: g > -",
            ]
        );
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
