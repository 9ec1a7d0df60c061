//! Against scripted gateways: what is sent again, under which key, and what the caller gets.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use picopay_client::{Client, Code, Done, Error, Operation, Patience, Payment};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use uuid::Uuid;

enum Does {
    Answer(u16, &'static str, String),
    HangUp,
}

/// A gateway that answers these one after the other. Returns the keys that were sent, those of a batch with blanks
/// between them.
async fn gateway(answers: Vec<Does>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&keys);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // Bodies of these tests end with a brace.
            while !(request.ends_with(b"}") || request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n"))
            {
                let mut chunk = [0; 4096];
                let count = stream.read(&mut chunk).await.unwrap();
                assert!(count > 0, "a whole request");
                request.extend_from_slice(&chunk[..count]);
            }
            let text = String::from_utf8(request).unwrap();
            let key = text.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
            let of_batch = text.split("\"idempotency_key\":\"").skip(1).map(|rest| &rest[..36]);
            let keys: Vec<&str> = key.into_iter().chain(of_batch).collect();
            seen.lock().unwrap().push(keys.join(" "));
            if let Does::Answer(status, headers, body) = answer {
                let head = format!(
                    "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        }
    });
    let patience = Patience {
        first_pause: Duration::from_millis(1),
        deadline: Duration::from_secs(5),
        ..Patience::default()
    };
    (Client::new(&url, "key").unwrap().with_patience(patience), keys)
}

const BOOKED: &str = r#"{"transaction":{"id":"019a9f3a-7a6b-892e-9356-4ab70000c001","user_id":1,"kind":"charge","status":"completed",
        "amount":"1.00","currency":"USD","balance_after":"9.00","idempotency_key":"550e8400-e29b-41d4-a716-446655440000",
        "created_at":"2026-11-22T12:00:00.123Z"},"new_balance":"9.00"}"#;

fn booked() -> Does {
    Does::Answer(200, "picopay-session: token\r\n", BOOKED.to_owned())
}

fn problem(status: u16, code: &str) -> Does {
    Does::Answer(status, "", format!(r#"{{"code":"{code}"}}"#))
}

fn dollar() -> Payment {
    Payment::new(1, "1.00", "USD").unwrap()
}

#[tokio::test]
async fn what_may_be_tried_again_is_sent_under_one_key_until_it_is_answered() {
    let (client, keys) = gateway(vec![
        problem(503, "shard-unavailable"),
        Does::HangUp,
        problem(504, "outcome-unknown"),
        problem(429, "rate-limited"),
        booked(),
    ])
    .await;
    let user = client.user(1);
    let booked = user.charge(&dollar()).await.unwrap();
    assert_eq!((booked.attempts, booked.new_balance.as_str()), (5, "9.00"));
    assert_eq!(user.session().as_deref(), Some("token"));
    let keys = keys.lock().unwrap();
    assert!(
        keys.len() == 5 && keys.iter().all(|key| *key == keys[0] && Uuid::parse_str(key).is_ok()),
        "{keys:?}"
    );
}

#[tokio::test]
async fn a_definite_answer_is_final() {
    for (status, code, expected) in [
        (422, "not-refundable", Code::NotRefundable),
        (401, "unauthorized", Code::Unauthorized),
        (404, "user-not-found", Code::UserNotFound),
    ] {
        let (client, keys) = gateway(vec![problem(status, code), booked()]).await;
        let error = client.charge(&dollar()).await.unwrap_err();
        assert_eq!(error.problem().map(|problem| &problem.code), Some(&expected), "{error}");
        assert_eq!(keys.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_bug_of_the_gateway_is_not_asked_again_and_leaves_the_outcome_unknown() {
    let (client, keys) = gateway(vec![problem(500, "internal"), booked()]).await;
    let key = Uuid::new_v4();
    let error = client.charge(&dollar().with_key(key)).await.unwrap_err();
    assert!(
        matches!(error, Error::Unknown { key: Some(asked), attempts: 1, .. } if asked == key),
        "{error:?}"
    );
    assert_eq!(*keys.lock().unwrap(), [key.to_string()]);
}

#[tokio::test]
async fn with_the_last_attempt_refused_an_earlier_one_that_was_lost_is_still_unknown() {
    for (first, is_unknown) in [(Does::HangUp, true), (problem(503, "overloaded"), false)] {
        let (client, _) = gateway(vec![first, problem(503, "overloaded")]).await;
        let client = client.with_patience(Patience { attempts_max: 2, ..Patience::default() });
        let error = client.charge(&dollar()).await.unwrap_err();
        assert_eq!(matches!(error, Error::Unknown { .. }), is_unknown, "{error:?}");
        assert_eq!(matches!(error, Error::NotDone { attempts: 2, .. }), !is_unknown, "{error:?}");
    }
}

#[tokio::test]
async fn no_attempt_comes_sooner_than_the_gateway_says_and_none_after_the_deadline() {
    let wait = |seconds| Does::Answer(503, seconds, r#"{"code":"overloaded"}"#.to_owned());
    let (client, keys) = gateway(vec![wait("retry-after: 1\r\n"), booked()]).await;
    let began = Instant::now();
    client.charge(&dollar()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(keys.lock().unwrap().len(), 2);

    let (client, keys) = gateway(vec![wait("retry-after: 60\r\n"), booked()]).await;
    let began = Instant::now();
    let error = client.charge(&dollar()).await.unwrap_err();
    assert!(matches!(error, Error::NotDone { attempts: 1, .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "to wait for nothing is no use: {:?}", began.elapsed());
    assert_eq!(keys.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_read_that_was_lost_is_asked_again_and_a_history_goes_on_over_an_empty_page() {
    let row = r#"{"id":"019a9f3a-7a6b-892e-9356-4ab70000c001","user_id":1,"kind":"hold","status":"completed","amount":"1.00",
        "currency":"USD","balance_after":"9.00","created_at":"2026-11-22T12:00:00.123Z"}"#;
    let page = |data: &str, next: &str| {
        Does::Answer(200, "", format!(r#"{{"data":[{data}],"next_cursor":{next}}}"#))
    };
    let answers = vec![Does::HangUp, page(row, r#""a b""#), page("", r#""c""#), page(row, "null")];
    let (client, _) = gateway(answers).await;
    let history = client.user(1).history().collect().await;
    // A page ends with a brace too, and these requests have none.
    assert_eq!(history.unwrap().len(), 2);
}

#[tokio::test]
async fn of_a_batch_only_what_has_no_final_answer_is_sent_again_under_its_key() {
    let result = |status: u16, replayed: bool, body: &str| {
        format!(r#"{{"status":{status},"replayed":{replayed},"idempotency_key":null,"body":{body}}}"#)
    };
    let results =
        |results: &[String]| Does::Answer(200, "", format!(r#"{{"results":[{}]}}"#, results.join(",")));
    let problem = |status: u16, code: &str| result(status, false, &format!(r#"{{"code":"{code}"}}"#));
    let (client, keys) = gateway(vec![
        Does::HangUp,
        results(&[
            result(200, false, BOOKED),
            problem(503, "shard-unavailable"),
            problem(422, "idempotency-key-reused"),
            problem(504, "outcome-unknown"),
            problem(500, "internal"),
        ]),
        results(&[problem(429, "rate-limited"), result(200, true, BOOKED)]),
        results(&[result(200, false, BOOKED)]),
    ])
    .await;
    let wishes = [(); 5].map(|()| dollar().with_key(Uuid::new_v4()));
    let sent = wishes.each_ref().map(|payment| payment.key().unwrap().to_string());
    let answers = client.batch(&wishes.map(Operation::Charge)).await.unwrap();
    let [first, second, third, fourth, fifth] = answers.try_into().unwrap();
    let booked = |done: Result<Done, Error>| match done {
        Ok(Done::Booked(booked)) => booked,
        other => panic!("{other:?}"),
    };
    assert_eq!((booked(first).attempts, booked(second).attempts), (2, 4));
    assert_eq!(third.unwrap_err().problem().unwrap().status, 422);
    assert!(booked(fourth).is_replayed);
    assert!(matches!(fifth, Err(Error::Unknown { key: Some(key), .. }) if key.to_string() == sent[4]));
    let all = sent.join(" ");
    let expected = [all.clone(), all, format!("{} {}", sent[1], sent[3]), sent[1].clone()];
    assert_eq!(*keys.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_batch_that_is_refused_as_a_whole_is_one_error() {
    let (client, _) = gateway(vec![problem(400, "invalid-request")]).await;
    let refused = client.batch(&[]).await.unwrap_err();
    assert!(matches!(refused.problem().unwrap().code, Code::InvalidRequest { .. }), "{refused}");
}
