//! What gateway, shard node and the operator's command must agree on, and nothing else.
//!
//! A thing is here when two of them would break if they disagreed about it: money, slots, ids, the wire
//! between gateway and node, and `cluster.toml`. Rules about money are in the shard node.

#![warn(missing_docs)]

pub mod money;

pub mod slot;

pub mod slot_owner;

pub mod id;

pub mod origin;
pub mod outcome;

pub mod hold;

pub mod transfer;

pub mod transaction;

pub mod command;

pub mod query;

pub mod read_batch;

pub mod aggregate;

pub mod session;

pub mod node_status;

pub mod node_mark;

pub mod cluster;

pub mod tls_words;

pub mod front_tls;

pub mod config;

pub mod ending;

pub mod internal_secret;

pub mod lane;

pub mod open_files;

pub mod process_metrics;

pub mod reload;

pub mod runtime;

pub mod running_config;

pub mod supervisor;

pub mod telemetry;
