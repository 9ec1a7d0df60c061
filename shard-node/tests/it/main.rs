//! What a shard node promises, each on a real primary with a real replica, most with a real Redis.

mod test_shard;

mod cache;
mod changed_by_hand;
mod clocks;
mod couriers;
mod durability;
mod failover;
mod fence;
mod floors;
mod holds;
mod identity;
mod logs;
mod moves;
mod neighbours;
mod node_killed;
mod one_bad_row;
mod one_key;
mod open_files;
mod overdraw;
mod plans;
mod protection;
mod read_batches;
mod reads;
mod recovery_conflict;
mod reload;
mod replica_lag;
mod schema;
mod sessions;
mod transfers;
mod which_primary;
