//! What the second flight of a batch writes: rows of transactions, balances and refund totals.

use futures_util::future;
use jiff::Timestamp;
use picopay_shared::id::TransactionId;
use rust_decimal::Decimal;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use super::{
    WriteStatements, created_at, holds, refusal_word, refused_remaining, refused_request, transfers,
};
use crate::book::{BalanceRow, Booked, Recorded, RefundTotal};

/// Writes all of it in one flight. A statement fails if a balance or a total that it should write is not
/// there to be written.
pub async fn write_booked(client: &Client, sql: &WriteStatements, booked: &Booked) -> Result<(), Error> {
    // Polled together, so that all leave in one flight, in this order.
    let (rows, new_balances, totals, (holds, transfers)) = future::join4(
        write_transactions(client, sql, booked),
        insert_balances(client, sql, &booked.new_balances),
        write_refund_totals(client, sql, &booked.refund_totals),
        // Boxed, like all about holds and transfers: they would make every batch larger.
        Box::pin(future::join(
            holds::write(client, &sql.holds, booked),
            transfers::write(client, &sql.transfers, booked),
        )),
    )
    .await;
    rows.and(new_balances).and(totals).and(holds).and(transfers)
}

/// With the balances that change: one statement costs less than two.
async fn write_transactions(client: &Client, sql: &WriteStatements, booked: &Booked) -> Result<(), Error> {
    // Those about holds, and those about transfers, have a statement of their own.
    let is_plain = |recorded: &&Recorded| {
        recorded.transaction.hold_part.is_empty() && recorded.transaction.transfer.is_none()
    };
    let plain: Vec<&Recorded> = booked.transactions.iter().filter(is_plain).collect();
    match (plain.as_slice(), booked.updated_balances.as_slice()) {
        ([], []) => {}
        ([recorded], [row]) if is_of_one_balance(recorded, row) => {
            let transaction = &recorded.transaction;
            client
                .execute(
                    &sql.write_one,
                    &[
                        &transaction.user_id.slot().as_i16(),
                        &transaction.user_id.get(),
                        &transaction.id.as_uuid(),
                        &transaction.idempotency_key,
                        &recorded.fingerprint(),
                        &created_at(transaction.id),
                        &transaction.money.amount(),
                        &transaction.balance_after.amount(),
                        &transaction.kind.as_str(),
                        &transaction.money.currency().code(),
                        &refusal_word(&transaction.status),
                        &refused_request(&transaction.status),
                        &transaction.charge_id.map(TransactionId::as_uuid),
                        &refused_remaining(&transaction.status),
                        &transaction.reference,
                        &transaction.metadata,
                        &transaction.made_by.as_deref(),
                        &row.before.amount(),
                        &row.balance.amount(),
                        &row.last_stamp.to_ledger(),
                    ],
                )
                .await?;
        }
        (transactions, balances) => {
            let (rows, balances) = (TransactionColumns::of(transactions), BalanceColumns::of(balances));
            let parameters: Vec<_> = rows.parameters().into_iter().chain(balances.parameters()).collect();
            client.execute(&sql.write_batch, &parameters).await?;
        }
    }
    Ok(())
}

fn is_of_one_balance(recorded: &Recorded, row: &BalanceRow) -> bool {
    let transaction = &recorded.transaction;
    transaction.user_id == row.user_id && transaction.money.currency() == row.balance.currency()
}

async fn insert_balances(client: &Client, sql: &WriteStatements, rows: &[BalanceRow]) -> Result<(), Error> {
    if !rows.is_empty() {
        let BalanceColumns { slots, users, currencies, balances, stamps, .. } = BalanceColumns::of(rows);
        client.execute(&sql.insert_balances, &[&slots, &users, &currencies, &balances, &stamps]).await?;
    }
    Ok(())
}

async fn write_refund_totals(
    client: &Client,
    sql: &WriteStatements,
    totals: &[RefundTotal],
) -> Result<(), Error> {
    if totals.is_empty() {
        return Ok(());
    }
    let slots: Vec<i16> = totals.iter().map(|total| total.user_id.slot().as_i16()).collect();
    let users: Vec<i64> = totals.iter().map(|total| total.user_id.get()).collect();
    let charge_ids: Vec<Uuid> = totals.iter().map(|total| total.charge_id.as_uuid()).collect();
    let charged: Vec<Decimal> = totals.iter().map(|total| total.charged.amount()).collect();
    let refunded: Vec<Decimal> = totals.iter().map(|total| total.refunded.amount()).collect();
    client.execute(&sql.write_refund_totals, &[&slots, &users, &charge_ids, &charged, &refunded]).await?;
    Ok(())
}

/// Rows of `transactions` as one array for each column.
struct TransactionColumns<'a> {
    slots: Vec<i16>,
    users: Vec<i64>,
    ids: Vec<Uuid>,
    keys: Vec<Option<Uuid>>,
    fingerprints: Vec<Option<&'a [u8]>>,
    times: Vec<Timestamp>,
    amounts: Vec<Decimal>,
    balances: Vec<Decimal>,
    kinds: Vec<&'a str>,
    currencies: Vec<&'a str>,
    refusals: Vec<Option<&'a str>>,
    requests: Vec<Option<&'a str>>,
    charges: Vec<Option<Uuid>>,
    remaining: Vec<Option<Decimal>>,
    references: Vec<Option<&'a str>>,
    metadata: Vec<Option<&'a str>>,
    makers: Vec<Option<&'a str>>,
}

impl<'a> TransactionColumns<'a> {
    fn of(transactions: &[&'a Recorded]) -> Self {
        let each = || transactions.iter().map(|recorded| &recorded.transaction);
        let slots = each().map(|one| one.user_id.slot().as_i16()).collect();
        let users = each().map(|one| one.user_id.get()).collect();
        let ids = each().map(|one| one.id.as_uuid()).collect();
        let keys = each().map(|one| one.idempotency_key).collect();
        let fingerprints = transactions.iter().map(|recorded| recorded.fingerprint()).collect();
        let times = each().map(|one| created_at(one.id)).collect();
        let amounts = each().map(|one| one.money.amount()).collect();
        let balances = each().map(|one| one.balance_after.amount()).collect();
        let kinds = each().map(|one| one.kind.as_str()).collect();
        let currencies = each().map(|one| one.money.currency().code()).collect();
        let refusals = each().map(|one| refusal_word(&one.status)).collect();
        let requests = each().map(|one| refused_request(&one.status)).collect();
        let charges = each().map(|one| one.charge_id.map(TransactionId::as_uuid)).collect();
        let remaining = each().map(|one| refused_remaining(&one.status)).collect();
        let references = each().map(|one| one.reference.as_deref()).collect();
        let metadata = each().map(|one| one.metadata.as_deref()).collect();
        let makers = each().map(|one| one.made_by.as_deref()).collect();
        Self {
            slots,
            users,
            ids,
            keys,
            fingerprints,
            times,
            amounts,
            balances,
            kinds,
            currencies,
            refusals,
            requests,
            charges,
            remaining,
            references,
            metadata,
            makers,
        }
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 17] {
        [
            &self.slots,
            &self.users,
            &self.ids,
            &self.keys,
            &self.fingerprints,
            &self.times,
            &self.amounts,
            &self.balances,
            &self.kinds,
            &self.currencies,
            &self.refusals,
            &self.requests,
            &self.charges,
            &self.remaining,
            &self.references,
            &self.metadata,
            &self.makers,
        ]
    }
}

/// Rows of `balances` as one array for each column.
struct BalanceColumns {
    slots: Vec<i16>,
    users: Vec<i64>,
    currencies: Vec<&'static str>,
    before: Vec<Decimal>,
    balances: Vec<Decimal>,
    stamps: Vec<i64>,
}

impl BalanceColumns {
    fn of(rows: &[BalanceRow]) -> Self {
        Self {
            slots: rows.iter().map(|row| row.user_id.slot().as_i16()).collect(),
            users: rows.iter().map(|row| row.user_id.get()).collect(),
            currencies: rows.iter().map(|row| row.balance.currency().code()).collect(),
            before: rows.iter().map(|row| row.before.amount()).collect(),
            balances: rows.iter().map(|row| row.balance.amount()).collect(),
            stamps: rows.iter().map(|row| row.last_stamp.to_ledger()).collect(),
        }
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 6] {
        [&self.slots, &self.users, &self.currencies, &self.before, &self.balances, &self.stamps]
    }
}
