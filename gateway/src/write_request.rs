//! The steps that every write shares: admit the caller, take the key, read the body, let the shard decide,
//! answer.
//!
//! The cheapest checks come first; a request that fails at one step has used nothing of the next.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::http::request::Parts;
use picopay_shard_client::journey;
use picopay_shared::command::{Command, Operation};
use picopay_shared::origin::Origin;

use crate::content_headers;
use crate::guarded::{Admitted, Guarded};
use crate::idempotency_key::{Key, read_key};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::request_body::{OPERATION_MAX, check_length, read_body};
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
    let admitted = guarded.admit(&parts.headers)?;
    content_headers::check(&parts.headers)?;
    decide(admitted, &parts, body, Ok(()), |_, body| read_operation(body)).await
}

/// The same for a write whose path says what it is about, so that it may have no body, nor headers that describe
/// one. Errors in the path go to the parameters.
pub async fn run_with_path(
    guarded: &Guarded,
    request: Request<Body>,
    read_operation: impl FnOnce(&mut Parameters, &[u8]) -> Result<Operation, Problem>,
) -> Result<Answered, Problem> {
    let (parts, body) = request.into_parts();
    let admitted = guarded.admit(&parts.headers)?;
    let is_described = content_headers::check(&parts.headers);
    decide(admitted, &parts, body, is_described, read_operation).await
}

async fn decide(
    Admitted { gateway, made_by }: Admitted<'_>,
    parts: &Parts,
    body: Body,
    is_described: Result<(), Problem>,
    read_operation: impl FnOnce(&mut Parameters, &[u8]) -> Result<Operation, Problem>,
) -> Result<Answered, Problem> {
    check_length(&parts.headers, OPERATION_MAX)?;
    let key = read_key(&parts.headers)?;
    journey::note(|journey| journey.idempotency_key = Some(key.uuid));
    let decide = async {
        let body = read_body(body, OPERATION_MAX, gateway.live().server.body_read_timeout).await?;
        if !body.is_empty() {
            is_described?;
        }
        // A write takes no parameters; the client expects an effect of one that is sent.
        let mut parameters = Parameters::read(parts.uri.query(), &[]);
        let read = read_operation(&mut parameters, &body);
        let operation = parameters.finish_with_body(read)?;
        let request_id: &RequestId = parts.extensions.get().expect("the front door names every request");
        let command = command(operation, key, request_origin::of(&parts.headers, request_id), made_by);
        let user_id = match &command.operation {
            Operation::CreateUser { user_id } => Some(user_id.get()),
            _ => None,
        };
        answer(gateway.shards.write(command).await?, key.uuid, user_id)
    };
    decide.await.map_err(|problem| problem.with_key(key.uuid))
}

pub fn command(operation: Operation, key: Key, origin: Origin, made_by: Arc<str>) -> Command {
    Command {
        fingerprint: operation.fingerprint(),
        operation,
        idempotency_key: key.uuid,
        is_client_key: key.is_client_key,
        origin,
        made_by: Some(made_by),
    }
}
