//! What the answers to reads share: they say which database they came from.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use picopay_shared::query::Source;
use serde::Serialize;

use crate::write_request::json;

static PICOPAY_SOURCE: HeaderName = HeaderName::from_static("picopay-source");
static PICOPAY_LAG_MS: HeaderName = HeaderName::from_static("picopay-lag-ms");

/// An answer in JSON that says where it came from.
pub fn read_answer(status: StatusCode, body: &impl Serialize, source: Source) -> Response {
    let mut response = json(status, body);
    name_source(response.headers_mut(), source);
    response
}

/// Says which database answered and, of a replica, how far it was behind.
pub fn name_source(headers: &mut HeaderMap, source: Source) {
    match source {
        Source::Primary => {
            headers.insert(PICOPAY_SOURCE.clone(), HeaderValue::from_static("primary"));
        }
        Source::Replica { lag_ms } => {
            headers.insert(PICOPAY_SOURCE.clone(), HeaderValue::from_static("replica"));
            headers.insert(PICOPAY_LAG_MS.clone(), HeaderValue::from(lag_ms));
        }
    }
}
