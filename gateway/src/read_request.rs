//! The reader of a request: who reads, and which write must be visible.

use axum::http::HeaderMap;
use picopay_shard_client::Reader;

use crate::parameters::Parameters;
use crate::request_id::RequestId;
use crate::{request_origin, session};

/// The reader of a request. Errors in its headers go to `parameters`.
pub fn reader(headers: &HeaderMap, request_id: &RequestId, parameters: &mut Parameters) -> Reader {
    parameters.refuse_doubled_headers(headers);
    Reader { session: session::read(headers, parameters), origin: request_origin::of(headers, request_id) }
}
