//! `picopay shard drain`: every slot of a shard to the others, so that it can be removed.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use picopay_mover::plan;

use crate::rebalance::moving::{self, MoveArgs};

/// Give every slot of a shard to the others.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The shard, as the cluster's file names it
    name: String,
    #[command(flatten)]
    moving: MoveArgs,
}

pub async fn run(args: DrainArgs) -> anyhow::Result<ExitCode> {
    let name = &args.name;
    let next = format!(
        "{name} owns no slot. To remove it: `picopay verify`; take its [[shards]] entry out of the cluster's file and have \
         gateways and nodes reload it; then stop its nodes and databases, which hold nothing but rows that moved away. To \
         keep it instead: `picopay slots purge --shard {name}`, and `picopay rebalance` gives it slots again."
    );
    moving::run(&args.moving, &next, |names, now| {
        let shard = moving::position_of(names, name)?;
        if names.len() == 1 {
            bail!("{name} is the only shard: nobody could take its slots");
        }
        Ok(plan::drain(now, shard))
    })
    .await
}
