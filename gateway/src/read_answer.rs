//! What the answers to reads share: they say which database they came from.

use axum::http::StatusCode;
use axum::response::Response;
use picopay_shared::query::Source;
use serde::Serialize;

use crate::json_answer::json;
use crate::source_headers::name_source;

/// An answer in JSON that says where it came from.
pub fn read_answer(status: StatusCode, body: &impl Serialize, source: Source) -> Response {
    let mut response = json(status, body);
    name_source(response.headers_mut(), source);
    response
}
