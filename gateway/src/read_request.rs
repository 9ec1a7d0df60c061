//! What the requests of all reads share: who reads, and what he must see.

use axum::http::HeaderMap;
use picopay_shard_client::Reader;

use crate::parameters::Parameters;
use crate::request_id::RequestId;
use crate::{request_origin, session};

/// The reader of a request. What is wrong with its headers is told with all that is wrong.
pub fn reader(headers: &HeaderMap, request_id: &RequestId, parameters: &mut Parameters) -> Reader {
    parameters.refuse_doubled_headers(headers);
    Reader { session: session::read(headers, parameters), origin: request_origin::of(headers, request_id) }
}
