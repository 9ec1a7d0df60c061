//! One shard: its primary, its replica and its nodes.

use std::sync::{Mutex, PoisonError};

use tokio_postgres::Client;

use crate::config_files::ShardEntry;
use crate::folder::Folder;
use crate::postgres::{self, DATABASE, Ground, ROLE};
use crate::process::Process;
use crate::secrets::Secrets;
use crate::server_pair::{Failover, ServerPair};
use crate::spec::ClusterSpec;
use crate::{LocalError, services};

/// One shard of a [`crate::LocalCluster`].
#[derive(Debug)]
pub struct LocalShard {
    name: String,
    servers: ServerPair,
    nodes: Mutex<Vec<Node>>,
    secrets: Secrets,
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
        let servers = ServerPair::start(folder, ground, spec, &name).await?;
        Ok(Self { name, servers, nodes: Mutex::default(), secrets: ground.secrets.clone() })
    }

    /// Makes the replica the primary; see [`crate::LocalCluster::failover`].
    pub(crate) async fn fail_over(
        &self,
        folder: &Folder,
        ground: &Ground,
        spec: &ClusterSpec,
    ) -> Result<Failover, LocalError> {
        self.servers.fail_over(folder, ground, spec, &self.name).await
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

    /// The PostgreSQL server that takes its writes now: another one after a failover.
    pub fn primary(&self) -> Process {
        self.servers.primary().process.clone()
    }

    /// The PostgreSQL server that follows the primary now.
    pub fn replica(&self) -> Process {
        self.servers.replica().process.clone()
    }

    /// The `number`th node process, from 0.
    pub fn node(&self, number: usize) -> Process {
        self.nodes()[number].process.clone()
    }

    /// The base URL of the `number`th node process, from 0.
    pub fn node_url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.nodes()[number].port)
    }

    /// How many node processes it has.
    pub fn node_count(&self) -> usize {
        self.nodes().len()
    }

    /// The port of the primary.
    pub fn primary_port(&self) -> u16 {
        self.servers.primary().port
    }

    /// The port of the replica.
    pub fn replica_port(&self) -> u16 {
        self.servers.replica().port
    }

    /// A connection to the primary, as the services' role.
    pub async fn connect_primary(&self) -> Result<Client, LocalError> {
        postgres::connect(self.servers.primary().port, ROLE, &self.secrets.picopay, DATABASE).await
    }

    /// A connection to the replica, as the services' role.
    pub async fn connect_replica(&self) -> Result<Client, LocalError> {
        postgres::connect(self.servers.replica().port, ROLE, &self.secrets.picopay, DATABASE).await
    }

    /// A connection to the services' database on the primary, as PostgreSQL's superuser.
    pub async fn connect_as_superuser(&self) -> Result<Client, LocalError> {
        postgres::connect(self.servers.primary().port, "postgres", &self.secrets.superuser, DATABASE).await
    }

    /// A connection to the services' database on the replica, as PostgreSQL's superuser.
    pub async fn connect_replica_as_superuser(&self) -> Result<Client, LocalError> {
        postgres::connect(self.servers.replica().port, "postgres", &self.secrets.superuser, DATABASE).await
    }

    /// All its processes, in the order in which they end.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut all: Vec<Process> = self.nodes().into_iter().map(|node| node.process).collect();
        all.extend(self.servers.processes());
        all
    }

    pub(crate) fn node_processes(&self) -> Vec<Process> {
        self.nodes().into_iter().map(|node| node.process).collect()
    }

    pub(crate) fn entry(&self, node_ports: &[u16]) -> ShardEntry {
        ShardEntry {
            name: self.name.clone(),
            nodes: node_ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect(),
            database_ports: self.servers.ports(),
        }
    }

    fn nodes(&self) -> Vec<Node> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
