//! One shard whose primary Patroni elects. Its members can be killed like machines.
//!
//! Only Patroni says who the primary is, and the node finds it in a connection string of several hosts, as in production.
//! Linux only, with the packages of `deploy/patroni/install.sh`.

mod etcd;
mod member;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::cluster::{says_all_ready, wait_for_service};
use crate::config_files::patroni_cluster_toml;
use crate::folder::{Folder, make_private, write};
use crate::guardian::Guardian;
use crate::ports::Ports;
use crate::postgres::{self, Ground};
use crate::process::Process;
use crate::secrets::Secrets;
use crate::services::{CLUSTER_FILE, prepare_gateway, prepare_init, prepare_node};
use crate::services_database::{DATABASE, ROLE};
use crate::{ClusterSpec, LocalError, database_user, http_call, programs};

pub use self::member::{Member, PatroniSettings};

const SHARD: &str = "shard-1";

/// A new member copies a database or rewinds one; on a busy machine that takes some seconds.
const MEMBER_WAIT: Duration = Duration::from_mins(1);

const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct PatroniShard {
    spec: ClusterSpec,
    members: Vec<Member>,
    services: Vec<Process>,
    etcd: Process,
    gateway: SocketAddr,
    ground: Ground,
    folder: Folder,
}

impl PatroniShard {
    /// Waits until charges can be made. Of `spec` the data folder, the API keys and the extra lines for the services count.
    /// Always a new shard: etcd and Patroni remember addresses, and ports are new at every start.
    pub async fn start(
        spec: ClusterSpec,
        members: usize,
        settings: PatroniSettings,
    ) -> Result<Self, LocalError> {
        let user = database_user::find()?;
        let folder = Folder::open(&spec.data, user.as_ref()).await?;
        let guardian = Arc::new(Guardian::start(folder.root(), folder.lock_for_guardian()?)?);
        if folder.is_temporary() {
            guardian.remove_at_end(folder.root())?;
        }
        let ground = Ground {
            programs: programs::find_postgres()?,
            user,
            guardian,
            secrets: Secrets::read_or_make(&folder, false)?,
            ports: Ports::default(),
        };
        let home = folder.shard(SHARD);
        make_private(&home)?;
        if let Some(user) = &ground.user {
            user.give(&home)?;
        }
        let (etcd, etcd_port) = etcd::start(&folder, &ground).await?;
        let prepared = (1..=members)
            .map(|number| Member::prepare(&folder, &ground, (SHARD, number), etcd_port, settings));
        let members = prepared.collect::<Result<Vec<_>, _>>()?;
        let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, ground.ports.take()?));
        // From here on, to return early drops it, and so ends what was started.
        let mut shard = Self { spec, members, services: Vec::new(), etcd, gateway, ground, folder };
        shard.start_members().await?;
        shard.start_services().await?;
        Ok(shard)
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub async fn leader(&self) -> Option<usize> {
        for member in &self.members {
            if let Some(name) = member.leader_of_cluster().await {
                return self.members.iter().position(|member| member.name() == name);
            }
        }
        None
    }

    pub async fn next_leader(&self, old: Option<usize>) -> Result<usize, LocalError> {
        let started = Instant::now();
        while started.elapsed() < MEMBER_WAIT {
            if let Some(leader) = self.leader().await.filter(|leader| Some(*leader) != old) {
                return Ok(leader);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(LocalError::Unfit(format!("Patroni elected no primary within {} s", MEMBER_WAIT.as_secs())))
    }

    pub async fn wait_until_replicated(&self) -> Result<(), LocalError> {
        let started = Instant::now();
        let wanted = i64::try_from(self.members.len() - 1).expect("a handful");
        let mut seen = "nothing".to_owned();
        while started.elapsed() < MEMBER_WAIT {
            if let Ok(client) = self.connect_as_superuser().await {
                let sql = "SELECT count(*), count(*) FILTER (WHERE sync_state = 'sync') FROM pg_stat_replication \
                           WHERE state = 'streaming' AND application_name LIKE $1";
                let found = client.query_one(sql, &[&format!("{SHARD}-%")]).await;
                if let Ok(row) = found {
                    let (streaming, synchronous): (i64, i64) = (row.get(0), row.get(1));
                    if streaming >= wanted && synchronous >= 1 {
                        return Ok(());
                    }
                    seen = format!("{streaming} of {wanted} standbys stream, {synchronous} synchronously");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(LocalError::Unfit(format!("after {} s {seen}", MEMBER_WAIT.as_secs())))
    }

    pub async fn connect_as_superuser(&self) -> Result<Client, LocalError> {
        let leader = self.leader().await;
        let leader = leader.ok_or_else(|| LocalError::Unfit("there is no primary".to_owned()))?;
        let port = self.members[leader].port();
        postgres::connect(&self.ground.secrets, port, "postgres", &self.ground.secrets.superuser, DATABASE)
            .await
    }

    pub async fn timeline(&self) -> Result<i32, LocalError> {
        let client = self.connect_as_superuser().await?;
        // Not of the last checkpoint: after a promotion that is the old one for a while.
        let sql = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int";
        let row = client.query_one(sql, &[]).await.map_err(LocalError::postgres("read the timeline"))?;
        Ok(row.get(0))
    }

    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.gateway)
    }

    pub fn api_key(&self) -> &str {
        self.spec.api_keys.first().map_or("", |key| &key.key)
    }

    pub fn cluster_file(&self) -> PathBuf {
        self.folder.file(CLUSTER_FILE)
    }

    pub fn folder(&self) -> &Path {
        self.folder.root()
    }

    pub fn postgres_version(&self) -> &str {
        &self.ground.programs.version
    }

    /// The services in order, the databases like machines. A temporary folder is removed.
    pub async fn stop(self) {
        for service in &self.services {
            if let Err(error) = service.stop().await {
                tracing::warn!(%error, "could not end a process in order");
            }
        }
        join_all(self.members.iter().map(|member| async move { drop(member.kill().await) })).await;
        drop(self.etcd.stop().await);
        let guardian = Arc::clone(&self.ground.guardian);
        // It waits for `rm`; and it cannot panic.
        let _ = tokio::task::spawn_blocking(move || guardian.finish()).await;
    }

    async fn start_members(&self) -> Result<(), LocalError> {
        let (first, others) = self.members.split_first().expect("a shard has members");
        // Alone first, or all of them would race to make the database.
        first.start().await?;
        let leader = self.next_leader(None).await?;
        self.create_service_role(leader).await?;
        try_join_all(others.iter().map(Member::start)).await?;
        self.wait_until_replicated().await
    }

    /// Patroni makes the superuser and the role of the replicas; the services' is ours.
    async fn create_service_role(&self, leader: usize) -> Result<(), LocalError> {
        let Secrets { superuser, picopay, .. } = &self.ground.secrets;
        let client = postgres::connect(
            &self.ground.secrets,
            self.members[leader].port(),
            "postgres",
            superuser,
            "postgres",
        )
        .await?;
        // The standbys that commits wait for do not exist yet. A password cannot be a parameter of this statement; it is
        // hexadecimal digits, made by this crate.
        let role = format!(
            "SET synchronous_commit = local;
             CREATE ROLE {ROLE} LOGIN PASSWORD '{picopay}' IN ROLE pg_monitor;
             GRANT SET ON PARAMETER session_replication_role TO {ROLE};"
        );
        let doing = || LocalError::postgres("create the services' role and database");
        client.batch_execute(&role).await.map_err(doing())?;
        client.batch_execute(&format!("CREATE DATABASE {DATABASE} OWNER {ROLE}")).await.map_err(doing())
    }

    async fn start_services(&mut self) -> Result<(), LocalError> {
        let node_port = self.ground.ports.take()?;
        let ports: Vec<u16> = self.members.iter().map(Member::port).collect();
        write(&self.cluster_file(), &patroni_cluster_toml(Uuid::new_v4(), SHARD, &ports, node_port))?;
        let (folder, guardian) = (&self.folder, &self.ground.guardian);
        let names = (SHARD, "shard-1-node-1", 1);
        let node = prepare_node(folder, &self.ground, &self.spec, names, node_port, CLUSTER_FILE)?;
        let gateway = prepare_gateway(folder, &self.ground, &self.spec, "gateway", self.gateway)?;
        let init = prepare_init(folder, guardian, &self.spec)?;
        self.services = vec![gateway.clone(), node.clone()];
        node.start().await?;
        init.spawn()?;
        init.wait_until_done().await?;
        gateway.start().await?;
        let url = format!("{}/readyz", self.gateway_url());
        wait_for_service(&gateway, async || match http_call::get(&url).await {
            Ok(answer) if says_all_ready(&answer) => Ok(()),
            Ok(answer) => Err(format!("/readyz answered {}: {}", answer.status, answer.body)),
            Err(error) => Err(error.to_string()),
        })
        .await
    }
}

impl Drop for PatroniShard {
    fn drop(&mut self) {
        self.ground.guardian.finish();
        // The guardian ended them; their parent takes note, or they would stay as zombies.
        let members = self.members.iter().map(Member::process);
        for process in members.chain(&self.services).chain([&self.etcd]) {
            process.is_running();
        }
    }
}
