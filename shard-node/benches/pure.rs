//! The decision about a batch. Nothing here waits for IO, so a slower rule shows without a cluster.

use std::collections::{HashMap, HashSet};

use divan::Bencher;
use picopay_shard_node::book::{Admitted, Known, decide};
use picopay_shard_node::cache::seal::{Scope, Sealer};
use picopay_shared::command::{Command, Operation, Payment};
use picopay_shared::config::Secret;
use picopay_shared::id::Stamp;
use picopay_shared::money::{Currency, Money};
use picopay_shared::origin::Origin;
use picopay_shared::slot::UserId;
use uuid::Uuid;

/// The default limit of a lane's batch.
const BATCH: i64 = 256;

fn main() {
    divan::main();
}

fn usd(text: &str) -> Money {
    Money::parse(text, Currency::parse("USD").expect("it exists")).expect("an amount")
}

fn user(id: i64) -> UserId {
    UserId::try_from(id).expect("a positive number")
}

/// Charges that take turns between this many users.
fn charges(users: i64) -> Vec<Command> {
    (0..BATCH)
        .map(|number| {
            let payment = Payment {
                user_id: user(1 + number % users),
                money: usd("0.37"),
                reference: None,
                metadata: None,
            };
            let operation = Operation::Charge(payment);
            Command {
                fingerprint: operation.fingerprint(),
                operation,
                idempotency_key: Uuid::from_u128(u128::from(number.unsigned_abs())),
                is_client_key: true,
                origin: Origin {
                    request_id: "01993d9e-1c4e-7b6a-9d0e-0123456789ab".to_owned(),
                    traceparent: None,
                },
                made_by: None,
            }
        })
        .collect()
}

fn known(users: i64) -> Known {
    let everybody = || (1..=users).map(user);
    let balance = usd("1000000.00");
    let balances: HashMap<_, _> = everybody().map(|user| ((user, balance.currency()), balance)).collect();
    let now = Stamp::at(1_795_435_200_123_456);
    Known { users: everybody().collect::<HashSet<_>>(), balances, now, ..Known::default() }
}

/// One batch of uniform charges, and one of a single user.
#[divan::bench(args = [256, 1])]
fn decide_a_batch_of_256(bencher: Bencher, users: i64) {
    let commands = charges(users);
    let admit = || {
        let each = commands.iter().enumerate();
        each.map(|(position, command)| Admitted { position, command }).collect::<Vec<_>>()
    };
    bencher.with_inputs(|| (admit(), known(users))).bench_values(|(batch, known)| decide(&batch, known));
}

/// The CPU cost of keeping a charge in Redis: an entry without metadata has about 130 bytes.
#[divan::bench]
fn seal_an_answer(bencher: Bencher) {
    let sealer = Sealer::new(&Secret::new("a secret"), &Scope::of(&[b"a scope"]));
    let mut entry = vec![0x5a; 130];
    bencher.bench_local(|| {
        entry.truncate(130);
        sealer.seal(&divan::black_box(7_u64).to_le_bytes(), &mut entry);
    });
}
