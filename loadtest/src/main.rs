//! `picopay-loadtest`: loads a gateway, and says what came back.

// The figures on the terminal, as in the library.
#![allow(clippy::cast_precision_loss)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use picopay_loadtest::command_line;
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
    /// How many requests a second one core of the load test itself can do.
    Selftest(commands::SelfTestArgs),
}

/// 0: all is well. 1: a promise was broken, or the load could not run. 2: the command line is wrong.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = Stop::default();
    tokio::spawn(command_line::stop_on_signal(stop.clone()));
    let done = match cli.command {
        Command::Run(args) => commands::run::run(*args, &stop).await,
        Command::Selftest(args) => commands::selftest(&args, &stop).await,
    };
    command_line::exit_code(done)
}
