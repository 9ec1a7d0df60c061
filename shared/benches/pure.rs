//! What every charge does once or twice on each side: read an amount, hash, make an id, cross the wire.

use divan::{Bencher, black_box};
use picopay_shared::command::{Attempt, Command, Operation, Payment, WriteBatch};
use picopay_shared::id::Stamp;
use picopay_shared::money::{Currency, Money};
use picopay_shared::origin::Origin;
use picopay_shared::slot::UserId;
use uuid::Uuid;

fn main() {
    divan::main();
}

fn user(id: i64) -> UserId {
    UserId::try_from(id).expect("a positive number")
}

fn payment(id: i64) -> Payment {
    let currency = Currency::parse("USD").expect("it exists");
    let money = Money::parse("50.00", currency).expect("an amount");
    Payment { user_id: user(id), money, reference: None, metadata: None }
}

fn command(id: i64) -> Command {
    let operation = Operation::Charge(payment(id));
    Command {
        fingerprint: operation.fingerprint(),
        operation,
        idempotency_key: Uuid::from_u128(u128::from(id.unsigned_abs())),
        is_client_key: true,
        origin: Origin { request_id: "01993d9e-1c4e-7b6a-9d0e-0123456789ab".to_owned(), traceparent: None },
        made_by: None,
    }
}

#[divan::bench]
fn parse_an_amount() -> Money {
    let currency = Currency::parse(black_box("USD")).expect("it exists");
    Money::parse(black_box("1234.56"), currency).expect("an amount")
}

#[divan::bench]
fn format_an_amount(bencher: Bencher) {
    let money = payment(1).money;
    bencher.bench(|| black_box(money).to_string());
}

#[divan::bench]
fn fingerprint(bencher: Bencher) {
    let operation = Operation::Charge(payment(1));
    bencher.bench(|| black_box(&operation).fingerprint());
}

#[divan::bench]
fn slot_and_tag() -> (u16, u32) {
    let user = black_box(user(123_456_789));
    (user.slot().get(), user.tag().get())
}

#[divan::bench]
fn make_a_transaction_id(bencher: Bencher) {
    bencher.bench(|| Stamp::at(black_box(1_795_435_200_123_456)).id_for(user(7)));
}

/// From gateway to node and back.
#[divan::bench]
fn carry_a_batch_of_256(bencher: Bencher) {
    let attempts = (1..=256).map(|id| Attempt { command: command(id), epoch: 1 }).collect();
    let batch = WriteBatch { deadline_ms: 2_000, attempts };
    bencher.bench(|| {
        let bytes = postcard::to_stdvec(black_box(&batch)).expect("plain data");
        postcard::from_bytes::<WriteBatch>(&bytes).expect("what was just written")
    });
}
