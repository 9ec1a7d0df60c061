//! The queries of the read path: rows, and who owned their slot at the moment when they were read.
//!
//! Each is one statement, hence one snapshot and one round trip. With two statements, the slot could be given
//! up and its rows deleted in between, or a replica could replay that.

use picopay_postgres::owner_of;
use picopay_shared::command::{Kind, Transaction};
use picopay_shared::hold::{Hold, HoldStatus};
use picopay_shared::id::TransactionId;
use picopay_shared::money::Money;
use picopay_shared::query::Balance;
use picopay_shared::slot::{Slot, UserId, UserTag};
use picopay_shared::slot_owner::OwnerRow;
use tokio_postgres::Row;
use uuid::Uuid;

use super::holds::hold_from_row;
use super::{RECORDED_COLUMNS, ReadError, column, money_from, recorded_from_row};

/// The result of a read with the owner of its slot, in one snapshot.
pub struct Seen<T> {
    /// `None` when the slot was never here.
    pub owner: Option<OwnerRow>,
    /// A lookup by id names no user, and does not set this.
    pub user_exists: bool,
    pub found: Vec<T>,
}

pub async fn find_balances(
    client: &deadpool_postgres::Client,
    user: UserId,
) -> Result<Seen<Balance>, ReadError> {
    let statement = client.prepare_cached(include_str!("../sql/find_balances.sql")).await?;
    let rows = client.query(&statement, &[&user.slot().as_i16(), &user.get()]).await?;
    seen_from_rows(user.slot(), &rows, 3, |row| {
        let currency: Option<&str> = column(row, 0)?;
        currency.map(|currency| balance_from(row, currency)).transpose()
    })
}

fn balance_from(row: &Row, currency: &str) -> Result<Balance, ReadError> {
    Ok(Balance {
        balance: money_from(column(row, 1)?, currency)?,
        held: money_from(column(row, 2)?, currency)?,
    })
}

/// Transactions that are looked at for one page, whatever the user's history is. A row in memory costs 0.13
/// µs; another one may cost a read from the disk.
pub const LOOKS_MAX: i64 = 1_000;

pub struct Page {
    pub transactions: Seen<Transaction>,
    /// The last transaction that was looked at, when fewer than `limit` were found and more may follow.
    pub looked_down_to: Option<TransactionId>,
}

/// Up to `limit` of a user's completed transactions with `from <= id < before`, newest first, among the first
/// `looks` rows of that range.
pub async fn find_history(
    client: &deadpool_postgres::Client,
    user: UserId,
    from: TransactionId,
    before: TransactionId,
    kind: Option<Kind>,
    (limit, looks): (i64, i64),
) -> Result<Page, ReadError> {
    let statement = client.prepare_cached(include_str!("../sql/find_history.sql")).await?;
    let kind = kind.map(Kind::as_str);
    let rows = client
        .query(
            &statement,
            &[&user.slot().as_i16(), &user.get(), &from.as_uuid(), &before.as_uuid(), &kind, &limit, &looks],
        )
        .await?;
    let transactions = seen_from_rows(user.slot(), &rows, RECORDED_COLUMNS, found_from_row)?;
    let first = rows.first().expect("`seen_from_rows` has looked at it");
    let looked_down_to: Option<Uuid> = column(first, RECORDED_COLUMNS + 4)?;
    Ok(Page { transactions, looked_down_to: looked_down_to.map(TransactionId::from_uuid) })
}

pub async fn find_transaction(
    client: &deadpool_postgres::Client,
    id: TransactionId,
) -> Result<Seen<Transaction>, ReadError> {
    let statement = client.prepare_cached(include_str!("../sql/find_transaction.sql")).await?;
    let (slot, tag): (Slot, UserTag) = (id.slot(), id.tag());
    let user = id.user().map(UserId::get);
    let rows = client.query(&statement, &[&slot.as_i16(), &user, &tag.as_i32(), &id.as_uuid()]).await?;
    seen_from_rows(slot, &rows, RECORDED_COLUMNS, found_from_row)
}

pub struct HoldPage {
    pub holds: Seen<Hold>,
    /// As in a [`Page`].
    pub looked_down_to: Option<TransactionId>,
}

/// Up to `limit` of a user's holds with `id < before`, newest first, among the first `looks` of them.
pub async fn find_holds(
    client: &deadpool_postgres::Client,
    user: UserId,
    before: TransactionId,
    status: Option<HoldStatus>,
    (limit, looks): (i64, i64),
) -> Result<HoldPage, ReadError> {
    let statement = client.prepare_cached(include_str!("../sql/find_holds.sql")).await?;
    let status = status.map(HoldStatus::as_str);
    let rows = client
        .query(&statement, &[&user.slot().as_i16(), &user.get(), &before.as_uuid(), &status, &limit, &looks])
        .await?;
    let holds = seen_from_rows(user.slot(), &rows, HOLD_COLUMNS, found_hold)?;
    let first = rows.first().expect("`seen_from_rows` has looked at it");
    let looked_down_to: Option<Uuid> = column(first, HOLD_COLUMNS + 4)?;
    Ok(HoldPage { holds, looked_down_to: looked_down_to.map(TransactionId::from_uuid) })
}

/// The hold with this id, and what its user can spend now.
pub async fn find_hold(
    client: &deadpool_postgres::Client,
    id: TransactionId,
) -> Result<Seen<(Hold, Money)>, ReadError> {
    let statement = client.prepare_cached(include_str!("../sql/find_hold.sql")).await?;
    let user = id.user().map(UserId::get);
    let rows = client.query(&statement, &[&id.slot().as_i16(), &user, &id.as_uuid()]).await?;
    seen_from_rows(id.slot(), &rows, HOLD_COLUMNS, |row| {
        let Some(hold) = found_hold(row)? else { return Ok(None) };
        let available = money_from(column(row, HOLD_COLUMNS + 4)?, hold.money.currency().code())?;
        Ok(Some((hold, available)))
    })
}

/// Columns of a hold, as [`hold_from_row`] reads them.
const HOLD_COLUMNS: usize = 10;

/// `None` for a row of an outer join that found no hold.
fn found_hold(row: &Row) -> Result<Option<Hold>, ReadError> {
    let user: Option<i64> = column(row, 0)?;
    user.map(|_| hold_from_row(row)).transpose()
}

/// Rows with a result each in `slot`, or one row without a result. From the column `own` on, all rows are
/// equal: whether the user exists, and the owner.
fn seen_from_rows<T>(
    slot: Slot,
    rows: &[Row],
    own: usize,
    read: impl Fn(&Row) -> Result<Option<T>, ReadError>,
) -> Result<Seen<T>, ReadError> {
    let first = rows.first().ok_or_else(|| ReadError::Corrupt("a read that gives no row".into()))?;
    let owner = match column::<Option<&str>>(first, own + 1)? {
        Some(_) => Some(owner_of(slot, first, own + 1)?),
        None => None,
    };
    let found = rows.iter().filter_map(|row| read(row).transpose()).collect::<Result<_, _>>()?;
    Ok(Seen { owner, user_exists: column(first, own)?, found })
}

/// `None` for a row of an outer join that found no transaction.
fn found_from_row(row: &Row) -> Result<Option<Transaction>, ReadError> {
    let user: Option<i64> = column(row, 0)?;
    user.map(|_| Ok(recorded_from_row(row)?.transaction)).transpose()
}
