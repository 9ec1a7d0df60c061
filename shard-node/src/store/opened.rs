//! What the first flight of a batch reads, by one statement: owners, locked users and their balances.

use std::collections::{HashMap, HashSet};

use futures_util::future;
use jiff::Timestamp;
use picopay_postgres::owner_of_columns;
use picopay_shared::id::Stamp;
use picopay_shared::slot::{FENCE_LOCK, Slot, UserId};
use picopay_shared::slot_owner::OwnerRow;
use rust_decimal::Decimal;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Client, Row};

use super::holds::held_of;
use super::{
    Balances, Locked, ReadError, WriteStatements, column, held_or, lock_free_users, lock_users, money_from,
    read_balances, read_owners, take_fence, user_from, user_keys,
};

pub struct Opened {
    pub owners: HashMap<Slot, OwnerRow>,
    pub locked: Locked,
    pub balances: Balances,
}

/// Takes the fence, reads the owners of `slots`, locks those of `users` that exist and reads their balances.
/// `users` must be in the order of keys, each once. Waits for the holders of users, and for nobody at the
/// fence: `None` when it was not free, and then nothing was done.
pub async fn open_batch(
    client: &Client,
    sql: &WriteStatements,
    slots: &[i16],
    users: &[UserId],
) -> Result<Option<Opened>, ReadError> {
    let row = if let [user] = users {
        client.query_one(&sql.open_one, &[&FENCE_LOCK, &user.slot().as_i16(), &user.get()]).await
    } else {
        let (user_slots, ids) = user_keys(users);
        client.query_one(&sql.open_batch, &[&FENCE_LOCK, &slots, &user_slots, &ids]).await
    };
    let row = row.map_err(held_or)?;
    if column(&row, 0)? { Ok(Some(opened_from_row(&row)?)) } else { Ok(None) }
}

/// The same by a statement for each step. Waits for the fence too. With `skips_held`, it waits for no user.
pub async fn open_batch_slowly(
    client: &Client,
    sql: &WriteStatements,
    slots: &[i16],
    users: &[UserId],
    skips_held: bool,
) -> Result<Opened, ReadError> {
    let lock = async {
        if skips_held {
            lock_free_users(client, sql, users).await
        } else {
            lock_users(client, sql, users).await
        }
    };
    let ((), owners, locked, balances) = future::try_join4(
        take_fence(client, sql),
        read_owners(client, sql, slots),
        lock,
        read_balances(client, sql, users),
    )
    .await?;
    Ok(Opened { owners, locked, balances })
}

fn opened_from_row(row: &Row) -> Result<Opened, ReadError> {
    let (slots, states, names, epochs): (Vec<i16>, Vec<&str>, Vec<&str>, Vec<i64>) =
        (array(row, 1)?, array(row, 2)?, array(row, 3)?, array(row, 4)?);
    let mut owners = HashMap::with_capacity(slots.len());
    for (((slot, state), name), epoch) in slots.into_iter().zip(states).zip(names).zip(epochs) {
        let owner = owner_of_columns(slot, state, name, epoch)?;
        owners.insert(owner.slot, owner);
    }
    let users: HashSet<UserId> = array(row, 5)?.into_iter().map(user_from).collect::<Result<_, _>>()?;
    let now = Stamp::at(column::<Timestamp>(row, 6)?.as_microsecond());
    let (of, currencies, amounts, stamps): (Vec<i64>, Vec<&str>, Vec<Decimal>, Vec<i64>) =
        (array(row, 7)?, array(row, 8)?, array(row, 9)?, array(row, 10)?);
    let (helds, counts, dues): (Vec<Option<Decimal>>, Vec<i32>, Vec<Option<Timestamp>>) =
        (array(row, 11)?, array(row, 12)?, array(row, 13)?);
    let held = helds.into_iter().zip(counts).zip(dues);
    let mut balances = Balances::default();
    let rows = of.into_iter().zip(currencies).zip(amounts).zip(stamps).zip(held);
    for ((((user, currency), amount), stamp), ((held, count), due)) in rows {
        let balance = money_from(amount, currency)?;
        balances.add(user_from(user)?, balance, stamp, held_of(balance, held, count, due)?)?;
    }
    Ok(Opened { owners, locked: Locked { users, held: HashSet::new(), now }, balances })
}

/// An array of a row; none at all is an empty one, as `array_agg` has it.
fn array<'a, T: FromSql<'a>>(row: &'a Row, position: usize) -> Result<Vec<T>, ReadError> {
    Ok(column::<Option<Vec<T>>>(row, position)?.unwrap_or_default())
}
