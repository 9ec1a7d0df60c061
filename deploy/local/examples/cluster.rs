//! Starts a cluster in a temporary folder, prints where it is, and waits for a signal. With the argument `databases` it
//! starts PostgreSQL and Redis only.

use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let is_databases_only = std::env::args().nth(1).is_some_and(|argument| argument == "databases");
    let cluster = if is_databases_only {
        LocalCluster::start_databases(ClusterSpec::one_shard()).await?
    } else {
        LocalCluster::start(ClusterSpec::default()).await?
    };
    println!("folder {}", cluster.folder().display());
    for process in cluster.processes() {
        println!("process {} {}", process.pid().unwrap_or_default(), process.name());
    }
    println!("ready");
    loop {
        tokio::time::sleep(Duration::from_hours(1)).await;
    }
}
