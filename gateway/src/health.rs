//! `/health`, `/readyz` and `/metrics`: for supervisors, load balancers and Prometheus. They need no key.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::json_answer::json;
use crate::openapi::parts::{NotReadyProblems, OpenProblems};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::state::GatewayState;
use picopay_shard_client::ShardView;

/// The answer to `/health`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub struct HealthBody {
    #[schema(example = "alive")]
    status: &'static str,
}

/// The answer to `/readyz`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Readiness)]
pub struct ReadinessBody {
    #[schema(example = "ready")]
    status: &'static str,
    #[schema(value_type = Vec<ShardSchema>)]
    shards: Vec<ShardView>,
}

// The schema of `ShardView`.
/// One shard, for `/readyz`.
#[derive(Debug, ToSchema)]
#[schema(as = ShardView)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct ShardSchema {
    /// Its name in `cluster.toml`.
    #[schema(example = "shard-1")]
    shard: String,
    /// Whether it can serve now.
    is_ready: bool,
    /// `closed`, `probing` or `open`.
    #[schema(example = "closed")]
    breaker: &'static str,
    /// Lag of its freshest replica; `null` when unknown.
    replica_lag_ms: Option<u64>,
    /// What is known of each of its nodes, in the order of `cluster.toml`: `ready`, `passed-over` (ready again, but it
    /// failed lately, and another serves), `not-ready` or `silent`.
    #[schema(example = json!(["ready"]))]
    nodes: Vec<&'static str>,
    /// Since when an operator lets it go on without its standby, so that what it acknowledges is on one machine only;
    /// `null` normally.
    #[schema(example = json!(null))]
    degraded_since: Option<String>,
}

/// Whether the process lives
///
/// Says nothing of shards: restarting a gateway mends none of them.
#[utoipa::path(
    get, path = "/health", tag = "operation", security(()),
    responses((status = 200, description = "It lives.", body = HealthBody), OpenProblems),
)]
pub async fn get_health(RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Parameters::refuse_all(query.as_deref())?;
    Ok(json(StatusCode::OK, &HealthBody { status: "alive" }))
}

/// Whether at least one shard can serve
///
/// Ready with one shard of many: the users of the others hear at once that theirs is unavailable. Not ready from the
/// moment that the gateway is told to end, although it serves on for a while.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", security(()),
    responses((status = 200, description = "At least one shard can serve.", body = ReadinessBody), NotReadyProblems),
)]
pub async fn get_readyz(
    State(gateway): State<Arc<GatewayState>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Parameters::refuse_all(query.as_deref())?;
    if gateway.ending.has_begun() {
        return Err(Problem::shutting_down());
    }
    let shards = gateway.shards.views();
    if shards.iter().any(|shard| shard.is_ready) {
        return Ok(json(StatusCode::OK, &ReadinessBody { status: "ready", shards }));
    }
    Err(Problem::not_ready(serde_json::to_value(shards).expect("texts and numbers always serialize")))
}

/// Metrics in the text format of Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security(()),
    responses((status = 200, description = "In Prometheus' text format.", body = String, content_type = "text/plain"), OpenProblems),
)]
pub async fn get_metrics(
    State(gateway): State<Arc<GatewayState>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Parameters::refuse_all(query.as_deref())?;
    // This updates the shards' gauges.
    let _ = gateway.shards.views();
    let is_refused = gateway.in_force.refusal().is_some() || gateway.file_in_force.refusal().is_some();
    gateway.metrics.limits.show(&gateway.live().server, &gateway.config.shard_client);
    gateway.metrics.is_reload_refused.set(i64::from(is_refused));
    gateway.metrics.note_expiries(&gateway.certificate_expiries());
    let text_format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, text_format)], gateway.metrics.render()).into_response())
}
