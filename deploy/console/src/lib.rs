//! A page to look at: what a cluster is doing, read-only and on loopback.
//!
//! It decides nothing and keeps nothing but the last ten minutes of traffic. What it shows is what the operator's commands
//! say ([`Reports`]), what the shards' databases say of slots, and what nodes answer to a read. The page itself is in
//! `page/`, inside the program.

mod board;
mod door;
mod lookup;
mod metrics_page;
mod owners;
mod page;
mod records;
mod reports;
mod routes;
mod server;
mod slot_map;
mod traffic;
mod verify_report;
mod watch;

pub use self::reports::{Reports, Settings};
pub use self::server::{Console, ConsoleError};
