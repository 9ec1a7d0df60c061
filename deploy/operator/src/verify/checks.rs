//! The checks, and those of them that are one SQL statement over one shard.

use std::collections::{BTreeMap, BTreeSet};

use picopay_shared::cluster::Cluster;
use picopay_shared::money::Currency;
use picopay_shared::slot::{SLOT_COUNT, SLOT_HASH};
use serde_json::{Map, Value, json};
use tokio_postgres::types::Json;

use super::books::ShardTotals;
use super::findings::{CheckResult, Finding, Findings, key};
use super::snapshot::Snapshot;

pub const PROMISES: [(&str, &str); 14] = [
    ("balance", "every balance is the sum of its postings"),
    ("balance_after", "every balance_after follows from the one before"),
    ("books", "per currency the books add up to zero"),
    ("refund", "refunds stay within their charge, and their totals agree"),
    ("hold", "what is held is the sum of the open holds, and each hold is what its transactions say"),
    (
        "transfer",
        "each transfer has left its sender and reached its recipient once, or came back, and none is pending for long",
    ),
    ("key", "a user's idempotency key has one transaction"),
    ("owned", "rows are only in slots that their shard owns, or that moved"),
    ("fence", "no write came after its slot was given away"),
    ("slot", "slots, tags and ids are what the user's id hashes to"),
    ("user", "every row has its user"),
    ("value", "no value is one that PicoPay does not write"),
    ("identity", "every database is the shard that it is taken for"),
    ("slot_owner", "every slot is owned by one shard"),
];

const ACKS: (&str, &str) = ("acks", "every acknowledged write is in the ledger as it was acknowledged");

/// Statements that give rows of (check_name, table_name, key, expected, found, wrong).
const SHARD_CHECKS: [&str; 6] = [
    include_str!("../sql/verify/balances_equal_postings.sql"),
    include_str!("../sql/verify/balance_after_chains.sql"),
    include_str!("../sql/verify/refunds_within_charges.sql"),
    include_str!("../sql/verify/holds.sql"),
    include_str!("../sql/verify/transfers.sql"),
    include_str!("../sql/verify/keys_once.sql"),
];

const SHARD_ROW_CHECKS: [&str; 2] =
    [include_str!("../sql/verify/transaction_rows.sql"), include_str!("../sql/verify/other_rows.sql")];

pub async fn run_sql(
    snapshot: &Snapshot,
    totals: &[ShardTotals],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    for sql in SHARD_CHECKS {
        collect(snapshot, findings, &snapshot.database.query(sql, &[]).await?);
    }
    let in_use = totals.iter().map(|total| total.currency.clone());
    // A credit that nobody got is in a currency that its shard need not have in use.
    let of_credits =
        snapshot.database.query(include_str!("../sql/verify/read_refused_currencies.sql"), &[]).await?;
    let codes: BTreeSet<String> = in_use.chain(of_credits.iter().map(|row| row.get(0))).collect();
    let currencies = codes.iter().filter_map(|code| Currency::of_ledger(code).ok());
    let (codes, decimals): (Vec<&str>, Vec<i32>) = currencies
        .map(|currency| (currency.code(), i32::try_from(currency.scale()).expect("at most four decimals")))
        .unzip();
    for sql in SHARD_ROW_CHECKS {
        collect(snapshot, findings, &snapshot.database.query(sql, &[&codes, &decimals]).await?);
    }
    Ok(())
}

fn collect(snapshot: &Snapshot, findings: &mut Findings, rows: &[tokio_postgres::Row]) {
    let mut by_check: BTreeMap<&str, (u64, Vec<Finding>)> = BTreeMap::new();
    for row in rows {
        let Json(key): Json<Map<String, Value>> = row.get("key");
        let wrong = u64::try_from(row.get::<_, i64>("wrong")).expect("a count");
        let found = by_check.entry(row.get("check_name")).or_default();
        found.0 = wrong;
        found.1.push(Finding {
            shard: snapshot.shard.clone(),
            table: row.get("table_name"),
            key,
            expected: row.get("expected"),
            found: row.get("found"),
        });
    }
    for (check, (wrong, rows)) in by_check {
        findings.add_counted(check, wrong, rows);
    }
}

pub fn check_identities(cluster: &Cluster, snapshots: &[Snapshot], findings: &mut Findings) {
    let found = snapshots.iter().find_map(|snapshot| Some(snapshot.identity.as_ref()?.cluster_id));
    let cluster_id = cluster.cluster_id().or(found);
    for snapshot in snapshots {
        let mut expect = |column: &str, expected: String, found: String| {
            if expected != found {
                findings.add("identity", || Finding {
                    shard: snapshot.shard.clone(),
                    table: "shard_identity".to_owned(),
                    key: key([("column", json!(column))]),
                    expected,
                    found,
                });
            }
        };
        let Some(identity) = &snapshot.identity else {
            expect("shard_name", snapshot.shard.clone(), "no row: run `picopay init`".to_owned());
            continue;
        };
        expect("shard_name", snapshot.shard.clone(), identity.shard_name.clone());
        expect("slot_count", SLOT_COUNT.to_string(), identity.slot_count.to_string());
        expect("slot_hash", SLOT_HASH.to_owned(), identity.slot_hash.clone());
        let first = cluster_id.unwrap_or(identity.cluster_id);
        expect("cluster_id", first.to_string(), identity.cluster_id.to_string());
    }
}

pub fn results(mut findings: Findings, with_acks: bool) -> Vec<CheckResult> {
    let promises = PROMISES.into_iter().chain(with_acks.then_some(ACKS));
    promises.map(|(check, promise)| findings.take(check, promise)).collect()
}
