//! Whether each acknowledged write is in the ledger, once and as it was acknowledged.
//!
//! The file has one JSON object per line and may be larger than memory, so it is read in chunks, each checked by one
//! statement per shard. The check of keys shows that no key was booked twice.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Take};
use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::future::try_join_all;
use picopay_shared::slot::UserId;
use picopay_shared::slot_owner::SlotState;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::findings::{Finding, Findings, key};
use super::leftovers;
use super::snapshot::Snapshot;

/// Some tens of megabytes, and few enough statements that PostgreSQL may read all transactions for each, when that is less
/// work than a lookup per key.
const CHUNK: usize = 200_000;

const ROOM: &str = "SET LOCAL work_mem = '128MB'";

#[derive(Debug, Serialize)]
pub struct AckSummary {
    pub file: PathBuf,
    pub acknowledged: u64,
    /// Whether the last line broke off, and was left out: its writer was killed.
    pub is_torn: bool,
}

impl AckSummary {
    pub fn sentence(&self) -> String {
        let torn = if self.is_torn { "; its last line broke off and was left out" } else { "" };
        format!("Looked up {} acknowledged writes of {}{torn}.", self.acknowledged, self.file.display())
    }
}

pub struct AckFile {
    path: PathBuf,
    lines: BufReader<Take<File>>,
}

impl AckFile {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let named = || format!("the acknowledgements in {} cannot be read", path.display());
        let file = File::open(path).with_context(named)?;
        let length = file.metadata().with_context(named)?.len();
        Ok(Self { path: path.to_owned(), lines: BufReader::new(file.take(length)) })
    }
}

#[derive(Debug, Deserialize)]
struct Ack {
    /// The answer to a void names its hold only.
    id: Option<Uuid>,
    user_id: UserId,
    kind: String,
    amount: String,
    currency: String,
    /// The answers to a hold and a void do not say it.
    balance_after: Option<String>,
    idempotency_key: Uuid,
}

#[derive(Debug)]
struct Line {
    number: u64,
    ack: Ack,
}

pub async fn check(
    mut file: AckFile,
    snapshots: &[Snapshot],
    findings: &mut Findings,
) -> anyhow::Result<AckSummary> {
    for snapshot in snapshots {
        snapshot.database.execute_all(ROOM).await?;
    }
    let owner_of = keepers(snapshots);
    let mut summary = AckSummary { file: file.path.clone(), acknowledged: 0, is_torn: false };
    let mut number = 0;
    loop {
        let mut chunks: Vec<Vec<Line>> = snapshots.iter().map(|_| Vec::new()).collect();
        let mut is_end = false;
        for _ in 0..CHUNK {
            let mut text = Vec::new();
            let length = file
                .lines
                .read_until(b'\n', &mut text)
                .with_context(|| format!("{} cannot be read", file.path.display()))?;
            if length == 0 {
                is_end = true;
                break;
            }
            number += 1;
            let is_whole = text.ends_with(b"\n");
            match parse(&text) {
                Ok(ack) => {
                    summary.acknowledged += 1;
                    match owner_of[ack.user_id.slot().index()] {
                        Some(position) => chunks[position].push(Line { number, ack }),
                        None => findings.add("acks", || {
                            finding("cluster", number, &ack, "a shard owns its slot", "none")
                        }),
                    }
                }
                Err(_) if !is_whole => summary.is_torn = true,
                Err(reason) => findings.add("acks", || Finding {
                    shard: "cluster".to_owned(),
                    table: file.path.display().to_string(),
                    key: key([("line", json!(number))]),
                    expected: "an acknowledgement".to_owned(),
                    found: reason,
                }),
            }
        }
        let looked_up = snapshots.iter().zip(&chunks).map(|(snapshot, chunk)| look_up(snapshot, chunk));
        for found in try_join_all(looked_up).await?.into_iter().flatten() {
            findings.add("acks", || found);
        }
        if is_end {
            return Ok(summary);
        }
    }
}

fn parse(line: &[u8]) -> Result<Ack, String> {
    let ack: Ack = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    // Postgres casts them: what it cannot cast would end the whole database transaction.
    for amount in [Some(&ack.amount), ack.balance_after.as_ref()].into_iter().flatten() {
        let (integer, fraction) = amount.split_once('.').unwrap_or((amount.as_str(), "0"));
        let is_digits =
            |part: &str| (1..=24).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(integer) || !is_digits(fraction) {
            return Err(format!("{amount:?} is no amount"));
        }
    }
    Ok(ack)
}

/// Its owner; or, when one snapshot is from after the release and the other from before the target took the slot, whoever
/// released it last.
fn keepers(snapshots: &[Snapshot]) -> Vec<Option<usize>> {
    let released = |slot: usize| {
        let rows = snapshots.iter().enumerate().flat_map(|(position, one)| {
            one.owners.iter().filter(move |row| row.slot.index() == slot).map(move |row| (position, row))
        });
        let released = rows.filter(|(_, row)| row.state == SlotState::Released);
        released.max_by_key(|(_, row)| row.epoch).map(|(position, _)| position)
    };
    let owners = leftovers::owners(snapshots);
    owners.into_iter().enumerate().map(|(slot, owner)| owner.or_else(|| released(slot))).collect()
}

async fn look_up(snapshot: &Snapshot, chunk: &[Line]) -> anyhow::Result<Vec<Finding>> {
    if chunk.is_empty() {
        return Ok(Vec::new());
    }
    let positions: Vec<i32> = (0..).take(chunk.len()).collect();
    let rows = snapshot
        .database
        .query(
            include_str!("../sql/verify/find_acknowledged.sql"),
            &[
                &positions,
                &column(chunk, |ack| ack.user_id.slot().as_i16()),
                &column(chunk, |ack| ack.user_id.get()),
                &column(chunk, |ack| ack.id),
                &column(chunk, |ack| ack.kind.as_str()),
                &column(chunk, |ack| ack.amount.as_str()),
                &column(chunk, |ack| ack.currency.as_str()),
                &column(chunk, |ack| ack.balance_after.as_deref()),
                &column(chunk, |ack| ack.idempotency_key),
            ],
        )
        .await?;
    let described = rows.iter().map(|row| {
        let line = &chunk[usize::try_from(row.get::<_, i32>(0)).expect("a position of the chunk")];
        let ack = &line.ack;
        let then =
            ack.balance_after.as_deref().map(|balance| format!(", then {balance}")).unwrap_or_default();
        let told = format!("{} {} {}{then}, key {}", ack.kind, ack.amount, ack.currency, ack.idempotency_key);
        let found = if !row.get::<_, bool>(1) {
            "no such transaction".to_owned()
        } else if let Some(refusal) = row.get::<_, Option<&str>>(2) {
            format!("a refusal, {refusal}")
        } else {
            let text = |column: usize| row.get::<_, &str>(column);
            let key = row.get::<_, Option<Uuid>>(7).unwrap_or_default();
            format!("{} {} {}, then {}, key {key}", text(3), text(4), text(5), text(6))
        };
        finding(&snapshot.shard, line.number, ack, &told, &found)
    });
    Ok(described.collect())
}

fn column<'a, T>(chunk: &'a [Line], of: impl Fn(&'a Ack) -> T) -> Vec<T> {
    chunk.iter().map(|line| of(&line.ack)).collect()
}

fn finding(shard: &str, line: u64, ack: &Ack, expected: &str, found: &str) -> Finding {
    Finding {
        shard: shard.to_owned(),
        table: "transactions".to_owned(),
        key: key([("user_id", json!(ack.user_id)), ("id", json!(ack.id)), ("line", json!(line))]),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_acknowledgements_with_plain_amounts_are_looked_up() {
        let line = |amount: &str| {
            format!(
                r#"{{"id":"00000000-0000-8000-8000-000000000001","user_id":1,"kind":"charge","amount":"{amount}",
                "currency":"USD","balance_after":"0.00","idempotency_key":"00000000-0000-4000-8000-000000000001",
                "latency_us":12}}"#
            )
        };
        assert_eq!(parse(line("1.00").as_bytes()).unwrap().amount, "1.00");
        for amount in ["", "1.", ".5", "1e3", "-1", "NaN", "1 ", "1.2.3"] {
            assert!(parse(line(amount).as_bytes()).is_err(), "{amount:?}");
        }
        let bare = line("1.00").replace("\"balance_after\":\"0.00\",", "");
        assert_eq!(parse(bare.as_bytes()).unwrap().balance_after, None);
        assert!(parse(&line("1.00").as_bytes()[..40]).is_err());
        assert!(parse(line("1.00").replace("\"user_id\":1", "\"user_id\":0").as_bytes()).is_err());
    }
}
