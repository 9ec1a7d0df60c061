//! Redis only remembers: with it, without it and in the middle of its failing, the answers are the same. And so they are whoever
//! writes to it, and whatever it is brought back to.

use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster};
use picopay_shared::cluster::Durability;
use picopay_shared::command::{Command, Fingerprint, Operation, Outcome, Transaction};
use picopay_shared::hold::HoldPart;
use picopay_shared::node_status::CacheState;
use picopay_shared::session::LogPosition;
use picopay_shared::slot::UserId;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult};

use crate::test_shard::{
    NodeClient, TestShard, charge, command, decided, eventually, is_completed, top_up, usd,
};

/// A connection to the cluster's Redis, as anybody has who can write to it.
struct Redis(MultiplexedConnection);

impl Redis {
    async fn of(cluster: &LocalCluster) -> Self {
        let client = redis::Client::open(cluster.redis_url()).unwrap();
        // A busy machine needs its time for the 100 MB below.
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_mins(1)));
        Self(client.get_multiplexed_async_connection_with_config(&patient).await.unwrap())
    }

    async fn ask<T: FromRedisValue>(&self, command: redis::Cmd) -> RedisResult<T> {
        command.query_async(&mut self.0.clone()).await
    }

    async fn get(&self, name: &str) -> Option<Vec<u8>> {
        // Another type is not an answer either.
        self.ask(redis::Cmd::get(name)).await.ok().flatten()
    }

    async fn set(&self, name: &str, bytes: &[u8]) {
        self.ask::<()>(redis::Cmd::set(name, bytes)).await.unwrap();
    }

    /// The first places of all scopes, where everything is in a cluster with one place for each.
    async fn first_places(&self) -> Vec<String> {
        let mut names: Vec<String> = self.ask(redis::Cmd::keys("*}:0")).await.unwrap();
        names.sort_unstable();
        names
    }

    /// Without what nodes keep there for those that are started later.
    async fn forget_floors(&self) {
        for name in self.ask::<Vec<String>>(redis::Cmd::keys("*:floor")).await.unwrap() {
            self.ask::<()>(redis::Cmd::del(name)).await.unwrap();
        }
    }

    /// All that it has, as `SAVE` writes it.
    async fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for name in self.ask::<Vec<String>>(redis::Cmd::keys("*")).await.unwrap() {
            let mut dump = redis::cmd("DUMP");
            all.push((name.clone(), self.ask(dump.arg(name).clone()).await.unwrap()));
        }
        all
    }

    /// Goes back to what it had then.
    async fn restore(&self, all: &[(String, Vec<u8>)]) {
        self.ask::<()>(redis::cmd("FLUSHALL")).await.unwrap();
        for (name, dumped) in all {
            let mut restore = redis::cmd("RESTORE");
            self.ask::<()>(restore.arg(name).arg(0).arg(dumped).clone()).await.unwrap();
        }
    }
}

async fn hits(node: &NodeClient) -> f64 {
    node.metric("picopay_node_cache_hits_total").await
}

/// Waits until a replay of this command comes from Redis.
async fn see_in_redis(node: &NodeClient, command: &Command, first: &Outcome) {
    let before = hits(node).await;
    eventually("a hit in Redis", || async {
        see_replay(node, command, first).await;
        (hits(node).await > before).then_some(())
    })
    .await;
}

/// Asks until there is an answer, which must be a replay of this one.
async fn see_replay(node: &NodeClient, command: &Command, first: &Outcome) {
    let again = eventually("an answer", || async {
        // On a busy machine a gate may be shut for a moment.
        Some(node.run(command.clone()).await)
            .filter(|outcome| !matches!(outcome, Outcome::Unavailable { .. } | Outcome::OutcomeUnknown))
    })
    .await;
    assert_eq!(decided(&again), (decided(first).0, true));
}

/// Asks once more, and says whether the answer, which must be this one, came from Redis.
async fn is_from_redis(node: &NodeClient, command: &Command, first: &Outcome) -> bool {
    let before = hits(node).await;
    see_replay(node, command, first).await;
    hits(node).await > before
}

#[tokio::test]
async fn a_replay_comes_from_redis_and_is_the_same_without_it() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let command = charge(user, usd("10"));
    let first = shard.node.run(command.clone()).await;
    let hits = || shard.node.metric("picopay_node_cache_hits_total");
    eventually("a cache hit", || async {
        let again = shard.node.run(command.clone()).await;
        assert_eq!(decided(&again), (decided(&first).0, true));
        (hits().await > 0.0).then_some(())
    })
    .await;

    // Flushed: from Postgres again, word for word.
    Redis::of(&shard.cluster).await.ask::<()>(redis::cmd("FLUSHALL")).await.unwrap();
    let again = shard.node.run(command.clone()).await;
    assert_eq!(decided(&again), (decided(&first).0, true));
    assert_eq!(shard.node.balance(user).await, "90.00");
    shard.stop().await;
}

#[tokio::test]
async fn a_redis_that_freezes_dies_and_comes_back_changes_no_answer_and_costs_one_short_wait() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("1000")).await;
    let redis = shard.cluster.redis();
    let state = || async { shard.node.status().await.unwrap().cache };
    let command = charge(user, usd("10"));
    let first = shard.node.run(command.clone()).await;

    redis.freeze();
    let skips = async || shard.node.metric("picopay_node_cache_skips_total").await;
    let before = skips().await;
    for _ in 0..20 {
        let again = shard.node.run(command.clone()).await;
        assert_eq!(decided(&again), (decided(&first).0, true));
        assert!(is_completed(&shard.node.run(charge(user, usd("1"))).await));
    }
    assert_eq!(state().await, CacheState::Skipped);
    let waited = 40.0 - (skips().await - before);
    assert!(waited <= 1.0, "{waited} of 40 batches waited for Redis");
    redis.thaw();
    eventually("redis in use", || async { (state().await == CacheState::Up).then_some(()) }).await;

    redis.kill().await.unwrap();
    assert!(is_completed(&shard.node.run(charge(user, usd("1"))).await));
    assert_eq!(decided(&shard.node.run(command.clone()).await), (decided(&first).0, true));
    redis.start().await.unwrap();
    eventually("redis in use again", || async {
        assert_eq!(decided(&shard.node.run(command.clone()).await), (decided(&first).0, true));
        (state().await == CacheState::Up).then_some(())
    })
    .await;
    assert_eq!(shard.node.balance(user).await, "969.00");
    shard.stop().await;
}

/// As patient as a machine needs that does something else meanwhile: what is shown here is no matter of time.
const PATIENT: &str = "[postgres]\nconnect_timeout = \"10s\"\nlock_timeout = \"10s\"\nstatement_timeout = \"11s\"\n\
                       flight_timeout = \"12s\"\n[cache]\nlookup_timeout = \"5s\"\n";

/// And with one place for all answers, so that a forger knows where each is looked for.
fn one_place() -> String {
    format!("{PATIENT}entries = 1\n")
}

/// The bytes of an answer to `wanted` that was never given, made of one to something else.
fn forged(wanted: &Command, entry: &[u8]) -> Vec<u8> {
    let (real, hold_part, _, committed): (Transaction, HoldPart, Fingerprint, LogPosition) =
        postcard::from_bytes(entry).unwrap();
    let transaction = Transaction { idempotency_key: Some(wanted.idempotency_key), ..real };
    postcard::to_stdvec(&(transaction, hold_part, wanted.fingerprint, committed)).unwrap()
}

#[tokio::test]
async fn who_can_write_to_redis_makes_no_answer() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(&one_place())).await;
    let (node, redis) = (&shard.node, Redis::of(&shard.cluster).await);
    let user = shard.user_with(usd("1000")).await;
    let real = charge(user, usd("10"));
    let first = node.run(real.clone()).await;
    see_in_redis(node, &real, &first).await;
    let [place] = &redis.first_places().await[..] else { panic!("one place") };
    let entry = redis.get(place).await.unwrap();

    let code = &entry[entry.len() - 16..];
    let endings: [&[u8]; 5] = [b"", code, &[0; 16], &[0xff; 32], &entry];
    for (number, ending) in endings.into_iter().enumerate() {
        let wanted = charge(user, usd("1"));
        let bytes = [forged(&wanted, &entry).as_slice(), ending].concat();
        redis.set(place, &bytes).await;
        let outcome = node.run(wanted).await;
        assert!(is_completed(&outcome) && !decided(&outcome).1, "ending {number}: {outcome:?}");
        overwritten(&redis, place, &bytes).await;
    }
    assert_eq!(node.balance(user).await, "985.00");

    // Its own answer, changed or not whole.
    for bit in [0, 1, 77, 400, entry.len() * 8 - 129, entry.len() * 8 - 128, entry.len() * 8 - 1] {
        let mut flipped = entry.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        redis.set(place, &flipped).await;
        assert!(!is_from_redis(node, &real, &first).await, "bit {bit}");
        overwritten(&redis, place, &flipped).await;
    }
    for bytes in [&[], &entry[..16], &entry[..entry.len() - 1], &[0xff; 16], &vec![0; 1 << 20][..]] {
        redis.set(place, bytes).await;
        assert!(!is_from_redis(node, &real, &first).await, "{} bytes", bytes.len());
        overwritten(&redis, place, bytes).await;
    }
    // An older one that was there before is the ledger's own.
    let before = redis.get(place).await.unwrap();
    assert!(is_completed(&node.run(charge(user, usd("1"))).await));
    overwritten(&redis, place, &before).await;
    redis.set(place, &entry).await;
    assert!(is_from_redis(node, &real, &first).await);

    // Of another type.
    redis.ask::<()>(redis::Cmd::del(place)).await.unwrap();
    redis.ask::<()>(redis::Cmd::lpush(place, "x")).await.unwrap();
    assert!(!is_from_redis(node, &real, &first).await);
    overwritten(&redis, place, &[]).await;
    assert!(is_from_redis(node, &real, &first).await, "the list is gone");
    // More than anybody wants to read.
    redis.set(place, &vec![7; 100 << 20]).await;
    assert!(!is_from_redis(node, &real, &first).await);
    redis.ask::<()>(redis::Cmd::del(place)).await.unwrap();
    see_in_redis(node, &real, &first).await;
    assert_eq!(node.balance(user).await, "984.00");
    shard.stop().await;
}

/// Waits until the node has put its answer over these bytes.
async fn overwritten(redis: &Redis, place: &str, bytes: &[u8]) {
    eventually("an answer in its place", || async {
        redis.get(place).await.filter(|now| now != bytes).map(drop)
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_copied_from_another_shard_or_generation_is_none() {
    let shard = TestShard::start_with(ClusterSpec::default().with_node_toml(&one_place())).await;
    let (node, redis) = (&shard.node, Redis::of(&shard.cluster).await);
    let user = shard.user_in_first_half(usd("100")).await;
    let real = charge(user, usd("10"));
    let first = node.run(real.clone()).await;
    see_in_redis(node, &real, &first).await;
    let [place] = &redis.first_places().await[..] else { panic!("one place") };
    let entry = redis.get(place).await.unwrap();

    let other = NodeClient::new(&shard.cluster.node_url(1, 0), shard.cluster.internal_secret());
    let user_id =
        (1..100_000).map(|id| UserId::try_from(id).unwrap()).find(|id| id.slot().get() >= 2048).unwrap();
    eventually("a user of the second shard", || async {
        let outcome = other.run(command(Operation::CreateUser { user_id })).await;
        matches!(outcome, Outcome::UserCreated | Outcome::UserExisted).then_some(())
    })
    .await;
    assert!(is_completed(&other.run(top_up(user_id, usd("1"))).await));
    let others = eventually("the place of the second shard", || async {
        redis.first_places().await.into_iter().find(|name| name != place)
    })
    .await;
    redis.set(&others, &entry).await;
    let outcome = other.run(real.clone()).await;
    assert!(matches!(outcome, Outcome::Moved(_)), "{outcome:?}");

    // A new generation, and the place that it has.
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let raise = "UPDATE shard_identity SET generation = generation + 1, generation_id = gen_random_uuid()";
    superuser.batch_execute(raise).await.unwrap();
    eventually("a look at it", || async {
        (node.status().await.unwrap().generation == Some(2)).then_some(())
    })
    .await;
    assert!(!is_from_redis(node, &real, &first).await);
    let places = eventually("its place", || async {
        Some(redis.first_places().await).filter(|names| names.len() == 3)
    })
    .await;
    let new = places.iter().find(|name| *name != place && **name != others).unwrap();
    overwritten(&redis, new, &entry).await;
    redis.set(new, &entry).await;
    assert!(!is_from_redis(node, &real, &first).await);
    see_in_redis(node, &real, &first).await;
    assert_eq!(node.balance(user).await, "90.00");
    shard.stop().await;
}

#[tokio::test]
async fn a_charge_that_a_failover_lost_is_charged_and_not_replayed() {
    // The primary acknowledges alone, and the standby that takes over lacks the charge.
    let shard = TestShard::start_with(
        ClusterSpec::one_shard().with_durability(Durability::Local).with_node_toml(PATIENT),
    )
    .await;
    let (node, redis) = (&shard.node, Redis::of(&shard.cluster).await);
    let user = shard.user_with(usd("100")).await;
    let kept = charge(user, usd("1"));
    let kept_first = node.run(kept.clone()).await;
    let standby = shard.cluster.connect_replica(0).await.unwrap();
    eventually("a standby that has the first charge", || async {
        let there = "SELECT FROM transactions WHERE idempotency_key = $1";
        standby.query_opt(there, &[&kept.idempotency_key]).await.unwrap().map(drop)
    })
    .await;
    drop(standby);
    shard.cluster.shard(0).replica().kill().await.unwrap();
    let lost = charge(user, usd("10"));
    let lost_first = node.run(lost.clone()).await;
    see_in_redis(node, &lost, &lost_first).await;
    see_in_redis(node, &kept, &kept_first).await;
    let before = redis.dump().await;

    // A node that knows nothing of what was acknowledged, or its gate would stay shut for want of the charge.
    shard.cluster.shard(0).node(0).kill().await.unwrap();
    redis.forget_floors().await;
    let before: Vec<_> = before.into_iter().filter(|(name, _)| !name.ends_with(":floor")).collect();
    shard.cluster.shard(0).primary().kill().await.unwrap();
    shard.cluster.shard(0).replica().start().await.unwrap();
    shard.cluster.failover(0).await.unwrap();
    shard.cluster.shard(0).node(0).start().await.unwrap();
    let again = eventually("an answer of the new primary", || async {
        Some(node.run(lost.clone()).await).filter(|outcome| matches!(outcome, Outcome::Decided { .. }))
    })
    .await;
    assert!(is_completed(&again) && !decided(&again).1, "{again:?}");
    assert_ne!(decided(&again).0.id, decided(&lost_first).0.id);
    assert!(!is_from_redis(node, &kept, &kept_first).await);
    see_in_redis(node, &lost, &again).await;
    see_in_redis(node, &kept, &kept_first).await;

    // Redis goes back to what it had before the failover.
    redis.restore(&before).await;
    assert!(!is_from_redis(node, &lost, &again).await);
    assert!(!is_from_redis(node, &kept, &kept_first).await);
    assert_eq!((node.balance(user).await.as_str(), shard.row_count(user).await), ("89.00", 3));
    shard.stop().await;
}

#[tokio::test]
async fn while_the_gate_is_shut_nothing_is_replayed_from_redis() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(PATIENT)).await;
    let user = shard.user_with(usd("100")).await;
    let real = charge(user, usd("10"));
    let first = shard.node.run(real.clone()).await;
    see_in_redis(&shard.node, &real, &first).await;
    shard.cluster.shard(0).replica().kill().await.unwrap();
    eventually("a gate that is shut", || async {
        (!shard.node.status().await.unwrap().is_ready).then_some(())
    })
    .await;
    let outcome = shard.node.run(real.clone()).await;
    assert!(matches!(outcome, Outcome::Unavailable { .. }), "{outcome:?}");
    shard.cluster.shard(0).replica().start().await.unwrap();
    eventually("a gate that is open", || async { shard.node.status().await.unwrap().is_ready.then_some(()) })
        .await;
    assert!(is_from_redis(&shard.node, &real, &first).await, "it is the same ledger still");
    shard.stop().await;
}

const ANOTHER_SECRET: &str = "another-internal-secret-of-forty-letters";

#[tokio::test(flavor = "multi_thread")]
async fn after_a_change_of_the_secret_the_cache_starts_anew() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(PATIENT)).await;
    let user = shard.user_with(usd("100")).await;
    let real = charge(user, usd("10"));
    let first = shard.node.run(real.clone()).await;
    see_in_redis(&shard.node, &real, &first).await;
    let redis = Redis::of(&shard.cluster).await;
    let before = redis.dump().await;

    std::fs::write(shard.cluster.folder().join("secrets/internal"), format!("{ANOTHER_SECRET}\n")).unwrap();
    shard.cluster.shard(0).node(0).reload();
    let node = NodeClient::new(&shard.cluster.node_url(0, 0), ANOTHER_SECRET);
    eventually("the new secret", || async { node.status().await.ok() }).await;
    assert!(!is_from_redis(&node, &real, &first).await, "it may have leaked, and be why it was changed");
    see_in_redis(&node, &real, &first).await;
    redis.restore(&before).await;
    assert!(!is_from_redis(&node, &real, &first).await);
    shard.stop().await;
}

#[tokio::test]
async fn a_redis_that_is_flooded_changes_no_answer() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(PATIENT)).await;
    let (node, redis) = (&shard.node, Redis::of(&shard.cluster).await);
    let user = shard.user_with(usd("100")).await;
    let real = charge(user, usd("10"));
    let first = node.run(real.clone()).await;
    see_in_redis(node, &real, &first).await;
    // More than it has room for: what was there before goes.
    let junk = vec![0x55; 200_000];
    for number in 0..2_000 {
        redis.set(&format!("junk:{number}"), &junk).await;
        if number % 100 == 0 {
            assert_eq!(decided(&node.run(real.clone()).await), (decided(&first).0, true));
            assert!(is_completed(&node.run(charge(user, usd("1"))).await));
        }
    }
    for name in redis.ask::<Vec<String>>(redis::Cmd::keys("{picopay*")).await.unwrap() {
        redis.set(&name, &junk).await;
    }
    assert_eq!(decided(&node.run(real.clone()).await), (decided(&first).0, true));
    assert_eq!(node.balance(user).await, "70.00");
    shard.stop().await;
}
