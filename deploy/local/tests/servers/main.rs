//! What a cluster promises of its servers. PicoPay's own programs are not needed here.

mod databases;
mod failover;
mod tls;

use picopay_local::{ClusterSpec, LocalCluster};
use tokio_postgres::Client;

async fn start(spec: ClusterSpec) -> LocalCluster {
    LocalCluster::start_databases(spec).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn text(client: &Client, query: &str) -> String {
    client.query_one(query, &[]).await.unwrap().get(0)
}
