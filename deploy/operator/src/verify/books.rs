//! The books: per currency, users and counter-accounts add up to zero.
//!
//! A top-up takes from *cash*, a charge gives to *revenue* and a refund takes from it; a transfer gives to *transit* and takes
//! from it. The other side is the user's balance. Transit is an account of each shard, which may be below zero: its users got
//! more than they sent. Counted in ten-thousandths, since four decimals are kept.

use std::collections::BTreeMap;

use anyhow::Context;
use comfy_table::{CellAlignment, Table};
use picopay_shared::money::Currency;
use serde::Serialize;
use serde_json::json;

use super::findings::{Finding, Findings, key};
use super::snapshot::Snapshot;
use crate::output;

const LEDGER_DECIMALS: u32 = 4;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardTotals {
    pub currency: String,
    pub completed: u64,
    pub refused: u64,
    pub balances: u64,
    topups: i128,
    charges: i128,
    refunds: i128,
    balance: i128,
    in_transit: i128,
}

/// The books of one currency, over all shards. Amounts are texts at the currency's scale.
#[derive(Debug, Serialize)]
pub struct CurrencyBooks {
    pub currency: String,
    pub topups: String,
    pub charges: String,
    pub refunds: String,
    pub balances: String,
    /// What left senders and is not settled. Shards are read at different moments: it may be a little off while transfers run.
    pub in_transit: String,
    /// Balances and what is in transit, less top-ups plus charges less refunds; zero when the books are right.
    pub difference: String,
}

pub async fn read(snapshot: &Snapshot) -> anyhow::Result<Vec<ShardTotals>> {
    let rows = snapshot.database.query(include_str!("../sql/verify/read_totals.sql"), &[]).await?;
    let totals = rows.iter().map(|row| {
        let count = |column: usize| u64::try_from(row.get::<_, i64>(column)).expect("a count");
        let sum = |column: usize| {
            row.get::<_, &str>(column).parse::<i128>().with_context(|| {
                format!("{}: a sum of {} is beyond counting", snapshot.shard, row.get::<_, &str>(0))
            })
        };
        Ok(ShardTotals {
            currency: row.get(0),
            completed: count(1),
            refused: count(2),
            balances: count(3),
            topups: sum(4)?,
            charges: sum(5)?,
            refunds: sum(6)?,
            balance: sum(7)?,
            in_transit: sum(8)?,
        })
    });
    totals.collect()
}

pub fn close(shards: Vec<Vec<ShardTotals>>, findings: &mut Findings) -> Vec<CurrencyBooks> {
    let mut sums: BTreeMap<String, ShardTotals> = BTreeMap::new();
    for totals in shards.into_iter().flatten() {
        let sum = sums.entry(totals.currency.clone()).or_default();
        sum.topups += totals.topups;
        sum.charges += totals.charges;
        sum.refunds += totals.refunds;
        sum.balance += totals.balance;
        sum.in_transit += totals.in_transit;
    }
    let close = |(currency, sum): (String, ShardTotals)| {
        let (cash, revenue) = (-sum.topups, sum.charges - sum.refunds);
        let difference = sum.balance + sum.in_transit + cash + revenue;
        let text = |value| at_scale(value, &currency);
        if difference != 0 {
            findings.add("books", || Finding {
                shard: "cluster".to_owned(),
                table: "balances".to_owned(),
                key: key([("currency", json!(currency))]),
                expected: format!("{} in all", text(-cash - revenue)),
                found: text(sum.balance + sum.in_transit),
            });
        }
        CurrencyBooks {
            topups: text(sum.topups),
            charges: text(sum.charges),
            refunds: text(sum.refunds),
            balances: text(sum.balance),
            in_transit: text(sum.in_transit),
            difference: text(difference),
            currency,
        }
    };
    sums.into_iter().map(close).collect()
}

fn at_scale(value: i128, currency: &str) -> String {
    let scale = Currency::of_ledger(currency).map_or(LEDGER_DECIMALS, Currency::scale);
    let surplus = 10_u128.pow(LEDGER_DECIMALS - scale.min(LEDGER_DECIMALS));
    let (value, sign) = (value.unsigned_abs(), if value < 0 { "-" } else { "" });
    let (value, scale) =
        if value % surplus == 0 { (value / surplus, scale) } else { (value, LEDGER_DECIMALS) };
    if scale == 0 {
        return format!("{sign}{value}");
    }
    let one = 10_u128.pow(scale);
    let width = usize::try_from(scale).expect("at most four");
    format!("{sign}{}.{:0width$}", value / one, value % one)
}

pub fn table(books: &[CurrencyBooks]) -> Table {
    let mut table =
        output::table(["currency", "top-ups", "charges", "refunds", "balances", "in transit", "difference"]);
    for line in books {
        let is_closed = line.difference.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        let mark = if is_closed { output::good } else { output::bad };
        table.add_row([
            output::plain(&line.currency),
            output::plain(&line.topups).set_alignment(CellAlignment::Right),
            output::plain(&line.charges).set_alignment(CellAlignment::Right),
            output::plain(&line.refunds).set_alignment(CellAlignment::Right),
            output::plain(&line.balances).set_alignment(CellAlignment::Right),
            output::plain(&line.in_transit).set_alignment(CellAlignment::Right),
            mark(&line.difference).set_alignment(CellAlignment::Right),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_at_their_currencys_scale() {
        for (value, currency, text) in [
            (0, "USD", "0.00"),
            (10_000, "USD", "1.00"),
            (-10_100, "USD", "-1.01"),
            (1, "USD", "0.0001"),
            (500_000, "JPY", "50"),
            (12_340, "BHD", "1.234"),
            (12_345, "??", "1.2345"),
        ] {
            assert_eq!(at_scale(value, currency), text);
        }
    }

    #[test]
    fn books_close_over_all_shards_together() {
        let shard = |topups, charges, balance| {
            vec![ShardTotals {
                currency: "USD".to_owned(),
                topups,
                charges,
                balance,
                ..ShardTotals::default()
            }]
        };
        let mut findings = Findings::default();
        let books = close(vec![shard(50_000, 20_000, 30_000), shard(10_000, 0, 10_000)], &mut findings);
        assert!(findings.is_empty());
        assert_eq!((books[0].balances.as_str(), books[0].difference.as_str()), ("4.00", "0.00"));
        close(vec![shard(50_000, 20_000, 30_000), shard(10_000, 0, 10_001)], &mut findings);
        assert_eq!(
            findings.take("books", "").rows[0].to_string(),
            "cluster balances currency=USD: expected 4.00 in all, found 4.0001"
        );
    }
}
