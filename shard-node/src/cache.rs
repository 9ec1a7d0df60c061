//! Answers already given, kept near for quick replays.
//!
//! Postgres decides; this room only remembers. Every lookup may miss, a miss never means "no such charge", and
//! an unreachable Redis costs time, not correctness: one wait of `lookup_timeout`, then nobody waits until a
//! probe in the background has had an answer.
//!
//! A shard has a fixed number of places, and the hash of user and key says which one an answer takes; an older answer
//! in that place is overwritten. So what Redis needs is known beforehand, nothing has to expire or be evicted, and
//! all answers of a batch are kept by one `MSET`: at half the price of one `SETEX` each, in Redis and here.
//!
//! An entry is used only when it has the request's key and fingerprint, and the fingerprint covers the user; so two
//! requests that share a place never see each other's answers.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use jiff::Timestamp;
use picopay_shared::command::{Command, Fingerprint, Outcome, Transaction};
use picopay_shared::node_status::CacheState;
use picopay_shared::session::LogPosition;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use twox_hash::XxHash3_64;
use uuid::Uuid;

use crate::config::CacheConfig;

/// Batches whose answers wait to be remembered. When Redis cannot keep up, the next ones are forgotten: they are
/// in Postgres.
const FILLS_WAITING_MAX: usize = 256;

/// The cache of one shard; clones share it.
#[derive(Clone)]
pub struct Cache {
    redis: Option<Arc<Connection>>,
}

struct Connection {
    manager: ConnectionManager,
    config: CacheConfig,
    is_skipped: AtomicBool,
    places: OnceLock<Places>,
    /// One `MSET` for each batch.
    fills: mpsc::Sender<redis::Cmd>,
}

/// What a lookup found.
pub struct Remembered {
    /// One place per command, in their order.
    pub outcomes: Vec<Option<Outcome>>,
    /// Where the log has all of these outcomes. It is kept with each answer: another node may have committed it, further
    /// on in the log than anything that this one has seen.
    pub position: Option<LogPosition>,
}

impl Cache {
    /// The cache at `url`. Connects when first used, so that a missing Redis keeps no node from starting.
    ///
    /// # Errors
    /// When `url` is none.
    pub fn new(url: Option<&str>, config: &CacheConfig) -> Result<Self, redis::RedisError> {
        let Some(url) = url else { return Ok(Self { redis: None }) };
        let settings = ConnectionManagerConfig::new()
            // The manager's own retries would make a lookup wait for seconds while Redis is down.
            .set_number_of_retries(0)
            .set_connection_timeout(Some(config.lookup_timeout))
            .set_response_timeout(Some(config.lookup_timeout));
        let manager = ConnectionManager::new_lazy_with_config(redis::Client::open(url)?, settings)?;
        let (fills, waiting) = mpsc::channel(FILLS_WAITING_MAX);
        let connection = Arc::new(Connection {
            manager,
            config: config.clone(),
            is_skipped: AtomicBool::new(false),
            places: OnceLock::new(),
            fills,
        });
        tokio::spawn(fill(Arc::downgrade(&connection), waiting));
        Ok(Self { redis: Some(connection) })
    }

    /// Says whose answers these are. Until then nothing is looked up or kept.
    pub fn set_scope(&self, cluster_id: Uuid, shard: &str) {
        if let Some(redis) = &self.redis {
            let _ = redis.places.set(Places::new(cluster_id, shard, redis.config.entries));
        }
    }

    /// Whether it is in use.
    pub fn state(&self) -> CacheState {
        match &self.redis {
            None => CacheState::Off,
            Some(redis) if redis.is_skipped.load(Ordering::Relaxed) => CacheState::Skipped,
            Some(_) => CacheState::Up,
        }
    }

    /// The answers that are remembered, in one round trip.
    pub async fn look_up(&self, commands: &[Command]) -> Remembered {
        let mut found = Remembered { outcomes: vec![None; commands.len()], position: None };
        let Some(redis) = self.in_use() else { return found };
        let Some(places) = redis.places.get() else { return found };
        let asked: Vec<usize> =
            (0..commands.len()).filter(|position| commands[*position].is_client_key).collect();
        if asked.is_empty() {
            return found;
        }
        let mut request = redis::cmd("MGET");
        for position in &asked {
            request.arg(places.of(&commands[*position]));
        }
        let oldest = Timestamp::now().as_millisecond().saturating_sub(keep_ms(redis.config.keep));
        let mut manager = redis.manager.clone();
        let limit = redis.config.lookup_timeout;
        match timeout(limit, request.query_async::<Vec<Option<Vec<u8>>>>(&mut manager)).await {
            Ok(Ok(values)) => {
                for (position, value) in asked.into_iter().zip(values) {
                    let replayed = value.and_then(|value| replay(&commands[position], &value, oldest));
                    if let Some((outcome, committed)) = replayed {
                        found.outcomes[position] = Some(outcome);
                        found.position = found.position.max(Some(committed));
                    }
                }
            }
            Ok(Err(error)) => skip(redis, &error.to_string()),
            Err(_) => skip(redis, "no answer in time"),
        }
        found
    }

    /// Remembers what these commands came to, best effort and after the fact. The log has all of it at `committed`.
    pub fn remember<'a>(
        &self,
        answers: impl Iterator<Item = (&'a Command, &'a Outcome)>,
        committed: LogPosition,
    ) {
        let Some(redis) = self.in_use() else { return };
        let Some(places) = redis.places.get() else { return };
        let mut fill = redis::cmd("MSET");
        let mut is_empty = true;
        for (command, outcome) in answers {
            if let Outcome::Decided { transaction, .. } = outcome
                && command.is_client_key
            {
                let entry = postcard::to_stdvec(&(transaction, command.fingerprint, committed));
                fill.arg(places.of(command)).arg(entry.expect("plain data always serializes"));
                is_empty = false;
            }
        }
        if !is_empty {
            // Full means that Redis is slow; then the newest answers are not kept.
            let _ = redis.fills.try_send(fill);
        }
    }

    fn in_use(&self) -> Option<&Arc<Connection>> {
        self.redis.as_ref().filter(|redis| !redis.is_skipped.load(Ordering::Relaxed))
    }
}

/// Where the answers of a shard are kept.
struct Places {
    /// Starts every name: cluster and shard, by their hash, because names this short are a third faster than long
    /// ones. In braces, so that a shard's names all hash to one slot of a Redis Cluster, as `MSET` needs them to.
    prefix: String,
    count: NonZeroU32,
}

impl Places {
    fn new(cluster_id: Uuid, shard: &str, count: NonZeroU32) -> Self {
        let scope = XxHash3_64::oneshot(format!("{cluster_id}:{shard}").as_bytes());
        Self { prefix: format!("{{picopay:{scope:016x}}}:"), count }
    }

    /// The name of the command's place. The user stands here by the hash that a refund's charge id carries too.
    fn of(&self, command: &Command) -> String {
        let mut who_and_what = [0; 22];
        who_and_what[..2].copy_from_slice(&command.operation.slot().get().to_le_bytes());
        who_and_what[2..6].copy_from_slice(&command.operation.tag().get().to_le_bytes());
        who_and_what[6..].copy_from_slice(command.idempotency_key.as_bytes());
        let place = XxHash3_64::oneshot(&who_and_what) % u64::from(self.count.get());
        format!("{}{place:x}", self.prefix)
    }
}

/// `oldest` in Unix milliseconds.
fn replay(command: &Command, value: &[u8], oldest: i64) -> Option<(Outcome, LogPosition)> {
    // An entry of another version does not parse, or not to this fingerprint: a miss.
    let (transaction, fingerprint, committed): (Box<Transaction>, Fingerprint, LogPosition) =
        postcard::from_bytes(value).ok()?;
    let is_answer = fingerprint == command.fingerprint
        && transaction.idempotency_key == command.idempotency_key
        && transaction.id.unix_ms() >= oldest;
    is_answer.then_some((Outcome::Decided { transaction, is_replayed: true }, committed))
}

fn keep_ms(keep: Duration) -> i64 {
    i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)
}

/// Stops using Redis, and starts asking it in the background whether it is back.
fn skip(redis: &Arc<Connection>, reason: &str) {
    if redis.is_skipped.swap(true, Ordering::Relaxed) {
        return;
    }
    tracing::warn!(reason, "redis is skipped until it answers");
    let probed = Arc::downgrade(redis);
    let (every, limit) = (redis.config.probe_every, redis.config.lookup_timeout);
    tokio::spawn(async move {
        loop {
            sleep(every).await;
            let Some(redis) = probed.upgrade() else { return };
            let mut manager = redis.manager.clone();
            let answered = timeout(limit, redis::cmd("PING").query_async::<String>(&mut manager)).await;
            if matches!(answered, Ok(Ok(_))) {
                redis.is_skipped.store(false, Ordering::Relaxed);
                tracing::info!("redis answers again");
                return;
            }
        }
    });
}

async fn fill(redis: Weak<Connection>, mut waiting: mpsc::Receiver<redis::Cmd>) {
    while let Some(fill) = waiting.recv().await {
        let Some(redis) = redis.upgrade() else { return };
        if redis.is_skipped.load(Ordering::Relaxed) {
            continue;
        }
        let mut manager = redis.manager.clone();
        match timeout(redis.config.lookup_timeout, fill.query_async::<()>(&mut manager)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => skip(&redis, &error.to_string()),
            Err(_) => skip(&redis, "no answer in time"),
        }
    }
}
