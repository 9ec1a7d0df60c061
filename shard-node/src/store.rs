//! Every query of the crate about money, and nothing else: texts in `sql/`, their parameters and rows here.
//!
//! Nothing is decided in this file. `lane` explains the order of the statements. The queries of the read path
//! are in `store/seen.rs`.

mod aggregates;
mod balances_at;
mod booked;
mod opened;
mod seen;
mod seen_holds;

pub mod holds;
pub mod transfers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future;
use jiff::Timestamp;
use picopay_postgres::{BadColumn, describe, owner_from_row};
use picopay_shared::command::{Fingerprint, Kind, Refusal, Status, Transaction};
use picopay_shared::hold::{HoldPart, HoldStatus};
use picopay_shared::id::{Stamp, TransactionId};
use picopay_shared::money::{Currency, Money, MoneyError};
use picopay_shared::slot::{FENCE_LOCK, Slot, UserId};
use picopay_shared::slot_owner::OwnerRow;
use picopay_shared::transfer::TransferPart;
use rust_decimal::Decimal;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

pub use self::aggregates::aggregate;
pub use self::balances_at::find_balances_at;
pub use self::booked::write_booked;
use self::holds::HoldStatements;
pub use self::opened::{Opened, open_batch, open_batch_slowly};
pub use self::seen::{LOOKS_MAX, Page, PageWanted, Seen, find_balances, find_histories, find_transactions};
pub use self::seen_holds::{HoldPage, find_hold, find_holds};
use self::transfers::TransferStatements;
use crate::book::{Held, Recorded};

pub const ONE_PER_KEY: &str = "one_transaction_per_key";
pub const ONE_PER_CREDIT: &str = "one_credit_per_transfer";
pub const ONE_PER_ID: &str = "transactions_pkey";

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the database failed")]
    Database(#[from] tokio_postgres::Error),
    /// The row is not one that PicoPay wrote: somebody changed the ledger by hand.
    #[error("a row of the ledger cannot be read: {0}")]
    Corrupt(String),
    /// Rolled back by `lock_timeout`: somebody held a user's row.
    #[error("somebody holds the row of a user")]
    Held,
}

impl ReadError {
    pub fn reason(&self) -> String {
        match self {
            Self::Database(error) => describe(error),
            Self::Corrupt(_) | Self::Held => self.to_string(),
        }
    }
}

impl From<BadColumn> for ReadError {
    fn from(bad: BadColumn) -> Self {
        Self::Corrupt(bad.to_string())
    }
}

impl From<MoneyError> for ReadError {
    fn from(error: MoneyError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

#[derive(Clone)]
pub struct WriteStatements {
    open_batch: Statement,
    open_one: Statement,
    take_fence: Statement,
    read_owners: Statement,
    insert_users: Statement,
    lock_users: Statement,
    lock_free_users: Statement,
    read_balances: Statement,
    read_by_keys: Statement,
    read_refunded: Statement,
    read_refund_totals: Statement,
    write_batch: Statement,
    write_one: Statement,
    insert_balances: Statement,
    write_refund_totals: Statement,
    pub holds: HoldStatements,
    pub transfers: TransferStatements,
}

impl WriteStatements {
    pub async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let texts = [
            include_str!("sql/open_batch.sql"),
            include_str!("sql/open_one.sql"),
            include_str!("sql/take_fence.sql"),
            include_str!("sql/read_owners.sql"),
            include_str!("sql/insert_users.sql"),
            include_str!("sql/lock_users.sql"),
            include_str!("sql/lock_free_users.sql"),
            include_str!("sql/read_balances.sql"),
            include_str!("sql/read_by_keys.sql"),
            include_str!("sql/read_refunded.sql"),
            include_str!("sql/read_refund_totals.sql"),
            include_str!("sql/write_batch.sql"),
            include_str!("sql/write_one.sql"),
            include_str!("sql/insert_balances.sql"),
            include_str!("sql/write_refund_totals.sql"),
        ];
        let mut prepared = future::try_join_all(texts.map(|text| client.prepare(text))).await?.into_iter();
        let mut next = || prepared.next().expect("one statement per text");
        Ok(Self {
            open_batch: next(),
            open_one: next(),
            take_fence: next(),
            read_owners: next(),
            insert_users: next(),
            lock_users: next(),
            lock_free_users: next(),
            read_balances: next(),
            read_by_keys: next(),
            read_refunded: next(),
            read_refund_totals: next(),
            write_batch: next(),
            write_one: next(),
            insert_balances: next(),
            write_refund_totals: next(),
            holds: HoldStatements::prepare(client).await?,
            transfers: TransferStatements::prepare(client).await?,
        })
    }
}

/// Takes the fence, shared, until the end of the database transaction.
pub async fn take_fence(client: &Client, sql: &WriteStatements) -> Result<(), ReadError> {
    client.execute(&sql.take_fence, &[&FENCE_LOCK]).await?;
    Ok(())
}

pub async fn read_owners(
    client: &Client,
    sql: &WriteStatements,
    slots: &[i16],
) -> Result<HashMap<Slot, OwnerRow>, ReadError> {
    let rows = client.query(&sql.read_owners, &[&slots]).await?;
    let of_slot = |row: &Row| owner_from_row(row).map(|row| (row.slot, row));
    Ok(rows.iter().map(of_slot).collect::<Result<_, _>>()?)
}

/// Creates those of `users` that are new and whose slot is owned at the given epoch or a higher one, and
/// returns them. `users` must be in the order of keys, each once.
pub async fn insert_users(
    client: &Client,
    sql: &WriteStatements,
    users: &[(UserId, u64)],
) -> Result<HashSet<UserId>, ReadError> {
    if users.is_empty() {
        return Ok(HashSet::new());
    }
    let slots: Vec<i16> = users.iter().map(|(user, _)| user.slot().as_i16()).collect();
    let ids: Vec<i64> = users.iter().map(|(user, _)| user.get()).collect();
    let tags: Vec<i32> = users.iter().map(|(user, _)| user.tag().as_i32()).collect();
    // An epoch beyond `bigint` is above every slot's.
    let epochs: Vec<i64> = users.iter().map(|(_, epoch)| i64::try_from(*epoch).unwrap_or(i64::MAX)).collect();
    let rows = client.query(&sql.insert_users, &[&slots, &ids, &tags, &epochs]).await?;
    rows.iter().map(|row| user_from(column(row, 0)?)).collect()
}

#[derive(Debug, Default)]
pub struct Locked {
    pub users: HashSet<UserId>,
    pub held: HashSet<UserId>,
    /// Read after the last lock. A batch without locks does not need it.
    pub now: Stamp,
}

/// Locks the existing ones of `users`, in the order of keys. Waits for their holders.
pub async fn lock_users(
    client: &Client,
    sql: &WriteStatements,
    users: &[UserId],
) -> Result<Locked, ReadError> {
    if users.is_empty() {
        return Ok(Locked::default());
    }
    let (slots, ids) = user_keys(users);
    let rows = client.query(&sql.lock_users, &[&slots, &ids]).await.map_err(held_or)?;
    let now = match rows.last() {
        Some(last) => Stamp::at(column::<Timestamp>(last, 1)?.as_microsecond()),
        None => Stamp::default(),
    };
    let users = rows.iter().map(|row| user_from(column(row, 0)?)).collect::<Result<_, _>>()?;
    Ok(Locked { users, held: HashSet::new(), now })
}

/// `lock_timeout` ended a statement that waits for users' rows.
fn held_or(error: tokio_postgres::Error) -> ReadError {
    match error.code() {
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => ReadError::Held,
        _ => error.into(),
    }
}

/// Locks the existing ones of `users` that nobody else holds. Does not wait.
pub async fn lock_free_users(
    client: &Client,
    sql: &WriteStatements,
    users: &[UserId],
) -> Result<Locked, ReadError> {
    let mut locked = Locked::default();
    if users.is_empty() {
        return Ok(locked);
    }
    let (slots, ids) = user_keys(users);
    for row in client.query(&sql.lock_free_users, &[&slots, &ids]).await? {
        let user = user_from(column(&row, 0)?)?;
        if column(&row, 1)? {
            locked.users.insert(user);
        } else {
            locked.held.insert(user);
        }
        locked.now = Stamp::at(column::<Timestamp>(&row, 2)?.as_microsecond());
    }
    Ok(locked)
}

#[derive(Default)]
pub struct Balances {
    pub balances: HashMap<(UserId, Currency), Money>,
    /// Of those of which a part is held.
    pub held: HashMap<(UserId, Currency), Held>,
    /// The highest stamp of each user's rows.
    pub last_stamps: HashMap<UserId, Stamp>,
}

impl Balances {
    fn add(&mut self, user: UserId, balance: Money, stamp: i64, held: Option<Held>) -> Result<(), ReadError> {
        let stamp =
            Stamp::from_ledger(stamp).ok_or_else(|| ReadError::Corrupt("balances.last_stamp".into()))?;
        let account = (user, balance.currency());
        self.balances.insert(account, balance);
        if let Some(held) = held {
            self.held.insert(account, held);
        }
        let last = self.last_stamps.entry(user).or_default();
        *last = stamp.max(*last);
        Ok(())
    }
}

pub async fn read_balances(
    client: &Client,
    sql: &WriteStatements,
    users: &[UserId],
) -> Result<Balances, ReadError> {
    let (slots, ids) = user_keys(users);
    let rows = client.query(&sql.read_balances, &[&slots, &ids]).await?;
    let mut read = Balances::default();
    for row in rows {
        let balance = money_from(column(&row, 2)?, column(&row, 1)?)?;
        let held = holds::held_of(balance, column(&row, 4)?, column(&row, 5)?, column(&row, 6)?)?;
        read.add(user_from(column(&row, 0)?)?, balance, column(&row, 3)?, held)?;
    }
    Ok(read)
}

pub async fn read_by_keys(
    client: &Client,
    sql: &WriteStatements,
    keys: &[(UserId, Uuid)],
) -> Result<HashMap<(UserId, Uuid), Recorded>, ReadError> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let slots: Vec<i16> = keys.iter().map(|(user, _)| user.slot().as_i16()).collect();
    let ids: Vec<i64> = keys.iter().map(|(user, _)| user.get()).collect();
    let keys: Vec<Uuid> = keys.iter().map(|(_, key)| *key).collect();
    let rows = client.query(&sql.read_by_keys, &[&slots, &ids, &keys]).await?;
    rows.iter()
        .map(|row| {
            let recorded = recorded_from_row(row)?;
            let key = recorded.transaction.idempotency_key.expect("it was found by its key");
            Ok(((recorded.transaction.user_id, key), recorded))
        })
        .collect()
}

pub async fn read_refunded(
    client: &Client,
    sql: &WriteStatements,
    ids: &[TransactionId],
) -> Result<HashMap<TransactionId, Transaction>, ReadError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let slots: Vec<i16> = ids.iter().map(|id| id.slot().as_i16()).collect();
    let users: Vec<Option<i64>> = ids.iter().map(|id| id.user().map(UserId::get)).collect();
    let tags: Vec<i32> = ids.iter().map(|id| id.tag().as_i32()).collect();
    let uuids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = client.query(&sql.read_refunded, &[&slots, &users, &tags, &uuids]).await?;
    rows.iter()
        .map(|row| {
            let transaction = recorded_from_row(row)?.transaction;
            Ok((transaction.id, transaction))
        })
        .collect()
}

pub async fn read_refund_totals(
    client: &Client,
    sql: &WriteStatements,
    charges: &HashMap<TransactionId, Transaction>,
) -> Result<HashMap<TransactionId, Money>, ReadError> {
    if charges.is_empty() {
        return Ok(HashMap::new());
    }
    let slots: Vec<i16> = charges.values().map(|charge| charge.user_id.slot().as_i16()).collect();
    let users: Vec<i64> = charges.values().map(|charge| charge.user_id.get()).collect();
    let ids: Vec<Uuid> = charges.keys().map(|id| id.as_uuid()).collect();
    let rows = client.query(&sql.read_refund_totals, &[&slots, &users, &ids]).await?;
    rows.iter()
        .map(|row| {
            let id = TransactionId::from_uuid(column(row, 0)?);
            let of = charges[&id].money;
            let refunded = Money::from_ledger(column(row, 1)?, of.currency())?;
            if of.checked_sub(refunded).is_none() {
                return Err(ReadError::Corrupt(format!("more than all of {id} was refunded")));
            }
            Ok((id, refunded))
        })
        .collect()
}

fn user_keys(users: &[UserId]) -> (Vec<i16>, Vec<i64>) {
    users.iter().map(|user| (user.slot().as_i16(), user.get())).unzip()
}

/// A column of a row. A value that PicoPay never writes (a `NaN`, a NULL) is an error of that row. The batch
/// runs again in halves, and fails for its user alone.
pub fn column<'a, T: FromSql<'a>>(row: &'a Row, position: usize) -> Result<T, ReadError> {
    row.try_get(position).map_err(|error| {
        let name = row.columns().get(position).map_or("a column", |column| column.name());
        ReadError::Corrupt(format!("{name}: {}", describe(&error)))
    })
}

fn user_from(id: i64) -> Result<UserId, ReadError> {
    UserId::try_from(id).map_err(|error| ReadError::Corrupt(error.to_string()))
}

fn money_from(amount: Decimal, currency: &str) -> Result<Money, ReadError> {
    Ok(Money::from_ledger(amount, Currency::of_ledger(currency)?)?)
}

fn created_at(id: TransactionId) -> Timestamp {
    Timestamp::from_millisecond(id.unix_ms()).expect("47 bits of milliseconds are within jiff's range")
}

fn recorded_from_row(row: &Row) -> Result<Recorded, ReadError> {
    let currency = Currency::of_ledger(column(row, 4)?)?;
    let kind_word: &str = column(row, 2)?;
    let kind = Kind::parse(kind_word).ok_or_else(|| ReadError::Corrupt(format!("kind {kind_word}")))?;
    let fingerprint: Option<&[u8]> = column(row, 7)?;
    let fingerprint = fingerprint
        .map(|bytes| bytes.try_into().map_err(|_| ReadError::Corrupt("fingerprint".into())))
        .transpose()?;
    let transaction = Transaction {
        id: TransactionId::from_uuid(column(row, 1)?),
        user_id: user_from(column(row, 0)?)?,
        kind,
        status: status_from_row(row, currency)?,
        money: Money::from_ledger(column(row, 3)?, currency)?,
        balance_after: Money::from_ledger(column(row, 5)?, currency)?,
        idempotency_key: column(row, 6)?,
        charge_id: column::<Option<Uuid>>(row, 8)?.map(TransactionId::from_uuid),
        reference: column(row, 9)?,
        metadata: column(row, 10)?,
        made_by: column::<Option<&str>>(row, 14)?.map(Arc::from),
        hold_part: HoldPart {
            hold_id: column::<Option<Uuid>>(row, 15)?.map(TransactionId::from_uuid),
            expires_at_ms: column::<Option<Timestamp>>(row, 16)?.map(Timestamp::as_millisecond),
            available: column::<Option<Decimal>>(row, 17)?
                .map(|available| Money::from_ledger(available, currency))
                .transpose()?,
            hold_key: column(row, 18)?,
        },
        transfer: transfer_part(row, 20)?,
    };
    Ok(Recorded { transaction, fingerprint: fingerprint.map(Fingerprint) })
}

/// What two columns from here say of a transfer. A refused one has no id of its own.
fn transfer_part(row: &Row, from: usize) -> Result<Option<TransferPart>, ReadError> {
    let Some(other) = column::<Option<i64>>(row, from + 1)? else { return Ok(None) };
    let id = match column::<Option<Uuid>>(row, from)? {
        Some(id) => id,
        None => column(row, 1)?,
    };
    Ok(Some(TransferPart { transfer_id: TransactionId::from_uuid(id), other_user_id: user_from(other)? }))
}

fn status_from_row(row: &Row, currency: Currency) -> Result<Status, ReadError> {
    let Some(word) = column::<Option<&str>>(row, 11)? else {
        return Ok(Status::Completed);
    };
    let corrupt = || ReadError::Corrupt(format!("refusal {word}"));
    let remaining = || {
        let remaining: Option<Decimal> = column(row, 13)?;
        Ok::<Money, ReadError>(Money::from_ledger(remaining.ok_or_else(corrupt)?, currency)?)
    };
    let refusal = match word {
        "insufficient-balance" => Refusal::InsufficientBalance,
        "refund-exceeds-charge" => Refusal::RefundExceedsCharge { remaining: remaining()? },
        "not-refundable" => Refusal::NotRefundable,
        "capture-exceeds-hold" => Refusal::CaptureExceedsHold { remaining: remaining()? },
        "hold-not-open" => {
            let status: Option<&str> = column(row, 19)?;
            Refusal::HoldNotOpen { status: status.and_then(HoldStatus::parse).ok_or_else(corrupt)? }
        }
        "too-many-holds" => Refusal::TooManyHolds,
        _ => return Err(corrupt()),
    };
    let request_id: Option<String> = column(row, 12)?;
    Ok(Status::Refused { refusal, request_id: request_id.ok_or_else(corrupt)? })
}

fn refusal_word(status: &Status) -> Option<&'static str> {
    match status {
        Status::Completed => None,
        Status::Refused { refusal, .. } => Some(match refusal {
            Refusal::InsufficientBalance => "insufficient-balance",
            Refusal::RefundExceedsCharge { .. } => "refund-exceeds-charge",
            Refusal::NotRefundable => "not-refundable",
            Refusal::CaptureExceedsHold { .. } => "capture-exceeds-hold",
            Refusal::HoldNotOpen { .. } => "hold-not-open",
            Refusal::TooManyHolds => "too-many-holds",
        }),
    }
}

fn refused_request(status: &Status) -> Option<&str> {
    match status {
        Status::Completed => None,
        Status::Refused { request_id, .. } => Some(request_id),
    }
}

fn refused_remaining(status: &Status) -> Option<Decimal> {
    match status {
        Status::Refused {
            refusal: Refusal::RefundExceedsCharge { remaining } | Refusal::CaptureExceedsHold { remaining },
            ..
        } => Some(remaining.amount()),
        _ => None,
    }
}
