//! Databases with nothing in them, and a `cluster.toml` that makes shards of them, as an operator writes it.

use std::fmt::Write as _;
use std::path::PathBuf;

use picopay_local::{ClusterSpec, LocalCluster};
use tokio_postgres::Client;

pub struct BareDatabases {
    pub cluster: LocalCluster,
    pub clients: Vec<Client>,
    pub file: PathBuf,
}

impl BareDatabases {
    pub async fn start(count: usize) -> Self {
        let spec = ClusterSpec::default().with_shards(count).without_redis();
        let cluster = LocalCluster::start_databases(spec).await.unwrap();
        let mut clients = Vec::new();
        for shard in cluster.shards() {
            clients.push(shard.connect_as_superuser().await.unwrap());
        }
        Self { file: cluster.folder().join("operator.toml"), cluster, clients }
    }

    pub fn describe(&self, shards: &[(&str, usize)]) {
        let mut text = "internal_secret = \"an-internal-secret-for-this-test\"\n".to_owned();
        for (number, (name, database)) in (1..).zip(shards) {
            let port = self.cluster.shard(*database).primary_port();
            write!(
                text,
                "[[shards]]\nname = \"{name}\"\nnodes = [\"http://127.0.0.1:{number}\"]\n\
                 primary = \"host=127.0.0.1 port={port} dbname=picopay user=picopay\"\n\
                 password_file = \"secrets/picopay\"\n"
            )
            .unwrap();
        }
        std::fs::write(&self.file, text).unwrap();
    }

    pub async fn wipe(&self, database: usize) {
        let wipe = "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION picopay";
        self.clients[database].batch_execute(wipe).await.unwrap();
    }
}
