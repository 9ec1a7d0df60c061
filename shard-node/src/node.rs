//! One node process: the service of its shard, and its replacement when the shard's entry in `cluster.toml`
//! changes.
//!
//! Two nodes may serve one shard at any time, so two services may too. The new one takes over when it may
//! write. Until then the old one goes on, and it finishes what it accepted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use arc_swap::ArcSwap;
use picopay_shard_node_config::{NodeConfig, OwnTls, of_node};
use picopay_shared::cluster::{Cluster, Shard};
use picopay_shared::ending::Ending;
use picopay_shared::front_tls::FrontTls;
use picopay_shared::internal_secret::InternalSecret;
use picopay_shared::node_status::NodeStatus;
use picopay_shared::reload::{InForce, Reload};
use picopay_shared::running_config::{RunningConfig, Salt};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::courier::Courier;
use crate::gate_keeper::WrongDatabase;
use crate::older_callers::OlderCallers;
use crate::service::{Lasting, Service};

/// How long a new service has to show that it may write, while the old one may. Connecting takes some
/// milliseconds, or a second or two on a busy machine or with a slow standby. A change that does not work in
/// this time is refused, and tried again with the next look at the file.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(5);

pub struct Node {
    config: NodeConfig,
    lasting: Lasting,
    service: Arc<ArcSwap<Service>>,
    replaced: Notify,
    in_force: Arc<InForce>,
    own_in_force: Arc<InForce<OwnTls>>,
    ending: Ending,
}

impl Node {
    /// Starts the service. Neither Postgres nor Redis has to be up.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn start(
        cluster: &Cluster,
        config: &NodeConfig,
        own_in_force: Arc<InForce<OwnTls>>,
    ) -> anyhow::Result<Arc<Self>> {
        let lasting = Lasting::new(&config.shard, &cluster.internal_secret);
        if let Some(id) = cluster.cluster_id() {
            lasting.kept.cluster_id.get_or_init(|| id);
        }
        let service = Service::start(own_entry(cluster, &config.shard)?, &lasting, config)?;
        service.gate().take_up();
        let (service, in_force) = (Arc::new(ArcSwap::new(service)), Arc::new(InForce::new(cluster.clone())));
        if !config.testing.has_no_courier {
            let (service, in_force) = (Arc::downgrade(&service), Arc::clone(&in_force));
            tokio::spawn(Courier::new(service, in_force, Arc::clone(&lasting.metrics)).run());
        }
        Ok(Arc::new(Self {
            config: config.clone(),
            lasting,
            service,
            replaced: Notify::new(),
            in_force,
            own_in_force,
            ending: Ending::default(),
        }))
    }

    pub fn older_callers(&self) -> Arc<OlderCallers> {
        Arc::clone(&self.lasting.older_callers)
    }

    /// The current service. Holding it keeps it alive.
    pub fn service(&self) -> Arc<Service> {
        self.service.load_full()
    }

    /// The end of this process, which gateways hear of before it stops.
    pub fn ending(&self) -> &Ending {
        &self.ending
    }

    pub async fn status(&self) -> NodeStatus {
        let status = self.service().status().await;
        if !self.ending.has_begun() {
            return status;
        }
        let not_ready_reason = Some("it was told to end, and serves on for a moment".to_owned());
        NodeStatus { is_ready: false, not_ready_reason, ..status }
    }

    /// Returns only when the database turns out to be another shard's.
    pub async fn wrong_database(&self) -> WrongDatabase {
        loop {
            let service = self.service();
            tokio::select! {
                wrong = service.wrong_database() => return wrong,
                () = self.replaced.notified() => {}
            }
        }
    }

    /// Uses a changed `cluster.toml` from now on: the entry of its shard, and the internal secret.
    ///
    /// # Errors
    /// Why it does not. The shard is not in it, or the cluster is another one. Or its entry cannot
    /// be used, or leads to another database, or to no primary that takes writes while the old one does.
    pub async fn take_over(&self, cluster: &Cluster) -> Result<(), String> {
        let shard = &self.config.shard;
        let entry = own_entry(cluster, shard).map_err(|error| format!("{error:#}"))?;
        if let Some(id) = cluster.cluster_id() {
            let known = self.lasting.kept.cluster_id.get_or_init(|| id);
            if *known != id {
                return Err(format!(
                    "cluster_id: this process serves cluster {known}, and the file is of {id}: start another process for \
                     another cluster"
                ));
            }
        }
        let in_force = self.in_force.cluster();
        if !in_force.shard(shard).is_some_and(|before| means_the_same(before, entry)) {
            self.replace_service(entry).await?;
        }
        self.lasting.secret.replace(&cluster.internal_secret);
        Ok(())
    }

    async fn replace_service(&self, entry: &Shard) -> Result<(), String> {
        let after = Service::start(entry, &self.lasting, &self.config)
            .with_context(|| format!("shard {}", entry.name))
            .map_err(|error| format!("{error:#}"))?;
        let before = self.service();
        tokio::select! {
            biased; // A certain answer comes first.
            wrong = after.wrong_database() => return Err(wrong.to_string()),
            () = after.ready() => {}
            // There is nothing to lose: the shard may need exactly this change.
            () = before.gate().closed() => {}
            () = sleep(TAKE_OVER_WITHIN) => {
                let reason = after.gate().check().err().unwrap_or_default();
                return Err(format!(
                    "shard {}: writes go on with the entry in force, and would not with the changed one: {reason}",
                    entry.name
                ));
            }
        }
        after.gate().take_up();
        self.service.store(after);
        self.replaced.notify_one();
        // There may be fewer replicas now, and each had its gauge.
        self.lasting.metrics.replica_lag_ms.reset();
        self.lasting.metrics.replica_lag_seconds.reset();
        tracing::info!(
            shard = entry.name,
            "the changed entry is in use; what was accepted before is finished as it was"
        );
        Ok(())
    }

    pub fn secret(&self) -> &InternalSecret {
        &self.lasting.secret
    }

    pub fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    pub fn running_config(&self) -> RunningConfig {
        of_node(&self.in_force.cluster(), &self.config.shard, Salt::random()).with_refusal(&self.in_force)
    }

    pub fn count_reload(&self, reload: Reload) {
        let word = match reload {
            Reload::Taken => "taken",
            Reload::Refused => "refused",
        };
        self.lasting.metrics.reloads.with_label_values(&[word]).inc();
    }

    /// The certificates in force, with when they expire.
    fn certificate_expiries(&self) -> Vec<(String, SystemTime)> {
        let own = self.own_in_force.current().0.as_ref().map(FrontTls::expiries).unwrap_or_default();
        let cluster = self.in_force.cluster();
        let shard = cluster.shard(&self.config.shard).into_iter().flat_map(|shard| {
            let database = shard.certificates.expiries().map(|(file, at)| (format!("postgres {file}"), at));
            let redis = shard.redis_access.expiries.iter();
            database.chain(redis.map(|(file, at)| (format!("redis {file}"), *at)))
        });
        let caller = self.in_force.cluster().caller_expiries();
        own.into_iter().chain(caller).chain(shard).collect()
    }

    pub fn render_metrics(&self) -> Vec<u8> {
        let metrics = &self.lasting.metrics;
        let lanes = &self.config.lanes;
        for (of, limit) in [("queue_length", lanes.queue_max), ("batch_size", lanes.batch_max)] {
            metrics.limits.with_label_values(&[of]).set(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        let is_refused = self.in_force.refusal().is_some() || self.own_in_force.refusal().is_some();
        metrics.is_reload_refused.set(i64::from(is_refused));
        metrics.note_expiries(&self.certificate_expiries());
        self.service().read_off(metrics);
        metrics.render()
    }
}

fn own_entry<'a>(cluster: &'a Cluster, shard: &str) -> anyhow::Result<&'a Shard> {
    cluster.shard(shard).with_context(|| {
        let names: Vec<&str> = cluster.shards.iter().map(|shard| shard.name.as_str()).collect();
        format!(
            "shard {shard:?}, which this node serves, is not in cluster.toml, which has: {}",
            names.join(", ")
        )
    })
}

/// Whether all that a node uses is equal. Where nodes are only concerns gateways.
fn means_the_same(before: &Shard, after: &Shard) -> bool {
    let Shard {
        name,
        cluster_id,
        nodes: _,
        primary,
        replicas,
        password,
        certificates,
        redis,
        redis_access,
        durability,
    } = before;
    (name, cluster_id, primary, replicas, password, certificates, redis, redis_access, durability)
        == (
            &after.name,
            &after.cluster_id,
            &after.primary,
            &after.replicas,
            &after.password,
            &after.certificates,
            &after.redis,
            &after.redis_access,
            &after.durability,
        )
}

#[cfg(test)]
mod tests {
    use picopay_shared::cluster::{DatabaseCertificates, Durability, RedisAccess};
    use picopay_shared::config::Secret;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_change_of_what_a_node_uses_is_one_and_other_nodes_are_none() {
        let entry = Shard {
            name: "a".into(),
            cluster_id: None,
            nodes: vec!["http://x:1".into()],
            primary: "host=p".into(),
            replicas: vec!["host=r".into()],
            password: Some(Secret::new("s")),
            certificates: DatabaseCertificates::default(),
            redis: None,
            redis_access: RedisAccess::default(),
            durability: Durability::Replicated,
        };
        let is_seen = |change: fn(&mut Shard)| {
            let mut after = entry.clone();
            change(&mut after);
            !means_the_same(&entry, &after)
        };
        assert!(!is_seen(|_| {}) && !is_seen(|shard| shard.nodes.push("http://y:1".into())));
        let changes: [fn(&mut Shard); 6] = [
            |shard| shard.cluster_id = Some(Uuid::from_u128(7)),
            |shard| shard.primary.push('2'),
            |shard| shard.replicas.clear(),
            |shard| shard.password = Some(Secret::new("t")),
            |shard| shard.redis = Some("redis://x".into()),
            |shard| shard.durability = Durability::Local,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(is_seen(change), "{number}");
        }
    }
}
