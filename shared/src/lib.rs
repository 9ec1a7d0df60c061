//! What gateway, shard node and the operator's command must agree on, and nothing else.
//!
//! A thing lives here when two of them would break if they disagreed about it: how money is read and
//! written, which slot a user is in, what an id carries, what crosses the wire between gateway and node,
//! and the one `cluster.toml` that all of them read. Rules about money live in the shard node.

#![warn(missing_docs)]

pub mod money;

pub mod slot;

pub mod slot_owner;

pub mod id;

pub mod origin;

pub mod command;

pub mod query;

pub mod session;

pub mod node_status;

pub mod node_mark;

pub mod batcher;

pub mod cluster;

pub mod config;

pub mod internal_secret;

pub mod open_files;

pub mod reload;

pub mod running_config;

pub mod telemetry;
