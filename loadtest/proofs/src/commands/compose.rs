//! `picopay-proofs compose`: from flags to a drill, a line of JSON and an exit code.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use picopay_loadtest::command_line::Failure;
use picopay_proofs::compose::drill::{self, DrillPlan};
use picopay_proofs::compose::tls;
use tokio::signal::unix::{SignalKind, signal};

use super::threads::on_threads;

/// The last line of the output is JSON. It needs a Docker engine, Compose, and the images of `deploy/compose`.
#[derive(Debug, Args)]
pub struct ComposeArgs {
    /// The folder with the compose files.
    #[arg(long, default_value = "deploy/compose")]
    folder: PathBuf,
    /// The tag of the images.
    #[arg(long, env = "PICOPAY_TAG", default_value = "0.1.0")]
    tag: String,
    /// Each container once, and not in each of the three ways.
    #[arg(long)]
    short: bool,
    /// With Patroni: the primary is killed, three times.
    #[arg(long)]
    ha: bool,
    /// With TLS on every hop: who is let in, and who is not. Nothing is broken.
    #[arg(long, conflicts_with = "ha")]
    tls: bool,
    /// Chooses what happens to which container in a short drill.
    #[arg(long, default_value_t = 0)]
    seed: usize,
}

pub async fn run(args: ComposeArgs) -> Result<(), Failure> {
    let ComposeArgs { folder, tag, short, ha, tls, seed } = args;
    let plan = DrillPlan { is_short: short, is_ha: ha, seed };
    let line = on_threads(async move || {
        let mut terminate = signal(SignalKind::terminate())?;
        let work = async {
            anyhow::Ok(if tls {
                serde_json::to_string(&tls::run(&folder, &tag, short).await?)?
            } else {
                serde_json::to_string(&drill::run(&folder, &tag, plan).await?)?
            })
        };
        // Whatever ends first, the containers end with it.
        tokio::select! {
            line = work => line,
            _ = tokio::signal::ctrl_c() => bail!("stopped"),
            _ = terminate.recv() => bail!("stopped"),
        }
    })
    .await?;
    println!("{line}");
    Ok(())
}
