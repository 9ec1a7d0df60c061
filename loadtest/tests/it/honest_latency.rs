//! A stall must show. A load test that counts from the sending shows one slow request for each connection, and nothing of
//! all those that would have been sent meanwhile (Gil Tene's "coordinated omission").

use std::time::Duration;

use picopay_loadtest::responder::answer_as_a_gateway;
use picopay_loadtest::run::{Plan, Rhythm};

use crate::{charges, load, open_loop, plan, start};

const STALL: Duration = Duration::from_millis(600);

/// Answers at once, but for one stall at the 200th request.
fn one_stall() -> picopay_loadtest::responder::Responder {
    let mut count = 0;
    start(move |seen, out| {
        count += 1;
        if count == 200 {
            // The stall that has to show.
            std::thread::sleep(STALL);
        }
        answer_as_a_gateway(seen, out);
    })
}

#[tokio::test]
async fn a_stall_delays_every_request_that_was_due_in_it() {
    let responder = one_stall();
    let plan = Plan { duration: Duration::from_secs(2), ..plan(&responder, open_loop(500.0, 1_000)) };
    let measured = load(&plan, charges()).await;
    assert_eq!((measured.tally.offered, measured.errors()), (1_000, 0));
    let latency = measured.tally.latency();
    assert_eq!(latency.count(), 1_000);
    // 300 of the 1,000 were due during the stall, evenly: the slowest waited for all of it, the middle one for half.
    assert!(latency.quantile_ms(1.0) >= 590.0, "{:?}", latency.percentiles());
    assert!((230.0..420.0).contains(&latency.quantile_ms(0.85)), "{:?}", latency.percentiles());
    // Counted from the sending it would have been four requests.
    assert!(measured.tally.service.quantile_ms(0.99) < 100.0, "{:?}", measured.tally.service.percentiles());
    assert!(measured.tally.waited > 250, "{}", measured.tally.waited);
}

#[tokio::test]
async fn a_closed_loop_sends_nothing_during_a_stall_and_shows_little_of_it() {
    let responder = one_stall();
    let measured = load(&plan(&responder, Rhythm::Closed), charges()).await;
    let slow = measured.tally.latency().curve().iter().filter(|point| point.latency_ms > 500.0).count();
    assert!(slow > 0, "the few that it shows");
    assert!(measured.tally.latency().quantile_ms(0.5) < 100.0);
}

#[tokio::test]
async fn requests_start_when_they_are_due() {
    let responder = start(answer_as_a_gateway);
    let plan = Plan { duration: Duration::from_secs(1), ..plan(&responder, open_loop(1_000.0, 1_000)) };
    let measured = load(&plan, charges()).await;
    assert_eq!(measured.tally.offered, 1_000);
    // A poll of a millisecond's resolution would make it half a millisecond; a busy machine is forgiven much.
    assert!(measured.tally.lag.quantile_ms(0.5) < 0.4, "{:?}", measured.tally.lag.percentiles());
}
