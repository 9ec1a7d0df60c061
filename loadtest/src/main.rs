//! `picopay-loadtest`: loads a gateway, and says what came back.

// The figures on the terminal, as in the library.
#![allow(clippy::cast_precision_loss)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use picopay_loadtest::run::Stop;

mod commands;

/// Loads a PicoPay gateway, and says what came back.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a gateway: at a given rate (--rate, for latency), or as fast as its connections allow (for saturation).
    Run(Box<commands::run::RunArgs>),
    /// A handful of requests, each checked against the contract.
    Smoke(commands::GatewayArgs),
    /// PicoPay against what PostgreSQL gives one charge at a time, on a cluster of its own on this machine.
    Bench(commands::bench::BenchArgs),
    /// Breaks a cluster of its own under load, again and again, and checks every promise in the end.
    Chaos(commands::chaos::ChaosArgs),
    /// Adds a shard to a cluster of its own under load, moves slots there, empties another, and checks every promise.
    Grow(commands::grow::GrowArgs),
    /// What a frozen shard costs the other one's users, and what three times too much load costs everybody.
    Protect(commands::protect::ProtectArgs),
    /// How many requests a second one core of the load test itself can do.
    Selftest(commands::SelfTestArgs),
}

/// Exit codes: 0 all well, 1 a promise was broken or the load could not be done, 2 the command line makes no sense.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = Stop::default();
    tokio::spawn(stop_on_signal(stop.clone()));
    let done = match cli.command {
        Command::Run(args) => commands::run::run(*args, &stop).await,
        Command::Smoke(args) => commands::smoke(&args),
        Command::Bench(args) => commands::bench::run(args, &stop).await,
        Command::Chaos(args) => commands::chaos::run(args, &stop).await,
        Command::Grow(args) => commands::grow::run(args, &stop).await,
        Command::Protect(args) => commands::protect::run(&args, &stop).await,
        Command::Selftest(args) => commands::selftest(&args, &stop).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {:#}", error.cause);
            ExitCode::from(error.code)
        }
    }
}

/// The first Ctrl-C ends the load and leaves its report; the second ends the program.
async fn stop_on_signal(stop: Stop) {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => if interrupted.is_err() { return },
        () = terminated => {}
    }
    stop.now();
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(130);
    }
}
