//! What cluster to start.

use std::net::SocketAddr;
use std::path::PathBuf;

use picopay_shared::cluster::Durability;

use crate::services_database::{DATABASE, ROLE};
use crate::{LocalError, programs};

/// The default is what tests want: two replicated shards, Redis, a gateway on a free port and a temporary folder.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct ClusterSpec {
    pub shards: usize,
    pub nodes_per_shard: usize,
    /// Replicas of each shard beside the one that its commits wait for. Of a temporary cluster only.
    pub more_replicas: usize,
    pub node_environment: Vec<(String, String)>,
    /// Whether gateways reach nodes, and nodes their databases, over a [`crate::Proxy`] each. Several nodes of a shard each
    /// have wires of their own to the databases.
    pub has_proxies: bool,
    pub has_redis: bool,
    /// Whether every hop is over TLS, and every caller shows a certificate, except clients to the gateway.
    pub has_tls: bool,
    /// `Replicated` makes each replica its primary's synchronous standby; with `Local` it follows on its own.
    pub durability: Durability,
    pub data: Data,
    /// Where PicoPay's own programs are when the cluster starts, such as those of an earlier release; `None`: beside this one.
    pub programs: Option<PathBuf>,
    pub has_gateway: bool,
    /// Where the gateway listens; `None` takes a free port of the loopback.
    pub gateway_listen: Option<SocketAddr>,
    /// Whether a service that is told to end goes on for as long as its program does unless told otherwise. Without it,
    /// its end waits for nobody.
    pub has_drain: bool,
    pub gateway_toml: String,
    pub node_toml: String,
    pub toml_of_nodes: Vec<(usize, String)>,
    pub api_keys: Vec<ApiKey>,
    /// More settings for the primaries, by name, over the ones that this crate sets.
    pub primary_settings: Vec<(String, String)>,
    pub replica_settings: Vec<(String, String)>,
    /// Run by the superuser in the services' database of each new shard, before anything is in it.
    pub founding_sql: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In a new folder that is removed when the cluster ends, however it ends.
    Temporary,
    Kept {
        folder: PathBuf,
        is_fresh: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub name: String,
    pub key: String,
    pub scopes: Vec<String>,
}

impl ApiKey {
    pub fn new(name: &str, key: &str, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        Self { name: name.to_owned(), key: key.to_owned(), scopes }
    }
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            shards: 2,
            nodes_per_shard: 1,
            more_replicas: 0,
            node_environment: Vec::new(),
            has_proxies: false,
            has_redis: true,
            has_tls: false,
            durability: Durability::Replicated,
            data: Data::Temporary,
            programs: None,
            has_gateway: true,
            gateway_listen: None,
            has_drain: false,
            gateway_toml: String::new(),
            node_toml: String::new(),
            toml_of_nodes: Vec::new(),
            api_keys: vec![ApiKey::new("dev", "dev-key", &["write", "read", "admin"])],
            primary_settings: Vec::new(),
            replica_settings: Vec::new(),
            founding_sql: Vec::new(),
        }
    }
}

impl ClusterSpec {
    #[must_use]
    pub fn one_shard() -> Self {
        Self { shards: 1, ..Self::default() }
    }

    #[must_use]
    pub fn with_shards(self, shards: usize) -> Self {
        Self { shards, ..self }
    }

    #[must_use]
    pub fn with_nodes_per_shard(self, nodes_per_shard: usize) -> Self {
        Self { nodes_per_shard, ..self }
    }

    #[must_use]
    pub fn with_more_replicas(self, more_replicas: usize) -> Self {
        Self { more_replicas, ..self }
    }

    #[must_use]
    pub fn with_node_variable(mut self, name: &str, value: &str) -> Self {
        self.node_environment.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn with_proxies(self) -> Self {
        Self { has_proxies: true, ..self }
    }

    #[must_use]
    pub fn with_tls(self) -> Self {
        Self { has_tls: true, ..self }
    }

    #[must_use]
    pub fn with_programs(self, folder: impl Into<PathBuf>) -> Self {
        Self { programs: Some(folder.into()), ..self }
    }

    #[must_use]
    pub fn with_drain(self) -> Self {
        Self { has_drain: true, ..self }
    }

    #[must_use]
    pub fn without_redis(self) -> Self {
        Self { has_redis: false, ..self }
    }

    #[must_use]
    pub fn without_gateway(self) -> Self {
        Self { has_gateway: false, ..self }
    }

    #[must_use]
    pub fn with_durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    #[must_use]
    pub fn with_gateway_toml(mut self, toml: &str) -> Self {
        self.gateway_toml.push_str(toml);
        self.gateway_toml.push('\n');
        self
    }

    #[must_use]
    pub fn with_node_toml(mut self, toml: &str) -> Self {
        self.node_toml.push_str(toml);
        self.node_toml.push('\n');
        self
    }

    /// More lines for the `node.toml` of every shard's node of this number, counted from 1.
    #[must_use]
    pub fn with_toml_of_node(mut self, number: usize, toml: &str) -> Self {
        self.toml_of_nodes.push((number, format!("{toml}\n")));
        self
    }

    #[must_use]
    pub fn with_api_key(mut self, key: ApiKey) -> Self {
        self.api_keys.push(key);
        self
    }

    #[must_use]
    pub fn with_primary_setting(mut self, name: &str, value: &str) -> Self {
        self.primary_settings.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn with_replica_setting(mut self, name: &str, value: &str) -> Self {
        self.replica_settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// For both servers of each shard, so that it stays true after a failover.
    #[must_use]
    pub fn with_server_setting(self, name: &str, value: &str) -> Self {
        self.with_primary_setting(name, value).with_replica_setting(name, value)
    }

    #[must_use]
    pub fn with_founding_sql(mut self, statement: &str) -> Self {
        self.founding_sql.push(statement.to_owned());
        self
    }

    /// Every session of the role begins with it. The value is SQL: `'German'`, `odd, public`.
    #[must_use]
    pub fn with_role_setting(self, name: &str, value: &str) -> Self {
        self.with_founding_sql(&format!("ALTER ROLE {ROLE} SET {name} = {value}"))
    }

    #[must_use]
    pub fn with_database_setting(self, name: &str, value: &str) -> Self {
        self.with_founding_sql(&format!("ALTER DATABASE {DATABASE} SET {name} = {value}"))
    }

    pub(crate) fn program(&self, name: &str) -> Result<PathBuf, LocalError> {
        match &self.programs {
            None => programs::find_picopay(name),
            Some(folder) => programs::find_picopay_in(std::slice::from_ref(folder), name),
        }
    }

    #[must_use]
    pub fn kept_in(self, folder: impl Into<PathBuf>) -> Self {
        Self { data: Data::Kept { folder: folder.into(), is_fresh: false }, ..self }
    }
}
