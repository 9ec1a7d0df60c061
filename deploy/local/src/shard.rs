//! One shard: its primary, its replica and its nodes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::try_join_all;
use tokio_postgres::Client;

use crate::config_files::ShardEntry;
use crate::ports::Ports;
use crate::postgres::{self, Server};
use crate::process::Process;
use crate::proxy::Proxy;
use crate::secrets::Secrets;
use crate::server_pair::{Failover, ServerPair, Site};
use crate::services::CLUSTER_FILE;
use crate::services_database::{DATABASE, ROLE};
use crate::{LocalError, more_replicas, services};

#[derive(Debug)]
pub struct LocalShard {
    name: String,
    pub(crate) servers: ServerPair,
    more_replicas: Vec<Server>,
    nodes: Mutex<Vec<Node>>,
    proxies: Mutex<Option<Proxies>>,
    entry: Mutex<Option<ShardEntry>>,
    has_left: AtomicBool,
    secrets: Secrets,
}

#[derive(Debug)]
struct Proxies {
    databases: [Proxy; 2],
    nodes: Vec<Proxy>,
    /// Between each node and the wires to the servers. Empty where there is one node only.
    node_databases: Vec<[Proxy; 2]>,
}

#[derive(Debug, Clone)]
struct Node {
    process: Process,
    port: u16,
}

impl LocalShard {
    pub(crate) async fn start_databases(site: Site<'_>) -> Result<Self, LocalError> {
        let servers = ServerPair::start(site).await?;
        let more_replicas = more_replicas::start(site, servers.primary().port).await?;
        Ok(Self {
            name: site.shard.to_owned(),
            servers,
            more_replicas,
            nodes: Mutex::default(),
            proxies: Mutex::default(),
            entry: Mutex::default(),
            has_left: AtomicBool::new(false),
            secrets: site.ground.secrets.clone(),
        })
    }

    pub(crate) async fn fail_over(&self, site: Site<'_>) -> Result<Failover, LocalError> {
        let failover = self.servers.fail_over(site).await?;
        more_replicas::follow(site, &self.more_replicas, self.servers.primary().port)?;
        Ok(failover)
    }

    /// Starts the `number`th node process, counted from 1, on this port.
    pub(crate) async fn start_node(
        &self,
        Site { folder, ground, spec, .. }: Site<'_>,
        number: usize,
        port: u16,
    ) -> Result<Process, LocalError> {
        let name = self.node_name(number);
        let names = (self.name.as_str(), name.as_str(), number);
        let process = services::prepare_node(folder, ground, spec, names, port, &self.cluster_file(number))?;
        process.start().await?;
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.push(Node { process: process.clone(), port });
        // Several start at the same time; the order of their numbers is what `node` goes by.
        nodes.sort_by_key(|node| (node.process.name().len(), node.process.name().to_owned()));
        Ok(process)
    }

    pub(crate) async fn start_proxies(&self, ports: &Ports, node_ports: &[u16]) -> Result<(), LocalError> {
        let [first, second] = self.servers.ports();
        let databases = [Proxy::start(ports, first).await?, Proxy::start(ports, second).await?];
        let nodes = try_join_all(node_ports.iter().map(|&port| Proxy::start(ports, port))).await?;
        let mut node_databases = Vec::new();
        if node_ports.len() > 1 {
            let [first, second] = databases.each_ref().map(Proxy::port);
            for _ in node_ports {
                node_databases.push([Proxy::start(ports, first).await?, Proxy::start(ports, second).await?]);
            }
        }
        *self.proxies() = Some(Proxies { databases, nodes, node_databases });
        Ok(())
    }

    pub async fn dismiss_node(&self, number: usize) -> Result<(), LocalError> {
        self.node(number).stop().await?;
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(number);
        Ok(())
    }

    pub(crate) async fn dismiss_nodes(&self) -> Result<(), LocalError> {
        for node in self.nodes() {
            node.process.stop().await?;
        }
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn primary(&self) -> Process {
        self.servers.primary().process.clone()
    }

    pub fn replica(&self) -> Process {
        self.servers.replica().process.clone()
    }

    pub fn more_replica(&self, number: usize) -> Process {
        self.more_replicas[number].process.clone()
    }

    pub fn node(&self, number: usize) -> Process {
        self.nodes()[number].process.clone()
    }

    fn scheme(&self) -> &'static str {
        if self.secrets.certificates.is_some() { "https" } else { "http" }
    }

    pub fn node_url(&self, number: usize) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.nodes()[number].port)
    }

    /// From 0; the node's own port, behind its proxy if it has one.
    pub fn node_port(&self, number: usize) -> u16 {
        self.nodes()[number].port
    }

    pub fn node_proxy(&self, number: usize) -> Proxy {
        self.proxies().as_ref().expect(NO_PROXIES).nodes[number].clone()
    }

    pub fn primary_proxy(&self) -> Proxy {
        self.proxies().as_ref().expect(NO_PROXIES).databases[self.servers.primary_position()].clone()
    }

    /// From 0. Only this node's.
    pub fn primary_proxy_of_node(&self, number: usize) -> Proxy {
        let proxies = self.proxies();
        let proxies = proxies.as_ref().expect(NO_PROXIES);
        let position = self.servers.primary_position();
        match proxies.node_databases.get(number) {
            Some(own) => own[position].clone(),
            None => proxies.databases[position].clone(),
        }
    }

    /// How many of its node processes `cluster.toml` names: not those that were added.
    pub fn named_node_count(&self) -> usize {
        self.entry().map_or(0, |entry| entry.nodes.len())
    }

    pub fn node_count(&self) -> usize {
        self.nodes().len()
    }

    pub fn primary_port(&self) -> u16 {
        self.servers.primary().port
    }

    pub fn replica_port(&self) -> u16 {
        self.servers.replica().port
    }

    pub async fn connect_primary(&self) -> Result<Client, LocalError> {
        postgres::connect(&self.secrets, self.servers.primary().port, ROLE, &self.secrets.picopay, DATABASE)
            .await
    }

    pub async fn connect_replica(&self) -> Result<Client, LocalError> {
        postgres::connect(&self.secrets, self.servers.replica().port, ROLE, &self.secrets.picopay, DATABASE)
            .await
    }

    pub async fn connect_as_superuser(&self) -> Result<Client, LocalError> {
        postgres::connect(
            &self.secrets,
            self.servers.primary().port,
            "postgres",
            &self.secrets.superuser,
            DATABASE,
        )
        .await
    }

    pub async fn connect_replica_as_superuser(&self) -> Result<Client, LocalError> {
        postgres::connect(
            &self.secrets,
            self.servers.replica().port,
            "postgres",
            &self.secrets.superuser,
            DATABASE,
        )
        .await
    }

    pub async fn connect_more_replica_as_superuser(&self, number: usize) -> Result<Client, LocalError> {
        let port = self.more_replicas[number].port;
        postgres::connect(&self.secrets, port, "postgres", &self.secrets.superuser, DATABASE).await
    }

    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut all: Vec<Process> = self.nodes().into_iter().map(|node| node.process).collect();
        all.extend(self.more_replicas.iter().map(|server| server.process.clone()));
        all.extend(self.servers.processes());
        all
    }

    pub(crate) fn node_processes(&self) -> Vec<Process> {
        self.nodes().into_iter().map(|node| node.process).collect()
    }

    pub(crate) fn leave(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    pub(crate) fn entry(&self) -> Option<ShardEntry> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn node_name(&self, number: usize) -> String {
        format!("{}-node-{number}", self.name)
    }

    /// Counted from 1. A node with wires of its own has a file of its own, which differs by ports only.
    fn cluster_file(&self, number: usize) -> String {
        if self.proxies().as_ref().is_some_and(|proxies| number <= proxies.node_databases.len()) {
            format!("{}.{CLUSTER_FILE}", self.node_name(number))
        } else {
            CLUSTER_FILE.to_owned()
        }
    }

    pub(crate) fn own_cluster_files(&self) -> Vec<(String, ShardEntry)> {
        let Some(entry) = self.entry() else { return Vec::new() };
        let wires = self.proxies().as_ref().map(|proxies| {
            let ports = proxies.node_databases.iter().map(|own| own.each_ref().map(Proxy::port));
            ports.collect::<Vec<_>>()
        });
        let own = wires.unwrap_or_default().into_iter().enumerate();
        own.map(|(position, database_ports)| {
            (self.cluster_file(position + 1), ShardEntry { database_ports, ..entry.clone() })
        })
        .collect()
    }

    pub(crate) fn describe(&self, node_ports: &[u16]) {
        let proxies = self.proxies();
        let seen_nodes: Vec<u16> = match &*proxies {
            Some(proxies) => proxies.nodes.iter().map(Proxy::port).collect(),
            None => node_ports.to_vec(),
        };
        let database_ports = match &*proxies {
            Some(proxies) => proxies.databases.each_ref().map(Proxy::port),
            None => self.servers.ports(),
        };
        *self.entry.lock().unwrap_or_else(PoisonError::into_inner) = Some(ShardEntry {
            name: self.name.clone(),
            nodes: seen_nodes.iter().map(|port| format!("{}://127.0.0.1:{port}", self.scheme())).collect(),
            database_ports,
            more_replicas: self.more_replicas.iter().map(|server| server.port).collect(),
        });
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
