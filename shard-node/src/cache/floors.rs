//! Small values of the shard in Redis: what its lanes acknowledged last, for the check of a new primary.
//!
//! They are kept for all generations and durabilities of the shard: a value names its own. Best effort. An
//! attacker with access to Redis can delete or restore them, but cannot make one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use picopay_shard_node_config::redis_trouble;
use redis::aio::ConnectionManager;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::seal::{Scope, Sealer};
use super::{CONNECT_MAX, Connection, LATE, skip};

/// The format of the names and codes here, not of the values.
const FORMAT: &[u8] = b"floor 1";

/// How often they are written at most. A batch takes some milliseconds, and the last one stands for all
/// before it. So Redis has ten small commands a second, whatever the load is.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// The most values that are read. A shard has some nodes, and a node some lanes; more are not ours.
const READ_MAX: usize = 4096;

/// The longest value that is read, in bytes, with its code.
const BYTES_MAX: usize = 1024;

#[derive(Default)]
pub struct Pending {
    values: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    cluster_id: Uuid,
    values: HashMap<String, Vec<u8>>,
}

impl Pending {
    pub fn put(&self, cluster_id: Uuid, field: &str, value: &[u8]) {
        let mut latest = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.cluster_id != cluster_id {
            *latest = Latest { cluster_id, values: HashMap::new() };
        }
        match latest.values.get_mut(field) {
            Some(waiting) => {
                waiting.clear();
                waiting.extend_from_slice(value);
            }
            None => {
                latest.values.insert(field.to_owned(), value.to_owned());
            }
        }
    }

    fn take(&self) -> Latest {
        let mut latest = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster_id = latest.cluster_id;
        std::mem::replace(&mut latest, Latest { cluster_id, values: HashMap::new() })
    }

    /// Puts back what could not be written, unless something newer waits.
    fn put_back(&self, unwritten: Latest) {
        let mut latest = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.cluster_id == unwritten.cluster_id {
            for (field, value) in unwritten.values {
                latest.values.entry(field).or_insert(value);
            }
        }
    }
}

/// All that are in Redis and ours; empty when Redis does not answer.
pub(super) async fn read(redis: &Connection, cluster_id: Uuid) -> Vec<Vec<u8>> {
    let (name, sealer) = place(redis, cluster_id);
    let mut manager = redis.manager.clone();
    let asked = async {
        // A hash that somebody filled with millions is not fetched.
        let count: usize = redis::cmd("HLEN").arg(&name).query_async(&mut manager).await?;
        if count > READ_MAX {
            tracing::warn!(count, "redis has more acknowledged floors than any shard: they are not read");
            return Ok(Vec::new());
        }
        redis::cmd("HGETALL").arg(&name).query_async::<Vec<(Vec<u8>, Vec<u8>)>>(&mut manager).await
    };
    // A node that starts asks before anything else is connected.
    let found = match timeout(CONNECT_MAX + redis.config.lookup_timeout, asked).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, "redis does not say what was acknowledged last");
            return Vec::new();
        }
        Err(_) => {
            tracing::warn!("redis does not say in time what was acknowledged last");
            return Vec::new();
        }
    };
    let ours = found.iter().filter(|(_, sealed)| sealed.len() <= BYTES_MAX);
    ours.filter_map(|(field, sealed)| Some(sealer.open(field, sealed)?.to_owned())).collect()
}

/// Writes what waits, until the cache is dropped.
pub(super) async fn write(redis: Weak<Connection>, mut told: mpsc::Receiver<()>) {
    while told.recv().await.is_some() {
        loop {
            let Some(redis) = redis.upgrade() else { return };
            if write_once(&redis).await {
                break;
            }
            let pause = redis.config.probe_every;
            drop(redis);
            sleep(pause).await;
        }
        sleep(WRITE_EVERY).await;
    }
}

/// Returns whether nothing is left to write.
async fn write_once(redis: &std::sync::Arc<Connection>) -> bool {
    if redis.is_skipped() {
        return false;
    }
    let latest = redis.floors.take();
    if latest.values.is_empty() {
        return true;
    }
    let (name, sealer) = place(redis, latest.cluster_id);
    let mut request = redis::cmd("HSET");
    request.arg(&name);
    let mut bytes = Vec::new();
    for (field, value) in &latest.values {
        bytes.clear();
        bytes.extend_from_slice(value);
        sealer.seal(field.as_bytes(), &mut bytes);
        request.arg(field).arg(&bytes);
    }
    let mut manager = redis.manager.clone();
    let is_written = match timeout(redis.config.lookup_timeout, request.query_async::<()>(&mut manager)).await
    {
        Ok(Ok(())) => true,
        Ok(Err(error)) if error.code() == Some("WRONGTYPE") => {
            make_room(&mut manager, &name, redis.config.lookup_timeout).await;
            false
        }
        Ok(Err(error)) => {
            skip(redis, &redis_trouble(&error));
            false
        }
        Err(_) => {
            skip(redis, LATE);
            false
        }
    };
    if !is_written {
        redis.floors.put_back(latest);
    }
    is_written
}

async fn make_room(manager: &mut ConnectionManager, name: &str, limit: Duration) {
    tracing::warn!(name, "redis had something else where a shard's acknowledged floors are kept");
    // If it fails, the next write fails too.
    let _ = timeout(limit, redis::cmd("UNLINK").arg(name).query_async::<()>(manager)).await;
}

fn place(redis: &Connection, cluster_id: Uuid) -> (String, Sealer) {
    let scope = Scope::of(&[FORMAT, cluster_id.as_bytes(), redis.whose.shard.as_bytes()]);
    (scope.name() + "floor", Sealer::new(&redis.whose.secret.newest(), &scope))
}
