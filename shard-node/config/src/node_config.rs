//! `node.toml`: the settings of one shard node process beside `cluster.toml`, with a reason for each number.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use picopay_shared::config::{self, ConfigError, human_duration};
use picopay_shared::front_tls::{FrontEntry, FrontTls};
use picopay_shared::reload::{LOOK_EVERY, Reloadable};
use serde::Deserialize;

/// Environment variables that override `node.toml`: `PICOPAY_NODE__LISTEN`, for example.
pub const ENV_PREFIX: &str = "PICOPAY_NODE__";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The shard of `cluster.toml` that this process serves.
    pub shard: String,
    /// Where gateways reach it.
    pub listen: SocketAddr,
    /// Threads for its tasks. Without a value, half the processors that the process may use, and at least one
    /// (`shared/src/runtime.rs`).
    pub worker_threads: Option<NonZeroUsize>,
    /// What the node shows to its callers, and which it demands of them. Without it, plain HTTP.
    pub tls: Option<FrontEntry>,
    #[serde(default)]
    pub lanes: LaneConfig,
    #[serde(default)]
    pub postgres: PostgresConfig,
    #[serde(default)]
    pub cache: CacheConfig,
    #[serde(default)]
    pub reads: ReadConfig,
    /// For tests of this program only.
    #[serde(default)]
    pub testing: TestingConfig,
    /// How long a node that was told to end goes on serving, and says that it is not ready. Longer than gateways take to
    /// notice (`shard_client.poll_interval`), so that they ask another node before this one stops.
    #[serde(default = "drain", with = "human_duration")]
    pub drain: Duration,
    /// How long a stopping node may take to finish what it accepted. Longer than any batch.
    #[serde(default = "shutdown_timeout", with = "human_duration")]
    pub shutdown_timeout: Duration,
}

fn drain() -> Duration {
    Duration::from_secs(5)
}

fn shutdown_timeout() -> Duration {
    Duration::from_secs(10)
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LaneConfig {
    /// Lanes, each with its own connection to the primary. One makes the largest batches and so the cheapest
    /// charges. Two cost a fifth more CPU per charge; four cost twice as much of the primary's. More are for
    /// a primary with many cores, or far from its standby. Gateways should then have as many
    /// (`shard_client.lanes`).
    pub count: usize,
    /// Most commands of one database transaction. Beyond a few hundred the gain is small, and users' locks
    /// are held for longer.
    pub batch_max: usize,
    /// Most commands waiting in one lane. At thousands a second this is well under a second of work, so their
    /// clients still wait when their turn comes.
    pub queue_max: usize,
}

impl Default for LaneConfig {
    fn default() -> Self {
        Self { count: 1, batch_max: 256, queue_max: 4096 }
    }
}

/// Timeouts towards Postgres. The server's limits stay below the client's, so that a slow statement ends as a
/// clear error and not as a lost connection.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresConfig {
    /// For all of connecting: TCP, login and the check for read-write.
    #[serde(with = "human_duration")]
    pub connect_timeout: Duration,
    /// How long a statement may wait for a row that another node process has locked. Batches take
    /// milliseconds; a longer wait means that a process hangs.
    #[serde(with = "human_duration")]
    pub lock_timeout: Duration,
    /// How long one statement may run. Above `lock_timeout`.
    #[serde(with = "human_duration")]
    pub statement_timeout: Duration,
    /// How long the client waits for a flight of statements before the outcome counts as unknown. This
    /// includes COMMIT and its wait for the standby. Above `statement_timeout`, below the gateway's
    /// `call_timeout`.
    #[serde(with = "human_duration")]
    pub flight_timeout: Duration,
    /// Connections for reads, to the primary and to each replica. They bound concurrency before Postgres.
    pub read_connections: usize,
    /// How long a read waits for a free connection before it is refused.
    #[serde(with = "human_duration")]
    pub pool_wait: Duration,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            lock_timeout: Duration::from_millis(800),
            statement_timeout: Duration::from_millis(1200),
            flight_timeout: Duration::from_millis(1500),
            read_connections: 8,
            pool_wait: Duration::from_millis(200),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// The longest a batch waits for Redis, once; then nobody waits until it answers again.
    #[serde(with = "human_duration")]
    pub lookup_timeout: Duration,
    /// How old a cached answer may be: as long as clients are expected to retry. Older ones come from
    /// Postgres.
    #[serde(with = "human_duration")]
    pub keep: Duration,
    /// Answers in this shard's Redis, about 250 bytes each; a new one overwrites an older one. At 10,000
    /// charges a second the default, 65 MB, keeps two thirds of them for ten seconds.
    pub entries: NonZeroU32,
    /// How often an unreachable Redis is tried again, in the background.
    #[serde(with = "human_duration")]
    pub probe_every: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            lookup_timeout: Duration::from_millis(40),
            keep: Duration::from_hours(24),
            entries: NonZeroU32::new(262_144).expect("not zero"),
            probe_every: Duration::from_millis(500),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadConfig {
    /// How far behind a replica may be and still answer. Older files call this key `max_replica_lag`.
    #[serde(with = "human_duration", alias = "max_replica_lag")]
    pub replica_lag_max: Duration,
    /// How often the primary is asked where its log ends, and each replica how far it has replayed. A quarter
    /// of `replica_lag_max`, so that a lag is known well before it is out of bounds.
    #[serde(with = "human_duration")]
    pub heartbeat_every: Duration,
    /// How long a read with a session token may wait, in all, for a replica to replay that write. Then the
    /// primary is asked. A replica is usually some milliseconds behind; a slower one recovers slowly. Below
    /// `replica_timeout`, which also covers the read itself.
    #[serde(with = "human_duration")]
    pub session_wait: Duration,
    /// How long a replica may take for a read before the primary is asked.
    #[serde(with = "human_duration")]
    pub replica_timeout: Duration,
    /// Reads that may run on the primary at once because no replica could serve them. Without a limit, a dead
    /// replica would overload the primary.
    pub primary_fallback_max: usize,
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self {
            replica_lag_max: Duration::from_secs(2),
            heartbeat_every: Duration::from_millis(500),
            session_wait: Duration::from_millis(100),
            replica_timeout: Duration::from_millis(500),
            primary_fallback_max: 4,
        }
    }
}

/// Settings for tests. They do not affect money or order.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestingConfig {
    /// Seconds by which the process takes its machine's clock to be ahead; negative for behind: `clock.rs`.
    pub clock_offset_seconds: i64,
    /// Leaves it to batches to write down which holds have run out: `sweeper.rs`.
    pub has_no_sweeper: bool,
    /// Leaves it to gateways to end transfers: `courier.rs`.
    pub has_no_courier: bool,
}

/// The certificates that `node.toml` names, which are taken over while the node runs.
#[derive(Debug, PartialEq)]
pub struct OwnTls(pub Option<FrontTls>);

impl OwnTls {
    /// # Errors
    /// [`ConfigError`], when a file cannot be used.
    pub fn read(config: &NodeConfig, file: &Path) -> Result<Self, ConfigError> {
        let base = file.parent().unwrap_or(Path::new("."));
        let read = config.tls.as_ref().map(|entry| entry.read(base)).transpose();
        read.map(Self)
            .map_err(|reason| ConfigError::Invalid(vec![format!("{}: tls: {reason}", file.display())]))
    }
}

impl Reloadable for OwnTls {
    const LOOK_EVERY: Duration = LOOK_EVERY;

    fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::read(&NodeConfig::load(file)?, file)
    }
}

impl NodeConfig {
    /// Reads and checks `node.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let read: Self = config::load(file, ENV_PREFIX)?;
        let problems: Vec<String> =
            read.problems().into_iter().map(|problem| format!("{}: {problem}", file.display())).collect();
        if problems.is_empty() { Ok(read) } else { Err(ConfigError::Invalid(problems)) }
    }

    fn problems(&self) -> Vec<&'static str> {
        let (lanes, postgres, reads) = (&self.lanes, &self.postgres, &self.reads);
        [
            (lanes.count == 0 || lanes.count > 64, "lanes.count is from 1 to 64"),
            (lanes.batch_max == 0 || lanes.batch_max > 4096, "lanes.batch_max is from 1 to 4096"),
            (lanes.queue_max < lanes.batch_max, "lanes.queue_max must be at least lanes.batch_max"),
            (
                postgres.lock_timeout >= postgres.statement_timeout,
                "postgres.lock_timeout must be below postgres.statement_timeout",
            ),
            (
                postgres.statement_timeout >= postgres.flight_timeout,
                "postgres.statement_timeout must be below postgres.flight_timeout",
            ),
            (postgres.read_connections == 0, "postgres.read_connections must be at least 1"),
            (
                reads.session_wait >= reads.replica_timeout,
                "reads.session_wait must be below reads.replica_timeout",
            ),
            (reads.primary_fallback_max == 0, "reads.primary_fallback_max must be at least 1"),
            (
                reads.heartbeat_every.is_zero() || reads.heartbeat_every * 2 > reads.replica_lag_max,
                "reads.heartbeat_every must be above 0 and at most half of reads.replica_lag_max",
            ),
            (
                self.testing.clock_offset_seconds.unsigned_abs() > 366 * 86_400,
                "testing.clock_offset_seconds is a year at most",
            ),
        ]
        .into_iter()
        .filter_map(|(is_wrong, problem)| is_wrong.then_some(problem))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_file_with_the_old_name_of_the_lag_still_counts() {
        let folder = tempfile::tempdir().unwrap();
        for key in ["replica_lag_max", "max_replica_lag"] {
            let file = folder.path().join(format!("{key}.toml"));
            let text = format!("shard = \"shard-1\"\nlisten = \"127.0.0.1:1\"\n[reads]\n{key} = \"7s\"\n");
            std::fs::write(&file, text).unwrap();
            let config = NodeConfig::load(&file).unwrap();
            assert_eq!(config.reads.replica_lag_max, Duration::from_secs(7), "{key}");
        }
    }
}
