//! The steps that every write shares: admit the caller, take the key, read the body, let the shard decide,
//! answer.
//!
//! The cheapest checks come first; a request that fails at one step has used nothing of the next.

use axum::body::Body;
use axum::http::Request;
use picopay_shared::command::{Command, Operation};

use crate::content_headers;
use crate::guarded::{Admitted, Guarded};
use crate::idempotency_key::read_key;
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::request_body::{check_length, read_body};
use crate::request_id::RequestId;
use crate::request_origin;
use crate::write_answer::{Answered, answer};

/// Runs a write from its headers to its answer. `read_operation` reads the body.
///
/// # Errors
/// The problem for the client. From the moment the key is known, every problem names it.
pub async fn run(
    guarded: &Guarded,
    request: Request<Body>,
    read_operation: impl FnOnce(&[u8]) -> Result<Operation, Problem>,
) -> Result<Answered, Problem> {
    let (parts, body) = request.into_parts();
    let Admitted { gateway, made_by } = guarded.admit(&parts.headers)?;
    content_headers::check(&parts.headers)?;
    check_length(&parts.headers)?;
    let (key, is_client_key) = read_key(&parts.headers)?;
    let decide = async {
        let body = read_body(body, gateway.config.server.body_read_timeout).await?;
        // A write takes no parameters; the client expects an effect of one that is sent.
        let parameters = Parameters::read(parts.uri.query(), &[]);
        let operation = parameters.finish_with_body(read_operation(&body))?;
        let request_id: &RequestId = parts.extensions.get().expect("the front door names every request");
        let command = Command {
            fingerprint: operation.fingerprint(),
            operation,
            idempotency_key: key,
            is_client_key,
            origin: request_origin::of(&parts.headers, request_id),
            made_by: Some(made_by),
        };
        let user_id = match &command.operation {
            Operation::CreateUser { user_id } => Some(user_id.get()),
            _ => None,
        };
        answer(gateway.shards.write(command).await?, key, user_id)
    };
    decide.await.map_err(|problem| problem.with_key(key))
}
