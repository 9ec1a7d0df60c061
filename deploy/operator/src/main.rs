//! `picopay`, the operator's command.
//!
//! A cluster runs without it. Each command has a file of its own. SQL connections are made in `shared/postgres`, and slots
//! moved in `deploy/mover`.

mod certs;
mod cluster_file;
mod config_check;
mod console;
mod demo;
mod doctor;
mod failover;
mod health;
mod init;
mod keys;
mod migrate;
mod output;
mod probe;
mod rebalance;
mod shard;
mod slot;
mod slots;
mod status;
mod transfers;
mod up;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Operate a PicoPay cluster.
#[derive(Parser)]
#[command(name = "picopay", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole cluster on this machine, in the foreground, with a user to charge
    Up(up::UpArgs),
    /// Say what is missing on this machine for `up`, and how to get it
    Doctor(doctor::DoctorArgs),
    /// Make two users with 1000.00 USD each, to try a cluster out
    Demo(demo::DemoArgs),
    /// Prepare a new cluster: apply the schema and deal out the slots, once
    Init(init::InitArgs),
    /// Bring the schema of the shards up to date
    Migrate(migrate::MigrateArgs),
    /// One shard: let it join, empty it, let it go on without its standby
    #[command(subcommand)]
    Shard(shard::ShardCommand),
    /// Give every shard an even share of the slots, while charges go on
    Rebalance(rebalance::RebalanceArgs),
    /// Single slots: move them to another shard
    #[command(subcommand)]
    Slot(slot::SlotCommand),
    /// Show who owns which slots
    Slots(slots::SlotsArgs),
    /// Make a shard's replica its primary, in the cluster that `up` runs on this machine
    Failover(failover::FailoverArgs),
    /// Say by the exit code whether a service answers: for probes in images without curl
    Health(health::HealthArgs),
    /// Show how the cluster is: slots, databases, nodes, Redis
    Status(status::StatusArgs),
    /// Serve a page that shows the cluster live: slots, shards, charges, users; read-only, for this machine alone
    Console(console::ConsoleArgs),
    /// Show which transfers are pending, since when, and why
    Transfers(transfers::TransfersArgs),
    /// Prove that the money is right: balances, refunds, keys, and every row in its place
    Verify(verify::VerifyArgs),
    /// API keys of a gateway: make, list and revoke them
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Certificates: an authority of the cluster's own, and what it signs
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Configuration files of a cluster and its services
    #[command(subcommand)]
    Config(config_check::ConfigCommand),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Up(args) => up::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Init(args) => init::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Shard(command) => shard::run(command).await,
        Command::Rebalance(args) => rebalance::run(args).await,
        Command::Slot(command) => slot::run(command).await,
        Command::Slots(args) => slots::run(args).await,
        Command::Failover(args) => failover::run(args).await,
        Command::Health(args) => health::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Console(args) => console::run(args).await,
        Command::Transfers(args) => transfers::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Keys(command) => keys::run(command),
        Command::Certs(command) => certs::run(command),
        Command::Config(command) => config_check::run(command).await,
    };
    result.unwrap_or_else(|error| {
        anstream::eprintln!("picopay: {}", chain_of(&error));
        ExitCode::FAILURE
    })
}

/// An error and its causes in one line, without those that the line says already.
fn chain_of(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if !line.contains(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
    }
    line
}
