//! What a gateway does for every charge by itself: check the key, read the body, write the answer.

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use divan::{Bencher, black_box};
use picopay_gateway::auth::KeyRing;
use picopay_gateway::fields;
use picopay_gateway::json_answer::json;
use picopay_gateway::payment::read_payment;
use picopay_gateway::problem::Problem;
use picopay_gateway::write_body::WriteBody;
use picopay_gateway_config::{ApiKey, Scope};
use picopay_shared::command::{Kind, Status, Transaction};
use picopay_shared::hold::HoldPart;
use picopay_shared::id::Stamp;
use picopay_shared::money::{Currency, Money};
use picopay_shared::slot::UserId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

fn main() {
    divan::main();
}

fn usd(text: &str) -> Money {
    Money::parse(text, Currency::parse("USD").expect("it exists")).expect("an amount")
}

#[divan::bench]
fn parse_a_charge() -> bool {
    read_payment(black_box(br#"{"user_id":4711,"amount":"50.00","currency":"USD"}"#), fields::currency)
        .is_ok()
}

#[divan::bench]
fn parse_a_charge_with_everything() -> bool {
    let body = br#"{"user_id": 4711, "amount": 50.00, "currency": "USD", "reference": "order 17", "metadata": {"shop": "a", "items": [1, 2]}}"#;
    read_payment(black_box(body), fields::currency).is_ok()
}

#[divan::bench]
fn refuse_a_charge_with_three_errors() -> bool {
    read_payment(black_box(br#"{"user_id":0,"amount":-1,"currency":"usd"}"#), fields::currency).is_err()
}

#[divan::bench]
fn format_an_answer(bencher: Bencher) {
    let user_id = UserId::try_from(4_711).expect("a positive number");
    let transaction = Transaction {
        id: Stamp::at(1_795_435_200_123_456).id_for(user_id),
        user_id,
        kind: Kind::Charge,
        status: Status::Completed,
        money: usd("50.00"),
        balance_after: usd("950.00"),
        idempotency_key: Some(Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000)),
        charge_id: None,
        reference: None,
        metadata: None,
        made_by: None,
        hold_part: HoldPart::default(),
        transfer: None,
    };
    bencher.bench(|| json(StatusCode::OK, &WriteBody(black_box(&transaction))));
}

#[divan::bench]
fn format_a_problem(bencher: Bencher) {
    let problem = Problem::too_little_available(usd("1.00"), usd("0.50"), usd("50.00"), "charge");
    bencher
        .bench(|| black_box(&problem).body("01993d9e-1c4e-7b6a-9d0e-0123456789ab", "http://127.0.0.1:8080"));
}

/// Compares the digest of the shown key with that of every key.
#[divan::bench(args = [1, 16])]
fn know_an_api_key(bencher: Bencher, keys: u8) {
    let shown = "dev-key";
    let key = |number: u8| ApiKey {
        name: format!("key {number}").into(),
        // The last one matches.
        digest: if number + 1 == keys { Sha256::digest(shown).into() } else { [number; 32] },
        client_subject: None,
        scopes: vec![Scope::Write],
        expires_at: None,
        rate: None,
    };
    let ring = KeyRing::new(&(0..keys).map(key).collect::<Vec<_>>());
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_static(shown));
    bencher.bench(|| ring.admit(black_box(&headers), &[Scope::Charge]).is_ok());
}
