//! What the operator's command promises: the program itself, on real clusters.

mod bare_databases;
mod certs;
mod command;
mod documented;
mod users;

mod config;
mod config_running;
mod console;
mod finish;
mod health;
mod init;
mod keys;
mod moves;
mod restored;
mod shard;
mod shard_add;
mod status;
mod systemd;
mod transfers;
mod verify;
