//! An HTTP/1.1 client for this one purpose: it sends what it is given and finds the end of the answer.
//!
//! A general client spends more on a request than a gateway may. This one has no task, allocation or lock per request.
//! It refuses what it does not know (chunks, compression, TLS) rather than measure wrongly.

pub mod caller;
pub mod connection;
pub mod response;
pub mod target;
