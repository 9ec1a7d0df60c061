//! What a shard's nodes keep beside its answers is read back as it was kept, or not at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use picopay_local::{ClusterSpec, LocalCluster};
use picopay_shard_node::cache::{Cache, Whose};
use picopay_shard_node_config::CacheConfig;
use picopay_shared::cluster::Durability;
use picopay_shared::config::Secret;
use picopay_shared::internal_secret::InternalSecret;
use redis::FromRedisValue;
use uuid::Uuid;

use crate::test_shard::eventually;

const CLUSTER: Uuid = Uuid::from_u128(7);

struct Stand {
    cluster: LocalCluster,
    secret: Arc<InternalSecret>,
}

impl Stand {
    async fn start() -> Self {
        let cluster = LocalCluster::start_databases(ClusterSpec::one_shard()).await.unwrap();
        Self { cluster, secret: Arc::new(InternalSecret::new(&Secret::new("secret"))) }
    }

    fn cache(&self, shard: &str, durability: Durability) -> Cache {
        let whose = Whose { shard: shard.to_owned(), durability, secret: Arc::clone(&self.secret) };
        Cache::new(
            Some(redis::Client::open(self.cluster.redis_url()).unwrap()),
            &CacheConfig::default(),
            whose,
        )
        .unwrap()
    }

    async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let client = redis::Client::open(self.cluster.redis_url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut request = redis::cmd(command[0]);
        request.arg(&command[1..]).query_async(&mut connection).await.unwrap()
    }

    async fn name(&self) -> String {
        let mut names: Vec<String> = self.ask(&["KEYS", "*floor"]).await;
        assert_eq!(names.len(), 1, "{names:?}");
        names.remove(0)
    }
}

async fn read(cache: &Cache) -> Vec<String> {
    let mut values: Vec<String> =
        cache.read_floors(CLUSTER).await.into_iter().map(|value| String::from_utf8(value).unwrap()).collect();
    values.sort_unstable();
    values
}

async fn reads(cache: &Cache, expected: &[&str]) {
    eventually(&format!("{expected:?}"), || async { (read(cache).await == expected).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_value_of_each_field_is_read_by_every_node_of_the_shard_and_by_no_other() {
    let stand = Stand::start().await;
    let first = stand.cache("shard-1", Durability::Replicated);
    assert!(read(&first).await.is_empty());
    first.keep_floor(CLUSTER, "node-1/0", b"a");
    first.keep_floor(CLUSTER, "node-1/1", b"b");
    reads(&first, &["a", "b"]).await;
    let second = stand.cache("shard-1", Durability::Local);
    second.keep_floor(CLUSTER, "node-2/0", b"c");
    first.keep_floor(CLUSTER, "node-1/0", b"d");
    reads(&second, &["b", "c", "d"]).await;
    assert!(read(&stand.cache("shard-2", Durability::Replicated)).await.is_empty());
    assert!(first.read_floors(Uuid::from_u128(8)).await.is_empty());

    // However many there are, Redis has some commands a second of it, and the last of them.
    stand.ask::<()>(&["CONFIG", "RESETSTAT"]).await;
    let started = Instant::now();
    let mut last = 0;
    while started.elapsed() < Duration::from_millis(500) {
        last += 1;
        first.keep_floor(CLUSTER, "node-1/0", format!("d{last}").as_bytes());
        tokio::task::yield_now().await;
    }
    reads(&first, &["b", "c", &format!("d{last}")]).await;
    let stats: String = stand.ask(&["INFO", "commandstats"]).await;
    let calls = stats.split("cmdstat_hset:calls=").nth(1).unwrap().split(',').next().unwrap();
    let most = started.elapsed().as_millis() / 100 + 2;
    assert!(calls.parse::<u128>().unwrap() <= most, "{calls} for {last}, not {most}");
    stand.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_somebody_else_wrote_is_not_read_and_one_that_was_taken_away_comes_again() {
    let stand = Stand::start().await;
    let cache = stand.cache("shard-1", Durability::Replicated);
    cache.keep_floor(CLUSTER, "a", b"one");
    reads(&cache, &["one"]).await;
    let name = stand.name().await;
    let sealed: Vec<u8> = stand.ask(&["HGET", &name, "a"]).await;
    let client = redis::Client::open(stand.cluster.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut flipped = sealed.clone();
    flipped[0] ^= 1;
    for (field, value) in [("b", &sealed), ("c", &flipped), ("d", &vec![0; 16]), ("e", &Vec::new())] {
        redis::Cmd::hset(&name, field, value).query_async::<()>(&mut connection).await.unwrap();
    }
    reads(&cache, &["one"]).await;
    let mut flood = redis::pipe();
    for number in 0..5_000 {
        flood.hset(&name, format!("junk-{number}"), "x");
    }
    flood.query_async::<()>(&mut connection).await.unwrap();
    assert!(read(&cache).await.is_empty(), "and that quickly");

    stand.ask::<()>(&["DEL", &name]).await;
    stand.ask::<()>(&["SET", &name, "x"]).await;
    assert!(read(&cache).await.is_empty());
    cache.keep_floor(CLUSTER, "a", b"two");
    reads(&cache, &["two"]).await;
    stand.ask::<()>(&["FLUSHALL"]).await;
    assert!(read(&cache).await.is_empty());
    cache.keep_floor(CLUSTER, "a", b"three");
    reads(&cache, &["three"]).await;

    stand.secret.replace(&Secret::new("another"));
    assert!(read(&cache).await.is_empty());
    cache.keep_floor(CLUSTER, "a", b"four");
    reads(&cache, &["four"]).await;

    // What Redis could not take it is given when it is back, and only the latest of it.
    stand.cluster.redis().kill().await.unwrap();
    let started = Instant::now();
    assert!(read(&cache).await.is_empty());
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    cache.keep_floor(CLUSTER, "a", b"five");
    // Three of its turns, in which it is tried in vain.
    tokio::time::sleep(Duration::from_millis(300)).await;
    cache.keep_floor(CLUSTER, "a", b"six");
    stand.cluster.redis().start().await.unwrap();
    reads(&cache, &["six"]).await;
    stand.cluster.stop().await;
}
