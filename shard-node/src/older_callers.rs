//! When somebody asked this node last who speaks an older version of the wire: `picopay migrate --finish` waits for the last
//! of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use picopay_shared::node_status::{WIRE_BEFORE_HOLDS, WIRE_HEADER, WIRE_VERSION};

pub struct OlderCallers {
    started: Instant,
    /// In milliseconds since the start, and one more; zero while there was none.
    last: AtomicU64,
}

impl Default for OlderCallers {
    fn default() -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl OlderCallers {
    /// How long ago the last one asked, in milliseconds.
    pub fn last_ms_ago(&self) -> Option<u64> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.now_ms().saturating_sub(last))
    }

    fn note(&self, headers: &HeaderMap) {
        let named = headers.get(WIRE_HEADER).and_then(|value| value.to_str().ok()?.parse::<u16>().ok());
        if named.unwrap_or(WIRE_BEFORE_HOLDS) < WIRE_VERSION {
            self.last.store(self.now_ms() + 1, Ordering::Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

/// Of requests that have shown the secret: nobody else speaks for a gateway.
pub async fn note(State(callers): State<Arc<OlderCallers>>, request: Request, next: Next) -> Response {
    callers.note(request.headers());
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_who_speaks_an_older_version_is_noted() {
        let heard = |version: Option<&'static str>| {
            let (callers, mut headers) = (OlderCallers::default(), HeaderMap::new());
            if let Some(version) = version {
                headers.insert(WIRE_HEADER, HeaderValue::from_static(version));
            }
            callers.note(&headers);
            callers.last_ms_ago().is_some()
        };
        assert!(heard(None) && heard(Some("3")) && heard(Some("a word")));
        assert!(!heard(Some("4")) && !heard(Some("5")));
        assert_eq!(OlderCallers::default().last_ms_ago(), None);
    }
}
