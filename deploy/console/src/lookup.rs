//! A user, or a transaction by its id, asked of the shard's nodes as a gateway asks them.

use axum::http::StatusCode;
use futures_util::future::try_join3;
use picopay_shard_client::{Reader, ShardClient, ShardError};
use picopay_shared::id::TransactionId;
use picopay_shared::origin::Origin;
use picopay_shared::query::{Consistency, HistoryQuery, HoldsQuery};
use picopay_shared::slot::UserId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::records::{of_balance, of_hold, of_source, of_transaction, of_transfer};

/// Lines of a page of history, and of holds.
const LINES: u16 = 50;

/// Why there is nothing to show, with the status of the answer.
#[derive(Debug, PartialEq, Eq)]
pub struct NotShown {
    pub status: StatusCode,
    pub why: String,
}

/// A user's balances, holds and history, the newest first; with `before`, the older part of the history only.
///
/// # Errors
/// [`NotShown`]: no user's id, no such user, or the shard does not answer.
pub async fn user(shards: &ShardClient, id: &str, before: Option<Uuid>) -> Result<Value, NotShown> {
    let user_id = id.parse::<i64>().ok().and_then(|id| UserId::try_from(id).ok()).ok_or_else(|| {
        NotShown::new(StatusCode::BAD_REQUEST, "a user's id is a number from 1 to 9223372036854775807")
    })?;
    let history = HistoryQuery {
        user_id,
        limit: LINES,
        before: before.map(TransactionId::from_uuid),
        kind: None,
        from_ms: None,
        to_ms: None,
        takes_short_pages: true,
    };
    let holds = HoldsQuery { user_id, limit: LINES, before: None, status: None };
    let (balances, holds, page) = try_join3(
        shards.read_balances(user_id, None, Consistency::Strong, reader()),
        shards.read_holds(holds, reader()),
        shards.read_history(history, reader()),
    )
    .await?;
    let source = of_source(page.source);
    let (Some(balances), Some(holds), Some(page)) = (balances.found, holds.found, page.found) else {
        return Err(NotShown::new(StatusCode::NOT_FOUND, &format!("there is no user {user_id}")));
    };
    Ok(json!({
        "user_id": user_id.get().to_string(),
        "slot": user_id.slot().get(),
        "shard": shards.shard_of(user_id.slot()),
        "balances": balances.iter().map(of_balance).collect::<Vec<_>>(),
        "holds": holds.holds.iter().map(of_hold).collect::<Vec<_>>(),
        "has_more_holds": holds.goes_on_before.is_some(),
        "history": page.transactions.iter().map(of_transaction).collect::<Vec<_>>(),
        "goes_on_before": page.goes_on_before.map(TransactionId::as_uuid),
        "history_is_from": source,
    }))
}

/// The transaction with this id, and the transfer or the hold that it began.
///
/// # Errors
/// [`NotShown`]: no id, no such transaction, or the shard does not answer.
pub async fn transaction(shards: &ShardClient, id: &str) -> Result<Value, NotShown> {
    let not_found = || NotShown::new(StatusCode::NOT_FOUND, &format!("there is no transaction {id}"));
    let uuid = Uuid::try_parse(id)
        .map_err(|_| NotShown::new(StatusCode::BAD_REQUEST, "a transaction's id is a UUID"))?;
    let id = TransactionId::from_uuid(uuid);
    if !id.is_ours() {
        return Err(not_found());
    }
    let (transaction, hold, transfer) = try_join3(
        shards.read_transaction(id, reader()),
        shards.read_hold(id, reader()),
        shards.read_transfer(id, reader()),
    )
    .await?;
    let source = of_source(transaction.source);
    let transaction = transaction.found.ok_or_else(not_found)?;
    Ok(json!({
        "transaction": of_transaction(&transaction),
        "shard": shards.shard_of(id.slot()),
        "hold": hold.found.map(|(hold, _)| of_hold(&hold)),
        "transfer": transfer.found.map(|transfer| of_transfer(&transfer)),
        "is_from": source,
    }))
}

/// The log of a node that fails names who asked.
fn reader() -> Reader {
    Reader {
        origin: Origin { request_id: format!("console-{}", Uuid::new_v4()), traceparent: None },
        session: None,
    }
}

impl NotShown {
    fn new(status: StatusCode, why: &str) -> Self {
        Self { status, why: why.to_owned() }
    }
}

impl From<ShardError> for NotShown {
    fn from(error: ShardError) -> Self {
        let why = match error {
            ShardError::NotDone { shard: Some(shard), .. } => format!("{shard} does not answer: try again"),
            ShardError::NotDone { shard: None, .. } | ShardError::Unknown => {
                "the shard of it does not answer, or it moves just now: try again".to_owned()
            }
        };
        Self { status: StatusCode::SERVICE_UNAVAILABLE, why }
    }
}
