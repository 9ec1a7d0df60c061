//! `GET /users/{user_id}/balance`: what a user has.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use picopay_shared::money::{Currency, Money};
use picopay_shared::query::{Consistency, Found, Query};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Scope;
use crate::gateway::Gateway;
use crate::openapi::{BalanceProblems, ReadHeaders};
use crate::parameters::{self, Parameters, PathParameters};
use crate::problem::Problem;
use crate::read_answer::read_answer;
use crate::session;
use crate::transaction_body::serialize_display;

/// A user's balances.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Balances)]
pub struct BalancesBody {
    #[schema(example = 1)]
    user_id: i64,
    /// One for each currency that was ever topped up, by code.
    balances: Vec<BalanceBody>,
}

/// A balance in one currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Balance)]
pub struct BalanceBody {
    #[schema(value_type = String, example = "USD")]
    currency: Currency,
    /// At the currency's scale.
    #[serde(serialize_with = "serialize_display")]
    #[schema(value_type = String, example = "950.00")]
    balance: Money,
}

/// A user's balance in the currency that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserBalance)]
pub struct UserBalanceBody {
    #[schema(example = 1)]
    user_id: i64,
    #[serde(flatten)]
    balance: BalanceBody,
}

/// Either answer, for the documentation.
#[derive(Debug, ToSchema)]
#[schema(as = BalanceAnswer)]
#[serde(untagged)]
pub enum BalanceSchema {
    /// Without `currency`.
    All(BalancesBody),
    /// With `currency`.
    One(UserBalanceBody),
}

/// Read a user's balance
///
/// A currency that the user never had reads as zero.
#[utoipa::path(
    get, path = "/users/{user_id}/balance", tag = "users",
    params(
        ReadHeaders,
        ("user_id" = i64, Path, minimum = 1, example = 1),
        ("currency" = Option<String>, Query, description = "Only this currency, an ISO 4217 code.", example = "USD"),
        ("consistency" = Option<String>, Query, description = "`strong` (the default) reads the primary; `eventual` may read a replica, and says so in PicoPay-Source and PicoPay-Lag-Ms; with PicoPay-Session it still shows that write.", example = "strong"),
    ),
    responses((status = 200, description = "The balance, or all of them.", body = BalanceSchema), BalanceProblems),
)]
pub async fn get_balance(
    State(gateway): State<Arc<Gateway>>,
    path: PathParameters,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    gateway.keys.admit(&headers, Scope::Read)?;
    let mut parameters = Parameters::read(query.as_deref(), &["currency", "consistency"]);
    let user_id = parameters.in_path("user_id", path.get("user_id"), parameters::user_id);
    let currency =
        parameters.optional("currency", |code| Currency::parse(code).map_err(|error| error.to_string()));
    let consistency = parameters.optional("consistency", parse_consistency).unwrap_or_default();
    let session = session::read(&headers, &mut parameters);
    let user_id = parameters.finish(user_id)?;
    let query = Query::Balance { user_id, currency, consistency };
    let (found, source) = gateway.shards.read(query, session).await?;
    let balances = match found {
        Found::Balances(balances) => balances,
        Found::UserNotFound => return Err(Problem::user_not_found().with_source(source)),
        Found::History { .. }
        | Found::Transaction(_)
        | Found::TransactionNotFound
        | Found::Moved(_)
        | Found::Unavailable { .. } => return Err(Problem::internal()),
    };
    let user_id = user_id.get();
    let body = |money: Money| BalanceBody { currency: money.currency(), balance: money };
    if let Some(currency) = currency {
        let balance = balances.into_iter().find(|money| money.currency() == currency);
        let balance = body(balance.unwrap_or(Money::zero(currency)));
        return Ok(read_answer(StatusCode::OK, &UserBalanceBody { user_id, balance }, source));
    }
    let balances = balances.into_iter().map(body).collect();
    Ok(read_answer(StatusCode::OK, &BalancesBody { user_id, balances }, source))
}

fn parse_consistency(word: &str) -> Result<Consistency, String> {
    match word {
        "strong" => Ok(Consistency::Strong),
        "eventual" => Ok(Consistency::Eventual),
        _ => Err("must be strong or eventual".to_owned()),
    }
}
