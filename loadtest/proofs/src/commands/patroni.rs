//! `picopay-proofs patroni`: a shard under Patroni on this machine, to kill or to look at.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use picopay_loadtest::command_line::Failure;
use picopay_local::{ApiKey, ClusterSpec, Data, PatroniSettings, PatroniShard};
use picopay_proofs::patroni::drill::{self, Victim};

use super::threads::on_threads;

/// The last line of the output is JSON. Exit code 1 when a charge was lost or doubled, a balance came from a primary that was
/// replaced, or a gap was too long.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PatroniArgs {
    #[command(subcommand)]
    instead: Option<Instead>,
    #[command(flatten)]
    setup: Setup,
    /// How often the primary is killed.
    #[arg(long, default_value_t = 3)]
    kills: usize,
    /// Kill always this, and not the agent alone and agent and server together in turn.
    #[arg(long)]
    only: Option<Victim>,
}

/// What else can be done with such a shard.
#[derive(Debug, Subcommand)]
enum Instead {
    /// Start it, say where everything is, and end it on Ctrl-C.
    Up(Setup),
}

#[derive(Debug, Args)]
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

pub async fn run(args: PatroniArgs) -> Result<(), Failure> {
    let PatroniArgs { instead, setup, kills, only } = args;
    if let Some(Instead::Up(setup)) = instead {
        return Ok(on_threads(async move || up(&setup).await).await?);
    }
    if on_threads(async move || drill::run(setup.start().await?, kills, only).await).await? {
        return Ok(());
    }
    Err(anyhow!("a charge was lost or doubled, a balance was stale, or a gap was too long").into())
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
