//! Answers to reads, which name the database that they came from.

use axum::http::StatusCode;
use axum::response::Response;
use picopay_shared::query::Source;
use serde::Serialize;

use crate::json_answer::{json, json_of_about};
use crate::source_headers::name_source;

pub fn read_answer(status: StatusCode, body: &impl Serialize, source: Source) -> Response {
    let mut response = json(status, body);
    name_source(response.headers_mut(), source);
    response
}

/// The same for a page of `count` transactions or holds, each of which has 300 to 600 bytes.
pub fn page_answer(count: usize, body: &impl Serialize, source: Source) -> Response {
    let mut response = json_of_about(512 * (count + 1), StatusCode::OK, body);
    name_source(response.headers_mut(), source);
    response
}
