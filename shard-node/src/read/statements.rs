//! Queries as statements: one for each kind of query, however many ask. Only holds and balances at a time have a statement for
//! each read: they are looked at one by one.
//!
//! Each statement has owner and rows of one moment. Otherwise a slot that moved in between would show half a
//! history.

use futures_util::future;
use picopay_shared::id::TransactionId;
use picopay_shared::money::{Currency, Money};
use picopay_shared::query::{Balance, Found, HistoryQuery, HoldsQuery, Query};
use picopay_shared::slot::Slot;
use picopay_shared::slot_owner::OwnerRow;

use crate::slot_owner::{self, Stopped};
use crate::store::{self, LOOKS_MAX, Page, PageWanted, ReadError, Seen};

/// # Errors
/// When the statement failed.
pub async fn ask(client: &deadpool_postgres::Client, query: &Query) -> Result<Found, ReadError> {
    Ok(ask_all(client, &[query]).await?.remove(0))
}

/// Asks all of `queries` in one flight. One result for each, in their order.
///
/// # Errors
/// When a statement failed. Nobody is answered then.
pub async fn ask_all(
    client: &deadpool_postgres::Client,
    queries: &[&Query],
) -> Result<Vec<Found>, ReadError> {
    let (mut users, mut pages, mut ids, mut singles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for query in queries {
        match query {
            Query::Balance { user_id, .. } => users.push(*user_id),
            Query::History(history) => pages.push(page_wanted(history)),
            Query::Lookup { id } => ids.push(*id),
            Query::Holds(_) | Query::Hold { .. } | Query::Transfer { .. } | Query::BalanceAt { .. } => {
                singles.push(ask_single(client, query));
            }
        }
    }
    // Polled together, so that all leave in one flight.
    let (balances, histories, transactions, singles) = future::try_join4(
        store::find_balances(client, &users),
        store::find_histories(client, &pages),
        store::find_transactions(client, &ids),
        future::try_join_all(singles),
    )
    .await?;
    let (mut balances, mut histories, mut transactions, mut singles) =
        (balances.into_iter(), histories.into_iter(), transactions.into_iter(), singles.into_iter());
    let one_each = "one result for each";
    let found = queries.iter().map(|query| {
        let found = match query {
            Query::Balance { .. } => balances.next().expect(one_each).map(|seen| of_balances(query, seen)),
            Query::History(history) => histories.next().expect(one_each).map(|page| of_page(history, page)),
            Query::Lookup { id } => transactions.next().expect(one_each).map(|seen| {
                moved(id.slot(), seen.owner.as_ref()).unwrap_or_else(|| match seen.found.into_iter().next() {
                    Some(transaction) => Found::Transaction(Box::new(transaction)),
                    None => Found::TransactionNotFound,
                })
            }),
            Query::Holds(_) | Query::Hold { .. } | Query::Transfer { .. } | Query::BalanceAt { .. } => {
                Ok(singles.next().expect(one_each))
            }
        };
        found.unwrap_or_else(|error| Found::Corrupt { reason: error.reason() })
    });
    Ok(found.collect())
}

/// A row that cannot be read fails this read, and a statement that fails all of them.
async fn ask_single(client: &deadpool_postgres::Client, query: &Query) -> Result<Found, ReadError> {
    let found = match query {
        Query::Holds(holds) => find_holds(client, holds).await,
        Query::Hold { id } => store::find_hold(client, *id).await.map(|Seen { owner, mut found, .. }| {
            moved(id.slot(), owner.as_ref()).unwrap_or_else(|| match found.pop() {
                Some((hold, available)) => Found::Hold { hold: Box::new(hold), available },
                None => Found::HoldNotFound,
            })
        }),
        Query::BalanceAt { user_id, currency, at_ms } => {
            let seen = store::find_balances_at(client, *user_id, *currency, *at_ms).await;
            seen.map(|seen| of_balances_at(user_id.slot(), *currency, seen))
        }
        Query::Transfer { id } => {
            store::transfers::find_transfer(client, *id).await.map(|Seen { owner, mut found, .. }| {
                moved(id.slot(), owner.as_ref()).unwrap_or_else(|| match found.pop() {
                    Some(transfer) => Found::Transfer(Box::new(transfer)),
                    None => Found::TransferNotFound,
                })
            })
        }
        Query::Balance { .. } | Query::History(_) | Query::Lookup { .. } => {
            unreachable!("those have a statement for many")
        }
    };
    match found {
        Err(error @ ReadError::Corrupt(_)) => Ok(Found::Corrupt { reason: error.reason() }),
        found => found,
    }
}

async fn find_holds(client: &deadpool_postgres::Client, query: &HoldsQuery) -> Result<Found, ReadError> {
    // No hold has an id of a refusal.
    let before = query.before.unwrap_or(TransactionId::first_refusal());
    let limit = usize::from(query.limit);
    let bounds = (i64::from(query.limit) + 1, LOOKS_MAX);
    let page = store::find_holds(client, query.user_id, before, query.status, bounds).await?;
    Ok(of_user(query.user_id.slot(), page.holds, |mut holds| {
        let is_full = holds.len() > limit;
        holds.truncate(limit);
        let goes_on_before = if is_full { holds.last().map(|last| last.id) } else { page.looked_down_to };
        Found::Holds { holds, goes_on_before }
    }))
}

fn of_balances(query: &Query, seen: Seen<Balance>) -> Found {
    let Query::Balance { currency, .. } = query else { unreachable!("it was asked for balances") };
    of_user(query.slot(), seen, |balances| {
        Found::Balances(match currency {
            None => balances,
            Some(currency) => {
                let one = balances.into_iter().find(|one| one.balance.currency() == *currency);
                vec![one.unwrap_or(Money::zero(*currency).into())]
            }
        })
    })
}

fn of_balances_at(slot: Slot, currency: Option<Currency>, seen: Seen<Option<Money>>) -> Found {
    of_user(slot, seen, |balances| {
        let Some(mut balances) = balances.into_iter().collect::<Option<Vec<Money>>>() else {
            return Found::RangeTooLarge;
        };
        if let (Some(currency), true) = (currency, balances.is_empty()) {
            balances.push(Money::zero(currency));
        }
        Found::Balances(balances.into_iter().map(Balance::from).collect())
    })
}

fn page_wanted(query: &HistoryQuery) -> PageWanted {
    // Refusals are above all that history lists.
    let to = query.to_ms.map_or(TransactionId::first_refusal(), TransactionId::first_at);
    PageWanted {
        user: query.user_id,
        from: TransactionId::first_at(query.from_ms.unwrap_or(0)),
        before: query.before.map_or(to, |before| before.min(to)),
        kind: query.kind,
        // One more than asked for shows whether there is a next page.
        limit: i64::from(query.limit) + 1,
        looks: if query.takes_short_pages { LOOKS_MAX } else { i64::MAX },
    }
}

fn of_page(query: &HistoryQuery, page: Page) -> Found {
    let limit = usize::from(query.limit);
    of_user(query.user_id.slot(), page.transactions, |mut transactions| {
        let is_full = transactions.len() > limit;
        transactions.truncate(limit);
        let last = if is_full { transactions.last().map(|last| last.id) } else { page.looked_down_to };
        Found::History { transactions, has_more: last.is_some(), goes_on_before: last }
    })
}

fn of_user<T>(slot: Slot, seen: Seen<T>, answer: impl FnOnce(Vec<T>) -> Found) -> Found {
    let stopped = moved(slot, seen.owner.as_ref()).or((!seen.user_exists).then_some(Found::UserNotFound));
    stopped.unwrap_or_else(|| answer(seen.found))
}

fn moved(slot: Slot, owner: Option<&OwnerRow>) -> Option<Found> {
    // No epoch is compared: a read writes nothing that a lost change of owner could spoil.
    match slot_owner::check(slot, 0, owner) {
        Err(Stopped::Moved(moved)) => Some(Found::Moved(moved)),
        Ok(()) | Err(Stopped::StateLost { .. }) => None,
    }
}
