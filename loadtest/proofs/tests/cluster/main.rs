//! What clients are promised of a whole cluster, over HTTP: gateway, nodes, primaries, replicas and Redis are
//! real processes, and the faults are real signals.

mod client;
mod load;

mod faults;
mod moving;
mod one_key;
mod overdraw;
mod sessions;
mod stale_map;
mod two_nodes;
