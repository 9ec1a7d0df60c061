//! An HTTP/1.1 client for this one purpose: it sends what it is given and finds the end of the answer.
//!
//! A general client spends more on a request than a gateway may. This one has no task, no allocation and no lock per
//! request, and knows only what a PicoPay gateway sends: kept-alive connections and bodies with a `Content-Length`. What it
//! does not know (chunks, compression, TLS) it refuses clearly rather than measure wrongly.

pub mod caller;
pub mod connection;
pub mod response;
pub mod target;
