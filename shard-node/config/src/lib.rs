//! The configuration of a shard node, `node.toml`, and the form in which operators compare it.
//!
//! A crate of its own, so that `picopay config check` reads the file as the node does and depends on no
//! service.

mod node_config;

mod redis_client;

mod running_config;

pub use node_config::{
    CacheConfig, ENV_PREFIX, LaneConfig, NodeConfig, OwnTls, PostgresConfig, ReadConfig, TestingConfig,
};
pub use redis_client::{redis_client, redis_trouble};
pub use running_config::of_node;
