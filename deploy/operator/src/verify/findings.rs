//! What was found wrong, named so that an operator can go and look at the row.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// More are only counted. Whoever has more wrong rows looks for one cause.
pub const ROWS_SHOWN_MAX: usize = 20;

const LEADING_COLUMNS: [&str; 2] = ["slot", "user_id"];

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The shard whose database holds it; `cluster` when it is about several.
    pub shard: String,
    pub table: String,
    pub key: Map<String, Value>,
    pub expected: String,
    pub found: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.shard, self.table)?;
        // The columns that lead every key lead here too; a JSON object has them in the order of the alphabet.
        let leads = |column: &str| LEADING_COLUMNS.iter().position(|one| *one == column);
        let mut columns: Vec<_> = self.key.iter().collect();
        columns.sort_by_key(|(column, _)| leads(column).unwrap_or(LEADING_COLUMNS.len()));
        for (column, value) in columns {
            match value {
                Value::String(text) => write!(formatter, " {column}={text}")?,
                other => write!(formatter, " {column}={other}")?,
            }
        }
        write!(formatter, ": expected {}, found {}", self.expected, self.found)
    }
}

#[derive(Debug, Serialize)]
pub struct CheckResult {
    pub check: &'static str,
    pub promise: &'static str,
    pub wrong: u64,
    pub rows: Vec<Finding>,
}

#[derive(Debug, Default)]
pub struct Findings(BTreeMap<String, FoundRows>);

#[derive(Debug, Default)]
struct FoundRows {
    wrong: u64,
    rows: Vec<Finding>,
}

impl Findings {
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|found| found.wrong == 0)
    }

    pub fn add(&mut self, check: &str, finding: impl FnOnce() -> Finding) {
        let found = self.0.entry(check.to_owned()).or_default();
        found.wrong += 1;
        if found.rows.len() < ROWS_SHOWN_MAX {
            found.rows.push(finding());
        }
    }

    pub fn add_counted(&mut self, check: &str, wrong: u64, rows: Vec<Finding>) {
        let found = self.0.entry(check.to_owned()).or_default();
        found.wrong += wrong;
        let room = ROWS_SHOWN_MAX.saturating_sub(found.rows.len());
        found.rows.extend(rows.into_iter().take(room));
    }

    pub fn merge(&mut self, other: Self) {
        for (check, found) in other.0 {
            self.add_counted(&check, found.wrong, found.rows);
        }
    }

    pub fn take(&mut self, check: &'static str, promise: &'static str) -> CheckResult {
        let found = self.0.remove(check).unwrap_or_default();
        CheckResult { check, promise, wrong: found.wrong, rows: found.rows }
    }
}

pub fn key<const COLUMNS: usize>(columns: [(&str, Value); COLUMNS]) -> Map<String, Value> {
    columns.into_iter().map(|(column, value)| (column.to_owned(), value)).collect()
}
