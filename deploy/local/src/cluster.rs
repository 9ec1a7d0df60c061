//! A whole cluster: started, handed out in parts, and ended.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use http::Method;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::certificates::{Certificates, NODE};
use crate::folder::{Folder, numbered, read_layout, write};
use crate::guardian::Guardian;
use crate::ports::Ports;
use crate::postgres::Ground;
use crate::process::{Process, start_on_free_port};
use crate::secrets::Secrets;
use crate::server_pair::{Failover, Site};
use crate::services::{
    CLUSTER_FILE, front_toml, prepare_init, prepare_migrate, reachable, write_node_config,
};
use crate::shard::LocalShard;
use crate::spec::ClusterSpec;
use crate::template::Dealt;
use crate::{LocalError, database_user, http_call, programs, redis};

mod beside;

mod dealt;

mod gateways;

mod membership;

mod readiness;
pub(crate) use readiness::{says_all_ready, wait_for_service};

/// More shards than this do not fit on one machine: each is two PostgreSQL servers and a node.
pub const SHARDS_MAX: usize = 64;

/// How often other ports are tried when a program outside of the cluster was quicker.
const PORT_TRIES: usize = 3;

/// As long as `picopay migrate` gives one migration, since one that is cut off begins anew.
const MIGRATE_WAIT: Duration = Duration::from_hours(1);

/// [`LocalCluster::stop`] ends it in order; to drop it ends it at once. Either way a temporary folder is removed.
#[derive(Debug)]
pub struct LocalCluster {
    spec: ClusterSpec,
    cluster_id: OnceLock<Uuid>,
    /// Also those that have left: whoever holds one may go on, and a position means the same shard for ever.
    shards: boxcar::Vec<LocalShard>,
    /// Held while a shard joins or leaves.
    changing: tokio::sync::Mutex<()>,
    redis: Option<(Process, u16)>,
    gateway: Option<(Process, SocketAddr)>,
    /// Those that were added; nobody waits for them.
    more_gateways: Box<boxcar::Vec<(Process, SocketAddr)>>,
    ground: Ground,
    /// Last: its lock goes when everything else has gone.
    folder: Folder,
}

impl LocalCluster {
    /// Waits until it serves. An error contains what is missing on the machine, or the end of a log; whatever was started
    /// is ended.
    pub async fn start(spec: ClusterSpec) -> Result<Self, LocalError> {
        // From here on, to return early drops it, and so ends what was started.
        let mut cluster = Self::found(spec).await?;
        let dealt = cluster.dealt_template().await?;
        cluster.start_servers(dealt.as_ref()).await?;
        cluster.start_services(dealt.is_some()).await?;
        Ok(cluster)
    }

    /// PostgreSQL and Redis only, without any schema.
    pub async fn start_databases(spec: ClusterSpec) -> Result<Self, LocalError> {
        let mut cluster = Self::found(spec).await?;
        cluster.start_servers(None).await?;
        Ok(cluster)
    }

    /// A folder with its guardian, in which nothing runs.
    async fn found(spec: ClusterSpec) -> Result<Self, LocalError> {
        match spec.shards {
            0 => return Err(LocalError::Unfit("a cluster has at least one shard".to_owned())),
            1..=SHARDS_MAX => {}
            _ => return Err(too_many_shards()),
        }
        let user = database_user::find()?;
        let folder = Folder::open(&spec.data, user.as_ref()).await?;
        // After the folder: a second instance on it is better told so than that its port is busy.
        if let Some(listen) = spec.gateway_listen.filter(|_| spec.has_gateway) {
            refuse_busy_port(listen)?;
        }
        let guardian = Arc::new(Guardian::start(folder.root(), folder.lock_for_guardian()?)?);
        if folder.is_temporary() {
            guardian.remove_at_end(folder.root())?;
        }
        let ground = Ground {
            programs: programs_for(&folder)?,
            user,
            guardian,
            secrets: Secrets::read_or_make(&folder, spec.has_tls)?,
            ports: Ports::default(),
        };
        Ok(Self {
            spec,
            cluster_id: OnceLock::new(),
            shards: boxcar::Vec::new(),
            changing: tokio::sync::Mutex::default(),
            redis: None,
            gateway: None,
            more_gateways: Box::default(),
            ground,
            folder,
        })
    }

    /// PostgreSQL and Redis; of `dealt` if there is one.
    async fn start_servers(&mut self, dealt: Option<&Dealt>) -> Result<(), LocalError> {
        let names = self.check_layout()?;
        let sites = names.iter().map(|name| Site { dealt, ..self.site(name) });
        let shards = sites.map(LocalShard::start_databases);
        let (shards, redis) = tokio::try_join!(try_join_all(shards), self.start_redis())?;
        self.shards = shards.into_iter().collect();
        self.redis = redis;
        Ok(())
    }

    pub fn shards_kept_in(folder: &Path) -> Option<usize> {
        read_layout(folder).map(|shards| shards.len())
    }

    /// From 0, in the order in which they joined. A shard keeps its position when others are removed.
    pub fn shard(&self, position: usize) -> &LocalShard {
        &self.shards[position]
    }

    pub fn shards(&self) -> Vec<&LocalShard> {
        self.shards.iter().map(|(_, shard)| shard).filter(|shard| !shard.has_left()).collect()
    }

    pub fn redis(&self) -> Process {
        self.redis.as_ref().expect("this cluster was started without a Redis").0.clone()
    }

    pub fn redis_url(&self) -> String {
        let (_, port) = self.redis.as_ref().expect("this cluster was started without a Redis");
        let scheme = if self.spec.has_tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{port}")
    }

    fn scheme(&self) -> &'static str {
        if self.spec.has_tls { "https" } else { "http" }
    }

    /// What clients of a cluster over TLS have to believe: the file of its authority, with the certificates beside it.
    pub fn authority_file(&self) -> Option<PathBuf> {
        self.ground.secrets.certificates.as_ref().map(Certificates::authority)
    }

    pub fn gateway(&self) -> Process {
        self.gateway.as_ref().expect("this cluster was started without a gateway").0.clone()
    }

    pub fn gateway_url(&self) -> String {
        let (_, listen) = self.gateway.as_ref().expect("this cluster was started without a gateway");
        format!("{}://{}", self.scheme(), reachable(*listen))
    }

    pub fn api_key(&self) -> &str {
        self.spec.api_keys.first().map_or("", |key| &key.key)
    }

    pub fn cluster_file(&self) -> PathBuf {
        self.folder.file(CLUSTER_FILE)
    }

    /// What that file says, with paths that lead to the secrets from anywhere.
    ///
    /// # Panics
    /// When the file is gone.
    pub fn cluster_toml(&self) -> String {
        let text = std::fs::read_to_string(self.cluster_file()).expect("the cluster's own file");
        text.replace("_file = \"", &format!("_file = \"{}/", self.folder().display()))
    }

    pub fn internal_secret(&self) -> &str {
        &self.ground.secrets.internal
    }

    pub fn folder(&self) -> &Path {
        self.folder.root()
    }

    pub fn note(&self) -> Option<&str> {
        self.folder.note.as_deref()
    }

    pub fn node_url(&self, shard: usize, number: usize) -> String {
        self.shard(shard).node_url(number)
    }

    pub async fn connect_primary(&self, shard: usize) -> Result<Client, LocalError> {
        self.shard(shard).connect_primary().await
    }

    pub async fn connect_replica(&self, shard: usize) -> Result<Client, LocalError> {
        self.shard(shard).connect_replica().await
    }

    pub async fn connect_as_superuser(&self, shard: usize) -> Result<Client, LocalError> {
        self.shard(shard).connect_as_superuser().await
    }

    /// Gateways do not know of the new node: `cluster.toml` stays as it is. It is the shard's last [`LocalShard::node`].
    pub async fn add_node(&self, shard: usize) -> Result<Process, LocalError> {
        let shard = self.shard(shard);
        for _ in 0..PORT_TRIES {
            let port = self.ground.ports.take()?;
            let number = shard.node_count();
            match shard.start_node(self.site(shard.name()), number + 1, port).await {
                Ok(process) => {
                    self.wait_for_node(shard, number).await?;
                    return Ok(process);
                }
                Err(LocalError::PortTaken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(LocalError::Unfit(format!("every port tried for a node of {} was taken", shard.name())))
    }

    /// Adds lines to the `node.toml` of the `number`th node, from 0; no lines take them away. It reads them at its next
    /// start.
    pub fn configure_node(&self, shard: &LocalShard, number: usize, toml: &str) -> Result<(), LocalError> {
        let toml = format!("{}{toml}", self.spec.node_toml);
        write_node_config(
            &self.folder,
            &self.spec,
            (shard.name(), shard.node(number).name(), shard.node_port(number)),
            &format!("{toml}{}", front_toml(&self.ground, NODE)),
        )
    }

    /// Promotes the replica and makes a new one of the old primary, which is ended first. [`LocalShard::primary`] and
    /// [`LocalShard::replica`] change places; neither `cluster.toml` nor a port changes.
    ///
    /// # Errors
    /// When the replica does not run or does not follow a live primary, nothing was changed. When the new replica
    /// cannot be made, the new primary stays, and acknowledges nothing without a standby.
    pub async fn failover(&self, shard: usize) -> Result<Failover, LocalError> {
        self.fail_over(self.shard(shard)).await
    }

    pub async fn fail_over(&self, shard: &LocalShard) -> Result<Failover, LocalError> {
        shard.fail_over(self.site(shard.name())).await
    }

    pub async fn back_up(&self, shard: usize) -> Result<(), LocalError> {
        let shard = self.shard(shard);
        shard.servers.back_up(self.site(shard.name())).await
    }

    /// Puts both servers of a shard back to the moment of [`LocalCluster::back_up`], the primary on its old timeline.
    /// Nobody is told: that is for `picopay shard restored`.
    pub async fn restore_backup(&self, shard: usize) -> Result<(), LocalError> {
        let shard = self.shard(shard);
        shard.servers.restore_backup(self.site(shard.name())).await
    }

    /// Promotes a shard's replica and leaves its primary as it is: a failover that fenced nobody. [`LocalShard::replica`]
    /// is the old primary until [`LocalCluster::replace_old_primary`].
    pub async fn promote_beside(&self, shard: &LocalShard) -> Result<(), LocalError> {
        shard.servers.promote_beside(self.site(shard.name())).await
    }

    pub async fn replace_old_primary(&self, shard: &LocalShard) -> Result<(), LocalError> {
        shard.servers.replace_old(self.site(shard.name())).await
    }

    pub async fn get(&self, path: &str) -> Result<http_call::Answer, http_call::CallError> {
        self.call(Method::GET, path, &[], "").await
    }

    pub async fn post(
        &self,
        path: &str,
        idempotency_key: Option<&str>,
        body: &serde_json::Value,
    ) -> Result<http_call::Answer, http_call::CallError> {
        let headers: Vec<_> = idempotency_key.map(|key| ("idempotency-key", key)).into_iter().collect();
        self.call(Method::POST, path, &headers, &body.to_string()).await
    }

    pub fn processes(&self) -> Vec<Process> {
        let gateways = self.gateway.iter().chain(self.more_gateways.iter().map(|(_, gateway)| gateway));
        let mut all: Vec<Process> = gateways.map(|(process, _)| process.clone()).collect();
        all.extend(self.shards().into_iter().flat_map(LocalShard::processes));
        all.extend(self.redis.iter().map(|(process, _)| process.clone()));
        all
    }

    /// A temporary one at once, since nobody asks again for what it holds, and its folder is removed. One that is kept in
    /// order: first those that accept requests, last those that keep results.
    pub async fn stop(self) {
        if !self.folder.is_temporary() {
            self.stop_in_order().await;
        }
        let guardian = Arc::clone(&self.ground.guardian);
        // It waits for `rm`; and it cannot panic.
        let _ = tokio::task::spawn_blocking(move || guardian.finish()).await;
    }

    async fn stop_in_order(&self) {
        for (_, (gateway, _)) in &*self.more_gateways {
            report(gateway.stop().await);
        }
        if let Some((gateway, _)) = &self.gateway {
            report(gateway.stop().await);
        }
        let nodes = self.shards().into_iter().flat_map(LocalShard::node_processes);
        join_all(nodes.map(|node| async move { report(node.stop().await) })).await;
        join_all(self.shards().into_iter().map(|shard| self.stop_databases(shard))).await;
        if let Some((redis, _)) = &self.redis {
            report(redis.stop().await);
        }
    }

    fn site<'a>(&'a self, shard: &'a str) -> Site<'a> {
        Site { shard, folder: &self.folder, ground: &self.ground, spec: &self.spec, dealt: None }
    }

    async fn stop_databases(&self, shard: &LocalShard) {
        if self.folder.is_temporary() {
            // Nobody will read this data again: no last checkpoint.
            let (primary, replica) = (shard.primary(), shard.replica());
            let both = tokio::join!(primary.stop_without_keeping(), replica.stop_without_keeping());
            report(both.0);
            report(both.1);
        } else {
            // The primary first: it sends the last of its log to the replica before it ends.
            report(shard.primary().stop().await);
            report(shard.replica().stop().await);
        }
    }

    async fn start_redis(&self) -> Result<Option<(Process, u16)>, LocalError> {
        if !self.spec.has_redis {
            return Ok(None);
        }
        let prepare = |port| redis::prepare(&self.folder, &self.ground, port);
        start_on_free_port(&self.ground.ports, prepare).await.map(Some)
    }

    /// Nodes and slots start together: a node without slots waits.
    async fn start_services(&mut self, is_dealt: bool) -> Result<(), LocalError> {
        let ports = self.describe_all().await?;
        let shards = self.shards();
        let starts = shards.iter().zip(ports).map(|(shard, ports)| self.start_nodes(shard, ports));
        let prepared = async { if is_dealt { Ok(()) } else { self.prepare_databases().await } };
        tokio::try_join!(try_join_all(starts), prepared)?;
        for shard in shards {
            self.finish_joining(shard).await?;
        }
        if self.spec.has_gateway {
            // A gateway that finds a node not ready looks again only after most of a second.
            for shard in self.shards() {
                self.wait_for_nodes(shard).await?;
            }
            self.gateway = Some(self.start_gateway().await?);
        }
        self.wait_until_ready().await
    }

    /// Writes `cluster.toml`, and returns the ports of each shard's nodes.
    async fn describe_all(&self) -> Result<Vec<Vec<u16>>, LocalError> {
        let id = self.read_or_make_cluster_id().await?;
        self.cluster_id.get_or_init(|| id);
        let mut ports = Vec::new();
        for shard in self.shards() {
            ports.push(self.describe(shard).await?);
        }
        self.write_cluster_file()?;
        Ok(ports)
    }

    async fn describe(&self, shard: &LocalShard) -> Result<Vec<u16>, LocalError> {
        let taken = (0..self.spec.nodes_per_shard).map(|_| self.ground.ports.take());
        let taken = taken.collect::<Result<Vec<_>, _>>()?;
        if self.spec.has_proxies {
            shard.start_proxies(&self.ground.ports, &taken).await?;
        }
        shard.describe(&taken);
        Ok(taken)
    }

    /// When another program takes a port, all nodes get new ones, since `cluster.toml` already names them.
    async fn start_nodes(&self, shard: &LocalShard, mut ports: Vec<u16>) -> Result<(), LocalError> {
        for _ in 0..PORT_TRIES {
            let starts = ports
                .iter()
                .enumerate()
                .map(|(position, &port)| shard.start_node(self.site(shard.name()), position + 1, port));
            match try_join_all(starts).await {
                Ok(_) => return Ok(()),
                Err(LocalError::PortTaken { .. }) => {}
                Err(error) => return Err(error),
            }
            shard.dismiss_nodes().await?;
            ports = self.describe(shard).await?;
            self.write_cluster_file()?;
        }
        Err(LocalError::Unfit(format!("every port tried for the nodes of {} was taken", shard.name())))
    }

    /// The schema at every start; the slots once in the life of a cluster.
    async fn prepare_databases(&self) -> Result<(), LocalError> {
        let mark = self.folder.file("initialised");
        let (folder, guardian, spec) = (&self.folder, &self.ground.guardian, &self.spec);
        let is_initialised = mark.is_file();
        // A shard whose joining was broken off is no member yet, which is none of `init`'s business.
        let tool = if is_initialised {
            prepare_migrate(folder, guardian, spec)?
        } else {
            prepare_init(folder, guardian, spec)?
        };
        tool.spawn()?;
        tool.wait_until_done_within(MIGRATE_WAIT).await?;
        if is_initialised { Ok(()) } else { write(&mark, "") }
    }

    async fn read_or_make_cluster_id(&self) -> Result<Uuid, LocalError> {
        let file = self.folder.file("cluster-id");
        let kept = std::fs::read_to_string(&file).ok().and_then(|text| Uuid::try_parse(text.trim()).ok());
        if let Some(id) = kept {
            return Ok(id);
        }
        let mut id = None;
        for shard in self.shards() {
            id = id.or(read_cluster_id(shard).await?);
        }
        let id = id.unwrap_or_else(Uuid::new_v4);
        self.write_cluster_id(id)?;
        Ok(id)
    }

    fn write_cluster_id(&self, id: Uuid) -> Result<(), LocalError> {
        write(&self.folder.file("cluster-id"), &format!("{id}\n"))
    }

    async fn start_gateway(&self) -> Result<(Process, SocketAddr), LocalError> {
        let prepare = |listen| self.prepare_gateway("gateway", listen);
        if let Some(listen) = self.spec.gateway_listen {
            let gateway = prepare(listen)?;
            return match gateway.start().await {
                Ok(()) => Ok((gateway, listen)),
                Err(LocalError::PortTaken { .. }) => {
                    Err(LocalError::PortBusy { address: listen.to_string() })
                }
                Err(error) => Err(error),
            };
        }
        self.start_gateway_anywhere("gateway").await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<http_call::Answer, http_call::CallError> {
        let mut all = vec![("x-api-key", self.api_key())];
        all.extend(headers);
        http_call::call(method, &format!("{}{path}", self.gateway_url()), &all, body).await
    }

    /// To start fewer shards than have databases would hide users. More would be members that nobody asked for.
    fn check_layout(&self) -> Result<Vec<String>, LocalError> {
        let wanted = self.spec.shards;
        let Some(made) = self.folder.shards_made() else {
            let names = numbered(wanted);
            self.folder.write_layout(&names)?;
            return Ok(names);
        };
        if made.len() == wanted {
            return Ok(made);
        }
        Err(LocalError::Unfit(format!(
            "{} holds a cluster of {} shards, and {wanted} are asked for. Start it with --shards {}; then `picopay shard \
             start` adds one while it runs, and `picopay shard drain` and `picopay shard stop` take one away. Or begin anew \
             with --fresh",
            self.folder().display(),
            made.len(),
            made.len(),
        )))
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        self.ground.guardian.finish();
        // The guardian ended them; their parent takes note, or they would stay as zombies.
        for process in self.processes() {
            process.is_running();
        }
    }
}

impl LocalCluster {
    /// A test that failed is the one whose temporary folder is about to be removed.
    fn show_logs(&self) {
        for process in self.processes() {
            let state = process.died().map_or("running".to_owned(), |status| format!("ended: {status}"));
            eprintln!("--- {} ({state})\n{}", process.name(), process.log_tail(SHOWN_LINES));
        }
    }
}

const SHOWN_LINES: usize = 12;

/// Before anything is started: to find out at the end costs seconds.
fn refuse_busy_port(listen: SocketAddr) -> Result<(), LocalError> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(LocalError::PortBusy { address: listen.to_string() })
        }
        Err(error) => Err(LocalError::system(format!("listen on {listen}"))(error)),
    }
}

/// Databases are only read by the major version that made them.
fn programs_for(folder: &Folder) -> Result<programs::Postgres, LocalError> {
    // One of them is not there while a failover makes it again; the third is from when they were named by their role.
    let folders = ["postgres-a", "postgres-b", "primary"];
    let shards = folder.shards_made().unwrap_or_default();
    let all = shards.iter().flat_map(|shard| folders.iter().map(|data| folder.shard(shard).join(data)));
    let version = all.into_iter().find_map(|data| std::fs::read_to_string(data.join("PG_VERSION")).ok());
    match version.and_then(|text| text.trim().parse().ok()) {
        Some(major) => programs::find_postgres_of(major),
        None => programs::find_postgres(),
    }
}

/// Nothing before `picopay init`.
async fn read_cluster_id(shard: &LocalShard) -> Result<Option<Uuid>, LocalError> {
    let client = shard.connect_primary().await?;
    match client.query_opt("SELECT cluster_id FROM shard_identity", &[]).await {
        Ok(row) => Ok(row.map(|row| row.get(0))),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(LocalError::postgres("read which cluster it is")(error)),
    }
}

/// While ending, a failure is told, and the rest is ended all the same.
fn report(result: Result<(), LocalError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "could not end a process in order");
    }
}

pub(crate) fn too_many_shards() -> LocalError {
    LocalError::Unfit(format!("one machine has room for {SHARDS_MAX} shards"))
}
