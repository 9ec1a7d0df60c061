//! What the rows of some slots come to: how many, a sum of their hashes, and their money. Two shards that agree on this
//! have the same rows.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use uuid::Uuid;

use crate::shard_db::{DbError, ShardDb};

/// Rows that are summed up together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rows: String,
    slot: i16,
    /// Empty where there is none.
    currency: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    count: i64,
    hash: String,
    money: Decimal,
}

/// What the rows come to, by kind, slot and currency.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Digest(BTreeMap<Key, Line>);

impl Digest {
    /// Of the transactions older than `bound`.
    pub async fn of_older(database: &ShardDb, slots: &[i16], bound: Uuid) -> Result<Self, DbError> {
        Self::read(database, include_str!("../sql/mover/digest_older.sql"), slots, bound).await
    }

    /// Of everything else, and how many older transactions there are.
    pub async fn of_rest(database: &ShardDb, slots: &[i16], bound: Uuid) -> Result<Self, DbError> {
        Self::read(database, include_str!("../sql/mover/digest_rest.sql"), slots, bound).await
    }

    async fn read(database: &ShardDb, sql: &str, slots: &[i16], bound: Uuid) -> Result<Self, DbError> {
        let rows = database.query(sql, &[&slots, &bound]).await?;
        let line = |row: &tokio_postgres::Row| {
            let key = Key { rows: row.get(0), slot: row.get(1), currency: row.get(2) };
            (key, Line { count: row.get(3), hash: row.get(4), money: row.get(5) })
        };
        Ok(Self(rows.iter().map(line).collect()))
    }

    /// How many rows it is of; older transactions that are only counted are not among them.
    pub fn rows(&self) -> u64 {
        let counted = self.0.values().filter(|line| !line.hash.is_empty());
        counted.map(|line| line.count.unsigned_abs()).sum()
    }

    /// In what the source and the target differ, if they do.
    pub fn difference(source: &Self, target: &Self) -> Option<String> {
        let keys = source.0.keys().chain(target.0.keys());
        let differing = keys.into_iter().find(|key| source.0.get(key) != target.0.get(key))?;
        let told = |digest: &Self| {
            digest.0.get(differing).map_or_else(
                || "no row".to_owned(),
                |line| format!("{} rows, {} in all, hash {}", line.count, line.money, line.hash),
            )
        };
        let Key { rows, slot, currency } = differing;
        Some(format!(
            "slot {slot}, {rows} {currency}: the source has {}, the target {}",
            told(source),
            told(target)
        ))
    }

    /// Whether the source has more older transactions in `rest`, read when nobody wrote any more, than in `older`, which
    /// was copied before.
    pub fn late(older: &Self, rest: &Self) -> Option<String> {
        let mut counted = BTreeMap::<i16, i64>::new();
        for (key, line) in older.0.iter().chain(&rest.0).filter(|(key, _)| key.rows == "older transactions") {
            let is_of_rest = line.hash.is_empty();
            *counted.entry(key.slot).or_default() += if is_of_rest { line.count } else { -line.count };
        }
        let (slot, late) = counted.into_iter().find(|(_, late)| *late != 0)?;
        Some(format!(
            "slot {slot}: {late} transactions came with an id that was older than it should be: is the clock of a node \
             behind that of its primary?"
        ))
    }

    /// What is wrong with the source itself: its postings against its balances.
    pub fn flaw(older: &Self, rest: &Self) -> Option<String> {
        let mut money = BTreeMap::<(i16, &str), Decimal>::new();
        for (key, line) in older.0.iter().chain(&rest.0) {
            if matches!(key.rows.as_str(), "older transactions" | "newer transactions")
                && !line.hash.is_empty()
            {
                *money.entry((key.slot, &key.currency)).or_default() += line.money;
            } else if key.rows == "balances" {
                *money.entry((key.slot, &key.currency)).or_default() -= line.money;
            }
        }
        let ((slot, currency), off) = money.into_iter().find(|(_, difference)| !difference.is_zero())?;
        Some(format!(
            "slot {slot}: its postings in {currency} and its balances differ by {off}. Nothing was moved; \
             `picopay verify` finds the user"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(lines: &[(&str, i16, &str, i64, &str, i64)]) -> Digest {
        let line = |&(rows, slot, currency, count, hash, money): &(&str, i16, &str, i64, &str, i64)| {
            let key = Key { rows: rows.to_owned(), slot, currency: currency.to_owned() };
            (key, Line { count, hash: hash.to_owned(), money: money.into() })
        };
        Digest(lines.iter().map(line).collect())
    }

    #[test]
    fn whatever_differs_is_named() {
        let one = digest(&[("balances", 7, "USD", 3, "99", 10)]);
        assert_eq!(Digest::difference(&one, &digest(&[("balances", 7, "USD", 3, "99", 10)])), None);
        for other in [
            digest(&[]),
            digest(&[("balances", 7, "USD", 4, "99", 10)]),
            digest(&[("balances", 7, "USD", 3, "98", 10)]),
            digest(&[("balances", 7, "USD", 3, "99", 11)]),
            digest(&[("balances", 7, "USD", 3, "99", 10), ("users", 7, "", 1, "5", 0)]),
        ] {
            assert!(Digest::difference(&one, &other).unwrap().starts_with("slot 7"), "{other:?}");
            assert!(Digest::difference(&other, &one).is_some(), "{other:?}");
        }
    }

    #[test]
    fn late_transactions_and_books_that_do_not_add_up_are_flaws() {
        let older = digest(&[
            ("older transactions", 7, "USD", 2, "5", 70),
            ("older transactions", 7, "EUR", 1, "6", 5),
        ]);
        let rest = |late: i64, usd| {
            digest(&[
                ("older transactions", 7, "", 3 + late, "", 0),
                ("newer transactions", 7, "USD", 1, "8", -20),
                ("newer transactions", 8, "USD", 1, "8", 1),
                ("balances", 7, "USD", 1, "9", usd),
                ("balances", 7, "EUR", 1, "9", 5),
                ("balances", 8, "USD", 1, "9", 1),
                ("users", 7, "", 1, "3", 0),
            ])
        };
        assert_eq!(Digest::late(&older, &rest(0, 50)), None);
        assert_eq!(Digest::flaw(&older, &rest(0, 50)), None);
        assert!(Digest::late(&older, &rest(1, 50)).unwrap().contains("slot 7: 1 transactions"));
        assert!(Digest::flaw(&older, &rest(0, 49)).unwrap().contains("differ by 1"));
        assert_eq!(older.rows() + rest(0, 50).rows(), 3 + 6);
    }
}
