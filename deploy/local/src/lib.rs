//! A whole PicoPay cluster on one machine, of the processes that run in production: for each shard a PostgreSQL
//! primary, a streaming replica and its nodes, one Redis for all, and a gateway.
//!
//! `picopay up`, the tests and the load test start clusters with it, and whatever wants to kill, freeze and restart
//! their parts.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use picopay_local::{ClusterSpec, LocalCluster};
//!
//! let cluster = LocalCluster::start(ClusterSpec::default()).await?;
//! cluster.shard(0).primary().kill().await?; // SIGKILL: the machine lost its power
//! cluster.shard(0).primary().start().await?; // the same data, the same port
//! cluster.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! However the owner of a cluster ends, even by `kill -9`, the cluster ends with it: see `guardian.rs`.

mod spec;
pub use spec::{ApiKey, ClusterSpec, Data};

mod cluster;
pub use cluster::{LocalCluster, SHARDS_MAX};

mod more_replicas;

mod shard;
pub use shard::LocalShard;

mod server_pair;
pub use server_pair::Failover;

mod slot_move;
pub use slot_move::SlotMove;

mod couriers;

mod proxy;
pub use proxy::{Proxy, Weather};

mod error;
pub use error::LocalError;

mod os_process;
pub mod proc;

mod process;
pub use process::Process;

mod patroni;
pub use patroni::{Member, PatroniSettings, PatroniShard};

mod eventually;
pub use eventually::{Answered, eventually, eventually_within};

mod metric_sum;
pub use metric_sum::metric_sum;

mod guardian;

mod postgres;

mod template;

mod services_database;

mod redis;

mod redis_ping;

mod services;

mod certificates;
mod config_files;

mod secrets;

mod folder;

mod ports;

pub mod programs;

pub mod database_user;

pub mod http_call;
