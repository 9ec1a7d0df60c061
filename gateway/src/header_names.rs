//! The names of the headers that PicoPay defines or reads.

use axum::http::HeaderName;

/// `Idempotency-Key`: the key in use, sent by the client or made by the gateway.
pub static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// `Idempotent-Replayed: true` on an answer that was given before.
pub static IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// `PicoPay-Session`: the token with which a client sees its write.
pub static PICOPAY_SESSION: HeaderName = HeaderName::from_static("picopay-session");
/// `PicoPay-Source`: which database answered a read.
pub static PICOPAY_SOURCE: HeaderName = HeaderName::from_static("picopay-source");
/// `PicoPay-Lag-Ms`: the lag of the replica that answered, in milliseconds.
pub static PICOPAY_LAG_MS: HeaderName = HeaderName::from_static("picopay-lag-ms");
/// `X-Request-Id`: the id of a request, in both directions.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `X-API-Key`: the caller's key.
pub static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// `traceparent`: the client's W3C trace context.
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
