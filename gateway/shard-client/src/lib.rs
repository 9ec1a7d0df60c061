//! How a command reaches the shard that owns its slot: routing, wire, retries.
//!
//! Only this crate calls shard nodes. It knows nothing of the public API: no header, no status, no problem.
//! Follow a command: [`ShardClient::write`] → `slot_map` (who most likely owns the slot) → `shard` (its lane)
//! → `pipe` (the batch) → `nodes` (which node) → `wire` (the request). The answer comes back through `ended`
//! (final, moved, not done, unknown) and `attempts`, which says whether it goes once more. Several commands of one
//! client go by [`ShardClient::write_all`] in `bundle`.

mod aggregates;
mod attempts;
mod breaker;
mod bundle;
mod client;
mod config;
mod ended;
mod error;
mod held;
mod job;
pub mod journey;
mod metrics;
mod node_clock;
mod nodes;
mod pace;
mod pipe;
mod queue_room;
mod read_queue;
mod reads;
mod refusal_pace;
mod shard;
mod shard_set;
mod slot_map;
mod ticket;
mod wire;

pub use self::aggregates::{AggregateError, Gathered, ShardSource};
pub use self::client::{ShardClient, Written};
pub use self::config::ShardClientConfig;
pub use self::ended::{Decision, NotDone};
pub use self::error::ShardError;
pub use self::reads::{BalancesAt, HoldsPage, Page, Read, Reader};
pub use self::shard::ShardView;
