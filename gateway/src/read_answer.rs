//! Answers to reads, which name the database that they came from.

use axum::http::StatusCode;
use axum::response::Response;
use picopay_shared::query::Source;
use serde::Serialize;

use crate::json_answer::json;
use crate::source_headers::name_source;

pub fn read_answer(status: StatusCode, body: &impl Serialize, source: Source) -> Response {
    let mut response = json(status, body);
    name_source(response.headers_mut(), source);
    response
}
