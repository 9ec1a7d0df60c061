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
use crate::state::GatewayState;
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
    let (gateway, command) = read(guarded, request, read_operation).await?;
    decide(gateway, command).await
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
    let (gateway, command) = read_command(admitted, &parts, body, is_described, read_operation).await?;
    decide(gateway, command).await
}

/// Reads a write up to its command, for a route that does more with it than to have it decided.
///
/// # Errors
/// Those of [`run`].
pub async fn read(
    guarded: &Guarded,
    request: Request<Body>,
    read_operation: impl FnOnce(&[u8]) -> Result<Operation, Problem>,
) -> Result<(&Arc<GatewayState>, Command), Problem> {
    let (parts, body) = request.into_parts();
    let admitted = guarded.admit(&parts.headers)?;
    content_headers::check(&parts.headers)?;
    read_command(admitted, &parts, body, Ok(()), |_, body| read_operation(body)).await
}

async fn read_command<'a>(
    Admitted { gateway, made_by }: Admitted<'a>,
    parts: &Parts,
    body: Body,
    is_described: Result<(), Problem>,
    read_operation: impl FnOnce(&mut Parameters, &[u8]) -> Result<Operation, Problem>,
) -> Result<(&'a Arc<GatewayState>, Command), Problem> {
    check_length(&parts.headers, OPERATION_MAX)?;
    let key = read_key(&parts.headers)?;
    journey::note(|journey| journey.idempotency_key = Some(key.uuid));
    let read = async {
        let body = read_body(body, OPERATION_MAX, gateway.live().server.body_read_timeout).await?;
        if !body.is_empty() {
            is_described?;
        }
        // A write takes no parameters; the client expects an effect of one that is sent.
        let mut parameters = Parameters::read(parts.uri.query(), &[]);
        let read = read_operation(&mut parameters, &body);
        parameters.finish_with_body(read)
    };
    let operation = read.await.map_err(|problem| problem.with_key(key.uuid))?;
    let request_id: &RequestId = parts.extensions.get().expect("the front door names every request");
    let origin = request_origin::of(&parts.headers, request_id);
    Ok((gateway, command(operation, key, origin, made_by)))
}

async fn decide(gateway: &GatewayState, command: Command) -> Result<Answered, Problem> {
    let key = command.idempotency_key;
    let user_id = match &command.operation {
        Operation::CreateUser { user_id } => Some(user_id.get()),
        _ => None,
    };
    let written = gateway.shards.write(command).await.map_err(Problem::from);
    written.and_then(|written| answer(written, key, user_id)).map_err(|problem| problem.with_key(key))
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
