//! Every arrival is accounted for: answered, refused, lost or dropped.

use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::http_client::target::Target;
use picopay_loadtest::responder::{
    Seen, answer_as_a_gateway, write_answer, write_results, write_transaction,
};
use picopay_loadtest::run::{Plan, Rhythm};
use picopay_loadtest::scenario::ScenarioArgs;
use picopay_loadtest::traffic::Kind;

use crate::{charges, load, open_loop, plan, start};

#[tokio::test]
async fn what_is_offered_is_answered_refused_or_dropped() {
    let mut count = 0;
    let responder = start(move |seen, out| {
        count += 1;
        match count % 10 {
            0 => write_answer(out, "503 Service Unavailable", "", br#"{"code":"overloaded"}"#),
            1 => write_answer(out, "402 Payment Required", "", br#"{"code":"insufficient-balance"}"#),
            2 => write_answer(out, "502 Bad Gateway", "", b"<html>"),
            _ => answer_as_a_gateway(seen, out),
        }
    });
    for threads in [1, 3] {
        let rhythm = Rhythm::Open { rate_per_second: 4_000.0, spacing: Spacing::Poisson, waiting_max: 100 };
        let measured = load(&Plan { threads, ..plan(&responder, rhythm) }, charges()).await;
        let tally = &measured.tally;
        assert_eq!(tally.offered, tally.latency().count() + measured.errors() + tally.dropped);
        assert_eq!(
            tally.errors.keys().collect::<Vec<_>>(),
            ["http-502", "insufficient-balance", "overloaded"]
        );
        assert_eq!(tally.errors.values().sum::<u64>(), tally.shard_errors.iter().sum::<u64>());
        let by_second: u64 = measured.seconds.iter().map(|second| second.offered).sum();
        assert_eq!(by_second, tally.offered, "without a warm-up the seconds add up to the whole");
    }
}

#[tokio::test]
async fn arrivals_beyond_what_may_wait_are_dropped_and_counted() {
    let responder = start(|_, _| {});
    let plan =
        Plan { request_timeout: Duration::from_millis(300), ..plan(&responder, open_loop(1_000.0, 20)) };
    let measured = load(&plan, charges()).await;
    let tally = &measured.tally;
    assert_eq!(tally.offered, 500);
    assert!(tally.dropped >= 400, "{}", tally.dropped);
    assert_eq!(tally.offered, tally.dropped + tally.errors["client:no-answer"]);
    assert_eq!(tally.achieved, 0);
}

#[tokio::test]
async fn of_a_batch_each_operation_is_accounted_for() {
    let mut count = 0;
    let responder = start(move |seen, out| {
        count += 1;
        match count % 5 {
            0 => write_answer(out, "413 Content Too Large", "", br#"{"code":"too-large"}"#),
            1 => {
                let mut body = Vec::new();
                write_results(&seen, &mut body);
                let refused =
                    String::from_utf8(body).unwrap().replacen("\"status\":200", "\"status\":402", 3);
                write_answer(out, "200 OK", "", refused.as_bytes());
            }
            _ => answer_as_a_gateway(seen, out),
        }
    });
    // One user and one amount, so that the responder knows whose a refund is.
    let scenario = ScenarioArgs {
        batch: Some(10),
        topups: 0.2,
        refunds: 0.2,
        holds: 0.3,
        users: 1,
        amount_max: "0.01".to_owned(),
        ..charges()
    };
    let measured = load(&plan(&responder, open_loop(100.0, 100)), scenario).await;
    let tally = &measured.tally;
    assert_eq!((tally.offered, tally.broken), (500, [0; 3]), "{:?}", tally.broken_shown);
    assert_eq!(tally.offered, tally.latency().count() + measured.errors() + tally.dropped);
    assert_eq!((tally.errors["too-large"], tally.errors["http-402"]), (100, 30));
    for kind in [Kind::Charge, Kind::TopUp, Kind::Refund, Kind::Hold, Kind::Capture, Kind::Void] {
        assert!(tally.latency_of_kind(kind).count() > 0, "{kind:?}");
    }
}

#[tokio::test]
async fn holds_are_captured_and_voided_by_their_own_routes() {
    let lines = Arc::new(Mutex::new(BTreeSet::new()));
    let responder = {
        let lines = Arc::clone(&lines);
        start(move |seen, out| {
            let path = seen.line.split(' ').nth(1).unwrap();
            // Without the id of the hold.
            let form: Vec<&str> = path.split('/').filter(|part| part.len() < 36).collect();
            lines.lock().unwrap().insert(form.join("/"));
            answer_as_a_gateway(seen, out);
        })
    };
    let scenario = ScenarioArgs { holds: 1.0, users: 1, amount_max: "0.01".to_owned(), ..charges() };
    let measured = load(&plan(&responder, open_loop(400.0, 1_000)), scenario).await;
    let tally = &measured.tally;
    assert_eq!((measured.errors(), tally.offered), (0, 200), "{:?} {:?}", tally.errors, tally.broken_shown);
    assert_eq!(
        lines.lock().unwrap().iter().map(String::as_str).collect::<Vec<_>>(),
        ["/v1/holds", "/v1/holds/capture", "/v1/holds/void"]
    );
    let count = |kind| tally.latency_of_kind(kind).count();
    let (held, ended) = (count(Kind::Hold), count(Kind::Capture) + count(Kind::Void));
    assert!(held >= ended && ended > 50, "{held} and {ended}");
}

#[tokio::test]
async fn transfers_go_from_one_user_to_another_and_one_that_is_on_its_way_is_no_error() {
    let mut count = 0;
    let responder = start(move |seen, out| {
        let body: serde_json::Value = serde_json::from_slice(seen.body).unwrap();
        assert!(seen.line.starts_with("POST /v1/transfers ") && body["from_user_id"] != body["to_user_id"]);
        count += 1;
        let mut answer = Vec::new();
        write_transaction(&seen, &mut answer);
        let answer = String::from_utf8(answer).unwrap();
        match count % 4 {
            0 => write_answer(out, "202 Accepted", "", answer.replace("completed\"", "pending\"").as_bytes()),
            1 => write_answer(out, "402 Payment Required", "", br#"{"code":"insufficient-balance"}"#),
            _ => write_answer(out, "200 OK", "", answer.as_bytes()),
        }
    });
    let scenario = ScenarioArgs { transfers: 1.0, users: 2, ..charges() };
    let measured = load(&plan(&responder, open_loop(400.0, 1_000)), scenario).await;
    let tally = &measured.tally;
    assert_eq!((tally.errors["insufficient-balance"], tally.broken), (50, [0; 3]));
    assert_eq!((tally.latency_of_kind(Kind::Transfer).count(), tally.offered), (150, 200));
}

#[tokio::test]
async fn results_in_another_order_are_no_answer_to_a_batch() {
    let responder = start(|seen, out| {
        let mut body = Vec::new();
        write_results(&seen, &mut body);
        let mut answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        answer["results"].as_array_mut().unwrap().reverse();
        write_answer(out, "200 OK", "", answer.to_string().as_bytes());
    });
    let scenario = ScenarioArgs { batch: Some(2), ..charges() };
    let measured = load(&plan(&responder, open_loop(20.0, 100)), scenario).await;
    assert_eq!((measured.tally.offered, measured.tally.achieved), (20, 0));
    assert_eq!(measured.tally.errors["broken:wrong-answer"], 20);
}

#[tokio::test]
async fn the_warm_up_is_shown_but_not_counted() {
    let responder = start(answer_as_a_gateway);
    let plan = Plan {
        warmup: Duration::from_secs(1),
        duration: Duration::from_secs(1),
        ..plan(&responder, open_loop(200.0, 100))
    };
    let measured = load(&plan, charges()).await;
    assert_eq!((measured.tally.offered, measured.tally.latency().count()), (200, 200));
    assert_eq!(measured.seconds.iter().map(|second| second.offered).sum::<u64>(), 400);
}

#[tokio::test]
async fn a_connection_that_is_closed_is_an_error_and_the_load_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || stream.read(&mut [0; 1024]));
        }
    });
    let spare = start(answer_as_a_gateway);
    let plan =
        Plan { target: Target::new(&url, Some("key")).unwrap(), ..plan(&spare, open_loop(100.0, 100)) };
    let measured = load(&plan, charges()).await;
    assert_eq!(measured.tally.achieved, 0);
    assert!(measured.tally.errors["client:connection-closed"] >= 4, "{:?}", measured.tally.errors);
    assert_eq!(measured.tally.offered, 50);
}

#[tokio::test]
async fn a_seed_repeats_the_traffic_and_never_its_keys() {
    let seen_with = async |seed| {
        let (requests, keys) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let responder = {
            let (requests, keys) = (Arc::clone(&requests), Arc::clone(&keys));
            start(move |seen, out| {
                requests.lock().unwrap().push((seen.line.to_owned(), seen.body.to_vec()));
                keys.lock().unwrap().push(seen.idempotency_key.to_owned());
                answer_as_a_gateway(seen, out);
            })
        };
        // One connection: with several, which answer comes first is chance.
        let plan = Plan { connections: 1, ..plan(&responder, open_loop(1_000.0, 10_000)) };
        let scenario = ScenarioArgs { seed, history: 0.2, topups: 0.1, hot_share: 0.3, ..charges() };
        load(&plan, scenario).await;
        drop(responder);
        (std::mem::take(&mut *requests.lock().unwrap()), std::mem::take(&mut *keys.lock().unwrap()))
    };
    let (first, first_keys) = seen_with(1).await;
    let (again, again_keys) = seen_with(1).await;
    let (other, _) = seen_with(2).await;
    assert_eq!(first.len(), 500);
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(first_keys.iter().filter(|key| !key.is_empty()).all(|key| !again_keys.contains(key)));
}

#[tokio::test]
async fn the_shares_are_what_was_asked_for() {
    let hot = Arc::new(Mutex::new(0));
    let responder = {
        let hot = Arc::clone(&hot);
        let mut charged: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        start(move |seen, out| {
            if seen.line.starts_with("POST /v1/charge") && seen.body.starts_with(b"{\"user_id\":1,") {
                *hot.lock().unwrap() += 1;
            }
            let is_known = seen.line.starts_with("POST") && !remember(seen.idempotency_key);
            let mut plain = Vec::new();
            // A refund is of the charge's user and amount: this responder's transactions have their key as id.
            let body = match seen.body.strip_prefix(b"{\"transaction_id\":\"") {
                Some(id) => [&seen.body[..seen.body.len() - 1], b",", &charged[&id[..36]][1..]].concat(),
                None => seen.body.to_vec(),
            };
            charged.insert(seen.idempotency_key.as_bytes().to_vec(), seen.body.to_vec());
            answer_as_a_gateway(Seen { body: &body, ..seen }, &mut plain);
            let text = String::from_utf8(plain).unwrap();
            let mark =
                if is_known { "idempotent-replayed: true\r\ncontent-length" } else { "content-length" };
            out.extend_from_slice(text.replacen("content-length", mark, 1).as_bytes());
        })
    };
    let plan = Plan { duration: Duration::from_secs(2), ..plan(&responder, open_loop(5_000.0, 10_000)) };
    let scenario = ScenarioArgs {
        history: 0.2,
        balance_reads: 0.1,
        refunds: 0.1,
        topups: 0.1,
        duplicates: 0.3,
        hot_share: 0.5,
        ..charges()
    };
    let measured = load(&plan, scenario).await;
    assert_eq!(measured.errors(), 0, "{:?} {:?}", measured.tally.errors, measured.tally.broken_shown);
    let share = |kind| measured.tally.latency_of_kind(kind).count() as f64 / measured.tally.offered as f64;
    // Of the writes, 70 % of all, 30 % are repeats.
    let expected = [
        (Kind::History, 0.2),
        (Kind::Balance, 0.1),
        (Kind::Replay, 0.21),
        (Kind::Refund, 0.07),
        (Kind::TopUp, 0.07),
        (Kind::Charge, 0.35),
    ];
    for (kind, expected) in expected {
        assert!((share(kind) - expected).abs() < 0.02, "{kind:?}: {} instead of {expected}", share(kind));
    }
    let charges = measured.tally.offered as f64 * 0.5;
    let of_hot = f64::from(*hot.lock().unwrap());
    assert!((0.42..0.58).contains(&(of_hot / charges)), "{of_hot} of {charges}");
}

fn remember(key: &str) -> bool {
    static KNOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    KNOWN.lock().unwrap().insert(key.to_owned())
}
