//! The queries of the read path about holds. They are few, so each read has a statement of its own.

use picopay_shared::hold::{Hold, HoldStatus};
use picopay_shared::id::TransactionId;
use picopay_shared::money::Money;
use picopay_shared::slot::{Slot, UserId};
use tokio_postgres::Row;
use uuid::Uuid;

use super::holds::hold_from_row;
use super::seen::{Seen, first, owner};
use super::{ReadError, column, money_from};

pub struct HoldPage {
    pub holds: Seen<Hold>,
    /// As in a page of history.
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
    let first = first(rows)?;
    let owner = owner(slot, first, own + 1)?;
    let found = rows.iter().filter_map(|row| read(row).transpose()).collect::<Result<_, _>>()?;
    Ok(Seen { owner, user_exists: column(first, own)?, found })
}
