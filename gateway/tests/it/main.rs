//! What the gateway promises on its own account: the contract over HTTP, connections, retries, start and stop. Behind
//! it stand real clusters, or where a fault cannot be made from outside (a reply lost on its way), a scripted node.

mod api;
mod gateway_process;
mod scripted_node;

mod access_log;
mod admin;
mod batch;
mod batch_on_its_way;
mod byte_equal_replays;
mod connections;
mod contract_errors;
mod docs;
mod drain;
mod history;
mod hold_races;
mod holds;
mod http_edges;
mod logs;
mod lost_replies;
mod metrics;
mod moved_away;
mod nodes;
mod protection;
mod read_batches;
mod reload;
mod ring;
mod start_and_stop;
mod sums;
mod supervised;
mod tls;
mod tls_inside;
mod tls_wires;
mod traces;
mod transfer_faults;
mod transfer_steps;
mod transfers;
mod values;
