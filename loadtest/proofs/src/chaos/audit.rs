//! The end of a run: what clients were told against what the databases hold and the gateway reports.
//!
//! Two independent proofs: this file compares the clients' account with every row, and `picopay verify` looks up the
//! acknowledgements and adds up the books.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use picopay_local::{LocalCluster, LocalShard};
use picopay_shared::money::Currency;
use picopay_shared::slot::UserId;
use serde_json::Value;

use super::client::Client;
use crate::account::Entry;
use crate::findings::{Finding, Findings, Promise};
use crate::verify;
use picopay_loadtest::write::{describe, text};
use picopay_loadtest::write_answer::WriteAnswer;

const CATCH_UP: Duration = Duration::from_mins(1);

/// Few, so that even the histories of a short run have several pages.
const PAGE: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    shard: String,
    user: i64,
    id: String,
    key: String,
    kind: String,
    amount: String,
    currency: String,
    balance_after: String,
    refusal: Option<String>,
}

#[derive(Debug)]
pub struct Audit {
    rows: Vec<Row>,
    findings: Findings,
}

impl Audit {
    pub async fn read(
        cluster: &LocalCluster,
        currency: Currency,
        findings: Findings,
    ) -> anyhow::Result<Self> {
        let mut rows = Vec::new();
        for shard in cluster.shards() {
            let database = shard.connect_primary().await?;
            let sql = include_str!("sql/all_transactions.sql");
            let scale = i32::try_from(currency.scale())?;
            for row in database.query(sql, &[&scale]).await.context("the transactions cannot be read")? {
                rows.push(Row {
                    shard: shard.name().to_owned(),
                    user: row.try_get(0)?,
                    id: row.try_get(1)?,
                    key: row.try_get(2)?,
                    kind: row.try_get(3)?,
                    amount: row.try_get(4)?,
                    currency: row.try_get(5)?,
                    balance_after: row.try_get(6)?,
                    refusal: row.try_get(7)?,
                });
            }
            let sql = "SELECT count(*), min(user_id) FROM balances WHERE balance < 0";
            let negative = database.query_one(sql, &[]).await.context("the balances cannot be read")?;
            let count: i64 = negative.try_get(0)?;
            if count > 0 {
                let user: Option<i64> = negative.try_get(1)?;
                let text =
                    format!("{count} balances of {} are negative, of user {user:?} first", shard.name());
                findings.add_counted(
                    Promise::NoNegativeBalance,
                    count.unsigned_abs(),
                    Some(about_all(Promise::NoNegativeBalance, text)),
                );
            }
        }
        Ok(Self { rows, findings })
    }

    /// The primary's clock alone says when a transaction was booked.
    pub async fn compare_times(&self, cluster: &LocalCluster) -> anyhow::Result<()> {
        for shard in cluster.shards() {
            let database = shard.connect_primary().await?;
            let sql = include_str!("sql/booked_out_of_time.sql");
            let found = database.query_one(sql, &[]).await.context("the times cannot be read")?;
            let count: i64 = found.try_get(0)?;
            if count > 0 {
                let first: Option<String> = found.try_get(1)?;
                let text = format!(
                    "{count} transactions of {} are dated after now or out of the order of their booking, {first:?} first",
                    shard.name()
                );
                let first = Some(about_all(Promise::WrongTimes, text));
                self.findings.add_counted(Promise::WrongTimes, count.unsigned_abs(), first);
            }
        }
        Ok(())
    }

    pub fn compare(&self, entries: &[Entry]) {
        let mut by_key: HashMap<&str, Vec<&Row>> = HashMap::new();
        for row in &self.rows {
            by_key.entry(&row.key).or_default().push(row);
        }
        let mut asked = HashSet::new();
        for entry in entries {
            let key = text(&entry.write.key);
            let rows = by_key.get(key.as_str()).map(Vec::as_slice).unwrap_or_default();
            if rows.len() > 1 {
                self.add(Promise::NothingDoubled, entry, &format!("{} transactions: {rows:?}", rows.len()));
            }
            match &entry.told {
                None => self.add(Promise::Resolved, entry, &format!("no answer; in the ledger: {rows:?}")),
                Some(told) if told.status == 200 => {
                    let body = told.body().unwrap_or_default();
                    let answer = WriteAnswer::read(&entry.write, body.as_bytes());
                    let is_there = answer.is_ok_and(|answer| rows.iter().any(|row| row.is_as_told(&answer)));
                    if !is_there {
                        let found = format!("acknowledged {body}; in the ledger: {rows:?}");
                        self.add(Promise::NothingLost, entry, &found);
                    }
                }
                Some(told) => {
                    if !rows.iter().any(|row| row.refusal.is_some()) {
                        let found =
                            format!("refused {}; in the ledger: {rows:?}", told.body().unwrap_or_default());
                        self.add(Promise::NothingLost, entry, &found);
                    }
                }
            }
            asked.insert(key);
        }
        // Nobody asks for an expiry, nor for the later steps of a transfer. `picopay verify` proves what each is of.
        let follows = |row: &Row| ["expiry", "transfer_in", "transfer_back"].contains(&row.kind.as_str());
        let is_asked_for = |row: &&Row| asked.contains(&row.key) || (row.key.is_empty() && follows(row));
        for row in self.rows.iter().filter(|row| !is_asked_for(row)) {
            let text = format!("a transaction that nobody asked for: {row:?}");
            let words = vec![row.id.clone(), row.key.clone()];
            self.findings.add(Finding { promise: Promise::NothingDoubled, text, at: None, words });
        }
    }

    pub async fn compare_histories(&self, client: &Client) -> anyhow::Result<()> {
        let mut by_user: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.refusal.is_none()) {
            by_user.entry(row.user).or_default().push(row);
        }
        for (user, mut rows) in by_user {
            rows.sort_by(|one, other| other.id.cmp(&one.id));
            let expected: Vec<Value> = rows.iter().map(|row| row.as_listed()).collect();
            let listed = read_pages(client, UserId::try_from(user)?).await?;
            if listed != expected {
                let place = listed.iter().zip(&expected).position(|(one, other)| one != other);
                let place = place.unwrap_or(listed.len().min(expected.len()));
                let text = format!(
                    "the history of user {user} has {} rows by pages and {} in the database; the first that differs is \
                     number {place}: {:?} and {:?}",
                    listed.len(),
                    expected.len(),
                    listed.get(place),
                    expected.get(place)
                );
                self.findings.add(about_all(Promise::SameHistory, text));
            }
        }
        Ok(())
    }

    fn add(&self, promise: Promise, entry: &Entry, found: &str) {
        let text = format!("{}: {found}", describe(&entry.write));
        self.findings.add(Finding::about_key(promise, text, entry.write.key, entry.told_at));
    }
}

impl Row {
    fn is_as_told(&self, told: &WriteAnswer<'_>) -> bool {
        self.refusal.is_none()
            && self.user == told.user_id
            && told.id.is_none_or(|id| self.id == id)
            && self.kind == told.kind
            && self.amount == told.amount
            && self.currency == told.currency
            && told.balance_after.is_none_or(|balance| self.balance_after == balance)
    }

    fn as_listed(&self) -> Value {
        let Self { user, id, key, kind, amount, currency, balance_after, .. } = self;
        let key = (!key.is_empty()).then_some(key);
        serde_json::json!([user, id, key, kind, amount, currency, balance_after])
    }
}

async fn read_pages(client: &Client, user: UserId) -> anyhow::Result<Vec<Value>> {
    let mut listed = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/transactions?user_id={user}&limit={PAGE}{cursor}");
        let page =
            client.read(user, &path).await.context("a history is not answered, with nothing broken")?;
        let rows = page["data"].as_array().with_context(|| format!("GET {path} was answered {page}"))?;
        let names = ["user_id", "id", "idempotency_key", "kind", "amount", "currency", "balance_after"];
        listed.extend(rows.iter().map(|row| names.iter().map(|name| row[*name].clone()).collect::<Value>()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(listed),
        }
    }
}

pub async fn wait_for_replicas(cluster: &LocalCluster) -> anyhow::Result<()> {
    for shard in cluster.shards() {
        wait_for_replica(shard).await?;
    }
    Ok(())
}

pub async fn wait_for_replica(shard: &LocalShard) -> anyhow::Result<()> {
    let (primary, replica) = (shard.connect_primary().await?, shard.connect_replica().await?);
    let end: String = primary.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await?.try_get(0)?;
    let has_it = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    let reached = async {
        while !replica.query_one(has_it, &[&end]).await?.try_get::<_, bool>(0)? {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(CATCH_UP, reached).await.context("a replica does not catch up")?
}

pub async fn verify(
    cluster: &LocalCluster,
    acks: &Path,
    acknowledged: u64,
    findings: &Findings,
) -> anyhow::Result<()> {
    let report = verify::run(&cluster.cluster_file(), acks).await?;
    let looked_up = report.pointer("/acks/acknowledged").and_then(Value::as_u64);
    ensure!(
        looked_up == Some(acknowledged),
        "{acknowledged} writes were acknowledged, and verify looked up {looked_up:?}"
    );
    let checks = report["checks"].as_array().context("picopay verify reports no checks")?;
    for check in checks {
        let wrong = check["wrong"].as_u64().context("picopay verify does not count")?;
        if wrong == 0 {
            continue;
        }
        let promise = match check["check"].as_str() {
            Some("acks") => Promise::NothingLost,
            Some("key") => Promise::NothingDoubled,
            Some("books") => Promise::BooksAddUp,
            _ => Promise::Verified,
        };
        let text = format!("picopay verify: {wrong} rows; not {}: {}", check["promise"], check["rows"][0]);
        // What this room has found already is not counted twice.
        let known = findings.count(promise);
        findings.add_counted(promise, wrong.saturating_sub(known), Some(about_all(promise, text)));
    }
    Ok(())
}

fn about_all(promise: Promise, text: String) -> Finding {
    Finding { promise, text, at: None, words: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Told;
    use picopay_loadtest::write::{KeySource, Wish, Write};

    fn row(key: &str, id: &str) -> Row {
        Row {
            shard: "shard-1".to_owned(),
            user: 1,
            id: id.to_owned(),
            key: key.to_owned(),
            kind: "charge".to_owned(),
            amount: "1.50".to_owned(),
            currency: "USD".to_owned(),
            balance_after: "8.50".to_owned(),
            refusal: None,
        }
    }

    fn entry(status: Option<u16>) -> Entry {
        let (user, key) = (UserId::try_from(1).unwrap(), KeySource::new(1, 1).next_key());
        let body = format!(
            r#"{{"transaction":{{"id":"id-1","user_id":1,"kind":"charge","amount":"1.50","currency":"USD",
            "balance_after":"8.50","idempotency_key":"{}"}}}}"#,
            text(&key)
        );
        let told = status.map(|status| Told::with_body(status, &body));
        let write = Write { wish: Wish::Charge, user, minor_units: 150, key };
        Entry { write, told, told_at: Duration::ZERO, sent: 1, was_unknown: false, begun: None }
    }

    #[test]
    fn what_clients_were_told_is_in_the_ledger_once_and_nothing_else_is() {
        let key = text(&entry(None).write.key);
        let booked = row(&key, "id-1");
        let refused = Row { refusal: Some("insufficient-balance".to_owned()), ..booked.clone() };
        let poorer = Row { balance_after: "8.49".to_owned(), ..booked.clone() };
        for (rows, status, broken) in [
            (vec![booked.clone()], Some(200), vec![]),
            (vec![refused.clone()], Some(402), vec![]),
            (vec![], Some(200), vec![Promise::NothingLost]),
            (vec![], Some(402), vec![Promise::NothingLost]),
            (vec![booked.clone()], Some(402), vec![Promise::NothingLost]),
            (vec![refused], Some(200), vec![Promise::NothingLost]),
            (vec![poorer], Some(200), vec![Promise::NothingLost]),
            (vec![row(&key, "id-2")], Some(200), vec![Promise::NothingLost]),
            (vec![booked.clone(), row(&key, "id-2")], Some(200), vec![Promise::NothingDoubled]),
            (vec![booked.clone(), row("k-2", "id-2")], Some(200), vec![Promise::NothingDoubled]),
            (vec![booked], None, vec![Promise::Resolved]),
        ] {
            let audit = Audit { rows, findings: Findings::default() };
            audit.compare(&[entry(status)]);
            let found = Promise::ALL.into_iter().map(|(promise, _)| promise);
            let found: Vec<_> = found.filter(|promise| audit.findings.count(*promise) > 0).collect();
            assert_eq!(found, broken, "{:?}, {status:?}", audit.rows);
        }
    }
}
