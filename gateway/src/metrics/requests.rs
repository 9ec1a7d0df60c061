//! Requests by route, status and problem code: a bounded number of series, each made when it is counted first.

use std::sync::{Arc, OnceLock};

use prometheus::{IntCounter, IntCounterVec, Registry};

use super::counters;
use crate::problem::Code;
use crate::route_name::{ROUTE_NAMES, RouteName};

/// How an answer ended, for its counter: by its problem, or by its status, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEnd {
    Answered(u16),
    Problem(Code),
    /// The client hung up before its answer.
    HungUp,
}

/// 200, 201, any other good one, and no answer.
const WITHOUT_CODE: usize = 4;
const ENDS: usize = Code::ALL.len() + WITHOUT_CODE;

#[derive(Debug, Clone)]
pub struct RequestMetrics {
    family: IntCounterVec,
    /// Counting is one addition; a look-up by labels would hash them.
    known: Arc<[OnceLock<IntCounter>]>,
}

impl RequestMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let family = counters(
            registry,
            "picopay_gateway_http_requests_total",
            "Requests by the route's template, the status of the answer and the problem's code (empty without one).",
            &["route", "status", "code"],
        );
        let known = (0..ROUTE_NAMES.len() * ENDS).map(|_| OnceLock::new()).collect();
        Self { family, known }
    }

    pub fn count(&self, route: RouteName, end: RequestEnd) {
        let place = route.place() * ENDS + place_of(end);
        let counter = self.known[place].get_or_init(|| {
            let (status, code) = labels_of(end);
            self.family.with_label_values(&[route.as_str(), status.as_str(), code])
        });
        counter.inc();
    }
}

fn place_of(end: RequestEnd) -> usize {
    match end {
        RequestEnd::Answered(200) => 0,
        RequestEnd::Answered(201) => 1,
        RequestEnd::Answered(_) => 2,
        RequestEnd::HungUp => 3,
        RequestEnd::Problem(code) => WITHOUT_CODE + code as usize,
    }
}

fn labels_of(end: RequestEnd) -> (String, &'static str) {
    match end {
        RequestEnd::Answered(status @ (200 | 201)) => (status.to_string(), ""),
        RequestEnd::Answered(_) => ("other".to_owned(), ""),
        RequestEnd::HungUp => ("none".to_owned(), "hung-up"),
        RequestEnd::Problem(code) => (code.status().as_u16().to_string(), code.suffix()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_a_place_and_labels_of_its_own() {
        let all: Vec<RequestEnd> = (Code::ALL.into_iter().map(RequestEnd::Problem))
            .chain([200, 201, 304].map(RequestEnd::Answered))
            .chain([RequestEnd::HungUp])
            .collect();
        let mut places: Vec<usize> = all.iter().map(|end| place_of(*end)).collect();
        places.sort_unstable();
        assert_eq!(places, (0..ENDS).collect::<Vec<_>>());
        let metrics = RequestMetrics::new(&Registry::new());
        let route = RouteName::of("/charge");
        for end in all {
            metrics.count(route, end);
            let (status, code) = labels_of(end);
            let counted = metrics.family.with_label_values(&["/charge", status.as_str(), code]).get();
            assert_eq!(counted, 1, "{end:?}");
        }
    }
}
