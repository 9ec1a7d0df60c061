//! `picopay-instructions`: how many instructions a charge takes on the way that waits for nobody, whatever else the machine
//! does.
//!
//! Valgrind's callgrind counts them. It counts the same on every machine: a processor's own counters may be missing, and
//! they count another program where the processor has instructions for SHA-256. Where they are there, they are shown beside.

mod instructions {
    pub mod counter;
    pub mod recorded;
    pub mod way;
}

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::instructions::counter::{Counter, per_charge};
use crate::instructions::recorded::Recorded;
use crate::instructions::way;

/// Charges in a batch: one alone, what a busy minute has, and the most of a lane.
const BATCHES: [u32; 3] = [1, 16, 256];

/// Counts the instructions of a charge on the way that waits for nobody.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Counts, and prints the figures.
    Count,
    /// Counts, and fails when a charge takes a tenth more than FILE says.
    Check { file: PathBuf },
    /// Counts, and writes what was counted into FILE.
    Renew { file: PathBuf },
    /// Goes the way with this many batches: what is counted.
    #[command(hide = true)]
    Go { batch: u32, batches: u32 },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("picopay-instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Go { batch, batches } => way::go(batch, batches),
        Command::Count => drop(count()?),
        Command::Renew { file } => {
            count()?.write(&file)?;
            println!("{} has these figures now", file.display());
        }
        Command::Check { file } => {
            let recorded = Recorded::read(&file)?;
            let verdict = recorded.compare(&count()?);
            print!("{verdict}");
            if !verdict.is_kept() {
                println!("If the new figures are meant: picopay-instructions renew {}", file.display());
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn count() -> anyhow::Result<Recorded> {
    println!("instructions for a charge, from the request's parts to the answer's body");
    let mut figures = Recorded::default();
    for batch in BATCHES {
        let counted = per_charge(Counter::Callgrind, batch)?;
        let own = per_charge(Counter::Processor, batch)
            .map_or_else(|_| "not counted".to_owned(), |own| own.to_string());
        println!("batches of {batch:>3}: {counted:>7}   by this processor: {own}");
        figures.note(batch, counted);
    }
    Ok(figures)
}
