//! The way of a charge, without whatever waits: network, lanes, database, Redis.
//!
//! Request's parts → command → wire → node's commands → decision → wire → answer's body. All inputs are the same in every
//! run, and they are made before the first batch goes its way.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use picopay_gateway::auth::KeyRing;
use picopay_gateway::fields;
use picopay_gateway::idempotency_key::{Key, read_key};
use picopay_gateway::payment::read_payment;
use picopay_gateway::request_id::RequestId;
use picopay_gateway::request_origin;
use picopay_gateway::write_answer::answer;
use picopay_gateway_config::{ApiKey, Scope};
use picopay_shard_client::{Decision, Written};
use picopay_shard_node::book::{Admitted, Known, decide};
use picopay_shared::command::{Attempt, Command, Operation, Outcome, WriteBatch, WriteReply};
use picopay_shared::id::Stamp;
use picopay_shared::money::{Currency, Money};
use picopay_shared::session::{LogPosition, SessionToken};
use picopay_shared::slot::UserId;
use sha2::{Digest, Sha256};

/// The most charges that are counted; each run makes inputs for all, so that they cost every run the same.
pub const CHARGES_MAX: u32 = 2_816;

const API_KEY: &str = "dev-key";

struct Posted {
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Panics when a charge is not booked: what is counted would be something else.
pub fn go(batch: u32, batches: u32) {
    let ring = ring();
    let posted: Vec<Posted> = (0..batch).map(posted).collect();
    let mut known: Vec<Known> = (0..CHARGES_MAX / batch).map(|_| known(batch)).collect();
    for _ in 0..batches {
        let known = known.pop().expect("there are inputs for as many");
        black_box(go_once(&ring, black_box(&posted), known));
    }
}

fn go_once(ring: &KeyRing, posted: &[Posted], known: Known) -> usize {
    let attempts = posted.iter().map(|posted| Attempt { command: command(ring, posted), epoch: 1 }).collect();
    let wire = WriteBatch { deadline_ms: 2_000, attempts }.to_wire();
    let replied = decide_wire(&wire, known);
    let WriteReply { outcomes, position, .. } = postcard::from_bytes(&replied).expect("what was written");
    let session = position.map(|position| SessionToken::new("shard-1", position));
    outcomes.into_iter().map(|outcome| answer_with(outcome, session)).sum()
}

fn command(ring: &KeyRing, posted: &Posted) -> Arc<Command> {
    let made_by = ring.admit(&posted.headers, &[Scope::Charge]).expect("the key is known");
    let Key { uuid, is_client_key } = read_key(&posted.headers).expect("a key is there");
    let payment = read_payment(&posted.body, fields::currency).expect("the body is right");
    let operation = Operation::Charge(payment);
    Arc::new(Command {
        fingerprint: operation.fingerprint(),
        operation,
        idempotency_key: uuid,
        is_client_key,
        origin: request_origin::of(&posted.headers, &RequestId::take_or_make(&posted.headers)),
        made_by: Some(made_by),
    })
}

fn decide_wire(wire: &[u8], known: Known) -> Vec<u8> {
    let batch = WriteBatch::from_wire(wire).expect("what was written");
    let commands = batch.attempts.iter().enumerate();
    let admitted: Vec<_> =
        commands.map(|(position, Attempt { command, .. })| Admitted { position, command }).collect();
    let booked = decide(&admitted, known);
    let reply = WriteReply {
        outcomes: booked.outcomes.into_iter().map(|(_, outcome)| outcome).collect(),
        cache_hits: 0,
        commit_us: 1_000,
        position: Some(LogPosition { timeline: 1, lsn: 0x1234_5678 }),
    };
    postcard::to_stdvec(&reply).expect("our own types can be written")
}

fn answer_with(outcome: Outcome, session: Option<SessionToken>) -> usize {
    let Outcome::Decided { transaction, is_replayed } = outcome else { panic!("it is booked") };
    let key = transaction.idempotency_key;
    let decision = Decision::Decided { transaction, is_replayed };
    let answered =
        answer(Written { decision, session }, key.expect("a charge has one"), None).expect("it is booked");
    black_box(answered.response).headers().len()
}

fn ring() -> KeyRing {
    let digest = Sha256::digest(API_KEY).into();
    let scopes = vec![Scope::Charge];
    KeyRing::new(&[ApiKey {
        name: "dev".into(),
        digest,
        client_subject: None,
        scopes,
        expires_at: None,
        rate: None,
    }])
}

fn posted(number: u32) -> Posted {
    let mut headers = HeaderMap::new();
    let mut add = |name, value: &str| {
        headers.insert(name, HeaderValue::from_str(value).expect("visible ASCII"));
    };
    add("host", "127.0.0.1:8080");
    add("x-api-key", API_KEY);
    add("content-type", "application/json");
    add("idempotency-key", &format!("550e8400-e29b-41d4-a716-{number:012x}"));
    add("x-request-id", &format!("01993d9e-1c4e-7b6a-9d0e-{number:012x}"));
    let user = user(number).get();
    let body = format!("{{\"user_id\":{user},\"amount\":\"0.{:02}\",\"currency\":\"USD\"}}", 1 + number % 99);
    Posted { headers, body: body.into_bytes() }
}

/// Ids of one length, so that a larger batch has no longer texts.
fn user(number: u32) -> UserId {
    UserId::try_from(i64::from(10_000 + number * 37)).expect("a positive number")
}

fn known(users: u32) -> Known {
    let balance = Money::parse("1000000.00", Currency::parse("USD").expect("it exists")).expect("an amount");
    let everybody = || (0..users).map(user);
    Known {
        users: everybody().collect::<HashSet<_>>(),
        balances: everybody().map(|user| ((user, balance.currency()), balance)).collect::<HashMap<_, _>>(),
        now: Stamp::at(1_795_435_200_123_456),
        ..Known::default()
    }
}
