//! Brings the schema of the shards up to date, before new programs that need it are rolled out.
//!
//! Nodes do the same when they start; this is for the operator who wants it done, and seen, at a time of
//! their own choosing.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use futures_util::future::join_all;
use picopay_shared::cluster::Shard;
use serde::Serialize;

use crate::cluster_file::{ClusterArgs, find_shard};
use crate::output::{self, OutputArgs};
use crate::shard_db::{DbError, Patience, ShardDb};

/// An hour for the migrations of one shard, because one that rewrites a large table is worth waiting for, and one that
/// is cut off begins anew.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(10), statement: Duration::from_hours(1) };

/// Apply what is missing of the schema.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Only this shard, as the cluster's file names it
    #[arg(long, value_name = "NAME")]
    shard: Option<String>,
}

/// What `migrate` prints.
#[derive(Debug, Serialize)]
struct Report {
    shards: Vec<MigratedShard>,
}

#[derive(Debug, Serialize)]
struct MigratedShard {
    shard: String,
    /// The migrations that this run applied; empty when the schema was up to date.
    applied: Vec<String>,
    /// Why the schema is not up to date.
    error: Option<String>,
}

/// Runs `picopay migrate`. A shard that cannot be migrated does not keep the others from it.
pub async fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.load()?;
    let shards: Vec<&Shard> = match &args.shard {
        None => cluster.shards.iter().collect(),
        Some(name) => vec![find_shard(&cluster, name)?],
    };
    let report = Report { shards: join_all(shards.into_iter().map(migrate)).await };
    args.output.print(&report, table);
    let failed = report.shards.iter().filter(|shard| shard.error.is_some()).count();
    if failed > 0 {
        bail!(
            "{failed} of {} shards are not up to date: see above, then run this again",
            report.shards.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn migrate(shard: &Shard) -> MigratedShard {
    let result: Result<Vec<String>, DbError> = async {
        let mut database = ShardDb::primary(shard, PATIENCE).await?;
        let applied = database.migrate().await?;
        database.close().await;
        Ok(applied)
    }
    .await;
    let (applied, error) = match result {
        Ok(applied) => (applied, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    MigratedShard { shard: shard.name.clone(), applied, error }
}

fn table(report: &Report) -> String {
    let mut table = output::table(["shard", "applied"]);
    for shard in &report.shards {
        let applied = match (&shard.error, shard.applied.as_slice()) {
            (Some(error), _) => output::bad(error),
            (None, []) => output::good("nothing: it was up to date"),
            (None, applied) => output::good(&applied.join("\n")),
        };
        table.add_row([output::plain(&shard.shard), applied]);
    }
    table.to_string()
}
