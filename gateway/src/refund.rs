//! `POST /refund`: money back for a charge, in parts or whole, never more than was charged.

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use picopay_gateway_config::Scope;
use picopay_shared::command::Operation;
use picopay_shared::id::TransactionId;
use utoipa::ToSchema;

use crate::currency_schema::AmountSchema;
use crate::fields::{self, Fields};
use crate::guarded::Guarded;
use crate::openapi::parts::{RefundProblems, WriteHeaders};
use crate::problem::Problem;
use crate::transaction_body::WriteSchema;
use crate::wish::Wish;
use crate::write_answer::Answered;
use crate::write_request;

// A schema for the documentation; `read_refund` reads it.
/// What to give back.
#[derive(Debug, ToSchema)]
#[schema(as = Refund)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct RefundBody {
    /// The charge to refund.
    #[schema(format = "uuid", example = "019a9f3a-7a6b-892e-9356-4ab70000c001")]
    transaction_id: String,
    /// How much, in the charge's currency. Left out: all that remains.
    #[schema(nullable = false)]
    amount: Option<AmountSchema>,
}

pub const REFUND: Wish = Wish { word: "refund", scopes: &[Scope::Refund], read: read_refund };

/// Refund a charge
///
/// Gives back part of a charge or, without an amount, all that remains of it. Together the refunds of a charge never
/// exceed it.
#[utoipa::path(
    post, path = "/refund", tag = "money",
    params(WriteHeaders),
    request_body(content = RefundBody),
    responses(
        (status = 200, description = "Refunded, now or before.", body = WriteSchema),
        RefundProblems,
    ),
)]
pub async fn post_refund(
    State(guarded): State<Guarded>,
    request: Request<Body>,
) -> Result<Answered, Problem> {
    write_request::run(&guarded, request, REFUND.read).await
}

fn read_refund(body: &[u8]) -> Result<Operation, Problem> {
    let mut fields = Fields::read(body, &["transaction_id", "amount"])?;
    let charge_id = fields.required("transaction_id", fields::uuid).map(TransactionId::from_uuid);
    let amount = fields.optional("amount", fields::amount);
    let operation = fields.finish(charge_id.map(|charge_id| Operation::Refund { charge_id, amount }))?;
    match &operation {
        Operation::Refund { charge_id, .. } if !charge_id.is_ours() => Err(Problem::transaction_not_found()),
        _ => Ok(operation),
    }
}

#[cfg(test)]
mod tests {
    use picopay_shared::money::Amount;

    use super::*;

    const ID: &str = "019a9f3a-7a6b-892e-9356-4ab70000c001";

    #[test]
    fn no_amount_means_all_that_remains_and_null_means_nothing() {
        let read = |rest: &str| read_refund(format!("{{\"transaction_id\":\"{ID}\"{rest}}}").as_bytes());
        let amount_of = |operation| match operation {
            Operation::Refund { charge_id, amount } => {
                assert_eq!(charge_id.to_string(), ID);
                amount
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(amount_of(read("").unwrap()), None);
        assert_eq!(amount_of(read(",\"amount\":\"1.5\"").unwrap()), Some(Amount::parse("1.5").unwrap()));
        for rest in [",\"amount\":null", ",\"amount\":0", ",\"amount\":\"1.23456\"", ",\"currency\":\"USD\""]
        {
            assert!(read(rest).is_err(), "{rest}");
        }
    }

    #[test]
    fn an_id_that_no_transaction_can_have_is_asked_of_nobody() {
        for id in [
            "550e8400-e29b-41d4-a716-446655440000",
            "019a9f3a-7a6b-792e-9356-4ab70000c001",
            "019a9f3a-7a6b-892e-d356-4ab70000c001",
            // The id of a refused charge.
            "819a9f3a-7a6b-892e-9356-4ab70000c001",
        ] {
            let refused = read_refund(format!("{{\"transaction_id\":\"{id}\"}}").as_bytes()).unwrap_err();
            assert_eq!(refused.code().suffix(), "transaction-not-found", "{id}");
        }
        assert!(read_refund(format!("{{\"transaction_id\":\"{ID}\"}}").as_bytes()).is_ok());
    }

    #[test]
    fn a_refund_names_its_charge() {
        for body in
            ["{}", "{\"transaction_id\":1}", "{\"transaction_id\":\"x\"}", "{\"transaction_id\":null}"]
        {
            assert!(read_refund(body.as_bytes()).is_err(), "{body}");
        }
    }
}
