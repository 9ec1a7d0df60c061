//! The queries over the rows of many users: what is added up, and which slots it leaves out, in one snapshot.

use std::time::Duration;

use picopay_postgres::owner_of;
use picopay_shared::aggregate::{AggregateQuery, Aggregated, Figures, SUMS_LOOKS_MAX, Sum, SumsQuery, Total};
use picopay_shared::command::{Kind, Moved};
use picopay_shared::id::TransactionId;
use picopay_shared::money::{Currency, MoneySum};
use picopay_shared::slot::Slot;
use rust_decimal::Decimal;
use tokio_postgres::Row;

use super::{ReadError, column, user_keys};
use crate::slot_owner::{self, Stopped};

/// Asks in a database transaction of its own, whose statements may take so long. After an error the connection is no
/// good for others.
pub async fn aggregate(
    client: &deadpool_postgres::Client,
    query: &AggregateQuery,
    longest: Duration,
) -> Result<Aggregated, ReadError> {
    let begin = client.prepare_cached(include_str!("../sql/begin_aggregate.sql")).await?;
    client.batch_execute("BEGIN READ ONLY").await?;
    client.query(&begin, &[&longest.as_millis().max(1).to_string()]).await?;
    let found = match query {
        AggregateQuery::Sums(query) => read_sums(client, query).await,
        AggregateQuery::Totals { slots } => read_totals(client, slots).await.map(Aggregated::Figures),
    };
    let found = match found {
        Err(error @ ReadError::Corrupt(_)) => Aggregated::Corrupt { reason: error.reason() },
        found => found?,
    };
    client.batch_execute("COMMIT").await?;
    Ok(found)
}

async fn read_sums(client: &deadpool_postgres::Client, query: &SumsQuery) -> Result<Aggregated, ReadError> {
    let statement = client.prepare_cached(include_str!("../sql/read_sums.sql")).await?;
    let mut users = query.user_ids.clone();
    users.sort_unstable_by_key(|user| (user.slot(), *user));
    users.dedup();
    let (user_slots, user_ids) = user_keys(&users);
    let mut slots = user_slots.clone();
    slots.dedup();
    let from = TransactionId::first_at(query.from_ms.unwrap_or(0)).as_uuid();
    // Refusals are above all that can be counted.
    let to = query.to_ms.map_or(TransactionId::first_refusal(), TransactionId::first_at).as_uuid();
    let looks = i64::try_from(SUMS_LOOKS_MAX + 1).expect("a million");
    let rows = client.query(&statement, &[&slots, &user_slots, &user_ids, &from, &to, &looks]).await?;
    let mut figures = Figures::default();
    let mut looked_at = 0;
    for row in &rows {
        if let Some(moved) = moved(row)? {
            figures.not_owned.push(moved);
            continue;
        }
        let count = count_of(row, 7)?;
        looked_at += count;
        let word: &str = column(row, 5)?;
        let kind = Kind::parse(word).ok_or_else(|| ReadError::Corrupt(format!("kind {word}")))?;
        let is_completed: bool = column(row, 6)?;
        if is_completed && kind.moves_money() && query.kind.is_none_or(|wanted| wanted == kind) {
            figures.sums.push(Sum { kind, count, amount: sum_of(row, 8, currency_of(row)?)? });
        }
    }
    Ok(if looked_at > SUMS_LOOKS_MAX { Aggregated::RangeTooLarge } else { Aggregated::Figures(figures) })
}

async fn read_totals(client: &deadpool_postgres::Client, slots: &[Slot]) -> Result<Figures, ReadError> {
    let statement = client.prepare_cached(include_str!("../sql/read_totals.sql")).await?;
    let slots: Vec<i16> = slots.iter().map(|slot| slot.as_i16()).collect();
    let rows = client.query(&statement, &[&slots]).await?;
    let mut figures = Figures::default();
    for row in &rows {
        if let Some(moved) = moved(row)? {
            figures.not_owned.push(moved);
            continue;
        }
        let currency = currency_of(row)?;
        figures.totals.push(Total {
            users: count_of(row, 5)?,
            balance: sum_of(row, 6, currency)?,
            held: sum_of(row, 7, currency)?,
            in_transit: sum_of(row, 8, currency)?,
        });
    }
    Ok(figures)
}

/// What is known of a slot that is not owned, if the row is about one: its first columns.
fn moved(row: &Row) -> Result<Option<Moved>, ReadError> {
    let Some(slot) = column::<Option<i16>>(row, 0)? else { return Ok(None) };
    let slot = u16::try_from(slot).ok().and_then(Slot::new).ok_or_else(|| corrupt("slot"))?;
    let owner = match column::<Option<&str>>(row, 1)? {
        Some(_) => Some(owner_of(slot, row, 1)?),
        None => None,
    };
    match slot_owner::check(slot, 0, owner.as_ref()) {
        Err(Stopped::Moved(moved)) => Ok(Some(moved)),
        Ok(()) | Err(Stopped::StateLost { .. }) => Err(corrupt("an owned slot that is left out")),
    }
}

fn currency_of(row: &Row) -> Result<Currency, ReadError> {
    Ok(Currency::of_ledger(column(row, 4)?)?)
}

fn count_of(row: &Row, position: usize) -> Result<u64, ReadError> {
    u64::try_from(column::<i64>(row, position)?).map_err(|_| corrupt("a count"))
}

fn sum_of(row: &Row, position: usize, currency: Currency) -> Result<MoneySum, ReadError> {
    Ok(MoneySum::from_ledger(column::<Decimal>(row, position)?, currency)?)
}

fn corrupt(what: &str) -> ReadError {
    ReadError::Corrupt(what.to_owned())
}
