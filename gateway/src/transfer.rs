//! `POST /transfers`: money from one user to another, wherever their shards are.

mod steps;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use picopay_shard_client::journey;
use picopay_shared::command::Operation;
use picopay_shared::transfer::TransferStatus;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use self::steps::Begun;
use crate::currency_schema::{ActiveCurrencySchema, AmountSchema};
use crate::fields::{self, Fields};
use crate::guarded::Guarded;
use crate::json_answer::json;
use crate::metrics::TransferEnd;
use crate::openapi::parts::{PaymentProblems, WriteHeaders};
use crate::payment::payment_of;
use crate::problem::{Code, Problem};
use crate::session;
use crate::transfer_body::{TransferAnswerBody, TransferAnswerSchema, TransferBody};
use crate::write_answer::{Answered, answered};
use crate::write_request;

/// How long an answer waits for the end of its transfer (contract, "Transfers"). Two shards that are up need some milliseconds.
const END_WAIT: Duration = Duration::from_secs(2);

// A schema for the documentation; `read_transfer` reads it.
/// What to move, and between whom.
#[derive(Debug, ToSchema)]
#[schema(as = NewTransfer)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct NewTransferBody {
    /// The user whose balance the money is taken from.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64, example = 1)]
    from_user_id: i64,
    /// Another user, whose balance it is added to.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64, example = 2)]
    to_user_id: i64,
    amount: AmountSchema,
    currency: ActiveCurrencySchema,
    /// The client's own reference, without U+0000. Both users' histories show it.
    #[schema(nullable = false, max_length = 255, pattern = "^[^\\u0000]*$", example = "rent")]
    reference: Option<String>,
    /// The client's own JSON object, at most 4 KiB without white space, nested at most 32 deep. Both users' histories show it.
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<String>,
}

const TRANSFER_FIELDS: [&str; 6] =
    ["from_user_id", "to_user_id", "amount", "currency", "reference", "metadata"];

/// Move money to another user
///
/// Takes the amount from the sender at once and gives it to the recipient exactly once: never both or neither for good. The
/// answer waits up to two seconds for the end. A transfer that is still pending then goes on by itself, whatever breaks. A
/// replay shows the transfer as it is now.
#[utoipa::path(
    post, path = "/transfers", tag = "transfers",
    params(WriteHeaders),
    request_body(content = NewTransferBody),
    responses(
        (status = 200, description = "Completed or reversed, now or before.", body = TransferAnswerSchema),
        (status = 202, description = "Taken from the sender, and still on its way to the recipient.", body = TransferAnswerSchema),
        PaymentProblems,
    ),
)]
pub async fn post_transfer(
    State(guarded): State<Guarded>,
    request: Request<Body>,
) -> Result<Answered, Problem> {
    let answer = transfer(&guarded, request).await;
    guarded.transfers().count(match &answer {
        Ok((answered, _)) if answered.is_replayed => TransferEnd::Replayed,
        Ok((_, TransferStatus::Completed)) => TransferEnd::Completed,
        Ok((_, TransferStatus::Pending)) => TransferEnd::Pending,
        Ok((_, TransferStatus::Reversed { .. })) => TransferEnd::Reversed,
        Err(problem) if problem.is_replayed() => TransferEnd::Replayed,
        Err(problem) if problem.code() == Code::InsufficientBalance => TransferEnd::InsufficientBalance,
        Err(_) => TransferEnd::Failed,
    });
    answer.map(|(answered, _)| answered)
}

async fn transfer(guarded: &Guarded, request: Request<Body>) -> Result<(Answered, TransferStatus), Problem> {
    let (gateway, command) = write_request::read(guarded, request, read_transfer).await?;
    let (key, until) = (command.idempotency_key, Instant::now() + END_WAIT);
    // A task of its own: a client that hangs up cancels nothing.
    let begun = tokio::spawn(journey::carry(steps::begin(Arc::clone(gateway), command))).await;
    // The panic hook has logged it already.
    let begun = begun.unwrap_or_else(|_panic| Err(Problem::internal()));
    let Begun { mut transfer, balance_after, is_replayed, mut session, rest } =
        begun.map_err(|problem| problem.with_key(key))?;
    if let Some(rest) = rest
        && let Ok(Ok(Some(ended))) = timeout_at(until, rest).await
    {
        transfer = ended.transfer;
        session = ended.session.or(session);
    }
    let status = match transfer.status {
        TransferStatus::Pending => StatusCode::ACCEPTED,
        TransferStatus::Completed | TransferStatus::Reversed { .. } => StatusCode::OK,
    };
    let body = TransferAnswerBody { transfer: TransferBody(&transfer), new_balance: balance_after };
    let session = session.map(session::to_header);
    Ok((answered(json(status, &body), key, session, is_replayed), transfer.status))
}

fn read_transfer(body: &[u8]) -> Result<Operation, Problem> {
    let mut fields = Fields::read(body, &TRANSFER_FIELDS)?;
    let payment = payment_of(&mut fields, "from_user_id", fields::active_currency);
    let to_user_id = fields.required("to_user_id", fields::user_id);
    let both = payment.zip(to_user_id);
    if both.as_ref().is_some_and(|(payment, to_user_id)| payment.user_id == *to_user_id) {
        fields.add("to_user_id", "must be another user than from_user_id".to_owned());
    }
    fields.finish(both.map(|(payment, to_user_id)| Operation::Transfer {
        payment,
        to_user_id,
        only_replays: false,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(body: &str) -> Vec<String> {
        let Err(problem) = read_transfer(body.as_bytes()) else { return Vec::new() };
        let body: serde_json::Value = serde_json::from_slice(&problem.body("r", "http://x")).unwrap();
        let errors = body["errors"].as_array().unwrap();
        errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_transfer_is_read_with_all_it_says() {
        let body = r#"{"to_user_id":2,"from_user_id":1,"amount":1.5,"currency":"USD","reference":"rent","metadata":{}}"#;
        let Ok(Operation::Transfer { payment, to_user_id, .. }) = read_transfer(body.as_bytes()) else {
            panic!("no transfer")
        };
        assert_eq!((payment.user_id.get(), to_user_id.get()), (1, 2));
        assert_eq!(
            (payment.money.to_string().as_str(), payment.reference.as_deref()),
            ("1.50", Some("rent"))
        );
    }

    #[test]
    fn what_is_wrong_with_it_is_pointed_at() {
        for (rest, expected) in [
            (r#""to_user_id":1,"currency":"USD""#, "/to_user_id"),
            (r#""to_user_id":0,"currency":"USD""#, "/to_user_id"),
            (r#""to_user_id":"2","currency":"USD""#, "/to_user_id"),
            (r#""currency":"USD""#, "/to_user_id"),
            // Withdrawn: nobody gets any more of it.
            (r#""to_user_id":2,"currency":"HRK""#, "/currency"),
            (r#""to_user_id":2,"currency":"USD","user_id":1"#, "/user_id"),
        ] {
            let body = format!(r#"{{"from_user_id":1,"amount":"1",{rest}}}"#);
            assert_eq!(pointers(&body), [expected], "{body}");
        }
        assert_eq!(pointers("{}"), ["/from_user_id", "/amount", "/currency", "/to_user_id"]);
    }
}
