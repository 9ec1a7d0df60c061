//! Users are made and funded exactly once each, however often the gateway could not answer.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use picopay_loadtest::acks::AckFile;
use picopay_loadtest::http_client::target::Target;
use picopay_loadtest::population;
use picopay_loadtest::responder::{answer_as_a_gateway, write_answer};
use picopay_loadtest::run::Stop;
use picopay_loadtest::scenario::{Scenario, ScenarioArgs};
use picopay_shared::money::Money;

use crate::{charges, start};

#[tokio::test]
async fn every_user_is_funded_once_although_a_third_of_the_answers_is_503() {
    // User → the keys of its top-ups that were carried out.
    let funded: Arc<Mutex<BTreeMap<String, HashSet<String>>>> = Arc::default();
    let responder = {
        let funded = Arc::clone(&funded);
        let mut count = 0;
        start(move |seen, out| {
            count += 1;
            if count % 3 == 0 {
                return write_answer(out, "503 Service Unavailable", "", br#"{"code":"overloaded"}"#);
            }
            if seen.line.starts_with("POST /v1/topup") {
                let user =
                    String::from_utf8_lossy(seen.body).split(',').next().unwrap_or_default().to_owned();
                funded.lock().unwrap().entry(user).or_default().insert(seen.idempotency_key.to_owned());
            }
            answer_as_a_gateway(seen, out);
        })
    };
    let scenario = Scenario::new(ScenarioArgs { users: 300, first_user: 1_000, ..charges() }).unwrap();
    let fund = Money::parse("12.34", scenario.currency()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let acks = AckFile::open(&folder.path().join("acks.jsonl")).unwrap();
    let target = Target::new(&responder.url(), Some("key")).unwrap();
    population::prepare(&target, &scenario, fund, Some(&acks), &Stop::default()).await.unwrap();

    assert_eq!(acks.finish().unwrap(), 300);
    let funded = funded.lock().unwrap();
    assert_eq!(funded.len(), 300);
    assert!(funded.values().all(|keys| keys.len() == 1), "each retry had the key of its first try");
    assert!(funded.contains_key("{\"user_id\":1000") && funded.contains_key("{\"user_id\":1299"));
}

#[tokio::test]
async fn a_user_that_cannot_be_made_ends_it_with_the_reason() {
    let responder = start(|_, out| write_answer(out, "403 Forbidden", "", br#"{"code":"forbidden"}"#));
    let scenario = Scenario::new(charges()).unwrap();
    let fund = Money::parse("1", scenario.currency()).unwrap();
    let target = Target::new(&responder.url(), Some("key")).unwrap();
    let error = population::prepare(&target, &scenario, fund, None, &Stop::default()).await.unwrap_err();
    assert!(error.to_string().contains("creating the users failed: 403"), "{error:#}");
}
