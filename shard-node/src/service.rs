//! The charge service of a shard, for one entry of `cluster.toml`: its parts, how they start and end.
//!
//! When the entry changes, the node starts another one beside it (`node.rs`). When the last user of a service
//! drops it, its tasks and connections end.

use std::sync::Arc;
use std::time::Duration;

use picopay_shard_node_config::{NodeConfig, redis_client};
use picopay_shared::cluster::Shard;
use picopay_shared::config::Secret;
use picopay_shared::internal_secret::InternalSecret;
use picopay_shared::node_status::{NodeStatus, OwnedRange, WIRE_BEFORE_HOLDS, WIRE_VERSION};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cache::{Cache, Whose};
use crate::db::{Primary, Replica};
use crate::floor::Floors;
use crate::gate_keeper::{GateKeeper, WrongDatabase};
use crate::identity::{Expected, Kept};
use crate::lane::LaneParts;
use crate::metrics::Metrics;
use crate::older_callers::OlderCallers;
use crate::read::Reader;
use crate::replica_lag;
use crate::sweeper::Sweeper;
use crate::timeline::Timelines;
use crate::write::Writer;
use crate::write_gate::WriteGate;

/// How long the primary may take to report its slots. Below the time that gateways wait for a status.
const STATUS_TIMEOUT: Duration = Duration::from_millis(800);

#[derive(Default)]
struct Slots {
    owned: Vec<OwnedRange>,
    importing: Vec<OwnedRange>,
}

/// What stays for the life of a process, whatever its shard's entry says.
pub struct Lasting {
    pub metrics: Arc<Metrics>,
    /// A replaced primary is not used again because another name leads to it.
    pub timelines: Timelines,
    pub floors: Arc<Floors>,
    /// A process never serves another cluster than its first.
    pub kept: Arc<Kept>,
    /// Gateways and operators must show it, and it seals the answers in Redis. All services see it change.
    pub secret: Arc<InternalSecret>,
    pub older_callers: Arc<OlderCallers>,
}

impl Lasting {
    pub fn new(shard: &str, secret: &Secret) -> Self {
        let metrics = Arc::new(Metrics::new(shard));
        let timelines = Timelines::new(metrics.older_timelines.clone());
        Self {
            metrics,
            timelines,
            floors: Arc::default(),
            kept: Arc::default(),
            secret: Arc::new(InternalSecret::new(secret)),
            older_callers: Arc::default(),
        }
    }
}

pub struct Service {
    shard: String,
    parts: Arc<LaneParts>,
    writer: Arc<Writer>,
    reader: Reader,
    cache: Cache,
    older_callers: Arc<OlderCallers>,
    wrong_database: watch::Receiver<Option<WrongDatabase>>,
    /// Ends the tasks. The lanes end by themselves once their entrances are dropped.
    _ending: DropGuard,
}

impl Service {
    /// Builds the parts and starts their tasks. Neither Postgres nor Redis has to be up.
    ///
    /// # Errors
    /// When the entry cannot be used.
    pub fn start(shard: &Shard, lasting: &Lasting, config: &NodeConfig) -> anyhow::Result<Arc<Self>> {
        let ending = CancellationToken::new();
        let expected = Expected::new(&shard.name, Arc::clone(&lasting.kept));
        let primary = Primary::new(shard, &config.postgres, lasting.timelines.clone(), expected.clone())?;
        let replicas = Replica::all(shard, &config.postgres, &expected)?;
        let whose = Whose {
            shard: shard.name.clone(),
            durability: shard.durability,
            secret: Arc::clone(&lasting.secret),
        };
        let cache = Cache::new(redis_client(shard)?, &config.cache, whose)?;
        let parts = Arc::new(LaneParts {
            primary: primary.clone(),
            gate: WriteGate::default(),
            lanes_connected: watch::Sender::new(0),
            floors: Arc::clone(&lasting.floors),
            cache: cache.clone(),
            node_name: node_name(config),
            metrics: Arc::clone(&lasting.metrics),
            batch_max: config.lanes.batch_max,
            flight_timeout: config.postgres.flight_timeout,
        });
        let writer =
            Writer::start(Arc::clone(&parts), cache.clone(), config.lanes.count, config.lanes.queue_max);
        let writer = Arc::new(writer);
        if !config.testing.has_no_sweeper {
            let sweeper = Sweeper {
                primary: primary.clone(),
                gate: parts.gate.clone(),
                writer: Arc::clone(&writer),
                metrics: Arc::clone(&lasting.metrics),
            };
            tokio::spawn(ending.clone().run_until_cancelled_owned(sweeper.run()));
        }
        let (log, lags) = replica_lag::watch_all(&primary, &replicas, &config.reads, &ending);
        let reader = Reader::new(
            &shard.name,
            Arc::clone(&parts),
            log,
            replicas.into_iter().zip(lags).collect(),
            &config.reads,
            config.postgres.flight_timeout,
        );
        let (wrong, wrong_database) = watch::channel(None);
        let keeper = GateKeeper {
            gate: parts.gate.clone(),
            primary,
            shard_name: shard.name.clone(),
            promised: shard.durability,
            floors: Arc::clone(&lasting.floors),
            cache: cache.clone(),
            metrics: Arc::clone(&lasting.metrics),
        };
        tokio::spawn(ending.clone().run_until_cancelled_owned(async move {
            wrong.send_replace(Some(keeper.keep().await));
        }));
        let service = Self {
            shard: shard.name.clone(),
            parts,
            writer,
            reader,
            cache,
            older_callers: Arc::clone(&lasting.older_callers),
            wrong_database,
            _ending: ending.drop_guard(),
        };
        Ok(Arc::new(service))
    }

    pub async fn wrong_database(&self) -> WrongDatabase {
        let mut found = self.wrong_database.clone();
        let found = found.wait_for(Option::is_some).await.expect("the keeper lives as long as the service");
        found.clone().expect("waited for it")
    }

    /// Waits until it may write and its lanes are connected, so that no command waits for that.
    pub async fn ready(&self) {
        self.parts.gate.opened().await;
        let lanes = self.writer.queue_lengths().count();
        let mut connected = self.parts.lanes_connected.subscribe();
        let _ = connected.wait_for(|connected| *connected >= lanes).await.expect("it lives as long as self");
    }

    pub fn primary(&self) -> &Primary {
        &self.parts.primary
    }

    pub fn gate(&self) -> &WriteGate {
        &self.parts.gate
    }

    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    pub async fn status(&self) -> NodeStatus {
        let slots =
            timeout(STATUS_TIMEOUT, self.read_slots()).await.unwrap_or_else(|error| Err(error.into()));
        let (opening, mut not_ready_reason) = match self.parts.gate.check() {
            Ok(opening) => (Some(opening), None),
            Err(reason) => (None, Some(reason)),
        };
        if let (Some(_), Err(error)) = (&opening, &slots) {
            not_ready_reason = Some(format!("the primary does not say which slots it owns: {error:#}"));
        }
        let generation = opening.as_ref().map(|opening| opening.generation.number);
        let finished = opening.as_ref().map_or(WIRE_BEFORE_HOLDS, |opening| opening.finished);
        let degraded = opening.and_then(|opening| opening.degraded);
        if let Ok(slots) = &slots {
            let gauge = |state| self.parts.metrics.slots.with_label_values(&[state]);
            gauge("owned").set(count(&slots.owned));
            gauge("importing").set(count(&slots.importing));
        }
        let Slots { owned, importing } = slots.unwrap_or_default();
        NodeStatus {
            shard: self.shard.clone(),
            is_ready: not_ready_reason.is_none(),
            not_ready_reason,
            degraded: degraded.map(Arc::unwrap_or_clone),
            generation,
            wire: WIRE_VERSION,
            finished,
            older_caller_ms: self.older_callers.last_ms_ago(),
            owned,
            importing,
            replica_lag_ms: self.freshest_lag_ms(),
            cache: self.cache.state(),
        }
    }

    async fn read_slots(&self) -> anyhow::Result<Slots> {
        anyhow::ensure!(self.parts.primary.is_known(), "no primary is known now");
        let client = self.parts.primary.asker().await?;
        let asked = async {
            let statement = client.prepare_cached(include_str!("sql/find_slot_ranges.sql")).await?;
            client.query(&statement, &[]).await
        };
        let rows = asked.await;
        client.give_back();
        let mut slots = Slots::default();
        for row in rows? {
            let range = OwnedRange {
                first: u16::try_from(row.try_get::<_, i16>(1)?)?,
                last: u16::try_from(row.try_get::<_, i16>(2)?)?,
                epoch: u64::try_from(row.try_get::<_, i64>(3)?)?,
            };
            match row.get(0) {
                "owned" => slots.owned.push(range),
                _ => slots.importing.push(range),
            }
        }
        Ok(slots)
    }

    fn freshest_lag_ms(&self) -> Option<u64> {
        let freshest = self.reader.lags().into_iter().flatten().min()?;
        u64::try_from(freshest.as_millis()).ok()
    }

    pub fn read_off(&self, metrics: &Metrics) {
        let opening = self.parts.gate.check();
        metrics.is_ready.set(i64::from(opening.is_ok()));
        if let Ok(opening) = opening {
            metrics.is_degraded.set(i64::from(opening.degraded.is_some()));
            metrics.timeline.set(i64::from(opening.server.timeline));
        }
        for (lane, length) in self.writer.queue_lengths().enumerate() {
            let gauge = metrics.queue_length.with_label_values(&[&lane.to_string()]);
            gauge.set(i64::try_from(length).unwrap_or(i64::MAX));
        }
        for (replica, lag) in self.reader.lags().into_iter().enumerate() {
            let gauge = metrics.replica_lag_ms.with_label_values(&[&replica.to_string()]);
            gauge.set(lag.map_or(-1, |lag| i64::try_from(lag.as_millis()).unwrap_or(i64::MAX)));
            let seconds = metrics.replica_lag_seconds.with_label_values(&[&replica.to_string()]);
            seconds.set(lag.map_or(-1.0, |lag| lag.as_secs_f64()));
        }
    }
}

fn count(ranges: &[OwnedRange]) -> i64 {
    ranges.iter().map(|range| i64::from(range.last) - i64::from(range.first) + 1).sum()
}

/// Tells the nodes of a shard apart in Redis: two may listen on the same address of their own hosts.
fn node_name(config: &NodeConfig) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} {}", host.trim(), config.listen)
}

#[cfg(test)]
mod tests {
    use picopay_shared::cluster::{DatabaseCertificates, Durability, RedisAccess};
    use picopay_shared::origin::Origin;
    use picopay_shared::query::{Consistency, Found, Query, ReadRequest};
    use picopay_shared::slot::UserId;

    use super::*;
    use crate::log_lines::LogLines;
    use picopay_shard_node_config::{CacheConfig, LaneConfig, PostgresConfig, ReadConfig, TestingConfig};

    #[tokio::test]
    async fn a_read_that_nobody_could_answer_is_logged_with_its_trace() {
        let shard = Shard {
            name: "a".into(),
            cluster_id: None,
            nodes: vec!["http://127.0.0.1:1".into()],
            primary: "host=127.0.0.1 port=1 user=nobody dbname=none".into(),
            replicas: vec![],
            password: None,
            certificates: DatabaseCertificates::default(),
            redis: None,
            redis_access: RedisAccess::default(),
            durability: Durability::Replicated,
        };
        let config = NodeConfig {
            shard: shard.name.clone(),
            worker_threads: None,
            tls: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            lanes: LaneConfig::default(),
            postgres: PostgresConfig::default(),
            cache: CacheConfig::default(),
            reads: ReadConfig::default(),
            testing: TestingConfig::default(),
            drain: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(1),
        };
        let service = Service::start(&shard, &Lasting::new("a", &Secret::new("s")), &config).unwrap();
        let request = ReadRequest {
            query: Query::Balance {
                user_id: UserId::try_from(1).unwrap(),
                currency: None,
                consistency: Consistency::Strong,
            },
            session: None,
            origin: Some(Origin {
                request_id: "mine".into(),
                traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            }),
        };
        let (lines, _logging) = LogLines::start();
        let answer = service.reader().answer(&request).await;
        assert!(matches!(answer.found, Found::Unavailable { .. }), "{answer:?}");
        let (text, told) = (lines.text(), "request=mine/4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(text.lines().any(|line| line.contains("not answered") && line.contains(told)), "{text}");
    }
}
