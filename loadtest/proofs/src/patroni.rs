//! A shard whose primary Patroni elects, and the drill that kills it under load.

mod charges;

pub mod drill;

mod proof;
