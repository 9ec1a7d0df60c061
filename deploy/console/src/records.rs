//! Transactions, holds and transfers as the page reads them. Ids of users are texts, since numbers of a browser end at 2^53.

use picopay_shared::command::{Kind, Transaction};
use picopay_shared::hold::Hold;
use picopay_shared::query::{Balance, Source};
use picopay_shared::transfer::{Transfer, TransferStatus};
use serde_json::{Map, Value, json};

pub fn of_balance(balance: &Balance) -> Value {
    json!({
        "currency": balance.balance.currency().code(),
        "balance": balance.balance.to_string(),
        "held": balance.held.to_string(),
        "available": balance.available().to_string(),
    })
}

pub fn of_transaction(record: &Transaction) -> Value {
    let mut body = json!({
        "id": record.id.as_uuid(),
        "user_id": record.user_id.get().to_string(),
        "kind": record.kind.as_str(),
        "amount": record.money.to_string(),
        "currency": record.money.currency().code(),
        "balance_after": record.balance_after.to_string(),
        "at_ms": record.id.unix_ms(),
        "slot": record.id.slot().get(),
    });
    let Value::Object(fields) = &mut body else { unreachable!("an object was just made") };
    let mut add =
        |name: &str, value: Option<Value>| fields.extend(value.map(|value| (name.to_owned(), value)));
    add("idempotency_key", record.idempotency_key.map(|key| json!(key)));
    add("charge_id", record.charge_id.map(|id| json!(id.as_uuid())));
    add("hold_id", record.hold_part.hold_id.map(|id| json!(id.as_uuid())));
    if let Some(part) = &record.transfer {
        let other = if record.kind == Kind::TransferIn { "from_user_id" } else { "to_user_id" };
        add("transfer_id", Some(json!(part.transfer_id.as_uuid())));
        add(other, Some(json!(part.other_user_id.get().to_string())));
    }
    add("made_by", record.made_by.as_deref().map(|name| json!(name)));
    add_clients_own(fields, record.reference.as_deref(), record.metadata.as_deref());
    body
}

pub fn of_hold(hold: &Hold) -> Value {
    let mut body = json!({
        "id": hold.id.as_uuid(),
        "user_id": hold.user_id.get().to_string(),
        "status": hold.status.as_str(),
        "amount": hold.money.to_string(),
        "captured": hold.captured.to_string(),
        "currency": hold.money.currency().code(),
        "at_ms": hold.id.unix_ms(),
        "expires_at_ms": hold.expires_at_ms,
        "idempotency_key": hold.idempotency_key,
    });
    let Value::Object(fields) = &mut body else { unreachable!("an object was just made") };
    add_clients_own(fields, hold.reference.as_deref(), hold.metadata.as_deref());
    body
}

pub fn of_transfer(transfer: &Transfer) -> Value {
    let reason = match transfer.status {
        TransferStatus::Reversed { reason } => Some(reason.as_str()),
        TransferStatus::Pending | TransferStatus::Completed => None,
    };
    let mut body = json!({
        "id": transfer.id.as_uuid(),
        "from_user_id": transfer.from_user_id.get().to_string(),
        "to_user_id": transfer.to_user_id.get().to_string(),
        "status": transfer.status.as_str(),
        "reason": reason,
        "amount": transfer.money.to_string(),
        "currency": transfer.money.currency().code(),
        "at_ms": transfer.id.unix_ms(),
        "ended_at_ms": transfer.ended_at_ms,
        "idempotency_key": transfer.idempotency_key,
    });
    let Value::Object(fields) = &mut body else { unreachable!("an object was just made") };
    add_clients_own(fields, transfer.reference.as_deref(), transfer.metadata.as_deref());
    body
}

/// Where it was read, in words.
pub fn of_source(source: Source) -> String {
    match source {
        Source::Primary => "the primary".to_owned(),
        Source::Replica { lag_ms: 0 } => "a replica that lacks nothing".to_owned(),
        Source::Replica { lag_ms } => format!("a replica, {lag_ms} ms behind"),
    }
}

/// Metadata stays the text that it is: a number in it may be more than a browser can count.
fn add_clients_own(fields: &mut Map<String, Value>, reference: Option<&str>, metadata: Option<&str>) {
    for (name, text) in [("reference", reference), ("metadata", metadata)] {
        fields.extend(text.map(|text| (name.to_owned(), json!(text))));
    }
}
