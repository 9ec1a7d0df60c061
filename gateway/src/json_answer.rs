//! An answer in JSON.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Answers have 300 to 600 bytes; one allocation holds them.
    json_of_about(640, status, body)
}

/// An answer of about `bytes` bytes.
pub fn json_of_about(bytes: usize, status: StatusCode, body: &impl Serialize) -> Response {
    let mut text = Vec::with_capacity(bytes);
    serde_json::to_writer(&mut text, body).expect("texts and numbers always serialize");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
