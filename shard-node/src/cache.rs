//! Answers already given, kept near for quick replays.
//!
//! Postgres decides; this room only remembers. Every lookup may miss, a miss never means "no such charge", and
//! an unreachable Redis costs time, not correctness: one wait of `lookup_timeout`, then nobody waits until a
//! probe in the background has had an answer.
//!
//! An entry is used only when its fingerprint is that of the request, and the fingerprint covers the user; so
//! even two users whose names in here collide never see each other's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use picopay_shared::command::{Command, Outcome};
use picopay_shared::node_status::CacheState;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::book::Recorded;
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
    /// Starts every key: cluster and shard.
    scope: std::sync::OnceLock<String>,
    fills: mpsc::Sender<Vec<(String, Vec<u8>)>>,
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
            scope: std::sync::OnceLock::new(),
            fills,
        });
        tokio::spawn(fill(Arc::downgrade(&connection), waiting));
        Ok(Self { redis: Some(connection) })
    }

    /// Says whose answers these are. Until then nothing is looked up or kept.
    pub fn set_scope(&self, cluster_id: Uuid, shard: &str) {
        if let Some(redis) = &self.redis {
            let _ = redis.scope.set(format!("picopay:{cluster_id}:{shard}"));
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

    /// The answers that are remembered, in the order of `commands`, in one round trip.
    pub async fn look_up(&self, commands: &[Command]) -> Vec<Option<Outcome>> {
        let mut found = vec![None; commands.len()];
        let Some(redis) = self.in_use() else { return found };
        let Some(scope) = redis.scope.get() else { return found };
        let asked: Vec<usize> =
            (0..commands.len()).filter(|position| commands[*position].is_client_key).collect();
        if asked.is_empty() {
            return found;
        }
        let mut request = redis::cmd("MGET");
        for position in &asked {
            request.arg(key(scope, &commands[*position]));
        }
        let mut manager = redis.manager.clone();
        let limit = redis.config.lookup_timeout;
        match timeout(limit, request.query_async::<Vec<Option<Vec<u8>>>>(&mut manager)).await {
            Ok(Ok(values)) => {
                for (position, value) in asked.into_iter().zip(values) {
                    found[position] = value.and_then(|value| replay(&commands[position], &value));
                }
            }
            Ok(Err(error)) => skip(redis, &error.to_string()),
            Err(_) => skip(redis, "no answer in time"),
        }
        found
    }

    /// Remembers answers, best effort and after the fact.
    pub fn remember<'a>(&self, answers: impl Iterator<Item = (&'a Command, &'a Recorded)>) {
        let Some(redis) = self.in_use() else { return };
        let Some(scope) = redis.scope.get() else { return };
        let entries: Vec<(String, Vec<u8>)> = answers
            .filter(|(command, recorded)| {
                command.is_client_key && command.fingerprint == recorded.fingerprint
            })
            .filter_map(|(command, recorded)| {
                Some((key(scope, command), postcard::to_stdvec(recorded).ok()?))
            })
            .collect();
        if !entries.is_empty() {
            // Full means that Redis is slow; then the newest answers are not kept.
            let _ = redis.fills.try_send(entries);
        }
    }

    fn in_use(&self) -> Option<&Arc<Connection>> {
        self.redis.as_ref().filter(|redis| !redis.is_skipped.load(Ordering::Relaxed))
    }
}

/// Shard and user scope a key as they do in Postgres. The user stands here by the hash that a refund's charge id
/// carries too.
fn key(scope: &str, command: &Command) -> String {
    let (slot, tag) = (command.operation.slot(), command.operation.tag().get());
    format!("{scope}:{slot}-{tag:x}:{}", command.idempotency_key.simple())
}

fn replay(command: &Command, value: &[u8]) -> Option<Outcome> {
    // An entry of another version does not parse, or not to this fingerprint: a miss.
    let recorded: Recorded = postcard::from_bytes(value).ok()?;
    let is_answer = recorded.fingerprint == command.fingerprint
        && recorded.transaction.idempotency_key == command.idempotency_key;
    is_answer.then(|| Outcome::Decided { transaction: Box::new(recorded.transaction), is_replayed: true })
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

async fn fill(redis: std::sync::Weak<Connection>, mut waiting: mpsc::Receiver<Vec<(String, Vec<u8>)>>) {
    while let Some(entries) = waiting.recv().await {
        let Some(redis) = redis.upgrade() else { return };
        if redis.is_skipped.load(Ordering::Relaxed) {
            continue;
        }
        let mut pipeline = redis::pipe();
        for (key, value) in entries {
            pipeline.set_ex(key, value, keep_seconds(redis.config.keep)).ignore();
        }
        let mut manager = redis.manager.clone();
        match timeout(redis.config.lookup_timeout, pipeline.query_async::<()>(&mut manager)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => skip(&redis, &error.to_string()),
            Err(_) => skip(&redis, "no answer in time"),
        }
    }
}

/// Redis takes no expiry of zero.
fn keep_seconds(keep: Duration) -> u64 {
    keep.as_secs().max(1)
}
