//! `picopay-proofs`: shows that PicoPay keeps its promises.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use picopay_loadtest::command_line::{self, GatewayArgs};
use picopay_loadtest::run::Stop;

mod commands;

/// Shows that PicoPay keeps its promises, on clusters of its own on this machine.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A handful of requests to a cluster that runs, each checked against the contract.
    Smoke(GatewayArgs),
    /// PicoPay against what PostgreSQL gives one charge at a time, on a cluster of its own on this machine.
    Bench(commands::bench::BenchArgs),
    /// Breaks a cluster of its own under load, again and again, and checks every promise in the end.
    Chaos(commands::chaos::ChaosArgs),
    /// Adds a shard to a cluster of its own under load, moves slots there, empties another, and checks every promise.
    Grow(commands::grow::GrowArgs),
    /// What a frozen shard costs the other one's users, and what three times too much load costs everybody.
    Protect(commands::protect::ProtectArgs),
    /// Replaces the programs of an earlier release by these ones under load, goes back, and forwards again, and checks every
    /// promise.
    Upgrade(commands::upgrade::UpgradeArgs),
    /// Kills the primary of a shard under Patroni, under load, and proves that no acknowledged charge was lost or doubled.
    Patroni(commands::patroni::PatroniArgs),
    /// Kills, pauses and cuts off each container of deploy/compose, under load, and checks what clients see.
    Compose(commands::compose::ComposeArgs),
}

/// 0: all is well. 1: a promise was broken, or the proof failed to run. 2: the command line is wrong.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = Stop::default();
    // The drills and their servers end by a signal of their own.
    if !matches!(cli.command, Command::Patroni(_) | Command::Compose(_)) {
        tokio::spawn(command_line::stop_on_signal(stop.clone()));
    }
    let done = match cli.command {
        Command::Smoke(args) => commands::smoke(&args).await,
        Command::Bench(args) => commands::bench::run(args, &stop).await,
        Command::Chaos(args) => commands::chaos::run(args, &stop).await,
        Command::Grow(args) => commands::grow::run(args, &stop).await,
        Command::Protect(args) => Box::pin(commands::protect::run(&args, &stop)).await,
        Command::Upgrade(args) => commands::upgrade::run(args, &stop).await,
        Command::Patroni(args) => commands::patroni::run(args).await,
        Command::Compose(args) => commands::compose::run(args).await,
    };
    command_line::exit_code(done)
}
