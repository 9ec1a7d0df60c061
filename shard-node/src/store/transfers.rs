//! The queries about transfers: read under the lock of their users, and written with their balances.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future;
use jiff::Timestamp;
use picopay_shared::command::Status;
use picopay_shared::id::TransactionId;
use picopay_shared::money::{Currency, Money};
use picopay_shared::slot::{FENCE_LOCK, UserId};
use picopay_shared::transfer::{CreditRefusal, Credited, Transfer, TransferStatus};
use rust_decimal::Decimal;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::seen::{Seen, first, owner};
use super::{ReadError, column, created_at, refusal_word, refused_request, user_from, user_keys};
use crate::book::{Booked, DecidedCredit, KnownTransfer, KnownTransfers, Recorded};

/// How long the courier leaves a new transfer to whoever has asked for it: more than a gateway waits for the end.
const COURIER_AFTER: &str = "5 seconds";

#[derive(Clone)]
pub struct TransferStatements {
    read_transfers: Statement,
    read_credits: Statement,
    insert_steps: Statement,
    insert_transfers: Statement,
    end_transfers: Statement,
    insert_credits: Statement,
}

impl TransferStatements {
    pub async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let texts = [
            include_str!("../sql/read_transfers.sql"),
            include_str!("../sql/read_credits.sql"),
            include_str!("../sql/insert_transfer_steps.sql"),
            include_str!("../sql/insert_transfers.sql"),
            include_str!("../sql/end_transfers.sql"),
            include_str!("../sql/insert_credits.sql"),
        ];
        let mut prepared = future::try_join_all(texts.map(|text| client.prepare(text))).await?.into_iter();
        let mut next = || prepared.next().expect("one statement per text");
        Ok(Self {
            read_transfers: next(),
            read_credits: next(),
            insert_steps: next(),
            insert_transfers: next(),
            end_transfers: next(),
            insert_credits: next(),
        })
    }
}

/// Which transfers and credits a batch must know of.
#[derive(Debug, Default)]
pub struct Named {
    pub ids: Vec<(UserId, TransactionId)>,
    pub keys: Vec<(UserId, Uuid)>,
    /// The slots of the recipients.
    pub credits: Vec<(UserId, TransactionId)>,
}

pub async fn read_known(
    client: &Client,
    sql: &TransferStatements,
    named: &Named,
) -> Result<KnownTransfers, ReadError> {
    let mut known = KnownTransfers::default();
    if !(named.ids.is_empty() && named.keys.is_empty()) {
        let (id_users, ids) = split(&named.ids, |id| id.as_uuid());
        let (key_users, keys) = split(&named.keys, |key| *key);
        let ((id_slots, id_users), (key_slots, key_users)) = (user_keys(&id_users), user_keys(&key_users));
        let rows = client
            .query(&sql.read_transfers, &[&id_slots, &id_users, &ids, &key_slots, &key_users, &keys])
            .await?;
        for row in &rows {
            let transfer = transfer_from_row(row)?;
            let balance_after = Money::from_ledger(column(row, 11)?, transfer.money.currency())?;
            known.rows.insert(transfer.id, KnownTransfer { transfer, balance_after });
        }
    }
    if !named.credits.is_empty() {
        let (users, ids) = split(&named.credits, |id| id.as_uuid());
        let (slots, users) = user_keys(&users);
        for row in client.query(&sql.read_credits, &[&slots, &users, &ids]).await? {
            let place = (user_from(column(&row, 0)?)?, TransactionId::from_uuid(column(&row, 1)?));
            let credited = match column::<Option<&str>>(&row, 2)? {
                None => Credited::Given,
                Some(word) => Credited::Refused(reason_from(word)?),
            };
            known.credits.insert(place, credited);
        }
    }
    Ok(known)
}

fn split<T, U>(named: &[(UserId, T)], of: impl Fn(&T) -> U) -> (Vec<UserId>, Vec<U>) {
    named.iter().map(|(user, one)| (*user, of(one))).unzip()
}

/// Writes what a batch changes about transfers; nothing for a batch without them. After the other transactions and balances.
pub async fn write(
    client: &Client,
    sql: &TransferStatements,
    booked: &Booked,
) -> Result<(), tokio_postgres::Error> {
    // Polled together, so that all leave in one flight, and in this order.
    future::try_join4(
        insert_steps(client, sql, &booked.transactions),
        insert_transfers(client, sql, &booked.new_transfers),
        end_transfers(client, sql, &booked.ended_transfers),
        insert_credits(client, sql, &booked.credits),
    )
    .await?;
    Ok(())
}

async fn insert_steps(
    client: &Client,
    sql: &TransferStatements,
    transactions: &[Recorded],
) -> Result<(), tokio_postgres::Error> {
    let steps: Vec<&Recorded> =
        transactions.iter().filter(|recorded| recorded.transaction.transfer.is_some()).collect();
    if steps.is_empty() {
        return Ok(());
    }
    let each = || steps.iter().map(|recorded| &recorded.transaction);
    let slots: Vec<i16> = each().map(|one| one.user_id.slot().as_i16()).collect();
    let users: Vec<i64> = each().map(|one| one.user_id.get()).collect();
    let ids: Vec<Uuid> = each().map(|one| one.id.as_uuid()).collect();
    let keys: Vec<Option<Uuid>> = each().map(|one| one.idempotency_key).collect();
    let fingerprints: Vec<Option<&[u8]>> = steps.iter().map(|recorded| recorded.fingerprint()).collect();
    let times: Vec<Timestamp> = each().map(|one| created_at(one.id)).collect();
    let amounts: Vec<Decimal> = each().map(|one| one.money.amount()).collect();
    let balances: Vec<Decimal> = each().map(|one| one.balance_after.amount()).collect();
    let kinds: Vec<&str> = each().map(|one| one.kind.as_str()).collect();
    let currencies: Vec<&str> = each().map(|one| one.money.currency().code()).collect();
    let refusals: Vec<Option<&str>> = each().map(|one| refusal_word(&one.status)).collect();
    let requests: Vec<Option<&str>> = each().map(|one| refused_request(&one.status)).collect();
    let references: Vec<Option<&str>> = each().map(|one| one.reference.as_deref()).collect();
    let metadata: Vec<Option<&str>> = each().map(|one| one.metadata.as_deref()).collect();
    let makers: Vec<Option<&str>> = each().map(|one| one.made_by.as_deref()).collect();
    let available: Vec<Option<Decimal>> =
        each().map(|one| one.hold_part.available.map(Money::amount)).collect();
    // What was refused is no transfer.
    let transfers: Vec<Option<Uuid>> = each()
        .map(|one| {
            let part = one.transfer.filter(|_| one.status == Status::Completed);
            part.map(|part| part.transfer_id.as_uuid())
        })
        .collect();
    let others: Vec<Option<i64>> =
        each().map(|one| one.transfer.map(|part| part.other_user_id.get())).collect();
    client
        .execute(
            &sql.insert_steps,
            &[
                &slots,
                &users,
                &ids,
                &keys,
                &fingerprints,
                &times,
                &amounts,
                &balances,
                &kinds,
                &currencies,
                &refusals,
                &requests,
                &references,
                &metadata,
                &makers,
                &available,
                &transfers,
                &others,
            ],
        )
        .await?;
    Ok(())
}

async fn insert_transfers(
    client: &Client,
    sql: &TransferStatements,
    transfers: &[Transfer],
) -> Result<(), tokio_postgres::Error> {
    if transfers.is_empty() {
        return Ok(());
    }
    let EndColumns { slots, users, ids, states, reasons, ends } = EndColumns::of(transfers);
    let recipients: Vec<i64> = transfers.iter().map(|one| one.to_user_id.get()).collect();
    let to_slots: Vec<i16> = transfers.iter().map(|one| one.to_user_id.slot().as_i16()).collect();
    let currencies: Vec<&str> = transfers.iter().map(|one| one.money.currency().code()).collect();
    let amounts: Vec<Decimal> = transfers.iter().map(|one| one.money.amount()).collect();
    client
        .execute(
            &sql.insert_transfers,
            &[
                &slots,
                &users,
                &ids,
                &recipients,
                &currencies,
                &amounts,
                &states,
                &reasons,
                &ends,
                &to_slots,
                &COURIER_AFTER,
            ],
        )
        .await?;
    Ok(())
}

async fn end_transfers(
    client: &Client,
    sql: &TransferStatements,
    transfers: &[Transfer],
) -> Result<(), tokio_postgres::Error> {
    if transfers.is_empty() {
        return Ok(());
    }
    let EndColumns { slots, users, ids, states, reasons, ends } = EndColumns::of(transfers);
    client.execute(&sql.end_transfers, &[&slots, &users, &ids, &states, &reasons, &ends]).await?;
    Ok(())
}

async fn insert_credits(
    client: &Client,
    sql: &TransferStatements,
    credits: &[DecidedCredit],
) -> Result<(), tokio_postgres::Error> {
    if credits.is_empty() {
        return Ok(());
    }
    let users: Vec<UserId> = credits.iter().map(|one| one.credit.to_user_id).collect();
    let (slots, users) = user_keys(&users);
    let ids: Vec<Uuid> = credits.iter().map(|one| one.credit.transfer_id.as_uuid()).collect();
    let senders: Vec<i64> = credits.iter().map(|one| one.credit.from_user_id.get()).collect();
    let currencies: Vec<&str> = credits.iter().map(|one| one.credit.money.currency().code()).collect();
    let amounts: Vec<Decimal> = credits.iter().map(|one| one.credit.money.amount()).collect();
    let transactions: Vec<Option<Uuid>> =
        credits.iter().map(|one| Some(one.decided.ok()?.as_uuid())).collect();
    let refusals: Vec<Option<&str>> = credits.iter().map(|one| Some(one.decided.err()?.as_str())).collect();
    let times: Vec<Timestamp> = credits.iter().map(|one| moment(one.at_ms)).collect();
    client
        .execute(
            &sql.insert_credits,
            &[&slots, &users, &ids, &senders, &currencies, &amounts, &transactions, &refusals, &times],
        )
        .await?;
    Ok(())
}

struct EndColumns {
    slots: Vec<i16>,
    users: Vec<i64>,
    ids: Vec<Uuid>,
    states: Vec<&'static str>,
    reasons: Vec<Option<&'static str>>,
    ends: Vec<Option<Timestamp>>,
}

impl EndColumns {
    fn of(transfers: &[Transfer]) -> Self {
        let users: Vec<UserId> = transfers.iter().map(|one| one.from_user_id).collect();
        let (slots, users) = user_keys(&users);
        let of_status = |status| match status {
            TransferStatus::Pending => ("debited", None),
            TransferStatus::Completed => ("completed", None),
            TransferStatus::Reversed { reason } => ("reversed", Some(reason.as_str())),
        };
        let (states, reasons) = transfers.iter().map(|one| of_status(one.status)).unzip();
        Self {
            slots,
            users,
            ids: transfers.iter().map(|one| one.id.as_uuid()).collect(),
            states,
            reasons,
            ends: transfers.iter().map(|one| one.ended_at_ms.map(moment)).collect(),
        }
    }
}

fn moment(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).expect("a stamp's time is within jiff's range")
}

fn reason_from(word: &str) -> Result<CreditRefusal, ReadError> {
    CreditRefusal::parse(word).ok_or_else(|| ReadError::Corrupt(format!("the refusal {word} of a credit")))
}

/// Reads the columns of `read_transfers.sql`.
pub fn transfer_from_row(row: &Row) -> Result<Transfer, ReadError> {
    let currency = Currency::of_ledger(column(row, 6)?)?;
    let state: &str = column(row, 3)?;
    let reason = column::<Option<&str>>(row, 4)?.map(reason_from).transpose()?;
    let status = match (state, reason) {
        ("debited", None) => TransferStatus::Pending,
        ("completed", None) => TransferStatus::Completed,
        ("reversed", Some(reason)) => TransferStatus::Reversed { reason },
        _ => return Err(ReadError::Corrupt(format!("transfers.state {state}"))),
    };
    Ok(Transfer {
        id: TransactionId::from_uuid(column(row, 1)?),
        from_user_id: user_from(column(row, 0)?)?,
        to_user_id: user_from(column(row, 2)?)?,
        status,
        money: Money::from_ledger(column(row, 5)?, currency)?,
        idempotency_key: column(row, 8)?,
        ended_at_ms: column::<Option<Timestamp>>(row, 7)?.map(Timestamp::as_millisecond),
        reference: column(row, 9)?,
        metadata: column(row, 10)?,
    })
}

/// The transfer with this id.
pub async fn find_transfer(
    client: &deadpool_postgres::Client,
    id: TransactionId,
) -> Result<Seen<Transfer>, ReadError> {
    let statement = client.prepare_cached(include_str!("../sql/find_transfer.sql")).await?;
    let user = id.user().map(UserId::get);
    let rows = client.query(&statement, &[&id.slot().as_i16(), &user, &id.as_uuid()]).await?;
    let row = first(&rows)?;
    let found = match column::<Option<i64>>(row, 0)? {
        None => Vec::new(),
        Some(_) => vec![transfer_from_row(row)?],
    };
    Ok(Seen { owner: owner(id.slot(), row, 14)?, user_exists: column(row, 13)?, found })
}

/// A transfer that a courier has leased, and who asked for it.
#[derive(Debug, Clone)]
pub struct Leased {
    pub transfer: Transfer,
    pub made_by: Option<Arc<str>>,
    /// How often a courier has taken it up, this time included.
    pub tries: u32,
}

/// The slots of the recipients whose transfers are leased.
#[derive(Debug, Clone)]
pub enum Recipients {
    Among(Vec<i16>),
    Without(Vec<i16>),
}

/// Whether a courier has anything to do.
pub async fn is_any_due(client: &deadpool_postgres::Client) -> Result<bool, ReadError> {
    let statement = client.prepare_cached(include_str!("../sql/has_due_transfers.sql")).await?;
    column(&client.query_one(&statement, &[]).await?, 0)
}

/// Leases up to `most` unfinished transfers, those first that have waited longest.
pub async fn lease(
    client: &Client,
    most: i32,
    lease: &str,
    recipients: &Recipients,
) -> Result<Vec<Leased>, ReadError> {
    let (among, without) = match recipients {
        Recipients::Among(slots) => (Some(slots), None),
        Recipients::Without(slots) => (None, Some(slots)),
    };
    let rows = client
        .query(include_str!("../sql/lease_transfers.sql"), &[&FENCE_LOCK, &most, &lease, &among, &without])
        .await?;
    let (mut slots, mut users, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let mut tries: HashMap<Uuid, i32> = HashMap::new();
    for row in &rows {
        slots.push(column::<i16>(row, 0)?);
        users.push(column::<i64>(row, 1)?);
        let id: Uuid = column(row, 2)?;
        ids.push(id);
        tries.insert(id, column(row, 3)?);
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (no_slots, no_users, no_keys) = (Vec::<i16>::new(), Vec::<i64>::new(), Vec::<Uuid>::new());
    let rows = client
        .query(
            include_str!("../sql/read_transfers.sql"),
            &[&slots, &users, &ids, &no_slots, &no_users, &no_keys],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let transfer = transfer_from_row(row)?;
            let tries = tries.get(&transfer.id.as_uuid()).copied().unwrap_or_default();
            Ok(Leased {
                made_by: column::<Option<&str>>(row, 12)?.map(Arc::from),
                tries: u32::try_from(tries).unwrap_or_default(),
                transfer,
            })
        })
        .collect()
}

/// A transfer that could not be ended now: for how many milliseconds nobody tries again, and why.
#[derive(Debug, Clone)]
pub struct Postponed {
    pub id: TransactionId,
    pub user: UserId,
    pub pause_ms: i64,
    pub error: String,
}

pub async fn postpone(client: &Client, postponed: &[Postponed]) -> Result<(), ReadError> {
    let users: Vec<UserId> = postponed.iter().map(|one| one.user).collect();
    let (slots, users) = user_keys(&users);
    let ids: Vec<Uuid> = postponed.iter().map(|one| one.id.as_uuid()).collect();
    let pauses: Vec<i64> = postponed.iter().map(|one| one.pause_ms).collect();
    let errors: Vec<&str> = postponed.iter().map(|one| one.error.as_str()).collect();
    let sql = include_str!("../sql/postpone_transfers.sql");
    client.query(sql, &[&FENCE_LOCK, &slots, &users, &ids, &pauses, &errors]).await?;
    Ok(())
}
