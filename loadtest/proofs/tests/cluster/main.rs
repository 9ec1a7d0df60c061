//! What clients are promised of a whole cluster, over HTTP. Processes and faults are real.

mod client;
mod load;

mod faults;
mod one_key;
mod overdraw;
mod sessions;
mod slot_handover;
mod stale_map;
mod two_nodes;
