//! The headers that name the database an answer came from.

use axum::http::{HeaderMap, HeaderValue};
use picopay_shared::query::Source;

use crate::header_names::{PICOPAY_LAG_MS, PICOPAY_SOURCE};

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
