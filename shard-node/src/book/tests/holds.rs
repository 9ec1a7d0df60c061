//! Holds: each step, and random steps while time goes on.

use picopay_shared::hold::OPEN_HOLDS_MAX;

use super::*;

const DAY_S: u32 = 86_400;

fn hold_for(key: u128, user_id: UserId, money: Money, expires_in_s: u32) -> Command {
    command(key, Operation::Hold { payment: payment(user_id, money), expires_in_s })
}

fn hold(key: u128, user_id: UserId, money: Money) -> Command {
    hold_for(key, user_id, money, DAY_S)
}

fn capture(key: u128, hold_id: TransactionId, amount: Option<&str>) -> Command {
    let amount = amount.map(|text| Amount::parse(text).unwrap());
    command(key, Operation::Capture { hold_id, amount })
}

fn void(key: u128, hold_id: TransactionId) -> Command {
    command(key, Operation::Void { hold_id })
}

impl Ledger {
    fn take(&mut self, key: u128, user: UserId, money: Money) -> TransactionId {
        let outcome = self.run_one(hold(key, user, money));
        assert_eq!(refusal(&outcome), None);
        decided(&outcome).0.id
    }

    fn pass(&mut self, seconds: i64) {
        self.clock_us += seconds * 1_000_000;
    }

    fn held(&self, user: UserId) -> String {
        let account = (user, Currency::parse("USD").unwrap());
        self.held.get(&account).map_or("0.00".to_owned(), |held| held.sum.to_string())
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.rows.iter().map(|row| row.transaction.kind.as_str()).collect()
    }
}

#[test]
fn a_hold_reserves_and_moves_nothing() {
    let (mut ledger, user) = Ledger::with_user(1, usd("100"));
    let outcome = ledger.run_one(hold(1, user, usd("30")));
    let (taken, _) = decided(&outcome);
    assert_eq!((taken.kind, taken.balance_after), (Kind::Hold, usd("100")));
    assert_eq!(taken.hold_part.available, Some(usd("70")));
    let told = taken.hold().unwrap();
    assert_eq!((told.status, told.captured), (HoldStatus::Open, usd("0")));
    assert_eq!(told.expires_at_ms, taken.id.unix_ms() + 86_400_000);
    assert_eq!((ledger.balance(user), ledger.held(user)), ("100.00".to_owned(), "30.00".to_owned()));
    // What is held is not there for anybody else.
    for too_much in [charge(2, user, usd("70.01")), hold(3, user, usd("70.01"))] {
        let outcome = ledger.run_one(too_much);
        assert_eq!(refusal(&outcome), Some(Refusal::InsufficientBalance));
        let (refused, _) = decided(&outcome);
        assert_eq!((refused.balance_after, refused.hold_part.available), (usd("100"), Some(usd("70"))));
    }
    assert_eq!(refusal(&ledger.run_one(charge(4, user, usd("70")))), None);
    assert_eq!(ledger.balance(user), "30.00");
}

#[test]
fn a_capture_charges_all_or_a_part_and_frees_the_rest() {
    for (amount, left) in [(None, "70.00"), (Some("30"), "70.00"), (Some("10"), "90.00")] {
        let (mut ledger, user) = Ledger::with_user(1, usd("100"));
        let mut taking = hold(1, user, usd("30"));
        let Operation::Hold { payment, .. } = &mut taking.operation else { unreachable!() };
        (payment.reference, payment.metadata) = (Some("ride".to_owned()), Some("{}".to_owned()));
        let outcome = ledger.run_one(taking);
        let id = decided(&outcome).0.id;
        let outcome = ledger.run_one(capture(2, id, amount));
        let (charged, _) = decided(&outcome);
        assert_eq!((charged.kind, charged.hold_part.hold_id), (Kind::Charge, Some(id)));
        assert_eq!((charged.reference.as_deref(), charged.metadata.as_deref()), (Some("ride"), Some("{}")));
        assert_eq!(
            (charged.balance_after.to_string(), ledger.balance(user)),
            (left.to_owned(), left.to_owned())
        );
        assert_eq!(ledger.held(user), "0.00");
        assert_eq!(ledger.holds[&id].captured, charged.money);
        // Like any charge.
        assert_eq!(refusal(&ledger.run_one(refund(3, charged.id, None))), None);
        assert_eq!(ledger.balance(user), "100.00");
        // The hold itself is no charge.
        assert_eq!(refusal(&ledger.run_one(refund(4, id, None))), Some(Refusal::NotRefundable));
    }
}

#[test]
fn a_hold_ends_once() {
    let (mut ledger, user) = Ledger::with_user(1, usd("100"));
    let id = ledger.take(1, user, usd("30"));
    let too_much = ledger.run_one(capture(2, id, Some("30.01")));
    assert_eq!(refusal(&too_much), Some(Refusal::CaptureExceedsHold { remaining: usd("30") }));
    assert!(matches!(ledger.run_one(capture(3, id, Some("1.001"))), Outcome::AmountInvalid { .. }));
    // Two at once: the first in order.
    let outcomes = ledger.run(&[void(4, id), capture(5, id, None)]);
    let (voided, _) = decided(&outcomes[0]);
    let told = voided.hold().unwrap();
    assert_eq!((voided.hold_part.available, voided.balance_after), (Some(usd("100")), usd("100")));
    assert_eq!((told.id, told.status, told.idempotency_key), (id, HoldStatus::Voided, Uuid::from_u128(1)));
    let not_open = |status| Some(Refusal::HoldNotOpen { status });
    assert_eq!(refusal(&outcomes[1]), not_open(HoldStatus::Voided));
    assert_eq!(refusal(&ledger.run_one(void(6, id))), not_open(HoldStatus::Voided));
    let other = ledger.take(7, user, usd("30"));
    assert_eq!(refusal(&ledger.run_one(capture(8, other, Some("1")))), None);
    assert_eq!(refusal(&ledger.run_one(capture(9, other, Some("1")))), not_open(HoldStatus::Captured));
    assert_eq!(ledger.run_one(capture(10, TransactionId::first_at(1), None)), Outcome::HoldNotFound);
    assert_eq!(ledger.run_one(void(11, voided.id)), Outcome::HoldNotFound, "a void is no hold");
}

#[test]
fn a_used_key_is_judged_before_the_holds_state() {
    let (mut ledger, user) = Ledger::with_user(1, usd("100"));
    let id = ledger.take(1, user, usd("30"));
    let steps = [hold(1, user, usd("30")), void(2, id), capture(3, id, Some("1"))];
    let first = ledger.run(&steps[1..]);
    // Nothing of a first answer changes, whatever has become of the hold.
    for (step, outcome) in steps[1..].iter().zip(&first) {
        let again = ledger.run_one(step.clone());
        assert_eq!(decided(&again), (decided(outcome).0, true));
    }
    let again = ledger.run_one(steps[0].clone());
    assert_eq!(decided(&again).0.hold().unwrap().status, HoldStatus::Open, "as it was then");
    let differs = |outcome: Outcome| match outcome {
        Outcome::KeyReused { differs } => differs.join(" "),
        other => panic!("{other:?}"),
    };
    for (other, named) in [
        (capture(1, id, None), "operation"),
        (void(1, id), "operation"),
        (charge(1, user, usd("30")), "operation"),
        (hold(1, user, usd("31")), "amount"),
        (hold_for(1, user, usd("30"), 60), "expires_in"),
        (hold(2, user, usd("30")), "operation"),
        (capture(2, id, None), "operation"),
        (charge(3, user, usd("1")), "operation"),
        (refund(3, id, None), "operation"),
        (capture(3, id, Some("2")), "amount"),
    ] {
        assert_eq!(differs(ledger.run_one(other.clone())), named, "{other:?}");
    }
}

#[test]
fn from_its_end_on_a_hold_counts_for_nothing() {
    let (mut ledger, user) = Ledger::with_user(1, usd("100"));
    let id = ledger.take(1, user, usd("100"));
    let end_us = ledger.holds[&id].expires_at_ms * 1000;
    ledger.clock_us = end_us - 1;
    assert_eq!(refusal(&ledger.run_one(charge(2, user, usd("1")))), Some(Refusal::InsufficientBalance));
    ledger.clock_us = end_us;
    assert_eq!(refusal(&ledger.run_one(charge(3, user, usd("1")))), None);
    let expiry = &ledger.rows.iter().rev().nth(1).unwrap().transaction;
    assert_eq!((expiry.kind, expiry.hold_part.hold_id), (Kind::Expiry, Some(id)));
    assert_eq!((expiry.balance_after, expiry.idempotency_key), (usd("100"), None));
    assert!(ledger.rows.windows(2).all(|pair| {
        let key = |row: &Recorded| row.transaction.id.unix_ms();
        key(&pair[0]) <= key(&pair[1])
    }));
    let expired = Some(Refusal::HoldNotOpen { status: HoldStatus::Expired });
    assert_eq!(refusal(&ledger.run_one(capture(4, id, None))), expired);
    assert_eq!(refusal(&ledger.run_one(void(5, id))), expired);
    assert_eq!(ledger.kinds(), ["topup", "hold", "charge", "expiry", "charge", "charge", "void"]);
}

#[test]
fn a_hold_that_runs_out_while_a_batch_is_decided_has_run_out() {
    let (mut ledger, user) = Ledger::with_user(1, usd("100"));
    let id = ledger.take(1, user, usd("100"));
    // Each operation of the batch has a stamp of its own, and a millisecond has 1,024 of them.
    ledger.clock_us = ledger.holds[&id].expires_at_ms * 1000 - 1;
    let mut batch: Vec<Command> = (2..42).map(|key| top_up(key, user, usd("1"))).collect();
    batch.push(capture(1_000, id, None));
    let outcomes = ledger.run(&batch);
    assert_eq!(refusal(&outcomes[40]), Some(Refusal::HoldNotOpen { status: HoldStatus::Expired }));
    assert_eq!((ledger.balance(user), ledger.held(user)), ("140.00".to_owned(), "0.00".to_owned()));
}

#[test]
fn a_sweep_writes_down_what_has_run_out_and_nothing_else() {
    let (mut ledger, user) = Ledger::with_user(1, usd("100"));
    for (key, seconds) in [(1, 60), (2, 120), (3, 180)] {
        assert_eq!(refusal(&ledger.run_one(hold_for(key, user, usd("10"), seconds))), None);
    }
    let sweep = || command(9, Operation::Sweep { user_id: user });
    assert_eq!(ledger.run_one(sweep()), Outcome::Swept);
    assert_eq!(ledger.held(user), "30.00");
    ledger.pass(121);
    assert_eq!(ledger.run_one(sweep()), Outcome::Swept);
    assert_eq!(ledger.held(user), "10.00");
    let account = (user, Currency::parse("USD").unwrap());
    let last = ledger.holds.values().find(|hold| hold.status == HoldStatus::Open).unwrap().expires_at_ms;
    assert_eq!(ledger.held[&account].due_ms, Some(last), "nobody looks again before the next one ends");
    assert_eq!(ledger.run_one(command(9, Operation::Sweep { user_id: super::user(2) })), Outcome::Swept);
    assert_eq!(ledger.kinds().iter().filter(|kind| **kind == "expiry").count(), 2);
}

#[test]
fn a_user_has_so_many_open_holds_and_no_more() {
    let (mut ledger, user) = Ledger::with_user(1, usd("1000"));
    ledger.run(&[top_up(u128::MAX - 1, user, money("1000", "EUR"))]);
    let max = u128::from(OPEN_HOLDS_MAX);
    // Over all currencies.
    let of = |key: u128| hold(key, user, money("0.01", if key.is_multiple_of(2) { "USD" } else { "EUR" }));
    let outcomes = ledger.run(&(0..max).map(of).collect::<Vec<_>>());
    assert!(outcomes.iter().all(|outcome| refusal(outcome).is_none()));
    assert_eq!(refusal(&ledger.run_one(of(max))), Some(Refusal::TooManyHolds));
    assert_eq!(refusal(&ledger.run_one(void(max + 1, decided(&outcomes[0]).0.id))), None);
    assert_eq!(refusal(&ledger.run_one(of(max + 2))), None);
}

#[test]
fn a_hold_needs_no_balance_from_before_the_batch_and_is_of_any_scale() {
    for (code, sum, part) in [("JPY", "100", "1"), ("BHD", "1.234", "0.001"), ("CLF", "1.2345", "0.0001")] {
        let (mut ledger, user) = Ledger::with_user(1, usd("0"));
        let sum = money(sum, code);
        let nothing = ledger.run_one(hold(1, user, sum));
        assert_eq!(refusal(&nothing), Some(Refusal::InsufficientBalance));
        let outcomes = ledger.run(&[top_up(2, user, sum), hold(3, user, sum)]);
        let id = decided(&outcomes[1]).0.id;
        assert_eq!(refusal(&ledger.run_one(capture(4, id, Some(part)))), None);
        assert_eq!(ledger.holds[&id].captured, money(part, code));
    }
}

#[test]
fn before_no_older_program_is_left_a_refusal_does_not_say_what_is_available() {
    let (ledger, user) = Ledger::with_user(1, usd("1"));
    let command = charge(1, user, usd("2"));
    let known = Known {
        users: ledger.users.clone(),
        balances: ledger.balances.clone(),
        last_stamps: ledger.last_stamps.clone(),
        ..Known::default()
    };
    let booked = decide(&[Admitted { position: 0, command: &command }], known);
    assert!(booked.transactions[0].transaction.hold_part.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Hold { cents: u32, seconds: u32 },
    Capture { of: usize, cents: Option<u32> },
    Void { of: usize },
    Charge { cents: u32 },
    TopUp { cents: u32 },
    Sweep,
    Wait { seconds: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..500_u32, 60..200_u32).prop_map(|(cents, seconds)| Step::Hold { cents, seconds }),
        (any::<usize>(), proptest::option::of(1..500_u32))
            .prop_map(|(of, cents)| Step::Capture { of, cents }),
        any::<usize>().prop_map(|of| Step::Void { of }),
        (1..500_u32).prop_map(|cents| Step::Charge { cents }),
        (1..500_u32).prop_map(|cents| Step::TopUp { cents }),
        Just(Step::Sweep),
        (1..100_i64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The ledger itself checks after each batch what the database would.
    #[test]
    fn whatever_steps_are_taken_the_holds_add_up(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut ledger, user) = Ledger::with_user(1, usd("20"));
        let mut batch = Vec::new();
        for (key, step) in (1..).zip(steps) {
            let mut ids: Vec<TransactionId> = ledger.holds.keys().copied().collect();
            ids.sort_unstable();
            let named = |of: usize| ids.get(of % ids.len().max(1)).copied();
            let next = match step {
                Step::Hold { cents: value, seconds } => Some(hold_for(key, user, cents(value), seconds)),
                Step::Capture { of, cents: value } => named(of).map(|id| {
                    capture(key, id, value.map(|value| cents(value).to_string()).as_deref())
                }),
                Step::Void { of } => named(of).map(|id| void(key, id)),
                Step::Charge { cents: value } => Some(charge(key, user, cents(value))),
                Step::TopUp { cents: value } => Some(top_up(key, user, cents(value))),
                Step::Sweep => Some(command(key, Operation::Sweep { user_id: user })),
                Step::Wait { seconds } => {
                    ledger.pass(seconds);
                    None
                }
            };
            batch.extend(next);
            if batch.len() == 3 {
                ledger.run(&std::mem::take(&mut batch));
            }
        }
        ledger.run(&batch);
        let completed = ledger.rows.iter().map(|row| &row.transaction).filter(|one| one.status == Status::Completed);
        let mut balance = 0;
        for one in completed {
            let amount = one.money.amount().mantissa();
            balance += match one.kind {
                Kind::TopUp => amount,
                Kind::Charge => -amount,
                _ => 0,
            };
            prop_assert_eq!(one.balance_after.amount().mantissa(), balance);
            let Some(hold) = one.hold_part.hold_id.map(|id| &ledger.holds[&id]) else { continue };
            let is_late = one.id.unix_ms() >= hold.expires_at_ms;
            prop_assert_eq!(is_late, one.kind == Kind::Expiry, "{:?} of {:?}", one, hold);
        }
    }
}
