//! One shard: joining, draining, going on without its synchronous standby, and going on from an earlier moment.
//!
//! The row of `degradation` in the shard's database says whether it is degraded. Its nodes read it there, so no file
//! changes and no node need be reached. No command here needs more rights than the nodes have.

mod add;
mod degrade;
mod drain;
mod generation;
mod nodes;
mod restore;
mod start;
mod stop;
mod word;

use std::process::ExitCode;

use clap::Subcommand;

/// What can be done with one shard.
#[derive(Debug, Subcommand)]
pub enum ShardCommand {
    /// Let a new, empty shard join the cluster, without slots: `rebalance` gives it some
    Add(add::AddArgs),
    /// Give every slot of a shard to the others, so that it can be removed
    Drain(drain::DrainArgs),
    /// Let a shard go on without its synchronous standby: what it acknowledges is then on one machine only
    Degrade(degrade::DegradeArgs),
    /// End that, once the standby has everything
    Restore(restore::RestoreArgs),
    /// Say that a shard's database was restored to an earlier moment: what it answered since is replayed no more
    Restored(generation::RaiseArgs),
    /// Let a shard go on without what it acknowledged and a failover lost: its nodes say what, and take no writes until then
    AcceptLoss(generation::RaiseArgs),
    /// Start the servers of a new shard, in the cluster that `up` runs on this machine
    Start(start::StartArgs),
    /// End the servers of a shard that owns nothing any more, in the cluster that `up` runs on this machine
    Stop(stop::StopArgs),
}

pub async fn run(command: ShardCommand) -> anyhow::Result<ExitCode> {
    match command {
        ShardCommand::Add(args) => add::run(args).await,
        ShardCommand::Drain(args) => drain::run(args).await,
        ShardCommand::Degrade(args) => degrade::run(args).await,
        ShardCommand::Restore(args) => restore::run(args).await,
        ShardCommand::Restored(args) => generation::run(args, generation::Kind::Restored).await,
        ShardCommand::AcceptLoss(args) => generation::run(args, generation::Kind::LossAccepted).await,
        ShardCommand::Start(args) => start::run(args).await,
        ShardCommand::Stop(args) => stop::run(args).await,
    }
}
