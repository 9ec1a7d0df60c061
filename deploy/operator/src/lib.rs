//! What the operator's command does to the shards' databases, as a library: connections, the mover of slots, and its pace. The
//! tests break the mover at every step, and nothing else uses it from outside of the command.

pub mod mover;
pub mod pace;
pub mod shard_db;
