//! A cache of answers in Redis, for quick replays.
//!
//! Postgres decides. Every lookup may miss, and a miss never means "no such charge". An unreachable Redis
//! costs one wait of `lookup_timeout`; then nobody waits until a probe in the background has had an answer. The
//! probe also waits for a new connection, which takes several times as long as a lookup.
//!
//! A shard has a fixed number of entries. The hash of user and key chooses the entry, and a new answer
//! overwrites an older one. So the size of Redis is known beforehand, and nothing has to expire. All answers
//! of 20 ms are kept by one `MSET`, at half the price of one `SETEX` each.
//!
//! Redis is a witness, not a judge: nobody who can write to it or restore it can make a receipt. An entry
//! counts only if
//!
//! - it was sealed with the cluster's internal secret, for this entry of this shard in this generation of its
//!   ledger (`seal.rs`);
//! - it has the request's key and fingerprint. The fingerprint covers the user, so requests that share an
//!   entry never see each other's answers;
//! - it was committed on the timeline that the write gate has open. A failover may have lost what an older
//!   one acknowledged.
//!
//! Anything else is a miss. So after a failover, a restoration or a change of the secret the cache starts
//! anew. An older entry of ours that is put back counts, because an answer never changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use picopay_shard_node_config::{CacheConfig, redis_trouble};
use picopay_shared::cluster::Durability;
use picopay_shared::command::{Attempt, Command, Kind, Outcome};
use picopay_shared::internal_secret::InternalSecret;
use picopay_shared::node_status::CacheState;
use picopay_shared::session::LogPosition;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::clock;
use crate::write_gate::Opening;

mod answer;
use answer::Places;

mod floors;

mod replays;
use replays::Replays;

pub mod seal;

/// Batches whose answers wait to be kept. More are dropped: they are in Postgres.
const FILLS_WAITING_MAX: usize = 256;

/// How long answers are collected for one command. A client that repeats a request sooner than this has not
/// waited for its answer; Postgres has it.
const COLLECTED_FOR: Duration = Duration::from_millis(20);

/// How long a new connection may take: TCP, TLS and a login are four round trips and some cryptography. Charges do
/// not wait for it.
const CONNECT_MAX: Duration = Duration::from_millis(500);

/// Why Redis is skipped when it says nothing.
const LATE: &str = "no answer in time";

/// Different reasons that are logged in one outage.
const REASONS_SAID_MAX: usize = 8;

/// The answers of a batch, each with the name of its entry.
type Fill = Vec<(String, Vec<u8>)>;

#[derive(Clone)]
pub struct Cache {
    redis: Option<Arc<Connection>>,
}

pub struct Whose {
    pub shard: String,
    pub durability: Durability,
    pub secret: Arc<InternalSecret>,
}

struct Connection {
    manager: ConnectionManager,
    config: CacheConfig,
    whose: Whose,
    is_skipped: AtomicBool,
    places: ArcSwapOption<Places>,
    fills: mpsc::Sender<Fill>,
    replays: Replays,
    floors: floors::Pending,
    /// Signals that values wait; one signal is enough for any number.
    floors_wait: mpsc::Sender<()>,
}

pub struct Remembered {
    pub outcomes: Vec<Option<Outcome>>,
    pub position: Option<LogPosition>,
}

impl Remembered {
    pub fn nothing(count: usize) -> Self {
        Self { outcomes: vec![None; count], position: None }
    }
}

impl Cache {
    /// The shard's cache. Connects when first used, so that a node starts without Redis.
    ///
    /// # Errors
    /// When the client cannot be managed.
    pub fn new(
        client: Option<redis::Client>,
        config: &CacheConfig,
        whose: Whose,
    ) -> Result<Self, redis::RedisError> {
        let Some(client) = client else { return Ok(Self { redis: None }) };
        let settings = ConnectionManagerConfig::new()
            // The manager's own retries would make a lookup wait for seconds while Redis is down.
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(config.lookup_timeout));
        let manager = ConnectionManager::new_lazy_with_config(client, settings)?;
        let (fills, waiting) = mpsc::channel(FILLS_WAITING_MAX);
        let (floors_wait, told) = mpsc::channel(1);
        let connection = Arc::new(Connection {
            manager,
            config: config.clone(),
            whose,
            is_skipped: AtomicBool::new(false),
            places: ArcSwapOption::empty(),
            fills,
            replays: Replays::expected_from(Instant::now()),
            floors: floors::Pending::default(),
            floors_wait,
        });
        tokio::spawn(fill(Arc::downgrade(&connection), waiting));
        tokio::spawn(floors::write(Arc::downgrade(&connection), told));
        Ok(Self { redis: Some(connection) })
    }

    pub fn state(&self) -> CacheState {
        match &self.redis {
            None => CacheState::Off,
            Some(redis) if redis.is_skipped() => CacheState::Skipped,
            Some(_) => CacheState::Up,
        }
    }

    pub async fn look_up(&self, attempts: &[Attempt], opening: &Opening) -> Remembered {
        let mut found = Remembered::nothing(attempts.len());
        let Some(redis) = self.in_use() else { return found };
        if !redis.replays.are_expected(Instant::now()) {
            return found;
        }
        let places = redis.places_for(opening);
        let asked: Vec<usize> =
            (0..attempts.len()).filter(|position| attempts[*position].command.is_client_key).collect();
        if asked.is_empty() {
            return found;
        }
        let mut request = redis::cmd("MGET");
        for position in &asked {
            request.arg(places.name(places.number_of(&attempts[*position].command)));
        }
        let oldest = now_ms().saturating_sub(keep_ms(redis.config.keep));
        let mut manager = redis.manager.clone();
        let limit = redis.config.lookup_timeout;
        match timeout(limit, request.query_async::<Vec<Option<Vec<u8>>>>(&mut manager)).await {
            Ok(Ok(values)) => {
                for (position, value) in asked.into_iter().zip(values) {
                    let replayed = value.and_then(|value| {
                        places.read(&attempts[position].command, &value, opening.server.timeline, oldest)
                    });
                    if let Some((outcome, committed)) = replayed {
                        redis.replays.note(Instant::now());
                        found.outcomes[position] = Some(outcome);
                        found.position = found.position.max(Some(committed));
                    }
                }
            }
            Ok(Err(error)) => skip(redis, &redis_trouble(&error)),
            Err(_) => skip(redis, LATE),
        }
        found
    }

    /// Keeps the outcomes of these commands, best effort. The log has all of them at `committed`, and they
    /// were acknowledged under `opening`.
    pub fn remember<'a>(
        &self,
        answers: impl Iterator<Item = (&'a Command, &'a Outcome)>,
        committed: LogPosition,
        opening: &Opening,
    ) {
        let Some(redis) = self.in_use() else { return };
        let places = redis.places_for(opening);
        let mut fill = Fill::new();
        for (command, outcome) in answers {
            // Transfers are never kept: theirs are the only answers that change.
            if let Outcome::Decided { transaction, is_replayed } = outcome
                && command.is_client_key
                && transaction.kind != Kind::TransferOut
            {
                if *is_replayed {
                    redis.replays.note(Instant::now());
                }
                let number = places.number_of(command);
                let mut entry = Vec::new();
                places.write(number, transaction, (command.fingerprint, committed), &mut entry);
                fill.push((places.name(number), entry));
            }
        }
        if !fill.is_empty() {
            // A full queue means that Redis is slow; then the newest answers are not kept.
            let _ = redis.fills.try_send(fill);
        }
    }

    /// Keeps a small value of the shard under `field`, in the background; the latest one counts. It outlives
    /// generations and durabilities, so it must name its own.
    ///
    /// Fields are never removed. There should be few, and the same ones after a restart.
    pub fn keep_floor(&self, cluster_id: Uuid, field: &str, value: &[u8]) {
        if let Some(redis) = &self.redis {
            redis.floors.put(cluster_id, field, value);
            // A full queue means that the signal is there already.
            let _ = redis.floors_wait.try_send(());
        }
    }

    /// The latest value of each field, from all nodes of the shard that use this Redis and the present
    /// secret. Some may be missing or older; none is forged.
    pub async fn read_floors(&self, cluster_id: Uuid) -> Vec<Vec<u8>> {
        match &self.redis {
            Some(redis) => floors::read(redis, cluster_id).await,
            None => Vec::new(),
        }
    }

    fn in_use(&self) -> Option<&Arc<Connection>> {
        self.redis.as_ref().filter(|redis| !redis.is_skipped())
    }
}

impl Connection {
    fn is_skipped(&self) -> bool {
        self.is_skipped.load(Ordering::Relaxed)
    }

    fn places_for(&self, opening: &Opening) -> Arc<Places> {
        let last = self.places.load();
        if let Some(places) = &*last
            && places.are_for(opening)
            && self.whose.secret.is_newest(places.secret())
        {
            return Arc::clone(places);
        }
        let secret = self.whose.secret.newest();
        let places = Arc::new(Places::new(&self.whose, opening, secret, self.config.entries));
        self.places.store(Some(Arc::clone(&places)));
        places
    }
}

/// The node's own clock decides only how old an answer is. A wrong clock causes a miss, or accepts an answer
/// that is too old and still correct.
fn now_ms() -> i64 {
    clock::now().as_millisecond()
}

fn keep_ms(keep: Duration) -> i64 {
    i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)
}

fn skip(redis: &Arc<Connection>, reason: &str) {
    if redis.is_skipped.swap(true, Ordering::Relaxed) {
        return;
    }
    tracing::warn!(reason, "redis is skipped until it answers");
    let probed = Arc::downgrade(redis);
    // The answer itself has no longer than a lookup's: the manager sees to that.
    let (every, limit) = (redis.config.probe_every, CONNECT_MAX + redis.config.lookup_timeout);
    // Whoever starts it anew with a wrong certificate reads that, and not only that it went away before. Each reason once.
    let mut said = vec![reason.to_owned()];
    tokio::spawn(async move {
        loop {
            sleep(every).await;
            let Some(redis) = probed.upgrade() else { return };
            let mut manager = redis.manager.clone();
            let reason = match timeout(limit, redis::cmd("PING").query_async::<String>(&mut manager)).await {
                Ok(Ok(_)) => break redis.is_skipped.store(false, Ordering::Relaxed),
                Ok(Err(error)) => redis_trouble(&error),
                Err(_) => LATE.to_owned(),
            };
            if said.len() < REASONS_SAID_MAX && !said.contains(&reason) {
                tracing::warn!(reason, "redis is still skipped");
                said.push(reason);
            }
        }
        tracing::info!("redis answers again");
    });
}

async fn fill(redis: Weak<Connection>, mut waiting: mpsc::Receiver<Fill>) {
    while let Some(first) = waiting.recv().await {
        sleep(COLLECTED_FOR).await;
        let mut request = redis::cmd("MSET");
        let mut collected = Some(first);
        while let Some(fill) = collected {
            for (name, entry) in fill {
                request.arg(name).arg(entry);
            }
            collected = waiting.try_recv().ok();
        }
        let Some(redis) = redis.upgrade() else { return };
        if redis.is_skipped() {
            continue;
        }
        let mut manager = redis.manager.clone();
        match timeout(redis.config.lookup_timeout, request.query_async::<()>(&mut manager)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => skip(&redis, &redis_trouble(&error)),
            Err(_) => skip(&redis, LATE),
        }
    }
}
