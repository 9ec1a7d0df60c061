//! One node process: its parts, how they start, and what it says of itself.

use std::sync::Arc;
use std::time::Duration;

use picopay_shared::cluster::{Cluster, Durability};
use picopay_shared::config::Secret;
use picopay_shared::id::IdSource;
use picopay_shared::node_status::{NodeStatus, OwnedRange};
use tokio::time::{sleep, timeout};

use crate::cache::Cache;
use crate::config::NodeConfig;
use crate::db::{Primary, Replica};
use crate::lane::LaneParts;
use crate::metrics::Metrics;
use crate::read::Reader;
use crate::replica_lag;
use crate::timeline::Timelines;
use crate::write::Writer;
use crate::write_gate::{self, WriteGate, WrongDatabase};

/// How long the pause is before another try to bring the schema up to date.
const MIGRATE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long the primary may take to say which slots it owns. Below the time that gateways wait for a status.
const STATUS_TIMEOUT: Duration = Duration::from_millis(800);

/// The slots that the shard's database knows as its own, now or soon.
#[derive(Default)]
struct Slots {
    owned: Vec<OwnedRange>,
    importing: Vec<OwnedRange>,
}

/// A running node.
pub struct Node {
    shard: String,
    durability: Durability,
    internal_secret: Secret,
    parts: Arc<LaneParts>,
    writer: Writer,
    reader: Reader,
    cache: Cache,
}

impl Node {
    /// Puts the parts together and starts their tasks. Neither Postgres nor Redis has to be up.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn start(cluster: &Cluster, config: &NodeConfig) -> anyhow::Result<Arc<Self>> {
        let shard = cluster.shard(&config.shard).ok_or_else(|| {
            let names: Vec<&str> = cluster.shards.iter().map(|shard| shard.name.as_str()).collect();
            anyhow::anyhow!(
                "shard {:?} is not in cluster.toml, which has: {}",
                config.shard,
                names.join(", ")
            )
        })?;
        let metrics = Metrics::new(&shard.name);
        let timelines = Timelines::new(metrics.older_timelines.clone());
        let primary = Primary::new(shard, &config.postgres, timelines)?;
        let replicas = Replica::all(shard, &config.postgres)?;
        let cache = Cache::new(shard.redis.as_deref(), &config.cache)?;
        let parts = Arc::new(LaneParts {
            primary: primary.clone(),
            gate: WriteGate::default(),
            ids: IdSource::default(),
            metrics,
            batch_max: config.lanes.batch_max,
            flight_timeout: config.postgres.flight_timeout,
        });
        let writer =
            Writer::start(Arc::clone(&parts), cache.clone(), config.lanes.count, config.lanes.queue_max);
        let lags = replica_lag::watch_all(&primary, &replicas, &config.reads);
        let reader = Reader::new(
            &shard.name,
            Arc::clone(&parts),
            replicas.into_iter().zip(lags).collect(),
            &config.reads,
            config.postgres.flight_timeout,
        );
        let node = Self {
            shard: shard.name.clone(),
            durability: shard.durability,
            internal_secret: cluster.internal_secret.clone(),
            parts,
            writer,
            reader,
            cache,
        };
        Ok(Arc::new(node))
    }

    /// Brings the schema up to date, then keeps the write gate. Comes back only when the database turns out to
    /// be another shard's.
    pub async fn keep(&self) -> WrongDatabase {
        self.migrate().await;
        let cache = self.cache.clone();
        let (gate, shard) = (self.parts.gate.clone(), self.shard.clone());
        tokio::spawn(async move {
            cache.set_scope(gate.opened().await.cluster_id, &shard);
        });
        write_gate::keep(
            self.parts.gate.clone(),
            self.parts.primary.clone(),
            self.shard.clone(),
            self.durability,
        )
        .await
    }

    async fn migrate(&self) {
        loop {
            let reason = match self.parts.primary.connect("picopay-node migrations", self.durability).await {
                Err(error) => format!("the primary cannot be reached: {error}"),
                Ok(mut connection) => match picopay_migrations::apply(&mut connection.client).await {
                    Ok(applied) => {
                        for name in applied {
                            tracing::info!(name, "migration applied");
                        }
                        return;
                    }
                    Err(error) => format!("{error}: {:?}", std::error::Error::source(&error)),
                },
            };
            self.parts.gate.explain(reason);
            sleep(MIGRATE_AGAIN_AFTER).await;
        }
    }

    /// What gateways and operators must show.
    pub fn internal_secret(&self) -> &str {
        self.internal_secret.expose()
    }

    /// The write path.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The read path.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// What this node says of itself, with the slots that the primary says it owns now.
    pub async fn status(&self) -> NodeStatus {
        let slots =
            timeout(STATUS_TIMEOUT, self.read_slots()).await.unwrap_or_else(|error| Err(error.into()));
        let (not_ready_reason, degraded) = match (self.parts.gate.check(), &slots) {
            (Err(reason), _) => (Some(reason), None),
            (Ok(opening), Ok(_)) => (None, opening.degraded),
            (Ok(opening), Err(error)) => {
                let reason = format!("the primary does not say which slots it owns: {error:#}");
                (Some(reason), opening.degraded)
            }
        };
        let Slots { owned, importing } = slots.unwrap_or_default();
        NodeStatus {
            shard: self.shard.clone(),
            is_ready: not_ready_reason.is_none(),
            not_ready_reason,
            degraded: degraded.map(Arc::unwrap_or_clone),
            owned,
            importing,
            replica_lag_ms: self.freshest_lag_ms(),
            cache: self.cache.state(),
        }
    }

    async fn read_slots(&self) -> anyhow::Result<Slots> {
        let client = self.parts.primary.reader().await?;
        let statement = client.prepare_cached(include_str!("sql/find_slot_ranges.sql")).await?;
        let mut slots = Slots::default();
        for row in client.query(&statement, &[]).await? {
            let range = OwnedRange {
                first: u16::try_from(row.get::<_, i16>(1))?,
                last: u16::try_from(row.get::<_, i16>(2))?,
                epoch: u64::try_from(row.get::<_, i64>(3))?,
            };
            match row.get(0) {
                "owned" => slots.owned.push(range),
                _ => slots.importing.push(range),
            }
        }
        Ok(slots)
    }

    fn freshest_lag_ms(&self) -> Option<u64> {
        let freshest = self.reader.lags().flatten().min()?;
        u64::try_from(freshest.as_millis()).ok()
    }

    /// All metrics, those that are read off at this moment included.
    pub fn render_metrics(&self) -> Vec<u8> {
        let metrics = &self.parts.metrics;
        let opening = self.parts.gate.check();
        metrics.is_ready.set(i64::from(opening.is_ok()));
        if let Ok(opening) = opening {
            metrics.is_degraded.set(i64::from(opening.degraded.is_some()));
            metrics.timeline.set(i64::from(opening.timeline));
        }
        for (lane, length) in self.writer.queue_lengths().enumerate() {
            let gauge = metrics.queue_length.with_label_values(&[&lane.to_string()]);
            gauge.set(i64::try_from(length).unwrap_or(i64::MAX));
        }
        for (replica, lag) in self.reader.lags().enumerate() {
            let gauge = metrics.replica_lag_ms.with_label_values(&[&replica.to_string()]);
            gauge.set(lag.map_or(-1, |lag| i64::try_from(lag.as_millis()).unwrap_or(i64::MAX)));
        }
        metrics.render()
    }
}
