//! Brings the schema of the shards up to date, before new programs that need it.
//!
//! Services only report what to run while the schema is too old, and go on with a newer one that lets them. A migration
//! takes its locks in short tries, so that charges go on.

mod finish;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use futures_util::future::join_all;
use picopay_migrations::Progress;
use picopay_postgres::{DbError, Patience, ShardDb};
use picopay_shared::cluster::Shard;
use serde::Serialize;

use crate::cluster_file::{ClusterArgs, find_shard};
use crate::output::{self, OutputArgs};

/// To connect; how long the migrations take is bounded where they are applied.
pub(crate) const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(10), statement: Duration::from_secs(30) };

/// Apply what is missing of the schema.
///
/// Charges go on meanwhile: a lock that somebody else holds is asked for in short tries. Two of these at once are safe, and so
/// is one that was broken off: run it again.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Only this shard, as the cluster's file names it
    #[arg(long, value_name = "NAME")]
    shard: Option<String>,
    /// How long to try for a lock that others hold, and to wait for another `migrate`
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,
    /// Then record that no older program is left, unless a node is one or has just heard one
    ///
    /// From then on the shards take what older programs cannot read, and none of those serves them any more. There is no
    /// way back.
    #[arg(long)]
    finish: bool,
}

#[derive(Debug, Serialize)]
struct MigrateReport {
    shards: Vec<MigratedShard>,
}

/// The fields' names of `--output json` stay.
#[derive(Debug, Serialize)]
pub struct MigratedShard {
    pub shard: String,
    /// The migrations that this run applied; empty when the schema was up to date.
    pub applied: Vec<String>,
    pub error: Option<String>,
    /// Whether no older program can serve it any more; not said unless this run was to see to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_finished: Option<bool>,
}

/// A shard that cannot be migrated does not keep the others from it.
pub async fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.load()?;
    let shards: Vec<&Shard> = match &args.shard {
        None => cluster.shards.iter().collect(),
        Some(name) => vec![find_shard(&cluster, name)?],
    };
    let locks = Duration::from_secs(args.wait);
    let mut report = MigrateReport {
        shards: join_all(shards.into_iter().map(async |shard| {
            let (applied, error) = match migrate(shard, locks).await {
                Ok(applied) => (applied, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            MigratedShard { shard: shard.name.clone(), applied, error, is_finished: None }
        }))
        .await,
    };
    let is_up_to_date = report.shards.iter().all(|shard| shard.error.is_none());
    if args.finish && is_up_to_date {
        finish::finish(&cluster, &mut report.shards).await?;
    }
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

/// Prints what it waits for. `locks` is how long to try for locks.
pub async fn migrate(shard: &Shard, locks: Duration) -> Result<Vec<String>, DbError> {
    let patience = picopay_migrations::Patience { locks, ..picopay_migrations::Patience::default() };
    let mut tell = |progress| say(&shard.name, &progress);
    ShardDb::migrate(shard, PATIENCE, patience, &mut tell).await
}

/// On standard error: the answer may be JSON.
fn say(shard: &str, progress: &Progress) {
    let line = match progress {
        Progress::OtherAtWork { until } => {
            format!("another one migrates it; waiting for {} s at most", until.as_secs())
        }
        Progress::Waiting { migration, holders, waited, until } => {
            let holders = match holders.as_slice() {
                [] => "somebody who cannot be seen".to_owned(),
                holders => holders.join("; "),
            };
            format!(
                "{migration} waits for {holders}, {} s of {} s; charges go on in between",
                waited.as_secs(),
                until.as_secs()
            )
        }
        Progress::Applied(migration) => format!("{migration} is applied"),
    };
    anstream::eprintln!("{shard}: {line}");
}

fn table(report: &MigrateReport) -> String {
    let mut table = output::table(["shard", "applied", "finished"]);
    for shard in &report.shards {
        let applied = match (&shard.error, shard.applied.as_slice()) {
            (Some(error), _) => output::bad(error),
            (None, []) => output::good("nothing: it was up to date"),
            (None, applied) => output::good(&applied.join("\n")),
        };
        let finished = match shard.is_finished {
            Some(true) => output::good("yes"),
            _ => output::plain("-"),
        };
        table.add_row([output::plain(&shard.shard), applied, finished]);
    }
    table.to_string()
}
