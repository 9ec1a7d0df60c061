//! Transfers that are not ended: what is pending, since when, and why.
//!
//! Normally a transfer ends within milliseconds, and nothing is listed. What stays here waits for a shard that does not answer;
//! the courier of the sender's shard goes on trying, and nobody has to do anything but bring that shard back.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::future::try_join_all;
use picopay_postgres::{Patience, ShardDb};
use picopay_shared::cluster::{Cluster, Shard};
use picopay_shared::money::{Currency, Money};
use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use crate::cluster_file::ClusterArgs;
use crate::output::{self, OutputArgs};

const PATIENCE: Patience = Patience { connect: Duration::from_secs(5), statement: Duration::from_secs(10) };

/// Show which transfers are pending, since when, and why.
#[derive(Debug, Args)]
pub struct TransfersArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The most to list of each shard, the oldest first
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: u32,
}

/// What `transfers` prints. With `--output json` these are the names of the fields; they stay.
#[derive(Debug, Serialize)]
pub struct TransfersReport {
    pub in_transit: Vec<InTransit>,
    /// The oldest of each shard, as many as were asked for.
    pub pending: Vec<PendingTransfer>,
}

/// The money of one currency that has left senders of one shard and is not settled there.
#[derive(Debug, Clone, Serialize)]
pub struct InTransit {
    /// The shard of the senders.
    pub shard: String,
    pub currency: String,
    pub transfers: u64,
    pub amount: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct PendingTransfer {
    /// The shard of the sender.
    pub shard: String,
    pub id: Uuid,
    pub from_user_id: i64,
    pub to_user_id: i64,
    pub amount: String,
    pub currency: String,
    /// By the primary's clock.
    pub since: String,
    pub pending_s: u64,
    /// How often a courier has taken it up.
    pub tries: u32,
    /// When a courier takes it up next, at the earliest: zero when it is due.
    pub next_try_in_s: u64,
    /// What stopped the courier last; null while it was never stopped.
    pub last_error: Option<String>,
}

pub async fn run(args: TransfersArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.load()?;
    let report = read(&cluster, args.limit).await?;
    args.output.print(&report, screen);
    Ok(ExitCode::SUCCESS)
}

pub async fn read(cluster: &Cluster, limit: u32) -> anyhow::Result<TransfersReport> {
    let read = try_join_all(cluster.shards.iter().map(|shard| read_shard(shard, limit)))
        .await
        .context("what is pending is not known while a shard's primary does not answer")?;
    let (in_transit, pending): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    Ok(TransfersReport { in_transit: in_transit.concat(), pending: pending.concat() })
}

async fn read_shard(shard: &Shard, limit: u32) -> anyhow::Result<(Vec<InTransit>, Vec<PendingTransfer>)> {
    let database = ShardDb::primary_of_anybody(shard, PATIENCE).await?;
    database.require_schema().await?;
    let sums = database.query(include_str!("sql/transfers/sum_pending.sql"), &[]).await?;
    let rows = database.query(include_str!("sql/transfers/list_pending.sql"), &[&i64::from(limit)]).await?;
    database.close().await;
    let in_transit = sums.iter().map(|row| {
        let currency: String = row.get(0);
        InTransit {
            shard: shard.name.clone(),
            transfers: count(row.get(1)),
            amount: amount(row.get(2), &currency),
            currency,
        }
    });
    let pending = rows.iter().map(|row| {
        let currency: String = row.get(4);
        PendingTransfer {
            shard: shard.name.clone(),
            id: row.get(0),
            from_user_id: row.get(1),
            to_user_id: row.get(2),
            amount: amount(row.get(3), &currency),
            currency,
            since: row.get(5),
            pending_s: count(row.get(6)),
            tries: u32::try_from(row.get::<_, i32>(7)).unwrap_or_default(),
            next_try_in_s: count(row.get(8)),
            last_error: row.get(9),
        }
    });
    Ok((in_transit.collect(), pending.collect()))
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// At its currency's scale; one that PicoPay does not know stays as it is.
fn amount(amount: Decimal, currency: &str) -> String {
    let money = Currency::of_ledger(currency).and_then(|currency| Money::from_ledger(amount, currency));
    money.map_or_else(|_| amount.to_string(), |money| money.to_string())
}

fn screen(report: &TransfersReport) -> String {
    if report.in_transit.is_empty() {
        return "No transfer is pending.".to_owned();
    }
    let mut sums = output::table(["sender's shard", "currency", "transfers", "in transit"]);
    for line in &report.in_transit {
        sums.add_row([
            output::plain(&line.shard),
            output::plain(&line.currency),
            output::plain(&line.transfers.to_string()),
            output::plain(&line.amount),
        ]);
    }
    let mut table =
        output::table(["transfer", "from", "to", "amount", "pending for", "tries", "next", "why"]);
    for one in &report.pending {
        let next =
            if one.next_try_in_s == 0 { "now".to_owned() } else { format!("in {} s", one.next_try_in_s) };
        table.add_row([
            output::plain(&one.id.to_string()),
            output::plain(&one.from_user_id.to_string()),
            output::plain(&one.to_user_id.to_string()),
            output::plain(&format!("{} {}", one.amount, one.currency)),
            output::plain(&format!("{} s", one.pending_s)),
            output::plain(&one.tries.to_string()),
            output::plain(&next),
            output::plain(one.last_error.as_deref().unwrap_or("its gateway ends it, or the courier soon")),
        ]);
    }
    format!("{sums}\n{table}")
}
