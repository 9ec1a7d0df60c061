//! The clock of this process: it marks answers, and shows that a request came too late.
//!
//! A gateway sends how long it waits and, once it has seen this clock, until when by it. The first counts
//! from the arrival, so a request that was delayed for seconds would run for nobody. The second has no such
//! error.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use picopay_shared::ending::Ending;
use picopay_shared::node_mark::{DEADLINE_AT_HEADER, NODE_HEADER, NodeMoment};
use uuid::Uuid;

#[derive(Debug, Clone, Copy)]
pub struct OwnClock {
    process: u64,
    started: Instant,
}

/// When a request arrived, and until when its gateway waits, if it could say so.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    at: Instant,
    until: Option<Instant>,
}

impl OwnClock {
    pub fn start() -> Self {
        let (process, _) = Uuid::new_v4().as_u64_pair();
        Self { process, started: Instant::now() }
    }

    fn now(self) -> NodeMoment {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        NodeMoment { process: self.process, ms }
    }

    fn arrival(self, headers: &HeaderMap) -> Arrival {
        let said = headers.get(DEADLINE_AT_HEADER).and_then(|value| NodeMoment::parse(value.to_str().ok()?));
        let ours = said.filter(|moment| moment.process == self.process);
        let until = ours.and_then(|moment| self.started.checked_add(Duration::from_millis(moment.ms)));
        Arrival { at: Instant::now(), until }
    }
}

impl Arrival {
    /// How long the gateway still waits, from what it said when it sent the request.
    pub fn time_left(self, when_sent: Duration) -> Duration {
        self.ends_after(when_sent).saturating_duration_since(Instant::now())
    }

    /// Until when it waits.
    pub fn ends_after(self, when_sent: Duration) -> Instant {
        let ends = self.at + when_sent;
        self.until.map_or(ends, |until| ends.min(until))
    }
}

/// Marks an answer, and once the node was told to end, has the gateway take another connection for its next request.
pub async fn mark(
    State((clock, ending)): State<(OwnClock, Ending)>,
    mut request: Request,
    next: Next,
) -> Response {
    let arrival = clock.arrival(request.headers());
    request.extensions_mut().insert(arrival);
    let mut response = next.run(request).await;
    let mark = HeaderValue::try_from(clock.now().to_string()).expect("digits and a dash");
    response.headers_mut().insert(NODE_HEADER, mark);
    if ending.has_begun() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_ms(clock: OwnClock, said: &str, when_sent: u64) -> u128 {
        let mut headers = HeaderMap::new();
        headers.insert(DEADLINE_AT_HEADER, HeaderValue::try_from(said).unwrap());
        clock.arrival(&headers).time_left(Duration::from_millis(when_sent)).as_millis()
    }

    #[test]
    fn a_request_that_was_long_on_its_way_has_no_time_left() {
        let started = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let clock = OwnClock { process: 7, started };
        let moment = |process, ms| NodeMoment { process, ms }.to_string();
        assert_eq!(left_ms(clock, &moment(7, 9_000), 2_000), 0);
        let half = left_ms(clock, &moment(7, 11_000), 2_000);
        assert!((500..=1_000).contains(&half), "{half}");
        // A moment that is too late is limited by the other header, and a moment of another process is
        // ignored.
        for said in [moment(7, u64::MAX), moment(7, 100_000), moment(8, 9_000), "soon".to_owned()] {
            let whole = left_ms(clock, &said, 2_000);
            assert!((1_500..=2_000).contains(&whole), "{said}: {whole}");
        }
    }
}
