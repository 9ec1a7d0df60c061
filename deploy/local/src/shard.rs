//! One shard: its primary, its replica and its nodes.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::try_join_all;
use picopay_shared::cluster::Durability;
use tokio_postgres::Client;

use crate::config_files::ShardEntry;
use crate::folder::{Folder, write};
use crate::ports::Ports;
use crate::postgres::{self, Blueprint, DATABASE, Ground, ROLE, Role, Server, Stage};
use crate::process::{Process, start_on_free_port};
use crate::proxy::Proxy;
use crate::secrets::Secrets;
use crate::spec::ClusterSpec;
use crate::{LocalError, services};

/// One shard of a [`crate::LocalCluster`].
#[derive(Debug)]
pub struct LocalShard {
    name: String,
    primary: Server,
    replica: Server,
    nodes: Mutex<Vec<Node>>,
    proxies: Mutex<Option<Proxies>>,
    secrets: Secrets,
}

/// The proxies of a shard.
#[derive(Debug)]
struct Proxies {
    primary: Proxy,
    replica: Proxy,
    /// In the order of the nodes.
    nodes: Vec<Proxy>,
}

#[derive(Debug, Clone)]
struct Node {
    process: Process,
    port: u16,
}

impl LocalShard {
    /// Makes the databases of a shard if they are not there, and starts them.
    pub(crate) async fn start_databases(
        folder: &Folder,
        ground: &Ground,
        spec: &ClusterSpec,
        position: usize,
    ) -> Result<Self, LocalError> {
        let name = format!("shard-{}", position + 1);
        let place = folder.shard(&name);
        let (primary_name, replica_name) = (format!("{name}-primary"), format!("{name}-replica"));
        let made = place.join("made");
        // Half of a shard is worth nothing: the slots are dealt out when all are complete.
        let is_new = !made.is_file();
        let (primary_data, replica_data) = (place.join("primary"), place.join("replica"));
        if is_new {
            postgres::initdb(ground, &primary_name, &primary_data, folder.log(&primary_name)).await?;
        }
        let synchronous_standby = match spec.durability {
            Durability::Replicated => Some(replica_name.as_str()),
            Durability::Local => None,
        };
        let stage = if is_new { Stage::Making } else { Stage::Serving };
        let primary_blueprint = Blueprint {
            name: &primary_name,
            data: &primary_data,
            role: Role::Primary { synchronous_standby },
            stage,
            settings: &spec.primary_settings,
        };
        let primary = start_server(folder, ground, primary_blueprint).await?;
        if is_new {
            postgres::create_roles(ground, primary.port).await?;
            let log = folder.log(&replica_name);
            postgres::base_backup(ground, &replica_name, primary.port, &replica_data, log).await?;
        }
        let replica_blueprint = Blueprint {
            name: &replica_name,
            data: &replica_data,
            role: Role::Replica { primary_port: primary.port },
            stage,
            settings: &spec.replica_settings,
        };
        let replica = start_server(folder, ground, replica_blueprint).await?;
        let wanted = if synchronous_standby.is_some() { "sync" } else { "async" };
        postgres::wait_until_streaming(ground, &primary, &replica.process, wanted).await?;
        if is_new {
            tokio::try_join!(
                postgres::begin_to_serve(ground, primary_blueprint, &primary),
                postgres::begin_to_serve(ground, replica_blueprint, &replica)
            )?;
            write(&made, "")?;
        }
        Ok(Self {
            name,
            primary,
            replica,
            nodes: Mutex::default(),
            proxies: Mutex::default(),
            secrets: ground.secrets.clone(),
        })
    }

    /// Starts the `number`th node process, counted from 1, on this port.
    pub(crate) async fn start_node(
        &self,
        folder: &Folder,
        ground: &Ground,
        spec: &ClusterSpec,
        number: usize,
        port: u16,
    ) -> Result<Process, LocalError> {
        let name = format!("{}-node-{number}", self.name);
        let process = services::prepare_node(folder, &ground.guardian, spec, (&self.name, &name), port)?;
        process.start().await?;
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.push(Node { process: process.clone(), port });
        // Several start at the same time; the order of their numbers is what `node` goes by.
        nodes.sort_by_key(|node| (node.process.name().len(), node.process.name().to_owned()));
        Ok(process)
    }

    /// Puts proxies before both databases, and before nodes that will be on these ports.
    pub(crate) async fn start_proxies(&self, ports: &Ports, node_ports: &[u16]) -> Result<(), LocalError> {
        let primary = Proxy::start(ports, self.primary.port).await?;
        let replica = Proxy::start(ports, self.replica.port).await?;
        let nodes = try_join_all(node_ports.iter().map(|&port| Proxy::start(ports, port))).await?;
        *self.proxies() = Some(Proxies { primary, replica, nodes });
        Ok(())
    }

    /// Ends a node process and forgets it: one that [`crate::LocalCluster::add_node`] has added.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn dismiss_node(&self, number: usize) -> Result<(), LocalError> {
        self.node(number).stop().await?;
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(number);
        Ok(())
    }

    /// Ends all node processes, as if they had never been.
    pub(crate) async fn dismiss_nodes(&self) -> Result<(), LocalError> {
        for node in self.nodes() {
            node.process.stop().await?;
        }
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// Its name: `shard-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The PostgreSQL server that takes its writes.
    pub fn primary(&self) -> Process {
        self.primary.process.clone()
    }

    /// The PostgreSQL server that follows the primary.
    pub fn replica(&self) -> Process {
        self.replica.process.clone()
    }

    /// The `number`th node process, from 0.
    pub fn node(&self, number: usize) -> Process {
        self.nodes()[number].process.clone()
    }

    /// The base URL of the `number`th node process, from 0.
    pub fn node_url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.nodes()[number].port)
    }

    /// The port of the `number`th node process, from 0, behind its proxy if it has one.
    pub fn node_port(&self, number: usize) -> u16 {
        self.nodes()[number].port
    }

    /// What stands between gateways and the `number`th node process, from 0; a node that was added has none.
    pub fn node_proxy(&self, number: usize) -> Proxy {
        self.proxies().as_ref().expect(NO_PROXIES).nodes[number].clone()
    }

    /// What stands between the nodes and the primary.
    pub fn primary_proxy(&self) -> Proxy {
        self.proxies().as_ref().expect(NO_PROXIES).primary.clone()
    }

    /// How many node processes it has.
    pub fn node_count(&self) -> usize {
        self.nodes().len()
    }

    /// The port of the primary.
    pub fn primary_port(&self) -> u16 {
        self.primary.port
    }

    /// The port of the replica.
    pub fn replica_port(&self) -> u16 {
        self.replica.port
    }

    /// A connection to the primary, as the services' role.
    pub async fn connect_primary(&self) -> Result<Client, LocalError> {
        postgres::connect(self.primary.port, ROLE, &self.secrets.picopay, DATABASE).await
    }

    /// A connection to the replica, as the services' role.
    pub async fn connect_replica(&self) -> Result<Client, LocalError> {
        postgres::connect(self.replica.port, ROLE, &self.secrets.picopay, DATABASE).await
    }

    /// A connection to the services' database on the primary, as PostgreSQL's superuser.
    pub async fn connect_as_superuser(&self) -> Result<Client, LocalError> {
        postgres::connect(self.primary.port, "postgres", &self.secrets.superuser, DATABASE).await
    }

    /// A connection to the services' database on the replica, as PostgreSQL's superuser.
    pub async fn connect_replica_as_superuser(&self) -> Result<Client, LocalError> {
        postgres::connect(self.replica.port, "postgres", &self.secrets.superuser, DATABASE).await
    }

    /// All its processes, in the order in which they end.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut all: Vec<Process> = self.nodes().into_iter().map(|node| node.process).collect();
        all.extend([self.primary(), self.replica()]);
        all
    }

    pub(crate) fn node_processes(&self) -> Vec<Process> {
        self.nodes().into_iter().map(|node| node.process).collect()
    }

    /// What `cluster.toml` says of it: the ports of its proxies, if it has them.
    pub(crate) fn entry(&self, node_ports: &[u16]) -> ShardEntry {
        let proxies = self.proxies();
        let seen_nodes: Vec<u16> = match &*proxies {
            Some(proxies) => proxies.nodes.iter().map(Proxy::port).collect(),
            None => node_ports.to_vec(),
        };
        let port_of = |direct: u16, of: fn(&Proxies) -> &Proxy| {
            proxies.as_ref().map_or(direct, |proxies| of(proxies).port())
        };
        ShardEntry {
            name: self.name.clone(),
            nodes: seen_nodes.iter().map(|port| format!("http://127.0.0.1:{port}")).collect(),
            primary_port: port_of(self.primary.port, |proxies| &proxies.primary),
            replica_port: port_of(self.replica.port, |proxies| &proxies.replica),
        }
    }

    fn proxies(&self) -> MutexGuard<'_, Option<Proxies>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nodes(&self) -> Vec<Node> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A mistake of the caller's.
const NO_PROXIES: &str = "this cluster was started without proxies";

async fn start_server(
    folder: &Folder,
    ground: &Ground,
    blueprint: Blueprint<'_>,
) -> Result<Server, LocalError> {
    let log = || -> PathBuf { folder.log(blueprint.name) };
    let prepare = |port| postgres::prepare(ground, blueprint, port, log());
    let (process, port) = start_on_free_port(&ground.ports, prepare).await?;
    Ok(Server { process, port })
}
