//! The primary's clock steps, and a replica that replays nothing must not look fresh.
//!
//! A trigger stands for the clock and dates every heartbeat. If lag were the difference of two beats, the replica would
//! seem to lack nothing. The first beat is written here: only nodes of an older release write any.

use std::time::Duration;

use anyhow::Context;
use picopay_local::LocalShard;
use tokio_postgres::Client;

use super::scene::Scene;
use super::schedule::Fault;
use crate::findings::{Finding, Promise};

/// Far beyond every bound.
const STEP: &str = "10 minutes";

/// `replica_lag_max` (2 s), two more beats (0.5 s), and some for a busy machine.
const STALE_AFTER: Duration = Duration::from_secs(4);

const BEAT_WAIT: Duration = Duration::from_secs(20);

const BOOK_WAIT: Duration = Duration::from_secs(10);

pub async fn step(fault: Fault, scene: &mut Scene<'_>, healing: impl FnOnce()) -> anyhow::Result<()> {
    let shard = scene.cluster.shard(fault.shard);
    // The services' role owns the beats, and finds them where they are; only the superuser may pause a replay.
    let (primary, replica) = (shard.connect_primary().await?, shard.connect_replica_as_superuser().await?);
    if fault.times_before.is_multiple_of(2) {
        pause(&replica).await?;
        set_clock(&primary, "-").await?;
    } else {
        set_clock(&primary, "+").await?;
        wait_for_a_late_beat(&shard.connect_replica().await?).await?;
        pause(&replica).await?;
        reset_clock(&primary).await?;
    }
    let booked = scene.probe.book(fault.shard, BOOK_WAIT).await;
    tokio::time::sleep(STALE_AFTER.max(fault.hold)).await;
    if let Some(key) = booked
        && scene.probe.lists(fault.shard, &key).await == Some(false)
    {
        report(scene, shard, &key);
    }
    healing();
    reset_clock(&primary).await?;
    replica.batch_execute("SELECT pg_wal_replay_resume()").await.context("the replay cannot go on")
}

fn report(scene: &Scene<'_>, shard: &LocalShard, key: &str) {
    let client = scene.probe.client();
    let text = format!(
        "a replica of {} that replays nothing looks fresh: {} s after key {key} was acknowledged, history does not have it",
        shard.name(),
        STALE_AFTER.as_secs()
    );
    let at = Some(client.clock.now());
    client.findings.add(Finding { promise: Promise::RightAnswers, text, at, words: vec![key.to_owned()] });
}

async fn pause(replica: &Client) -> anyhow::Result<()> {
    replica.batch_execute("SELECT pg_wal_replay_pause()").await.context("the replay cannot be paused")?;
    let paused = async {
        let sql = "SELECT pg_get_wal_replay_pause_state() = 'paused'";
        while !replica.query_one(sql, &[]).await?.try_get::<_, bool>(0)? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(BEAT_WAIT, paused).await.context("the replay does not pause")?
}

/// It does not wait for a standby, which may be the paused one.
async fn set_clock(primary: &Client, sign: &str) -> anyhow::Result<()> {
    let sql = format!(
        "SET synchronous_commit = local;
         CREATE FUNCTION stepped_clock() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN NEW.beat_at := NEW.beat_at {sign} interval '{STEP}'; RETURN NEW; END $$;
         CREATE TRIGGER stepped_clock BEFORE INSERT OR UPDATE ON heartbeat
         FOR EACH ROW EXECUTE FUNCTION stepped_clock();
         INSERT INTO heartbeat (beat_at) VALUES (clock_timestamp())
         ON CONFLICT (only_row) DO UPDATE SET beat_at = EXCLUDED.beat_at"
    );
    primary.batch_execute(&sql).await.context("the clock cannot be stepped")
}

async fn reset_clock(primary: &Client) -> anyhow::Result<()> {
    let sql = "DROP FUNCTION IF EXISTS stepped_clock() CASCADE";
    primary.batch_execute(sql).await.context("the clock cannot be set right")
}

async fn wait_for_a_late_beat(replica: &Client) -> anyhow::Result<()> {
    let seen = async {
        let sql = "SELECT EXISTS (SELECT FROM heartbeat WHERE beat_at > now() + interval '1 minute')";
        while !replica.query_one(sql, &[]).await?.try_get::<_, bool>(0)? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(BEAT_WAIT, seen).await.context("no beat of the stepped clock is replayed")?
}
