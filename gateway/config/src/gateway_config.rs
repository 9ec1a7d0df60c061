//! `gateway.toml`: where the gateway listens, who may call it, and every number with its reason.
//!
//! `cluster.toml` says where the shards are. Only the shards know which of them owns which slot.

use std::collections::HashSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use picopay_shard_client::ShardClientConfig;
use picopay_shared::config::{self, ConfigError, human_duration};
use picopay_shared::front_tls::{FrontEntry, FrontTls};
use serde::{Deserialize, Deserializer};

use crate::access_log::AccessLogConfig;
use crate::api_key::{ApiKey, Expiry, Rate, parse_digest};
use crate::rfc3339::NO_TIME;
use crate::scope::Scope;

/// Environment variables that override `gateway.toml`: `PICOPAY_GATEWAY__LISTEN`, for example.
pub const ENV_PREFIX: &str = "PICOPAY_GATEWAY__";

const SHOW_SUBJECT: &str =
    "`openssl x509 -in FILE -noout -subject -nameopt RFC2253` prints one, such as CN=shop,O=Example";

#[derive(Debug, Clone)]
pub struct GatewayConfig {
    pub listen: String,
    /// The address that clients use, without a slash at its end; the `type` of every problem starts with it.
    pub public_url: String,
    /// Threads for its tasks. Without a value, all the processors that the process may use, and at least one
    /// (`shared/src/runtime.rs`).
    pub worker_threads: Option<NonZeroUsize>,
    /// How long a gateway that was told to end goes on serving, while `/readyz` says so. Load balancers need as long as
    /// two of their probes to send nothing more.
    pub drain: Duration,
    pub keys: Vec<ApiKey>,
    /// What the gateway shows to clients; `None` for plain HTTP.
    pub tls: Option<FrontTls>,
    pub server: ServerConfig,
    pub access_log: AccessLogConfig,
    /// Without a value there is no admin address.
    pub admin: Option<AdminConfig>,
    pub shard_client: ShardClientConfig,
    pub totals: TotalsConfig,
    pub testing: TestingConfig,
}

/// Where operators and Prometheus ask.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// For `/metrics`, `/readyz`, `/health` and the running configuration. The first and the last are then not on the
    /// public address.
    pub listen: String,
}

/// Connections from clients: how many, and how slow they may be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Connections at once; one more is accepted and closed. So its client tries another gateway at once, and
    /// does not wait in the kernel's queue. An idle connection costs about 20 kB.
    pub connections_max: usize,
    /// From the start of a connection to the end of its TLS handshake. A client on a bad line needs a second;
    /// what it takes counts as part of the first `header_read_timeout` too.
    #[serde(with = "human_duration")]
    pub handshake_timeout: Duration,
    /// TLS handshakes under way at once. With one more, the oldest is closed: who says nothing grows old, and
    /// other clients are done within their round trips.
    pub handshakes_max: usize,
    /// From the first byte of a request's head to its last. A client on a bad line needs well under a second.
    #[serde(with = "human_duration")]
    pub header_read_timeout: Duration,
    /// From the end of the head to the end of the body, which has at most 64 KiB: 10 s is 6.4 kB/s.
    #[serde(with = "human_duration")]
    pub body_read_timeout: Duration,
    /// How long a connection may stay without a request. Above the 60 s of load balancers: they close first,
    /// and never send into a connection that is being closed.
    #[serde(with = "human_duration")]
    pub idle_timeout: Duration,
    /// How long a stopping gateway waits for the requests it accepted. Above `request_timeout`, below the 30
    /// s after which supervisors kill.
    #[serde(with = "human_duration")]
    pub shutdown_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            handshake_timeout: Duration::from_secs(3),
            handshakes_max: 1_000,
            header_read_timeout: Duration::from_secs(5),
            body_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// What all users have together, as metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TotalsConfig {
    /// How often the totals are read; not at all without it. Each time reads every balance once, from replicas,
    /// so one gateway of a cluster is enough.
    #[serde(deserialize_with = "some_duration")]
    pub every: Option<Duration>,
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    human_duration::deserialize(deserializer).map(Some)
}

/// Settings for tests. They do not affect money.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TestingConfig {
    /// Ends the process at once when a transfer comes to this step.
    pub dies_before: Option<TransferStep>,
}

/// What a gateway does after a transfer's money was taken from its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferStep {
    /// Gives it to the recipient.
    Credit,
    /// Ends the transfer: what the recipient's shard has said is known.
    Settle,
    /// Answers the client: the transfer has ended.
    Answer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GatewayFile {
    #[serde(default = "default_listen")]
    listen: String,
    public_url: Option<String>,
    worker_threads: Option<NonZeroUsize>,
    #[serde(default = "default_drain", with = "human_duration")]
    drain: Duration,
    #[serde(default)]
    keys: Vec<KeyEntry>,
    tls: Option<FrontEntry>,
    #[serde(default)]
    server: ServerConfig,
    #[serde(default)]
    access_log: AccessLogConfig,
    admin: Option<AdminConfig>,
    #[serde(default)]
    shard_client: ShardClientConfig,
    #[serde(default)]
    totals: TotalsConfig,
    #[serde(default)]
    testing: TestingConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    digest: String,
    scopes: Vec<String>,
    client_subject: Option<String>,
    expires_at: Option<String>,
    rate_per_second: Option<u32>,
    burst: Option<u32>,
}

/// Only this machine: listening to the whole network is a decision of the operator.
fn default_listen() -> String {
    "127.0.0.1:8080".to_owned()
}

fn default_drain() -> Duration {
    Duration::from_secs(5)
}

impl GatewayConfig {
    /// Reads and checks `gateway.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found, not only the first.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let read: GatewayFile = config::load(file, ENV_PREFIX)?;
        let mut problems = Problems { file, found: Vec::new() };
        check_address("listen", &read.listen, &mut problems);
        if let Some(admin) = &read.admin {
            check_address("admin.listen", &admin.listen, &mut problems);
            problems.expect(admin.listen != read.listen, || {
                "admin.listen is the same address as listen".to_owned()
            });
        }
        let scheme = if read.tls.is_some() { "https" } else { "http" };
        let public_url = read.public_url.unwrap_or_else(|| format!("{scheme}://{}", read.listen));
        let is_url = public_url.starts_with("http://") || public_url.starts_with("https://");
        problems.expect(is_url, || format!("public_url: {public_url:?} must start with http:// or https://"));
        let keys = check_keys(read.keys, &mut problems);
        let tls = read.tls.and_then(|entry| {
            let base = file.parent().unwrap_or(Path::new("."));
            entry.read(base).map_err(|reason| problems.add(&format!("tls: {reason}"))).ok()
        });
        let takes_subjects = tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
        if let Some(key) = keys.iter().find(|key| key.client_subject.is_some() && !takes_subjects) {
            problems.add(&format!("keys ({}): client_subject needs [tls] with client_ca_file", key.name));
        }
        check_server(&read.server, &mut problems);
        problems.expect(read.totals.every.is_none_or(|every| every >= Duration::from_secs(1)), || {
            "totals.every must be at least 1s: each time reads every balance".to_owned()
        });
        for fault in read.shard_client.faults() {
            problems.add(&format!("shard_client.{fault}"));
        }
        if !problems.found.is_empty() {
            return Err(ConfigError::Invalid(problems.found));
        }
        let public_url = public_url.trim_end_matches('/').to_owned();
        Ok(Self {
            listen: read.listen,
            public_url,
            worker_threads: read.worker_threads,
            drain: read.drain,
            keys,
            tls,
            server: read.server,
            access_log: read.access_log,
            admin: read.admin,
            shard_client: read.shard_client,
            totals: read.totals,
            testing: read.testing,
        })
    }
}

fn check_address(name: &str, listen: &str, problems: &mut Problems<'_>) {
    let port = listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    problems.expect(port.is_some(), || {
        format!("{name}: {listen:?} is no address:port, for example \"127.0.0.1:8080\"")
    });
}

fn check_keys(entries: Vec<KeyEntry>, problems: &mut Problems<'_>) -> Vec<ApiKey> {
    problems.expect(!entries.is_empty(), || {
        "there is no [[keys]] entry, so nobody could call; make one with `picopay keys create`".to_owned()
    });
    let (mut names, mut digests, mut subjects) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut keys = Vec::new();
    for (position, entry) in entries.into_iter().enumerate() {
        let place = format!("keys[{position}] ({})", entry.name);
        problems.expect(!entry.name.is_empty(), || format!("{place}: name is empty"));
        problems.expect(names.insert(entry.name.clone()), || format!("{place}: another key has this name"));
        let digest = parse_digest(&entry.digest);
        problems.expect(digest.is_some(), || {
            format!("{place}: digest must look like \"sha256:\" and 64 hexadecimal digits")
        });
        let digest = digest.unwrap_or_default();
        problems
            .expect(digests.insert(digest), || format!("{place}: another entry has this digest: keep one"));
        problems.expect(!entry.scopes.is_empty(), || {
            format!("{place}: scopes is empty; it takes {}", Scope::words())
        });
        let mut scopes = Vec::new();
        for word in &entry.scopes {
            match Scope::parse(word) {
                Some(scope) => scopes.push(scope),
                None => {
                    problems.add(&format!("{place}: {word:?} is no scope; there are {}", Scope::words()));
                }
            }
        }
        let rate = check_rate(&place, entry.rate_per_second, entry.burst, problems);
        let expires_at = entry.expires_at.as_deref().map(Expiry::parse);
        problems.expect(expires_at != Some(None), || format!("{place}: expires_at {NO_TIME}"));
        let client_subject: Option<Arc<str>> = entry.client_subject.and_then(|text| {
            let read = picopay_tls::subject_as_read(&text);
            problems.expect(read.is_some(), || {
                format!("{place}: client_subject {text:?} is no subject; {SHOW_SUBJECT}")
            });
            read.map(Into::into)
        });
        let is_new = client_subject.clone().is_none_or(|subject| subjects.insert(subject));
        problems.expect(is_new, || format!("{place}: another key has this client_subject"));
        let name = entry.name.into();
        keys.push(ApiKey { name, digest, client_subject, scopes, expires_at: expires_at.flatten(), rate });
    }
    keys
}

fn check_rate(
    place: &str,
    per_second: Option<u32>,
    burst: Option<u32>,
    problems: &mut Problems<'_>,
) -> Option<Rate> {
    let Some(per_second) = per_second else {
        problems.expect(burst.is_none(), || format!("{place}: burst means nothing without rate_per_second"));
        return None;
    };
    let rate = NonZeroU32::new(per_second).zip(NonZeroU32::new(burst.unwrap_or(per_second)));
    problems.expect(rate.is_some(), || format!("{place}: rate_per_second and burst are at least 1"));
    rate.map(|(per_second, burst)| Rate { per_second, burst })
}

fn check_server(server: &ServerConfig, problems: &mut Problems<'_>) {
    problems.expect(server.connections_max > 0, || "server.connections_max must be at least 1".to_owned());
    problems.expect(server.handshakes_max > 0, || "server.handshakes_max must be at least 1".to_owned());
    for (name, duration) in [
        ("handshake_timeout", server.handshake_timeout),
        ("header_read_timeout", server.header_read_timeout),
        ("body_read_timeout", server.body_read_timeout),
        ("idle_timeout", server.idle_timeout),
        ("shutdown_timeout", server.shutdown_timeout),
    ] {
        problems.expect(!duration.is_zero(), || format!("server.{name} must be more than 0"));
    }
}

/// Everything that is wrong with the file, so that an operator corrects it in one go.
struct Problems<'a> {
    file: &'a Path,
    found: Vec<String>,
}

impl Problems<'_> {
    fn add(&mut self, text: &str) {
        self.found.push(format!("{}: {text}", self.file.display()));
    }

    fn expect(&mut self, is_right: bool, text: impl FnOnce() -> String) {
        if !is_right {
            self.add(&text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<GatewayConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, text).unwrap();
        GatewayConfig::load(&file).map_err(|error| error.to_string())
    }

    fn key(extra: &str) -> String {
        format!(
            "[[keys]]\nname = \"dev\"\ndigest = \"sha256:{}\"\nscopes = [\"write\"]\n{extra}",
            "ab".repeat(32)
        )
    }

    #[test]
    fn a_file_with_one_key_is_enough() {
        let config = load(&key("")).unwrap();
        assert_eq!(
            (config.listen.as_str(), config.public_url.as_str()),
            ("127.0.0.1:8080", "http://127.0.0.1:8080")
        );
        assert_eq!(config.keys[0].digest, [0xab; 32]);
        assert_eq!(config.keys[0].rate, None);
    }

    #[test]
    fn numbers_and_addresses_can_be_set() {
        let config = load(&format!(
            "listen = \"0.0.0.0:9\"\npublic_url = \"https://pay.example/\"\n[shard_client]\npipes = 2\ncall_timeout = \"1s\"\n{}",
            key("rate_per_second = 10")
        ))
        .unwrap();
        assert_eq!(config.public_url, "https://pay.example");
        assert_eq!(
            (config.shard_client.pipes, config.shard_client.call_timeout),
            (2, Duration::from_secs(1))
        );
        assert_eq!(config.shard_client.queue_max, 4_096);
        let ten = NonZeroU32::new(10).unwrap();
        assert_eq!(config.keys[0].rate, Some(Rate { per_second: ten, burst: ten }));
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let message = load(
            r#"
            listen = "here"
            public_url = "ftp://x"
            [server]
            connections_max = 0
            [totals]
            every = "999ms"
            [shard_client]
            batch_max = 1000
            call_timeout = "9s"
            move_wait = "8s"
            [[keys]]
            name = "a"
            digest = "md5:1"
            scopes = ["everything"]
            rate_per_second = 0
            expires_at = "tomorrow"
            [[keys]]
            name = "a"
            digest = "sha256:zz"
            scopes = []
            burst = 3
            "#,
        )
        .unwrap_err();
        for needle in [
            "listen",
            "public_url",
            "connections_max",
            "totals.every must be at least 1s",
            "at most 512",
            "call_timeout must be below",
            "move_wait must be below",
            "digest must look like",
            "\"everything\" is no scope; there are topup, charge, refund, transfer, write, read, admin",
            "expires_at must be an RFC 3339 time",
            "at least 1",
            "another key has this name",
            "scopes is empty",
            "burst means nothing",
        ] {
            assert!(message.contains(needle), "{needle} in {message}");
        }
        assert!(load("").unwrap_err().contains("[[keys]]"));
    }

    #[test]
    fn certificates_that_cannot_be_used_are_refused_with_the_file_and_the_reason() {
        let tls = "[tls]\ncert_file = \"gateway.toml\"\nkey_file = \"missing\"\n";
        let message = load(&format!("{tls}{}", key(""))).unwrap_err();
        assert!(message.contains("tls: ") && message.contains("holds no certificate"), "{message}");
        let message = load(&key("client_subject = \"CN=shop\"")).unwrap_err();
        assert!(message.contains("client_subject needs [tls] with client_ca_file"), "{message}");
        let message = load(&key("client_subject = \"shop\"")).unwrap_err();
        assert!(message.contains("is no subject") && message.contains("-nameopt RFC2253"), "{message}");
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        for text in ["prot = 1", "[server]\nheader_timeout = \"1s\"", "[shard_client]\nretries = 3"] {
            let message = load(&format!("{text}\n{}", key(""))).unwrap_err();
            assert!(message.contains("gateway.toml"), "{message}");
        }
    }
}
