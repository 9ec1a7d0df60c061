//! `GET /totals`: what all users have together, per currency.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use picopay_shared::aggregate::Total;
use picopay_shared::money::{Currency, MoneySum};
use serde::Serialize;
use utoipa::ToSchema;

use crate::guarded::{Admitted, Guarded};
use crate::json_answer::json;
use crate::openapi::parts::{ReadHeaders, TotalsProblems};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::read_request::reader;
use crate::request_id::RequestId;
use crate::shard_sources::ShardSourceBody;
use crate::transaction_body::serialize_display;

/// All balances by currency, with where they came from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Totals)]
pub struct TotalsBody {
    /// One for each currency in which somebody has a balance.
    totals: Vec<TotalBody>,
    /// One for each shard.
    shards: Vec<ShardSourceBody>,
}

/// All balances in one currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Total)]
pub struct TotalBody {
    #[schema(value_type = String, example = "USD")]
    currency: Currency,
    /// How many users have a balance in it, be it zero.
    #[schema(minimum = 1, example = 2)]
    users: u64,
    /// What they have together.
    #[serde(serialize_with = "serialize_display")]
    #[schema(value_type = String, example = "1900.00")]
    balance: MoneySum,
    /// What open holds reserve of it.
    #[serde(serialize_with = "serialize_display")]
    #[schema(value_type = String, example = "30.00")]
    held: MoneySum,
    /// What has left one user's balance and not reached another's yet. Between two shards it counts until the sender's shard
    /// knows that it has arrived, some milliseconds later: so while transfers run, a little may count at both, or at neither.
    #[serde(serialize_with = "serialize_display")]
    #[schema(value_type = String, example = "0.00")]
    in_transit: MoneySum,
}

/// Add up all balances
///
/// Per currency over all users, each shard at its own moment. From replicas where they are fresh enough. It reads every
/// balance, and no transaction. There is no total without all shards: when one does not answer, this is a 503 that names it.
#[utoipa::path(
    get, path = "/totals", tag = "operation",
    params(ReadHeaders),
    responses((status = 200, description = "The totals.", body = TotalsBody), TotalsProblems),
)]
pub async fn get_totals(
    State(guarded): State<Guarded>,
    RawQuery(query): RawQuery,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Admitted { gateway, .. } = guarded.admit(&headers)?;
    let mut parameters = Parameters::read(query.as_deref(), &[]);
    let reader = reader(&headers, &request_id, &mut parameters);
    parameters.finish(Some(()))?;
    let gathered = gateway.shards.read_totals(reader).await?;
    let totals = gathered.figures.totals.into_iter().map(TotalBody::from).collect();
    let shards = gathered.shards.into_iter().map(ShardSourceBody::from).collect();
    Ok(json(StatusCode::OK, &TotalsBody { totals, shards }))
}

impl From<Total> for TotalBody {
    fn from(Total { users, balance, held, in_transit }: Total) -> Self {
        Self { currency: balance.currency(), users, balance, held, in_transit }
    }
}
