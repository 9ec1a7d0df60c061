//! What a shard node is told, `node.toml`, and what it tells operators of what it goes by.
//!
//! A crate of its own, so that `picopay config check` reads the file as the node does and depends on no service.

mod node_config;

mod running_config;

pub use node_config::{
    CacheConfig, ENV_PREFIX, LaneConfig, NodeConfig, PostgresConfig, ReadConfig, TestingConfig,
};
pub use running_config::of_node;
