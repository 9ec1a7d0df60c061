//! The charge service of one shard: everything that decides about money.
//!
//! Reading order: a request enters through `routes`. `write` sends its commands through `cache` to the users'
//! lanes. `lane` runs one database transaction per batch behind the fence of `slot_owner`, and `book` holds
//! the rules. `read` answers what changes nothing.

pub mod clock;

pub mod book;

pub mod lane;

pub mod slot_owner;

pub mod store;

pub mod server_id;

pub mod db;

pub mod timeline;

pub mod read_pool;

pub mod cache;

pub mod write;

pub mod sweeper;

pub mod read;

pub mod log_end;

pub mod replay_wait;

pub mod replica_lag;

pub mod write_gate;

pub mod gate_keeper;

pub mod which_primary;

pub mod standby;

pub mod floor;

pub mod identity;

pub mod metrics;

pub mod service;

pub mod courier;

pub mod node;

pub mod own_clock;

pub mod answers;

pub mod older_callers;

pub mod routes;

mod front;
pub mod process;

#[cfg(test)]
mod log_lines;
