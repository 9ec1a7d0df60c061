//! The queries about holds: read under the lock of their users, and written with their balances.

use std::collections::HashMap;

use futures_util::future;
use jiff::Timestamp;
use picopay_shared::command::{Refusal, Status};
use picopay_shared::hold::{Hold, HoldStatus};
use picopay_shared::id::TransactionId;
use picopay_shared::money::{Currency, Money};
use picopay_shared::slot::UserId;
use rust_decimal::Decimal;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::{
    ReadError, column, created_at, refusal_word, refused_remaining, refused_request, user_from, user_keys,
};
use crate::book::{Booked, Due, EndedHold, Held, HeldRow, KnownHolds, Recorded};

#[derive(Clone)]
pub struct HoldStatements {
    read_named: Statement,
    read_due: Statement,
    read_next_due: Statement,
    insert_steps: Statement,
    update_held_balances: Statement,
    insert_holds: Statement,
    end_holds: Statement,
}

impl HoldStatements {
    pub async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let texts = [
            include_str!("../sql/read_named_holds.sql"),
            include_str!("../sql/read_due_holds.sql"),
            include_str!("../sql/read_next_due.sql"),
            include_str!("../sql/insert_hold_steps.sql"),
            include_str!("../sql/update_held_balances.sql"),
            include_str!("../sql/insert_holds.sql"),
            include_str!("../sql/end_holds.sql"),
        ];
        let mut prepared = future::try_join_all(texts.map(|text| client.prepare(text))).await?.into_iter();
        let mut next = || prepared.next().expect("one statement per text");
        Ok(Self {
            read_named: next(),
            read_due: next(),
            read_next_due: next(),
            insert_steps: next(),
            update_held_balances: next(),
            insert_holds: next(),
            end_holds: next(),
        })
    }
}

/// What is held of `balance`, by how many holds, and when the first may end. `None` without open holds.
pub fn held_of(
    balance: Money,
    held: Option<Decimal>,
    count: i32,
    due: Option<Timestamp>,
) -> Result<Option<Held>, ReadError> {
    let Some(held) = held else { return Ok(None) };
    let sum = Money::from_ledger(held, balance.currency())?;
    if balance.checked_sub(sum).is_none() {
        return Err(ReadError::Corrupt("balances.held is more than the balance".into()));
    }
    let count = u32::try_from(count).map_err(|_| ReadError::Corrupt("balances.open_holds".into()))?;
    Ok(Some(Held { sum, count, due_ms: due.map(Timestamp::as_millisecond) }))
}

/// The holds with these ids, each of the user whom its id names.
pub async fn read_named(
    client: &Client,
    sql: &HoldStatements,
    ids: &[TransactionId],
) -> Result<HashMap<TransactionId, Hold>, ReadError> {
    let named: Vec<(UserId, Uuid)> = ids.iter().filter_map(|id| Some((id.user()?, id.as_uuid()))).collect();
    if named.is_empty() {
        return Ok(HashMap::new());
    }
    let (users, ids): (Vec<UserId>, Vec<Uuid>) = named.into_iter().unzip();
    let (slots, users) = user_keys(&users);
    let rows = client.query(&sql.read_named, &[&slots, &users, &ids]).await?;
    rows.iter().map(|row| hold_from_row(row).map(|hold| (hold.id, hold))).collect()
}

/// Adds the holds of `users` that have run out by `now_ms`, and when their next ones will.
pub async fn read_due(
    client: &Client,
    sql: &HoldStatements,
    users: &[UserId],
    now_ms: i64,
    known: &mut KnownHolds,
) -> Result<(), ReadError> {
    let now = Timestamp::from_millisecond(now_ms).map_err(|error| ReadError::Corrupt(error.to_string()))?;
    let (slots, ids) = user_keys(users);
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&slots, &ids, &now];
    let (due, next) =
        future::try_join(client.query(&sql.read_due, &params), client.query(&sql.read_next_due, &params))
            .await?;
    for row in &due {
        let hold = hold_from_row(row)?;
        known.due.entry(hold.user_id).or_default().holds.push(hold.id);
        known.rows.insert(hold.id, hold);
    }
    for row in &next {
        let user = user_from(column(row, 0)?)?;
        let next: Option<Timestamp> = column(row, 2)?;
        let of_user: &mut Due = known.due.entry(user).or_default();
        of_user.next.push((Currency::of_ledger(column(row, 1)?)?, next.map(Timestamp::as_millisecond)));
    }
    Ok(())
}

/// Checks that the balances hold at least what these holds reserve. Whoever changed one of them by hand stops his own user,
/// and nobody else.
pub fn check_sums(known: &KnownHolds) -> Result<(), ReadError> {
    let mut open: HashMap<(UserId, Currency), (Money, u32)> = HashMap::new();
    for hold in known.rows.values().filter(|hold| hold.status == HoldStatus::Open) {
        let currency = hold.money.currency();
        let (sum, count) = open.entry((hold.user_id, currency)).or_insert((Money::zero(currency), 0));
        (*sum, *count) = (sum.checked_add(hold.money)?, *count + 1);
    }
    for (account, (sum, count)) in open {
        let held = known.held.get(&account);
        if !held.is_some_and(|held| held.sum.checked_sub(sum).is_some() && held.count >= count) {
            return Err(ReadError::Corrupt(format!(
                "balances.held is less than the holds of user {}",
                account.0
            )));
        }
    }
    Ok(())
}

/// Writes what a batch changes about holds; nothing for a batch without them. After the other transactions and balances: a
/// new balance is there already.
pub async fn write(
    client: &Client,
    sql: &HoldStatements,
    booked: &Booked,
) -> Result<(), tokio_postgres::Error> {
    // Polled together, so that all leave in one flight, and in this order.
    future::try_join4(
        insert_steps(client, sql, &booked.transactions),
        update_held_balances(client, sql, &booked.held_balances),
        insert_holds(client, sql, &booked.new_holds),
        end_holds(client, sql, &booked.ended_holds),
    )
    .await?;
    Ok(())
}

async fn insert_steps(
    client: &Client,
    sql: &HoldStatements,
    transactions: &[Recorded],
) -> Result<(), tokio_postgres::Error> {
    let is_step = |recorded: &&Recorded| {
        !recorded.transaction.hold_part.is_empty() && recorded.transaction.transfer.is_none()
    };
    let steps: Vec<&Recorded> = transactions.iter().filter(is_step).collect();
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
    let remaining: Vec<Option<Decimal>> = each().map(|one| refused_remaining(&one.status)).collect();
    let references: Vec<Option<&str>> = each().map(|one| one.reference.as_deref()).collect();
    let metadata: Vec<Option<&str>> = each().map(|one| one.metadata.as_deref()).collect();
    let makers: Vec<Option<&str>> = each().map(|one| one.made_by.as_deref()).collect();
    let parts = || each().map(|one| &one.hold_part);
    let holds: Vec<Option<Uuid>> = parts().map(|part| part.hold_id.map(TransactionId::as_uuid)).collect();
    let ends: Vec<Option<Timestamp>> = parts().map(|part| part.expires_at_ms.map(moment)).collect();
    let available: Vec<Option<Decimal>> = parts().map(|part| part.available.map(Money::amount)).collect();
    let hold_keys: Vec<Option<Uuid>> = parts().map(|part| part.hold_key).collect();
    let statuses: Vec<Option<&str>> = each().map(|one| refused_status(&one.status)).collect();
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
                &remaining,
                &references,
                &metadata,
                &makers,
                &holds,
                &ends,
                &available,
                &hold_keys,
                &statuses,
            ],
        )
        .await?;
    Ok(())
}

async fn update_held_balances(
    client: &Client,
    sql: &HoldStatements,
    rows: &[HeldRow],
) -> Result<(), tokio_postgres::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let users: Vec<UserId> = rows.iter().map(|held| held.row.user_id).collect();
    let (slots, users) = user_keys(&users);
    let currencies: Vec<&str> = rows.iter().map(|held| held.row.balance.currency().code()).collect();
    let balances: Vec<Decimal> = rows.iter().map(|held| held.row.balance.amount()).collect();
    let stamps: Vec<i64> = rows.iter().map(|held| held.row.last_stamp.to_ledger()).collect();
    let sums: Vec<Decimal> = rows.iter().map(|held| held.held.sum.amount()).collect();
    let counts: Vec<i32> =
        rows.iter().map(|held| i32::try_from(held.held.count).expect("they are bounded")).collect();
    let due: Vec<Option<Timestamp>> = rows.iter().map(|held| held.held.due_ms.map(moment)).collect();
    let before: Vec<Decimal> = rows.iter().map(|held| held.row.before.amount()).collect();
    client
        .execute(
            &sql.update_held_balances,
            &[&slots, &users, &currencies, &balances, &stamps, &sums, &counts, &due, &before],
        )
        .await?;
    Ok(())
}

async fn insert_holds(
    client: &Client,
    sql: &HoldStatements,
    holds: &[EndedHold],
) -> Result<(), tokio_postgres::Error> {
    if holds.is_empty() {
        return Ok(());
    }
    let EndedColumns { slots, users, ids, states, captured, ended_by } = EndedColumns::of(holds);
    let currencies: Vec<&str> = holds.iter().map(|one| one.hold.money.currency().code()).collect();
    let amounts: Vec<Decimal> = holds.iter().map(|one| one.hold.money.amount()).collect();
    let ends: Vec<Timestamp> = holds.iter().map(|one| moment(one.hold.expires_at_ms)).collect();
    client
        .execute(
            &sql.insert_holds,
            &[&slots, &users, &ids, &currencies, &amounts, &captured, &states, &ends, &ended_by],
        )
        .await?;
    Ok(())
}

async fn end_holds(
    client: &Client,
    sql: &HoldStatements,
    holds: &[EndedHold],
) -> Result<(), tokio_postgres::Error> {
    if holds.is_empty() {
        return Ok(());
    }
    let EndedColumns { slots, users, ids, states, captured, ended_by } = EndedColumns::of(holds);
    client.execute(&sql.end_holds, &[&slots, &users, &ids, &states, &captured, &ended_by]).await?;
    Ok(())
}

struct EndedColumns {
    slots: Vec<i16>,
    users: Vec<i64>,
    ids: Vec<Uuid>,
    states: Vec<&'static str>,
    captured: Vec<Decimal>,
    ended_by: Vec<Option<Uuid>>,
}

impl EndedColumns {
    fn of(holds: &[EndedHold]) -> Self {
        let users: Vec<UserId> = holds.iter().map(|one| one.hold.user_id).collect();
        let (slots, users) = user_keys(&users);
        Self {
            slots,
            users,
            ids: holds.iter().map(|one| one.hold.id.as_uuid()).collect(),
            states: holds.iter().map(|one| one.hold.status.as_str()).collect(),
            captured: holds.iter().map(|one| one.hold.captured.amount()).collect(),
            ended_by: holds.iter().map(|one| one.by.map(TransactionId::as_uuid)).collect(),
        }
    }
}

fn moment(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).expect("an id's time and thirty days are within jiff's range")
}

fn refused_status(status: &Status) -> Option<&'static str> {
    match status {
        Status::Refused { refusal: Refusal::HoldNotOpen { status }, .. } => Some(status.as_str()),
        _ => None,
    }
}

/// Reads the columns of `read_named_holds.sql`.
pub fn hold_from_row(row: &Row) -> Result<Hold, ReadError> {
    let currency = Currency::of_ledger(column(row, 5)?)?;
    let state: &str = column(row, 2)?;
    Ok(Hold {
        id: TransactionId::from_uuid(column(row, 1)?),
        user_id: user_from(column(row, 0)?)?,
        status: HoldStatus::parse(state).ok_or_else(|| ReadError::Corrupt(format!("holds.state {state}")))?,
        money: Money::from_ledger(column(row, 3)?, currency)?,
        captured: Money::from_ledger(column(row, 4)?, currency)?,
        expires_at_ms: column::<Timestamp>(row, 6)?.as_millisecond(),
        idempotency_key: column(row, 7)?,
        reference: column(row, 8)?,
        metadata: column(row, 9)?,
    })
}
