//! `GET /users/{user_id}/balance`: a user's balance.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use picopay_shard_client::Read;
use picopay_shared::money::{Currency, Money};
use picopay_shared::query::{Balance, Consistency};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::balance_at::{BalancesAtBody, UserBalanceAtBody, read_balances_at};
use crate::currency_schema::CurrencySchema;
use crate::guarded::{Admitted, Guarded};
use crate::openapi::parts::{BalanceProblems, ReadHeaders};
use crate::parameters::{self, Parameters, PathParameters};
use crate::problem::Problem;
use crate::read_answer::read_answer;
use crate::read_request::reader;
use crate::request_id::RequestId;
use crate::transaction_body::serialize_display;
use picopay_gateway_config::rfc3339::read_unix_ms_down;

/// All balances of one user.
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
    /// What open holds reserve of it.
    #[serde(serialize_with = "serialize_display")]
    #[schema(value_type = String, example = "30.00")]
    held: Money,
    /// The rest: what a charge or a hold can take.
    #[serde(serialize_with = "serialize_display")]
    #[schema(value_type = String, example = "920.00")]
    available: Money,
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

/// All balances, or the one in the currency that was asked for.
#[derive(Debug, ToSchema)]
#[schema(as = BalanceAnswer)]
#[serde(untagged)]
pub enum BalanceSchema {
    /// The answer without `currency`.
    All(BalancesBody),
    /// The answer with `currency`.
    One(UserBalanceBody),
    /// The answer with `at`.
    AllAt(BalancesAtBody),
    /// The answer with `at` and `currency`.
    OneAt(UserBalanceAtBody),
}

// The query of a balance, for the documentation.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
struct BalanceParameters {
    /// Only the balance in this currency.
    #[param(required = false, value_type = CurrencySchema, example = "USD")]
    currency: Currency,
    /// `strong` (the default) reads the primary; `eventual` may read a replica, and says so in PicoPay-Source and
    /// PicoPay-Lag-Ms. With PicoPay-Session it still shows that write.
    #[param(required = false, value_type = ConsistencySchema, example = "strong")]
    consistency: Consistency,
    /// The balance at the end of this millisecond, RFC 3339: what all transactions made up to then have left. It comes from a
    /// replica if one is fresh enough, as a history does, and so excludes `consistency`. With PicoPay-Session it takes that
    /// write into account. A time that is not over yet shows what is booked so far.
    #[param(required = false, format = DateTime, example = "2026-11-22T12:00:00Z")]
    at: String,
}

/// How fresh a balance must be.
#[derive(Debug, ToSchema)]
#[schema(as = Consistency, rename_all = "lowercase")]
pub enum ConsistencySchema {
    /// A balance from the primary.
    Strong,
    /// From a replica, if one is fresh enough.
    Eventual,
}

/// Read a user's balance
///
/// A currency that the user never had reads as zero. With `at`: what it was then, without `held` and `available`.
#[utoipa::path(
    get, path = "/users/{user_id}/balance", tag = "users",
    params(ReadHeaders, ("user_id" = i64, Path, minimum = 1, maximum = 9_223_372_036_854_775_807_i64, example = 1), BalanceParameters),
    responses((status = 200, description = "The balance, or all of them.", body = BalanceSchema), BalanceProblems),
)]
pub async fn get_balance(
    State(guarded): State<Guarded>,
    path: PathParameters,
    RawQuery(query): RawQuery,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Admitted { gateway, .. } = guarded.admit(&headers)?;
    let mut parameters = Parameters::read(query.as_deref(), &["currency", "consistency", "at"]);
    let user_id = parameters.in_path("user_id", path.get("user_id"), parameters::user_id);
    let currency =
        parameters.optional("currency", |code| Currency::parse(code).map_err(|error| error.to_string()));
    let consistency = parameters.optional("consistency", parse_consistency);
    let at_ms = parameters.optional("at", read_unix_ms_down);
    if consistency.is_some() && at_ms.is_some() {
        parameters.add("consistency", "does not go with at: what was then does not change any more");
    }
    let reader = reader(&headers, &request_id, &mut parameters);
    let user_id = parameters.finish(user_id)?;
    if let Some(at_ms) = at_ms {
        return read_balances_at(gateway, user_id, currency, at_ms, reader).await;
    }
    let consistency = consistency.unwrap_or_default();
    let Read { found, source } = gateway.shards.read_balances(user_id, currency, consistency, reader).await?;
    let balances = found.ok_or_else(|| Problem::user_not_found().with_source(source))?;
    let user_id = user_id.get();
    if let Some(currency) = currency {
        let balance = balances.into_iter().find(|one| one.balance.currency() == currency);
        let balance = BalanceBody::of(balance.unwrap_or(Money::zero(currency).into()));
        return Ok(read_answer(StatusCode::OK, &UserBalanceBody { user_id, balance }, source));
    }
    let balances = balances.into_iter().map(BalanceBody::of).collect();
    Ok(read_answer(StatusCode::OK, &BalancesBody { user_id, balances }, source))
}

impl BalanceBody {
    fn of(one: Balance) -> Self {
        let Balance { balance, held } = one;
        Self { currency: balance.currency(), balance, held, available: one.available() }
    }
}

fn parse_consistency(word: &str) -> Result<Consistency, String> {
    match word {
        "strong" => Ok(Consistency::Strong),
        "eventual" => Ok(Consistency::Eventual),
        _ => Err("must be strong or eventual".to_owned()),
    }
}
