//! A shard whose primary Patroni elects, and the drill that kills it under load.

pub mod drill;

mod proof;
