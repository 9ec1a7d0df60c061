//! What a user's balances were at a time.

use picopay_shared::id::TransactionId;
use picopay_shared::money::{Currency, Money};
use picopay_shared::slot::UserId;
use rust_decimal::Decimal;

use super::seen::{Seen, first, owner};
use super::{ReadError, column, money_from};

/// Rows that are looked at before and after the asked time, so that no history costs more than some tens of
/// milliseconds.
const LOOKS_MAX: i64 = 100_000;

/// Bits of a stamp below its milliseconds.
const STAMP_BITS: u32 = 16;

/// The balances at the end of a millisecond, by currency; `None` for one that lies too deep in the history.
pub async fn find_balances_at(
    client: &deadpool_postgres::Client,
    user: UserId,
    currency: Option<Currency>,
    at_ms: i64,
) -> Result<Seen<Option<Money>>, ReadError> {
    let statement = client.prepare_cached(include_str!("../sql/find_balances_at.sql")).await?;
    // No id and no stamp is beyond these.
    let next_ms = at_ms.saturating_add(1).clamp(0, 1 << 46);
    let after = TransactionId::first_at(at_ms.saturating_add(1)).as_uuid();
    let (slot, user_id, code) = (user.slot().as_i16(), user.get(), currency.map(Currency::code));
    let (stamp_after, refusals) = (next_ms << STAMP_BITS, TransactionId::first_refusal().as_uuid());
    let rows = client
        .query(&statement, &[&slot, &user_id, &after, &stamp_after, &code, &refusals, &LOOKS_MAX])
        .await?;
    let mut found: Vec<(&str, Option<Money>)> = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(code) = column::<Option<&str>>(row, 0)? {
            let balance: Option<Decimal> = column(row, 1)?;
            found.push((code, balance.map(|balance| money_from(balance, code)).transpose()?));
        }
    }
    found.sort_unstable_by_key(|(code, _)| *code);
    let first = first(&rows)?;
    Ok(Seen {
        owner: owner(user.slot(), first, 3)?,
        user_exists: column(first, 2)?,
        found: found.into_iter().map(|(_, balance)| balance).collect(),
    })
}
