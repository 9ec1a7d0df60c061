//! The queries of the read path: rows, and who owned their slot at the moment when they were read.
//!
//! Each is one statement for any number of reads, hence one snapshot and one round trip. With two statements,
//! the slot could be given up and its rows deleted in between, or a replica could replay that. A row that
//! cannot be read fails its own read alone.

use std::sync::Arc;

use picopay_postgres::owner_of;
use picopay_shared::command::{Kind, Status, Transaction};
use picopay_shared::hold::HoldPart;
use picopay_shared::id::TransactionId;
use picopay_shared::money::{Currency, Money};
use picopay_shared::query::Balance;
use picopay_shared::slot::{Slot, UserId};
use picopay_shared::slot_owner::OwnerRow;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{ReadError, column, money_from, transfer_part, user_from, user_keys};

/// The result of a read with the owner of its slot, in one snapshot.
pub struct Seen<T> {
    /// `None` when the slot was never here.
    pub owner: Option<OwnerRow>,
    /// A lookup by id names no user, and does not set this.
    pub user_exists: bool,
    pub found: Vec<T>,
}

/// One result per read, in their order.
pub type Each<T> = Vec<Result<T, ReadError>>;

pub async fn find_balances(
    client: &deadpool_postgres::Client,
    users: &[UserId],
) -> Result<Each<Seen<Balance>>, ReadError> {
    let rows = match users {
        [] => return Ok(Vec::new()),
        [user] => {
            let statement = client.prepare_cached(include_str!("../sql/find_balances_of_one.sql")).await?;
            client.query(&statement, &[&user.slot().as_i16(), &user.get()]).await?
        }
        _ => {
            let statement = client.prepare_cached(include_str!("../sql/find_balances.sql")).await?;
            let (slots, ids) = user_keys(users);
            client.query(&statement, &[&slots, &ids]).await?
        }
    };
    Ok(each(rows, users, |user, rows| {
        let first = first(rows)?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            if let Some(currency) = column::<Option<&str>>(row, 1)? {
                let (balance, held) = (column(row, 2)?, column(row, 3)?);
                found.push(Balance {
                    balance: money_from(balance, currency)?,
                    held: money_from(held, currency)?,
                });
            }
        }
        found.sort_unstable_by_key(|one: &Balance| one.balance.currency().code());
        let user_exists = column::<Option<bool>>(first, 4)?.unwrap_or(false);
        Ok(Seen { owner: owner(user.slot(), first, 5)?, user_exists, found })
    }))
}

/// Transactions that are looked at for one page, whatever the user's history is. A row in memory costs 0.13
/// µs; another one may cost a read from the disk.
pub const LOOKS_MAX: i64 = 1_000;

/// Up to `limit` of a user's completed transactions with `from <= id < before`, newest first, among the first
/// `looks` rows of that range.
pub struct PageWanted {
    pub user: UserId,
    pub from: TransactionId,
    pub before: TransactionId,
    pub kind: Option<Kind>,
    pub limit: i64,
    pub looks: i64,
}

pub struct Page {
    pub transactions: Seen<Transaction>,
    /// The last transaction that was looked at, when fewer than `limit` were found and more may follow.
    pub looked_down_to: Option<TransactionId>,
}

pub async fn find_histories(
    client: &deadpool_postgres::Client,
    wanted: &[PageWanted],
) -> Result<Each<Page>, ReadError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let statement = client.prepare_cached(include_str!("../sql/find_histories.sql")).await?;
    let slots: Vec<i16> = wanted.iter().map(|page| page.user.slot().as_i16()).collect();
    let users: Vec<i64> = wanted.iter().map(|page| page.user.get()).collect();
    let from: Vec<Uuid> = wanted.iter().map(|page| page.from.as_uuid()).collect();
    let before: Vec<Uuid> = wanted.iter().map(|page| page.before.as_uuid()).collect();
    let kinds: Vec<Option<&str>> = wanted.iter().map(|page| page.kind.map(Kind::as_str)).collect();
    let limits: Vec<i64> = wanted.iter().map(|page| page.limit).collect();
    let looks: Vec<i64> = wanted.iter().map(|page| page.looks).collect();
    let rows = client.query(&statement, &[&slots, &users, &from, &before, &kinds, &limits, &looks]).await?;
    Ok(each(rows, wanted, |wanted, rows| {
        let mut transactions = Vec::with_capacity(rows.len());
        let mut known = None;
        for row in rows {
            match column::<Option<Uuid>>(row, 1)? {
                Some(id) => transactions.push(transaction_from_row(row, id, wanted.user)?),
                None => known = Some(row),
            }
        }
        let known = known.ok_or_else(missing_row)?;
        // They come in this order, which no rule of SQL promises.
        transactions.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.id));
        let owner = owner(wanted.user.slot(), known, TRANSACTION_COLUMNS + 1)?;
        let user_exists = column(known, TRANSACTION_COLUMNS)?;
        let looked_down_to: Option<Uuid> = column(known, TRANSACTION_COLUMNS + 4)?;
        Ok(Page {
            transactions: Seen { owner, user_exists, found: transactions },
            looked_down_to: looked_down_to.map(TransactionId::from_uuid),
        })
    }))
}

pub async fn find_transactions(
    client: &deadpool_postgres::Client,
    ids: &[TransactionId],
) -> Result<Each<Seen<Transaction>>, ReadError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let slots: Vec<i16> = ids.iter().map(|id| id.slot().as_i16()).collect();
    let users: Vec<Option<i64>> = ids.iter().map(|id| id.user().map(UserId::get)).collect();
    let tags: Vec<i32> = ids.iter().map(|id| id.tag().as_i32()).collect();
    let uuids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = if ids.len() == 1 {
        let statement = client.prepare_cached(include_str!("../sql/find_one_transaction.sql")).await?;
        client.query(&statement, &[&slots[0], &users[0], &tags[0], &uuids[0]]).await?
    } else {
        let statement = client.prepare_cached(include_str!("../sql/find_transactions.sql")).await?;
        client.query(&statement, &[&slots, &users, &tags, &uuids]).await?
    };
    Ok(each(rows, ids, |id, rows| {
        let first = first(rows)?;
        let found = match column::<Option<Uuid>>(first, 1)? {
            Some(id) => {
                let user = user_from(column(first, TRANSACTION_COLUMNS)?)?;
                vec![transaction_from_row(first, id, user)?]
            }
            None => vec![],
        };
        let owner = owner(id.slot(), first, TRANSACTION_COLUMNS + 1)?;
        Ok(Seen { owner, user_exists: true, found })
    }))
}

/// Sorts rows by the read that they answer: their first column, from 1.
fn each<Q, T>(rows: Vec<Row>, asked: &[Q], read: impl Fn(&Q, &[Row]) -> Result<T, ReadError>) -> Each<T> {
    let mut of_each: Vec<Vec<Row>> = asked.iter().map(|_| Vec::new()).collect();
    for row in rows {
        let number: i64 = row.get(0);
        let place = usize::try_from(number - 1).ok().and_then(|place| of_each.get_mut(place));
        place.expect("the statement numbers what it is given").push(row);
    }
    asked.iter().zip(of_each).map(|(asked, rows)| read(asked, &rows)).collect()
}

pub(super) fn first(rows: &[Row]) -> Result<&Row, ReadError> {
    rows.first().ok_or_else(missing_row)
}

fn missing_row() -> ReadError {
    ReadError::Corrupt("a read that gives no row".into())
}

pub(super) fn owner(slot: Slot, row: &Row, position: usize) -> Result<Option<OwnerRow>, ReadError> {
    match column::<Option<&str>>(row, position)? {
        Some(_) => Ok(Some(owner_of(slot, row, position)?)),
        None => Ok(None),
    }
}

/// Columns of a completed transaction with the number in front, as [`transaction_from_row`] reads them. A
/// query's other columns follow.
const TRANSACTION_COLUMNS: usize = 14;

fn transaction_from_row(row: &Row, id: Uuid, user_id: UserId) -> Result<Transaction, ReadError> {
    let currency = Currency::of_ledger(column(row, 4)?)?;
    let kind_word: &str = column(row, 2)?;
    Ok(Transaction {
        id: TransactionId::from_uuid(id),
        user_id,
        kind: Kind::parse(kind_word).ok_or_else(|| ReadError::Corrupt(format!("kind {kind_word}")))?,
        status: Status::Completed,
        money: Money::from_ledger(column(row, 3)?, currency)?,
        balance_after: Money::from_ledger(column(row, 5)?, currency)?,
        idempotency_key: column(row, 6)?,
        charge_id: column::<Option<Uuid>>(row, 7)?.map(TransactionId::from_uuid),
        reference: column(row, 8)?,
        metadata: column(row, 9)?,
        made_by: column::<Option<&str>>(row, 10)?.map(Arc::from),
        // What else it knows of its hold is for replays.
        hold_part: HoldPart {
            hold_id: column::<Option<Uuid>>(row, 11)?.map(TransactionId::from_uuid),
            ..HoldPart::default()
        },
        transfer: transfer_part(row, 12)?,
    })
}
