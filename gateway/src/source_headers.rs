//! Which database an answer came from, as headers: of what was read, and of a problem that a read ended in.

use axum::http::{HeaderMap, HeaderValue};
use picopay_shared::query::Source;

use crate::header_names::{PICOPAY_LAG_MS, PICOPAY_SOURCE};

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
