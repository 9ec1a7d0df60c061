//! `picopay-patroni`: a shard under Patroni on this machine, to look at or to kill.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use picopay_local::{ApiKey, ClusterSpec, Data, PatroniSettings, PatroniShard};

mod charges;
mod drill;
use drill::Victim;

mod proof;

/// A shard under Patroni on this machine, to look at or to kill.
#[derive(Debug, Parser)]
#[command(name = "picopay-patroni", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start it, say where everything is, and end it on Ctrl-C.
    Up(Setup),
    /// Kill its primary under load, again and again, the agent alone and agent and server together in turn, and prove that no
    /// acknowledged charge was lost or doubled. The last line of the output is JSON. Exit code 1 when a charge was lost or
    /// doubled, a balance came from a primary that was replaced, or a gap was too long.
    Drill {
        #[command(flatten)]
        setup: Setup,
        /// How often the primary is killed.
        #[arg(long, default_value_t = 3)]
        kills: usize,
        /// Kill always this, and not both in turn.
        #[arg(long)]
        only: Option<Victim>,
    },
}

#[derive(Debug, clap::Args)]
struct Setup {
    /// Members: PostgreSQL servers with their agents. With two, charges stop after a failover until the old primary is
    /// back, since the new one has nobody to confirm them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=5))]
    members: u8,
    /// A folder to work in, whose logs and databases can be looked at afterwards; the next start empties it. Without it a
    /// temporary one is made, and removed.
    #[arg(long)]
    data: Option<PathBuf>,
}

impl Setup {
    async fn start(&self) -> anyhow::Result<PatroniShard> {
        let spec = ClusterSpec::default().with_api_key(ApiKey::new("drill", "drill-key", &["write", "read"]));
        let spec = match &self.data {
            Some(folder) => {
                ClusterSpec { data: Data::Kept { folder: folder.clone(), is_fresh: true }, ..spec }
            }
            None => spec,
        };
        Ok(PatroniShard::start(spec, usize::from(self.members), PatroniSettings::default()).await?)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up(setup) => up(&setup).await.map(|()| true),
        Command::Drill { setup, kills, only } => drill(&setup, kills, only).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn drill(setup: &Setup, kills: usize, only: Option<Victim>) -> anyhow::Result<bool> {
    drill::run(setup.start().await?, kills, only).await
}

async fn up(setup: &Setup) -> anyhow::Result<()> {
    let shard = setup.start().await?;
    println!("gateway  {}  (X-API-Key: {})", shard.gateway_url(), shard.api_key());
    for member in shard.members() {
        println!(
            "{}  127.0.0.1:{}  log {}",
            member.name(),
            member.port(),
            member.process().log_file().display()
        );
    }
    println!("files    {}\nCtrl-C ends all of it.", shard.folder().display());
    tokio::signal::ctrl_c().await?;
    shard.stop().await;
    Ok(())
}
