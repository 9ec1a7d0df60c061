//! What the rows of some slots come to: how many, a sum of their hashes, and their money. Two shards that agree on this
//! have the same rows.

use std::collections::BTreeMap;

use picopay_postgres::{DbError, ShardDb};
use rust_decimal::Decimal;

use crate::bound::Bound;

const OLDER: &str = "older transactions";
const FINISHED_HOLDS: &str = "finished holds";

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
    /// `None` when it is no number, or one beyond counting: one of the rows has a `NaN`.
    money: Option<Decimal>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Digest(BTreeMap<Key, Line>);

impl Digest {
    /// Of everything but the transactions older than `bound`; of those a `Tally` (`tally.rs`) makes it.
    pub async fn of_rest(database: &ShardDb, slots: &[i16], bound: Bound) -> Result<Self, DbError> {
        let sql = include_str!("sql/digest_rest.sql");
        let rows = database.query(sql, &[&slots, &bound.booked, &bound.refused, &bound.time_ms]).await?;
        let line = |row: &tokio_postgres::Row| {
            let key = Key { rows: row.get(0), slot: row.get(1), currency: row.get(2) };
            (key, Line { count: row.get(3), hash: row.get(4), money: row.try_get(5).ok() })
        };
        Ok(Self(rows.iter().map(line).collect()))
    }

    /// How many transactions older than `bound` there are of each slot that has any.
    pub async fn count_older(
        database: &ShardDb,
        slots: &[i16],
        bound: Bound,
    ) -> Result<BTreeMap<i16, i64>, DbError> {
        let sql = include_str!("sql/count_older.sql");
        let rows = database.query(sql, &[&slots, &bound.booked, &bound.refused]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Of what never changes again and is older than `bound`, but for the transactions.
    pub async fn of_finished(database: &ShardDb, slots: &[i16], bound: Bound) -> Result<Self, DbError> {
        let sql = include_str!("sql/digest_finished.sql");
        let rows = database.query(sql, &[&slots, &bound.booked, &bound.time_ms]).await?;
        let line = |row: &tokio_postgres::Row| {
            let key = Key { rows: row.get(0), slot: row.get(1), currency: String::new() };
            (key, Line { count: row.get(2), hash: row.get(3), money: Some(Decimal::ZERO) })
        };
        Ok(Self(rows.iter().map(line).collect()))
    }

    /// How many of those can have come late without a transaction that did, by table and slot.
    pub async fn count_finished(
        database: &ShardDb,
        slots: &[i16],
        bound: Bound,
    ) -> Result<BTreeMap<(String, i16), i64>, DbError> {
        let rows = database.query(include_str!("sql/count_finished.sql"), &[&slots, &bound.time_ms]).await?;
        Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
    }

    pub fn add_older(&mut self, slot: i16, currency: String, count: i64, hash: u64, money: Decimal) {
        let key = Key { rows: OLDER.to_owned(), slot, currency };
        self.0.insert(key, Line { count, hash: hash.to_string(), money: Some(money) });
    }

    pub fn rows(&self) -> u64 {
        self.0.values().map(|line| line.count.unsigned_abs()).sum()
    }

    pub fn difference(source: &Self, target: &Self) -> Option<String> {
        let keys = source.0.keys().chain(target.0.keys());
        let differing = keys.into_iter().find(|key| source.0.get(key) != target.0.get(key))?;
        let told = |digest: &Self| {
            digest.0.get(differing).map_or_else(
                || "no row".to_owned(),
                |line| {
                    let money = line.money.map_or("no number".to_owned(), |money| money.to_string());
                    format!("{} rows, {money} in all, hash {}", line.count, line.hash)
                },
            )
        };
        let Key { rows, slot, currency } = differing;
        Some(format!(
            "slot {slot}, {rows} {currency}: the source has {}, the target {}",
            told(source),
            told(target)
        ))
    }

    pub fn recount(&self, mut now: BTreeMap<i16, i64>) -> Option<(i16, i64)> {
        for (key, line) in self.0.iter().filter(|(key, _)| key.rows == OLDER) {
            *now.entry(key.slot).or_default() -= line.count;
        }
        now.into_iter().find(|(_, more)| *more != 0)
    }

    /// Which of them are more now, or fewer.
    pub fn recount_finished(&self, mut now: BTreeMap<(String, i16), i64>) -> Option<(String, i16, i64)> {
        for (key, line) in self.0.iter().filter(|(key, _)| key.rows != FINISHED_HOLDS) {
            *now.entry((key.rows.clone(), key.slot)).or_default() -= line.count;
        }
        now.into_iter().find(|(_, more)| *more != 0).map(|((rows, slot), more)| (rows, slot, more))
    }

    /// What is wrong with the source itself: its postings against its balances.
    pub fn flaw(older: &Self, rest: &Self) -> Option<String> {
        let mut money = BTreeMap::<(i16, &str), Decimal>::new();
        for (key, line) in older.0.iter().chain(&rest.0) {
            let Key { rows, slot, currency } = key;
            let Some(sum) = line.money else {
                return Some(format!(
                    "slot {slot}: its {rows} in {currency} come to no number. Nothing was moved; `picopay verify` finds the row"
                ));
            };
            if matches!(rows.as_str(), OLDER | "newer transactions") {
                *money.entry((*slot, currency)).or_default() += sum;
            } else if rows == "balances" {
                *money.entry((*slot, currency)).or_default() -= sum;
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
            (key, Line { count, hash: hash.to_owned(), money: Some(money.into()) })
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
    fn older_transactions_that_come_or_go_later_are_seen_by_their_number() {
        let older = digest(&[
            ("older transactions", 7, "USD", 2, "5", 70),
            ("older transactions", 7, "EUR", 1, "6", 5),
            ("balances", 7, "EUR", 1, "6", 5),
        ]);
        for (now, found) in [
            (vec![(7, 3)], None),
            (vec![(7, 4)], Some((7, 1))),
            (vec![(7, 1)], Some((7, -2))),
            (vec![], Some((7, -3))),
            (vec![(7, 3), (8, 1)], Some((8, 1))),
        ] {
            assert_eq!(older.recount(now.iter().copied().collect()), found, "{now:?}");
        }
    }

    #[test]
    fn finished_transfers_and_credits_that_come_late_are_seen_by_their_number() {
        let finished = digest(&[
            ("finished holds", 7, "", 9, "4", 0),
            ("finished transfers", 7, "", 2, "5", 0),
            ("older credits", 7, "", 1, "6", 0),
        ]);
        let now = |transfers: i64, credits: i64| {
            let count = |rows: &str, count| ((rows.to_owned(), 7), count);
            finished.recount_finished(
                [count("finished transfers", transfers), count("older credits", credits)].into(),
            )
        };
        assert_eq!(now(2, 1), None);
        assert_eq!(now(3, 1), Some(("finished transfers".to_owned(), 7, 1)));
        assert_eq!(now(2, 0), Some(("older credits".to_owned(), 7, -1)));
    }

    #[test]
    fn books_that_do_not_add_up_are_a_flaw() {
        let older = digest(&[
            ("older transactions", 7, "USD", 2, "5", 70),
            ("older transactions", 7, "EUR", 1, "6", 5),
        ]);
        let rest = |usd| {
            digest(&[
                ("newer transactions", 7, "USD", 1, "8", -20),
                ("newer transactions", 8, "USD", 1, "8", 1),
                ("balances", 7, "USD", 1, "9", usd),
                ("balances", 7, "EUR", 1, "9", 5),
                ("balances", 8, "USD", 1, "9", 1),
                ("users", 7, "", 1, "3", 0),
            ])
        };
        assert_eq!(Digest::flaw(&older, &rest(50)), None);
        assert!(Digest::flaw(&older, &rest(49)).unwrap().contains("differ by 1"));
        let mut odd = rest(50);
        odd.0.values_mut().next().unwrap().money = None;
        assert!(Digest::flaw(&older, &odd).unwrap().contains("no number"));
        assert_eq!(older.rows() + rest(50).rows(), 3 + 6);
    }
}
