//! What the operator's command does to the shards' databases, as a library: connections, and the mover of slots. The
//! tests break the mover at every step, and nothing else uses it from outside of the command.

pub mod mover;
pub mod shard_db;
