//! Answers that break a promise of the contract are found, counted and shown.

use std::collections::HashSet;

use picopay_loadtest::http_client::target::Target;
use picopay_loadtest::responder::{Responder, Seen, answer_as_a_gateway, write_answer, write_transaction};
use picopay_loadtest::run::{Measured, Plan, check_gateway};
use picopay_loadtest::scenario::ScenarioArgs;
use picopay_loadtest::traffic::Promise;

use crate::{charges, load, open_loop, plan, start};

fn replaying(mut repeat: impl FnMut(Seen<'_>, &mut Vec<u8>) + Send + 'static) -> Responder {
    let mut known = HashSet::new();
    start(move |seen, out| {
        if known.insert(seen.idempotency_key.to_owned()) {
            answer_as_a_gateway(seen, out);
        } else {
            repeat(seen, out);
        }
    })
}

async fn load_repeats(responder: &Responder) -> Measured {
    load(&plan(responder, open_loop(1_000.0, 1_000)), ScenarioArgs { duplicates: 0.5, ..charges() }).await
}

fn broken(measured: &Measured, promise: Promise) -> u64 {
    measured.tally.broken[promise as usize]
}

const REPLAYED: &str = "Idempotent-Replayed: true\r\n";

#[tokio::test]
async fn a_repeat_that_gets_the_first_answer_is_fine() {
    let responder = replaying(|seen, out| {
        let mut body = Vec::new();
        write_transaction(&seen, &mut body);
        write_answer(out, "200 OK", REPLAYED, &body);
    });
    let measured = load_repeats(&responder).await;
    assert_eq!((measured.errors(), measured.tally.broken), (0, [0, 0, 0]));
}

#[tokio::test]
async fn a_repeat_that_gets_anything_else_is_an_unequal_replay() {
    type Repeat = fn(Seen<'_>, &mut Vec<u8>);
    let table: [(&str, Repeat); 4] = [
        ("the body differs", |seen, out| {
            let mut body = Vec::new();
            write_transaction(&seen, &mut body);
            let text = String::from_utf8(body).unwrap().replace("950.00", "949.00");
            write_answer(out, "200 OK", REPLAYED, text.as_bytes());
        }),
        ("the body differs", |seen, out| {
            let mut body = Vec::new();
            write_transaction(&seen, &mut body);
            body.push(b' ');
            write_answer(out, "200 OK", REPLAYED, &body);
        }),
        ("Idempotent-Replayed: true is missing", answer_as_a_gateway),
        ("the status differs", |_, out| {
            write_answer(out, "422 Unprocessable Content", "", br#"{"code":"idempotency-key-reused"}"#);
        }),
    ];
    for (difference, repeat) in table {
        let measured = load_repeats(&replaying(repeat)).await;
        assert!(broken(&measured, Promise::EqualReplays) > 50, "{difference}");
        assert_eq!(measured.tally.errors["broken:unequal-replay"], broken(&measured, Promise::EqualReplays));
        let shown = &measured.tally.broken_shown[0].detail;
        assert!(shown.starts_with(difference) && shown.contains("under key"), "{shown}");
    }
}

#[tokio::test]
async fn a_repeat_that_could_not_be_decided_is_an_error_and_no_broken_promise() {
    let responder =
        replaying(|_, out| write_answer(out, "503 Service Unavailable", "", br#"{"code":"overloaded"}"#));
    let measured = load_repeats(&responder).await;
    assert!(measured.tally.errors["overloaded"] > 50);
    assert_eq!(measured.tally.broken, [0, 0, 0]);
}

#[tokio::test]
async fn a_refusal_is_repeated_and_compared_as_well() {
    let mut known = HashSet::new();
    let responder = start(move |seen, out| {
        let is_new = known.insert(seen.idempotency_key.to_owned());
        let body = if is_new {
            r#"{"code":"insufficient-balance","instance":"1"}"#
        } else {
            r#"{"code":"insufficient-balance","instance":"2"}"#
        };
        write_answer(out, "402 Payment Required", if is_new { "" } else { REPLAYED }, body.as_bytes());
    });
    let measured = load_repeats(&responder).await;
    assert!(broken(&measured, Promise::EqualReplays) > 50);
    assert!(measured.tally.errors["insufficient-balance"] > 50);
}

#[tokio::test]
async fn a_new_key_that_is_answered_as_a_replay_is_noticed() {
    let responder = start(|seen, out| {
        let mut body = Vec::new();
        write_transaction(&seen, &mut body);
        write_answer(out, "200 OK", REPLAYED, &body);
    });
    let measured = load(&plan(&responder, open_loop(200.0, 100)), charges()).await;
    assert_eq!(broken(&measured, Promise::NoUnexpectedReplays), 100);
}

#[tokio::test]
async fn an_answer_meant_for_somebody_else_is_noticed() {
    // Answers each request with the answer to the one before: what a batch in the wrong order would do.
    let mut before: Option<Vec<u8>> = None;
    let responder = start(move |seen, out| {
        let mut body = Vec::new();
        write_transaction(&seen, &mut body);
        write_answer(out, "200 OK", "", before.as_deref().unwrap_or(&body));
        before = Some(body);
    });
    let measured = load(&plan(&responder, open_loop(200.0, 100)), charges()).await;
    assert_eq!(broken(&measured, Promise::RightAnswers), 99);
    assert!(measured.tally.broken_shown[0].detail.starts_with("idempotency_key is not what was asked"));
}

#[tokio::test]
async fn a_page_of_somebody_elses_history_is_noticed() {
    let responder =
        start(|_, out| write_answer(out, "200 OK", "", br#"{"data":[{"id":"x","user_id": 999999}]}"#));
    let measured =
        load(&plan(&responder, open_loop(200.0, 100)), ScenarioArgs { history: 1.0, ..charges() }).await;
    assert_eq!(broken(&measured, Promise::RightAnswers), 100);
}

#[tokio::test]
async fn an_answer_in_chunks_is_refused_by_name() {
    let responder = start(|_, out| {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
    });
    let measured = load(&plan(&responder, open_loop(100.0, 100)), charges()).await;
    assert!(measured.tally.errors["client:bad-response"] > 0);
    assert!(measured.tally.malformed.unwrap().contains("Transfer-Encoding"));
}

#[tokio::test]
async fn answers_in_pieces_are_put_together() {
    // The responder writes two answers' worth of body; the client's buffer has to grow for it.
    let responder = start(|_, out| {
        let data = "x".repeat(100_000);
        write_answer(out, "200 OK", "", format!("{{\"data\":[],\"padding\":\"{data}\"}}").as_bytes());
    });
    let plan = Plan { connections: 2, ..plan(&responder, open_loop(100.0, 100)) };
    let measured = load(&plan, ScenarioArgs { history: 1.0, ..charges() }).await;
    assert_eq!((measured.errors(), measured.tally.latency().count()), (0, 50));
}

#[test]
fn a_gateway_that_does_not_fit_is_told_before_the_load() {
    let answering = |status: &'static str, body: &'static [u8]| {
        start(move |seen, out| {
            let is_ready = seen.line.contains("/readyz");
            write_answer(out, if is_ready { "200 OK" } else { status }, "", body);
        })
    };
    for (status, expected) in [
        ("401 Unauthorized", Some("does not know this API key")),
        ("403 Forbidden", Some("may not read")),
        ("500 Internal Server Error", Some("answered 500")),
        ("404 Not Found", None),
        ("200 OK", None),
    ] {
        let responder = answering(status, b"{}");
        let checked = check_gateway(&Target::new(&responder.url(), Some("key")).unwrap());
        match expected {
            Some(text) => assert!(checked.unwrap_err().to_string().contains(text), "{status}"),
            None => checked.unwrap(),
        }
    }
}
