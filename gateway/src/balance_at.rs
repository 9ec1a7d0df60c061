//! `GET /users/{user_id}/balance?at=…`: what a user's balances were.

use axum::http::StatusCode;
use axum::response::Response;
use picopay_shard_client::{BalancesAt, Read, Reader};
use picopay_shared::money::{Currency, Money};
use picopay_shared::slot::UserId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::read_answer::read_answer;
use crate::state::GatewayState;
use crate::transaction_body::{serialize_display, time_of};

/// All balances of one user at a time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BalancesAt)]
pub struct BalancesAtBody {
    #[schema(example = 1)]
    user_id: i64,
    /// The millisecond that was asked for.
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.123Z")]
    at: String,
    /// One for each currency that the user has now, by code; zero before its first transaction.
    balances: Vec<BalanceAtBody>,
}

/// A balance at a time, in one currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BalanceAt)]
pub struct BalanceAtBody {
    #[schema(value_type = String, example = "USD")]
    currency: Currency,
    /// At the currency's scale.
    #[serde(serialize_with = "serialize_display")]
    #[schema(value_type = String, example = "950.00")]
    balance: Money,
}

/// A user's balance at a time, in the currency that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserBalanceAt)]
pub struct UserBalanceAtBody {
    #[schema(example = 1)]
    user_id: i64,
    /// The millisecond that was asked for.
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.123Z")]
    at: String,
    #[serde(flatten)]
    balance: BalanceAtBody,
}

pub async fn read_balances_at(
    gateway: &GatewayState,
    user: UserId,
    currency: Option<Currency>,
    at_ms: i64,
    reader: Reader,
) -> Result<Response, Problem> {
    let Read { found, source } = gateway.shards.read_balances_at(user, currency, at_ms, reader).await?;
    let found = found.ok_or_else(|| Problem::user_not_found().with_source(source))?;
    let BalancesAt::Found(balances) = found else {
        return Err(Problem::balance_too_deep().with_source(source));
    };
    let (user_id, at) = (user.get(), time_of(at_ms));
    if let Some(currency) = currency {
        let balance = balances.into_iter().find(|balance| balance.currency() == currency);
        let balance = BalanceAtBody::of(balance.unwrap_or(Money::zero(currency)));
        return Ok(read_answer(StatusCode::OK, &UserBalanceAtBody { user_id, at, balance }, source));
    }
    let balances = balances.into_iter().map(BalanceAtBody::of).collect();
    Ok(read_answer(StatusCode::OK, &BalancesAtBody { user_id, at, balances }, source))
}

impl BalanceAtBody {
    fn of(balance: Money) -> Self {
        Self { currency: balance.currency(), balance }
    }
}
