//! What two users with a long history cost the others. One has a million refusals, the other a million charges and asks for
//! top-ups. Both ask for their history ten times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::json;

use super::mix::Mix;
use super::pace::Pace;
use super::stand::{Load, LoadFigures, Stand};
use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::run::{Rhythm, Stop};

/// Well below what the machine can do, so that the effect of the two users shows.
const RATE: f64 = 1_000.0;

/// Between two requests of both together.
const EVERY: Duration = Duration::from_millis(50);

/// Users of their own, beyond those that are loaded.
const FIRST_USER: u64 = 1 << 40;

#[derive(Debug, Clone, Serialize)]
pub struct Heavy {
    pub rows: u64,
    /// The others, while nobody else asks.
    pub without: LoadFigures,
    pub with: LoadFigures,
    pub answered: u64,
    pub failed: u64,
}

pub async fn measure(stand: &mut Stand, pace: &Pace, stop: &Stop) -> anyhow::Result<Heavy> {
    let rows = pace.existing / 5;
    let refused = make(stand, FIRST_USER, include_str!("sql/fill_refusals_of_one.sql"), rows).await?;
    let charged = make(stand, FIRST_USER + 1, include_str!("sql/fill_charges_of_one.sql"), rows).await?;
    stand.settle().await?;
    let without = load(stand, pace, stop).await?;
    let queries = [format!("user_id={refused}"), format!("user_id={charged}&kind=topup")];
    let asking = HeavyReader::start(stand, queries);
    let with = load(stand, pace, stop).await?;
    let (answered, failed) = asking.stop().await;
    eprintln!(
        "heavy       {rows} rows each, {answered} histories: p99 of the others {:.2} ms, {:.2} ms without",
        with.p99_ms, without.p99_ms
    );
    Ok(Heavy { rows, without, with, answered, failed })
}

async fn load(stand: &mut Stand, pace: &Pace, stop: &Stop) -> anyhow::Result<LoadFigures> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "one second of arrivals")]
    let waiting_max = RATE as usize;
    let load = Load {
        mix: Mix::Reads,
        rhythm: Rhythm::Open { rate_per_second: RATE, spacing: Spacing::Poisson, waiting_max },
        connections: 256,
        warmup: pace.warmup(),
        duration: Duration::from_secs(pace.latency_s),
    };
    stand.load(&load, stop).await
}

async fn make(stand: &Stand, user: u64, fill: &str, rows: u64) -> anyhow::Result<u64> {
    let cluster = &stand.cluster;
    let made = cluster.post("/users", None, &json!({"user_id": user})).await?;
    ensure!(made.status == 201, "{made:?}");
    let body = json!({"user_id": user, "amount": "100000", "currency": "USD"});
    let topped_up = cluster.post("/topup", None, &body).await?;
    ensure!(topped_up.status == 200, "{topped_up:?}");
    let topped_up = topped_up.json();
    let id = topped_up["transaction"]["id"].as_str().context("a top-up has an id")?;
    // One of the shards has it.
    for primary in stand.primaries() {
        primary.batch_execute("SET session_replication_role = replica").await?;
        primary.execute(fill, &[&id, &i64::try_from(rows)?]).await?;
        primary.batch_execute("RESET session_replication_role").await?;
    }
    Ok(user)
}

/// Both, asking in turn.
struct HeavyReader {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl HeavyReader {
    fn start(stand: &Stand, queries: [String; 2]) -> Self {
        let (url, key) = (stand.cluster.gateway_url(), stand.cluster.api_key().to_owned());
        let (is_over, answered, failed): (Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>) =
            (Arc::default(), Arc::default(), Arc::default());
        let (over, good, bad) = (Arc::clone(&is_over), Arc::clone(&answered), Arc::clone(&failed));
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            let mut turns = queries.iter().cycle();
            while !AtomicBool::load(&over, Ordering::Relaxed) {
                ticks.tick().await;
                let query = turns.next().expect("a circle has no end");
                let url = format!("{url}/transactions?{query}&limit=100");
                let headers = [("x-api-key", key.as_str())];
                let asked = picopay_local::http_call::call(http::Method::GET, &url, &headers, "").await;
                let is_good = asked.is_ok_and(|answer| answer.status == 200);
                if is_good { &good } else { &bad }.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { is_over, answered, failed, task }
    }

    async fn stop(self) -> (u64, u64) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.task.await;
        (self.answered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}
