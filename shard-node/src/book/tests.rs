//! The rules, as tables of single cases and as random commands against a model.

mod holds;

use picopay_shared::hold::{Hold, HoldStatus};
use picopay_shared::money::Amount;
use picopay_shared::origin::Origin;
use proptest::prelude::*;

use super::*;

fn user(id: i64) -> UserId {
    UserId::try_from(id).unwrap()
}

fn usd(text: &str) -> Money {
    money(text, "USD")
}

fn money(text: &str, code: &str) -> Money {
    let currency = Currency::parse(code).unwrap();
    if text == "0" { Money::zero(currency) } else { Money::parse(text, currency).unwrap() }
}

fn command(key: u128, operation: Operation) -> Command {
    Command {
        fingerprint: operation.fingerprint(),
        operation,
        idempotency_key: Uuid::from_u128(key),
        is_client_key: true,
        origin: Origin { request_id: format!("request-{key}"), traceparent: None },
        made_by: None,
    }
}

fn payment(user_id: UserId, money: Money) -> Payment {
    Payment { user_id, money, reference: None, metadata: None }
}

fn charge(key: u128, user_id: UserId, money: Money) -> Command {
    command(key, Operation::Charge(payment(user_id, money)))
}

fn top_up(key: u128, user_id: UserId, money: Money) -> Command {
    command(key, Operation::TopUp(payment(user_id, money)))
}

fn refund(key: u128, charge_id: TransactionId, amount: Option<&str>) -> Command {
    let amount = amount.map(|text| Amount::parse(text).unwrap());
    command(key, Operation::Refund { charge_id, amount })
}

/// A ledger in memory: what Postgres keeps between batches.
#[derive(Default)]
struct Ledger {
    /// The primary's clock in microseconds of Unix time.
    clock_us: i64,
    last_stamps: HashMap<UserId, Stamp>,
    users: HashSet<UserId>,
    balances: HashMap<(UserId, Currency), Money>,
    rows: Vec<Recorded>,
    refund_totals: HashMap<TransactionId, Money>,
    held: HashMap<(UserId, Currency), Held>,
    holds: HashMap<TransactionId, Hold>,
}

impl Ledger {
    fn with_user(id: i64, balance: Money) -> (Self, UserId) {
        let mut ledger = Self::default();
        ledger.users.insert(user(id));
        if !balance.is_zero() {
            ledger.run(&[top_up(u128::MAX, user(id), balance)]);
        }
        (ledger, user(id))
    }

    /// Runs one batch as the lane does: read what is known, decide, write.
    fn run(&mut self, commands: &[Command]) -> Vec<Outcome> {
        let batch: Vec<Admitted> =
            commands.iter().enumerate().map(|(position, command)| Admitted { position, command }).collect();
        let completed = self.rows.iter().filter(|row| row.transaction.status == Status::Completed);
        let known = Known {
            users: self.users.clone(),
            created: HashSet::new(),
            balances: self.balances.clone(),
            last_stamps: self.last_stamps.clone(),
            now: Stamp::at(self.clock_us),
            by_key: self
                .rows
                .iter()
                .filter_map(|row| {
                    let key = (row.transaction.user_id, row.transaction.idempotency_key?);
                    Some((key, row.clone()))
                })
                .collect(),
            refunded: completed.map(|row| (row.transaction.id, row.transaction.clone())).collect(),
            refund_totals: self.refund_totals.clone(),
            transfers: super::KnownTransfers::default(),
            holds: self.known_holds(),
        };
        let booked = decide(&batch, known);
        for (rows, is_new) in [(&booked.new_balances, true), (&booked.updated_balances, false)] {
            for BalanceRow { user_id, balance, last_stamp, .. } in rows {
                let before = self.balances.insert((*user_id, balance.currency()), *balance);
                assert_eq!(before.is_none(), is_new);
                let before = self.last_stamps.insert(*user_id, *last_stamp).unwrap_or_default();
                assert!(before <= *last_stamp);
            }
        }
        self.write_holds(&booked);
        for total in &booked.refund_totals {
            assert!(total.refunded.amount() <= total.charged.amount());
            self.refund_totals.insert(total.charge_id, total.refunded);
        }
        self.rows.extend(booked.transactions);
        // The next batch reads the clock later, so that the id of a refusal, which no stamp keeps, is not
        // used again.
        self.clock_us += 1;
        booked.outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// As the lane reads them: all that commands can name, and of users with a hold that may have run out, which have.
    fn known_holds(&self) -> KnownHolds {
        let held = self.held.iter().filter(|(_, held)| held.count > 0);
        let mut known = KnownHolds {
            held: held.map(|(account, held)| (*account, *held)).collect(),
            rows: self.holds.clone(),
            due: HashMap::new(),
            are_told: true,
        };
        let now_ms = Stamp::at(self.clock_us).unix_ms();
        for user in known.users_due(now_ms) {
            let of_user = |hold: &&Hold| hold.user_id == user && hold.status == HoldStatus::Open;
            let (mut due, rest): (Vec<&Hold>, Vec<&Hold>) =
                self.holds.values().filter(of_user).partition(|hold| hold.expires_at_ms <= now_ms);
            due.sort_by_key(|hold| (hold.expires_at_ms, hold.id));
            let next = |currency: Currency| {
                let ends =
                    rest.iter().filter(|hold| hold.money.currency() == currency).map(|one| one.expires_at_ms);
                (currency, ends.min())
            };
            let accounts = known.held.keys().filter(|(of, _)| *of == user);
            let next = accounts.map(|(_, currency)| next(*currency)).collect();
            known.due.insert(user, Due { holds: due.iter().map(|hold| hold.id).collect(), next });
        }
        known
    }

    /// With what the database would refuse.
    fn write_holds(&mut self, booked: &Booked) {
        for HeldRow { row, held } in &booked.held_balances {
            let account = (row.user_id, row.balance.currency());
            assert!(self.balances.insert(account, row.balance).is_some(), "a new balance is inserted first");
            self.last_stamps.insert(row.user_id, row.last_stamp);
            self.held.insert(account, *held);
        }
        for EndedHold { hold, by } in booked.new_holds.iter().chain(&booked.ended_holds) {
            assert_eq!(by.is_none(), hold.status == HoldStatus::Open);
            let before = self.holds.insert(hold.id, hold.clone());
            assert!(before.is_none_or(|before| before.status == HoldStatus::Open), "a hold ends once");
        }
        for (account, held) in &self.held {
            let open: Vec<&Hold> = (self.holds.values())
                .filter(|hold| (hold.user_id, hold.money.currency()) == *account)
                .filter(|hold| hold.status == HoldStatus::Open)
                .collect();
            let sum: rust_decimal::Decimal = open.iter().map(|hold| hold.money.amount()).sum();
            assert_eq!((held.sum.amount(), held.count as usize), (sum, open.len()), "held is the open holds");
            assert!(held.sum.amount() <= self.balances[account].amount(), "no more is held than there is");
            let first = open.iter().map(|hold| hold.expires_at_ms).min();
            assert_eq!(held.due_ms.is_some(), first.is_some());
            assert!(held.due_ms <= first, "looked for in time");
        }
    }

    fn run_one(&mut self, command: Command) -> Outcome {
        self.run(&[command]).remove(0)
    }

    fn balance(&self, user: UserId) -> String {
        let currency = Currency::parse("USD").unwrap();
        self.balances.get(&(user, currency)).copied().unwrap_or(Money::zero(currency)).to_string()
    }
}

fn decided(outcome: &Outcome) -> (&Transaction, bool) {
    match outcome {
        Outcome::Decided { transaction, is_replayed } => (transaction, *is_replayed),
        other => panic!("not decided: {other:?}"),
    }
}

fn refusal(outcome: &Outcome) -> Option<Refusal> {
    match &decided(outcome).0.status {
        Status::Completed => None,
        Status::Refused { refusal, .. } => Some(*refusal),
    }
}

#[test]
fn a_charge_takes_what_is_there_and_no_more() {
    for (balance, amount, expected, left) in [
        ("100", "100", None, "0.00"),
        ("100", "99.99", None, "0.01"),
        ("100", "100.01", Some(Refusal::InsufficientBalance), "100.00"),
        ("0", "0.01", Some(Refusal::InsufficientBalance), "0.00"),
    ] {
        let (mut ledger, user) = Ledger::with_user(1, usd(balance));
        let outcome = ledger.run_one(charge(1, user, usd(amount)));
        assert_eq!(refusal(&outcome), expected, "{balance} - {amount}");
        assert_eq!(decided(&outcome).0.balance_after.to_string(), left);
        assert_eq!(ledger.balance(user), left);
    }
}

#[test]
fn several_charges_of_one_user_fold_into_one_balance_and_stop_at_zero() {
    let (mut ledger, user) = Ledger::with_user(1, usd("10"));
    let commands: Vec<Command> = (1..=5).map(|key| charge(key, user, usd("3"))).collect();
    let outcomes = ledger.run(&commands);
    let after: Vec<String> = outcomes.iter().map(|one| decided(one).0.balance_after.to_string()).collect();
    assert_eq!(after, ["7.00", "4.00", "1.00", "1.00", "1.00"]);
    assert_eq!(outcomes.iter().filter(|one| refusal(one).is_none()).count(), 3);
    assert_eq!(ledger.balance(user), "1.00");
}

#[test]
fn the_same_key_twice_in_one_batch_is_one_transaction_and_two_equal_answers() {
    let (mut ledger, user) = Ledger::with_user(1, usd("10"));
    let outcomes = ledger.run(&[charge(1, user, usd("3")), charge(1, user, usd("3"))]);
    let [(first, first_replayed), (second, second_replayed)] = [decided(&outcomes[0]), decided(&outcomes[1])];
    assert_eq!(first, second);
    assert_eq!((first_replayed, second_replayed), (false, true));
    assert_eq!(ledger.balance(user), "7.00");
}

#[test]
fn a_refused_charge_stays_refused_under_its_key_even_after_a_top_up() {
    let (mut ledger, user) = Ledger::with_user(1, usd("1"));
    let first = ledger.run_one(charge(1, user, usd("3")));
    ledger.run_one(top_up(2, user, usd("10")));
    let again = ledger.run_one(charge(1, user, usd("3")));
    assert_eq!(decided(&again), (decided(&first).0, true));
    assert!(refusal(&ledger.run_one(charge(3, user, usd("3")))).is_none());
}

#[test]
fn a_key_used_for_something_else_names_what_differs() {
    let (mut ledger, user) = Ledger::with_user(1, usd("100"));
    let first = ledger.run_one(charge(1, user, usd("10")));
    let charge_id = decided(&first).0.id;
    ledger.run_one(refund(2, charge_id, Some("4")));
    let noted = |reference: &str| {
        command(
            1,
            Operation::Charge(Payment { reference: Some(reference.into()), ..payment(user, usd("10")) }),
        )
    };
    for (command, expected) in [
        (charge(1, user, usd("10.01")), vec!["amount"]),
        (charge(1, user, money("10", "EUR")), vec!["currency"]),
        (charge(1, user, money("11", "EUR")), vec!["amount", "currency"]),
        (top_up(1, user, usd("10")), vec!["operation"]),
        (top_up(1, user, usd("11")), vec!["operation", "amount"]),
        (noted("x"), vec!["reference"]),
        (refund(1, charge_id, None), vec!["operation"]),
        (refund(2, charge_id, Some("5")), vec!["amount"]),
        (refund(2, charge_id, None), vec!["amount"]),
        (charge(2, user, usd("4")), vec!["operation"]),
    ] {
        let differs = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(ledger.run_one(command.clone()), Outcome::KeyReused { differs }, "{command:?}");
    }
}

#[test]
fn the_same_key_of_two_users_is_two_transactions() {
    let (mut ledger, first) = Ledger::with_user(1, usd("10"));
    ledger.users.insert(user(2));
    ledger.run_one(top_up(9, user(2), usd("10")));
    let outcomes = ledger.run(&[charge(1, first, usd("3")), charge(1, user(2), usd("4"))]);
    assert!(outcomes.iter().all(|outcome| !decided(outcome).1));
    assert_eq!((ledger.balance(first), ledger.balance(user(2))), ("7.00".into(), "6.00".into()));
}

#[test]
fn refunds_together_never_pass_their_charge() {
    let (mut ledger, user) = Ledger::with_user(1, usd("100"));
    let charge_id = decided(&ledger.run_one(charge(1, user, usd("100")))).0.id;
    let exceeds = |remaining: &str| Some(Refusal::RefundExceedsCharge { remaining: usd(remaining) });
    let outcomes = ledger.run(&[refund(2, charge_id, Some("60")), refund(3, charge_id, Some("60"))]);
    assert_eq!([refusal(&outcomes[0]), refusal(&outcomes[1])], [None, exceeds("40")]);
    let rest = ledger.run_one(refund(4, charge_id, None));
    assert_eq!(decided(&rest).0.money, usd("40"));
    assert_eq!(decided(&rest).0.charge_id, Some(charge_id));
    assert_eq!(refusal(&ledger.run_one(refund(5, charge_id, None))), exceeds("0"));
    assert_eq!(refusal(&ledger.run_one(refund(6, charge_id, Some("0.01")))), exceeds("0"));
    assert_eq!(ledger.balance(user), "100.00");
}

#[test]
fn only_a_completed_charge_can_be_refunded() {
    let (mut ledger, user) = Ledger::with_user(1, usd("10"));
    let cash_in = ledger.rows[0].transaction.id;
    assert_eq!(refusal(&ledger.run_one(refund(1, cash_in, None))), Some(Refusal::NotRefundable));
    let refused = decided(&ledger.run_one(charge(2, user, usd("11")))).0.id;
    assert_eq!(ledger.run_one(refund(3, refused, None)), Outcome::TransactionNotFound);
    let unknown = TransactionId::from_uuid(Uuid::from_u128(5));
    assert_eq!(ledger.run_one(refund(4, unknown, None)), Outcome::TransactionNotFound);
}

#[test]
fn a_refund_finer_than_its_currency_is_invalid_and_leaves_its_key_free() {
    let (mut ledger, user) = Ledger::with_user(1, usd("10"));
    let charge_id = decided(&ledger.run_one(charge(1, user, usd("10")))).0.id;
    assert!(matches!(ledger.run_one(refund(2, charge_id, Some("1.234"))), Outcome::AmountInvalid { .. }));
    assert!(refusal(&ledger.run_one(refund(2, charge_id, Some("1.23")))).is_none());
}

#[test]
fn nothing_is_recorded_for_a_user_who_does_not_exist() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.run_one(charge(1, user(1), usd("1"))), Outcome::UserNotFound);
    assert_eq!(ledger.run_one(top_up(1, user(1), usd("1"))), Outcome::UserNotFound);
    assert!(ledger.rows.is_empty());
}

#[test]
fn each_currency_is_a_balance_of_its_own() {
    let (mut ledger, user) = Ledger::with_user(1, usd("10"));
    let outcome = ledger.run_one(charge(1, user, money("1", "JPY")));
    assert_eq!(refusal(&outcome), Some(Refusal::InsufficientBalance));
    assert_eq!(decided(&outcome).0.balance_after, money("0", "JPY"));
    ledger.run_one(top_up(2, user, money("5", "JPY")));
    assert_eq!(ledger.balance(user), "10.00");
}

#[test]
fn the_second_of_two_creations_in_one_batch_finds_the_user_there() {
    let commands = [1, 2].map(|key| command(key, Operation::CreateUser { user_id: user(1) }));
    let batch: Vec<Admitted> =
        commands.iter().enumerate().map(|(position, command)| Admitted { position, command }).collect();
    let made: HashSet<UserId> = [user(1)].into();
    let known = Known { users: made.clone(), created: made, ..Known::default() };
    let outcomes: Vec<Outcome> =
        decide(&batch, known).outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [Outcome::UserCreated, Outcome::UserExisted]);
}

#[test]
fn ids_of_a_user_rise_in_the_order_of_booking_whatever_the_clock_says() {
    let (mut ledger, user) = Ledger::with_user(1, usd("100"));
    for (key, clock_us) in (1..).zip([5_000_000, 5_000_000, 7_000, -1, 5_000_001, 9_000_000, 0]) {
        ledger.clock_us = clock_us;
        let batch = [(0, "1"), (1, "1000"), (2, "1")].map(|(n, sum)| charge(key * 10 + n, user, usd(sum)));
        ledger.run(&batch);
    }
    let completed = ledger.rows.iter().filter(|row| row.transaction.status == Status::Completed);
    let ids: Vec<TransactionId> = completed.map(|row| row.transaction.id).collect();
    assert_eq!(ids.len(), 1 + 7 * 2);
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
}

#[test]
fn an_id_has_the_time_of_the_clock_unless_the_last_one_is_ahead_of_it() {
    let (mut ledger, one) = Ledger::with_user(1, usd("100"));
    let other = user(2);
    ledger.users.insert(other);
    ledger.last_stamps.insert(one, Stamp::at(600_000_000));
    ledger.clock_us = 2_000_999;
    let outcomes = ledger.run(&[
        charge(1, one, usd("1")),
        top_up(2, other, usd("1")),
        charge(3, other, usd("9")),
        charge(4, one, usd("1000")),
    ]);
    let ids: Vec<TransactionId> = outcomes.iter().map(|outcome| decided(outcome).0.id).collect();
    // A user whose ids are ahead does not move those of others.
    assert_eq!(ids.iter().map(|id| id.unix_ms()).collect::<Vec<_>>(), [600_000, 2_000, 2_000, 600_000]);
    let refusals = ids.iter().map(|id| *id >= TransactionId::first_refusal()).collect::<Vec<_>>();
    assert_eq!(refusals, [false, false, true, true]);
    assert!(ids[0] < ids[2] && ids[2] < ids[3]);
}

/// One random wish. Refunds and repeats point at something earlier by its index.
#[derive(Debug, Clone)]
enum Wish {
    TopUp { user: i64, cents: u32 },
    Charge { user: i64, cents: u32 },
    Refund { of: usize, cents: Option<u32> },
    Repeat { of: usize },
}

fn wish() -> impl Strategy<Value = Wish> {
    let cents = 1_u32..5_000;
    prop_oneof![
        2 => (1_i64..4, cents.clone()).prop_map(|(user, cents)| Wish::TopUp { user, cents }),
        4 => (1_i64..4, cents.clone()).prop_map(|(user, cents)| Wish::Charge { user, cents }),
        3 => (any::<usize>(), proptest::option::of(cents)).prop_map(|(of, cents)| Wish::Refund { of, cents }),
        2 => any::<usize>().prop_map(|of| Wish::Repeat { of }),
    ]
}

fn cents(value: u32) -> Money {
    usd(&format!("{}.{:02}", value / 100, value % 100))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_asked_the_books_add_up(batches in proptest::collection::vec(proptest::collection::vec(wish(), 1..12), 1..12)) {
        let mut ledger = Ledger::default();
        ledger.users.extend([user(1), user(2), user(3)]);
        // The model: signed cents, without any of the code under test.
        let mut model: HashMap<UserId, i64> = HashMap::new();
        let mut refunded: HashMap<TransactionId, i64> = HashMap::new();
        let mut asked: Vec<Command> = Vec::new();
        let mut first_answers: HashMap<Uuid, Transaction> = HashMap::new();
        for wishes in batches {
            let mut batch = Vec::new();
            for wish in wishes {
                let key = u128::try_from(asked.len()).unwrap();
                let made: Vec<TransactionId> = ledger.rows.iter().map(|row| row.transaction.id).collect();
                let next = match wish {
                    Wish::TopUp { user: id, cents: value } => top_up(key, user(id), cents(value)),
                    Wish::Charge { user: id, cents: value } => charge(key, user(id), cents(value)),
                    Wish::Refund { .. } if made.is_empty() => continue,
                    Wish::Refund { of, cents: value } => {
                        let text = value.map(|value| cents(value).to_string());
                        refund(key, made[of % made.len()], text.as_deref())
                    }
                    Wish::Repeat { .. } if asked.is_empty() => continue,
                    Wish::Repeat { of } => asked[of % asked.len()].clone(),
                };
                asked.push(next.clone());
                batch.push(next);
            }
            for outcome in ledger.run(&batch) {
                let Outcome::Decided { transaction, is_replayed } = outcome else { continue };
                let first = first_answers.entry(transaction.idempotency_key.unwrap()).or_insert_with(|| {
                    assert!(!is_replayed, "a replay before any first answer");
                    (*transaction).clone()
                });
                prop_assert_eq!(&*transaction, &*first, "a replay equals the first answer");
                if is_replayed || transaction.status != Status::Completed {
                    continue;
                }
                let amount = i64::try_from(transaction.money.amount().mantissa()).unwrap();
                let balance = model.entry(transaction.user_id).or_default();
                match transaction.kind {
                    Kind::TopUp => *balance += amount,
                    Kind::Charge => *balance -= amount,
                    Kind::Refund => {
                        *balance += amount;
                        *refunded.entry(transaction.charge_id.unwrap()).or_default() += amount;
                    }
                    Kind::Hold
                    | Kind::Void
                    | Kind::Expiry
                    | Kind::TransferOut
                    | Kind::TransferIn
                    | Kind::TransferBack => unreachable!("nobody asks for one here"),
                }
                prop_assert!(*balance >= 0, "a balance never goes below zero");
                let after = i64::try_from(transaction.balance_after.amount().mantissa()).unwrap();
                prop_assert_eq!(after, *balance);
            }
        }
        for (user, balance) in model {
            prop_assert_eq!(ledger.balance(user), format!("{}.{:02}", balance / 100, balance % 100));
        }
        for (charge_id, total) in refunded {
            let charge = ledger.rows.iter().find(|row| row.transaction.id == charge_id).unwrap();
            prop_assert!(i128::from(total) <= charge.transaction.money.amount().mantissa());
        }
        let keys: HashSet<_> =
            ledger.rows.iter().map(|row| (row.transaction.user_id, row.transaction.idempotency_key)).collect();
        prop_assert_eq!(keys.len(), ledger.rows.len(), "one transaction per key");
    }
}
