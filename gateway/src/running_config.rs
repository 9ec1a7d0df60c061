//! The configuration in force, for operators who show the internal secret.
//!
//! Others get 404, because the gateway's address may be public.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use picopay_gateway_config::of_gateway;
use picopay_shared::running_config::Salt;

use crate::json_answer::json;
use crate::problem::Problem;
use crate::state::GatewayState;

pub async fn get_config(
    State(gateway): State<Arc<GatewayState>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shown =
        headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if !shown.is_some_and(|shown| gateway.secret.accepts(shown)) {
        return Err(Problem::not_found());
    }
    let config = of_gateway(&gateway.in_force.cluster(), Salt::random()).with_refusal(&gateway.in_force);
    let config = config.with_refusal(&gateway.file_in_force);
    Ok(json(StatusCode::OK, &config))
}
