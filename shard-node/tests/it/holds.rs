//! Holds on real servers: one end for each, nothing held twice, nothing held for ever.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use picopay_local::ClusterSpec;
use picopay_shared::command::{Command, Kind, Operation, Outcome, Payment, Refusal, Status, Transaction};
use picopay_shared::hold::HoldStatus::{Captured, Expired, Open, Voided};
use picopay_shared::hold::{Hold, HoldStatus};
use picopay_shared::id::TransactionId;
use picopay_shared::money::{Amount, Currency, Money};
use picopay_shared::query::{Balance, Consistency, Found, HoldsQuery, Query, Source};
use picopay_shared::slot::UserId;
use tokio::time::sleep;

use crate::test_shard::{
    NodeClient, TestShard, charge, command, decided, eventually, is_completed, refund, refusal, top_up, usd,
};

fn hold_for(user_id: UserId, money: Money, expires_in_s: u32) -> Command {
    let payment = Payment {
        user_id,
        money,
        reference: Some("ride 7".to_owned()),
        metadata: Some(r#"{"car": 4}"#.to_owned()),
    };
    command(Operation::Hold { payment, expires_in_s })
}

fn hold(user_id: UserId, money: Money) -> Command {
    hold_for(user_id, money, 3_600)
}

fn capture(hold_id: TransactionId, amount: Option<&str>) -> Command {
    let amount = amount.map(|text| Amount::parse(text).unwrap());
    command(Operation::Capture { hold_id, amount })
}

fn void(hold_id: TransactionId) -> Command {
    command(Operation::Void { hold_id })
}

async fn take(node: &NodeClient, command: Command) -> Transaction {
    let outcome = node.run(command).await;
    assert!(is_completed(&outcome), "{outcome:?}");
    decided(&outcome).0.clone()
}

async fn balance_of(node: &NodeClient, user_id: UserId) -> (String, String) {
    let query = Query::Balance { user_id, currency: None, consistency: Consistency::Strong };
    let Found::Balances(balances) = node.read(query).await.found else { panic!("no balance") };
    (balances[0].balance.to_string(), balances[0].available().to_string())
}

fn both(balance: &str, available: &str) -> (String, String) {
    (balance.to_owned(), available.to_owned())
}

async fn hold_now(node: &NodeClient, id: TransactionId) -> (Hold, Money) {
    match node.read(Query::Hold { id }).await {
        answer if answer.source != Source::Primary => panic!("not from the primary: {answer:?}"),
        answer => match answer.found {
            Found::Hold { hold, available } => (*hold, available),
            other => panic!("{other:?}"),
        },
    }
}

/// What the ledger itself says: as `picopay verify`, which reads more.
async fn assert_held_is_open_holds(shard: &TestShard) {
    let sql = "SELECT count(*) FROM balances b CROSS JOIN LATERAL (
                   SELECT coalesce(sum(amount), 0) AS sum, count(*) AS holds FROM holds h
                   WHERE h.slot = b.slot AND h.user_id = b.user_id AND h.currency = b.currency AND state = 'open'
               ) o WHERE b.held <> o.sum OR b.open_holds <> o.holds";
    let database = shard.cluster.connect_primary(0).await.unwrap();
    assert_eq!(
        database.query_one(sql, &[]).await.unwrap().get::<_, i64>(0),
        0,
        "held is the sum of open holds"
    );
}

fn not_open(status: HoldStatus) -> Refusal {
    Refusal::HoldNotOpen { status }
}

/// Interleavings: both in one batch, and on two node processes at once.
#[tokio::test]
async fn of_two_captures_or_a_capture_and_a_void_at_once_one_is_done() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2)).await;
    let nodes = [shard.node.clone(), shard.second_node()];
    for round in 0..20 {
        let user = shard.user_with(usd("100")).await;
        let taken = take(&shard.node, hold(user, usd("60"))).await;
        let second = if round % 2 == 0 { capture(taken.id, Some("25")) } else { void(taken.id) };
        let pair = vec![capture(taken.id, Some("25")), second];
        let outcomes: Vec<Outcome> = if round % 4 < 2 {
            shard.node.write(pair).await
        } else {
            join_all(nodes.iter().zip(pair).map(|(node, command)| node.run(command))).await
        };
        let done: Vec<&Outcome> = outcomes.iter().filter(|outcome| is_completed(outcome)).collect();
        assert_eq!(done.len(), 1, "{outcomes:?}");
        let kind = decided(done[0]).0.kind;
        let (status, left) = match kind {
            Kind::Charge => (HoldStatus::Captured, "75.00"),
            _ => (HoldStatus::Voided, "100.00"),
        };
        let refused = outcomes.iter().find(|outcome| !is_completed(outcome)).unwrap();
        assert_eq!(refusal(refused), Some(not_open(status)));
        assert_eq!(balance_of(&shard.node, user).await, both(left, left));
        let (now, available) = hold_now(&shard.node, taken.id).await;
        assert_eq!((now.status, available.to_string().as_str()), (status, left));
    }
    assert_held_is_open_holds(&shard).await;
    shard.stop().await;
}

/// Captures come from both sides of the end, on two nodes, none of which has a sweeper. Whichever wins, all say the same.
#[tokio::test]
async fn a_capture_at_the_millisecond_of_the_end_has_one_truth() {
    let spec =
        ClusterSpec::one_shard().with_nodes_per_shard(2).with_node_toml("[testing]\nhas_no_sweeper = true");
    let shard = TestShard::start_with(spec).await;
    let nodes = [shard.node.clone(), shard.second_node()];
    let mut users = Vec::new();
    for _ in 0..40 {
        users.push(shard.user_with(usd("10")).await);
    }
    let takers = users.iter().map(|user| take(&shard.node, hold_for(*user, usd("10"), 2)));
    let taken = join_all(takers).await;
    let captures = taken.iter().enumerate().map(|(number, taken)| {
        let node = nodes[number % 2].clone();
        let end_ms = taken.hold_part.expires_at_ms.unwrap();
        async move {
            // From 20 ms before the end to 20 ms after it.
            let at_ms = end_ms + i64::try_from(number).unwrap() - 20;
            let wait = at_ms - Timestamp::now().as_millisecond();
            // The end is a time of the primary's clock: no event says when it has come.
            sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
            node.run(capture(taken.id, None)).await
        }
    });
    let outcomes = join_all(captures).await;
    for ((user, taken), outcome) in users.iter().zip(&taken).zip(&outcomes) {
        let end_ms = taken.hold_part.expires_at_ms.unwrap();
        let (now, _) = hold_now(&shard.node, taken.id).await;
        let Found::History { transactions, .. } = shard.node.history(*user).await.found else {
            panic!("none")
        };
        let last = &transactions[0];
        if is_completed(outcome) {
            let charged = decided(outcome).0;
            assert!(charged.id.unix_ms() < end_ms, "captured at its end or later: {charged:?}");
            assert_eq!(now.status, HoldStatus::Captured);
            assert_eq!(balance_of(&shard.node, *user).await, both("0.00", "0.00"));
            assert_eq!((last.id, last.kind), (charged.id, Kind::Charge));
        } else {
            assert_eq!(refusal(outcome), Some(not_open(HoldStatus::Expired)));
            assert_eq!(now.status, HoldStatus::Expired);
            assert_eq!(balance_of(&shard.node, *user).await, both("10.00", "10.00"));
            assert_eq!((last.kind, last.hold_part.hold_id), (Kind::Expiry, Some(taken.id)));
            assert!(last.id.unix_ms() >= end_ms, "expired before its end: {last:?}");
        }
    }
    assert_held_is_open_holds(&shard).await;
    shard.stop().await;
}

#[tokio::test]
async fn a_hundred_holds_and_charges_at_once_take_exactly_what_is_there() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2)).await;
    let user = shard.user_with(usd("100")).await;
    let nodes = [shard.node.clone(), shard.second_node()];
    let asked = (0..100).map(|number| {
        let command = if number % 4 < 2 { hold(user, usd("3")) } else { charge(user, usd("3")) };
        nodes[number % 2].run(command)
    });
    let outcomes = join_all(asked).await;
    let done: Vec<&Outcome> = outcomes.iter().filter(|outcome| is_completed(outcome)).collect();
    assert_eq!(done.len(), 33, "{outcomes:?}");
    let refused = outcomes.iter().filter(|outcome| !is_completed(outcome));
    assert!(refused.into_iter().all(|outcome| refusal(outcome) == Some(Refusal::InsufficientBalance)));
    let held = done.iter().filter(|outcome| decided(outcome).0.kind == Kind::Hold).count();
    let left = 100 - 3 * (33 - held);
    assert_eq!(balance_of(&shard.node, user).await, both(&format!("{left}.00"), "1.00"));
    assert_held_is_open_holds(&shard).await;
    shard.stop().await;
}

#[tokio::test]
async fn an_expired_holds_money_can_be_spent_with_no_sweeper_and_whatever_the_nodes_clock_says() {
    let off = "[testing]\nhas_no_sweeper = true\nclock_offset_seconds = ";
    let spec = ClusterSpec::one_shard()
        .with_nodes_per_shard(2)
        .with_toml_of_node(1, &format!("{off}600"))
        .with_toml_of_node(2, &format!("{off}-600"));
    let shard = TestShard::start_with(spec).await;
    for node in [shard.node.clone(), shard.second_node()] {
        let user = shard.user_with(usd("100")).await;
        let taken = take(&node, hold_for(user, usd("100"), 2)).await;
        let kept = take(&node, top_up(user, usd("1"))).await;
        let rest = take(&node, hold(user, usd("1"))).await;
        assert_eq!(refusal(&node.run(charge(user, usd("1"))).await), Some(Refusal::InsufficientBalance));
        assert_eq!(balance_of(&node, user).await, both("101.00", "0.00"));
        assert_eq!(hold_now(&node, taken.id).await.0.status, HoldStatus::Open);
        let end = Timestamp::from_millisecond(taken.hold_part.expires_at_ms.unwrap()).unwrap();
        assert_eq!(end.duration_since(Timestamp::from_millisecond(taken.id.unix_ms()).unwrap()).as_secs(), 2);
        let wait = end.duration_since(Timestamp::now()).unsigned_abs() + Duration::from_millis(1);
        // The end is a time of the primary's clock: no event says when it has come.
        sleep(wait).await;
        // Nobody has written it down, and every read knows it.
        assert_eq!(balance_of(&node, user).await, both("101.00", "100.00"));
        let (now, available) = hold_now(&node, taken.id).await;
        assert_eq!((now.status, available), (HoldStatus::Expired, usd("100")));
        let spent = take(&node, charge(user, usd("100"))).await;
        assert_eq!(spent.balance_after, usd("1"));
        assert_eq!(balance_of(&node, user).await, both("1.00", "0.00"));
        let Found::History { transactions, .. } = node.history(user).await.found else { panic!("none") };
        let kinds: Vec<Kind> = transactions.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [Kind::Charge, Kind::Expiry, Kind::Hold, Kind::TopUp, Kind::Hold, Kind::TopUp]);
        let expiry = &transactions[1];
        assert_eq!((expiry.idempotency_key, expiry.balance_after), (None, usd("101")));
        assert_eq!(expiry.hold_part.hold_id, Some(taken.id));
        assert!(kept.id < rest.id && rest.id < expiry.id && expiry.id < spent.id);
    }
    assert_held_is_open_holds(&shard).await;
    shard.stop().await;
}

#[tokio::test]
async fn the_sweeper_writes_down_what_nobody_comes_for() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2)).await;
    let users = [shard.user_with(usd("9")).await, shard.user_with(usd("9")).await];
    for user in users {
        take(&shard.node, hold_for(user, usd("4"), 1)).await;
        take(&shard.node, hold_for(user, usd("2"), 1)).await;
    }
    let open = take(&shard.node, hold(users[0], usd("3"))).await;
    eventually("the expiries", || async { (shard.row_count(users[1]).await == 5).then_some(()) }).await;
    eventually("the other user's", || async { (shard.row_count(users[0]).await == 6).then_some(()) }).await;
    let database = shard.cluster.connect_primary(0).await.unwrap();
    let open_now = "SELECT array_agg(id) FROM holds WHERE state = 'open'";
    let open_now: Vec<uuid::Uuid> = database.query_one(open_now, &[]).await.unwrap().get(0);
    assert_eq!(open_now, [open.id.as_uuid()]);
    assert_held_is_open_holds(&shard).await;
    eventually("the figures", || async {
        let (open, held) = (
            shard.node.metric("picopay_node_open_holds").await,
            shard.node.metric("picopay_node_held_minor_units").await,
        );
        let overdue = shard.node.metric("picopay_node_holds_overdue").await;
        ((open - 1.0).abs() < 0.1 && (held - 300.0).abs() < 0.1 && overdue < 0.1).then_some(())
    })
    .await;
    shard.stop().await;
}

#[tokio::test]
async fn a_capture_is_refunded_like_any_charge_in_any_currency() {
    let shard = TestShard::start().await;
    for (code, all, part, left) in
        [("USD", "10.00", "4.00", "6.00"), ("JPY", "1000", "400", "600"), ("BHD", "1.234", "0.001", "1.233")]
    {
        let money = |text: &str| Money::parse(text, Currency::parse(code).unwrap()).unwrap();
        let user = shard.user_with(usd("0")).await;
        take(&shard.node, top_up(user, money(all))).await;
        let taken = take(&shard.node, hold(user, money(all))).await;
        let charged = take(&shard.node, capture(taken.id, Some(part))).await;
        assert_eq!((charged.kind, charged.balance_after), (Kind::Charge, money(left)));
        assert_eq!((charged.reference.as_deref(), charged.metadata), (Some("ride 7"), taken.metadata));
        assert_eq!(balance_of(&shard.node, user).await, both(left, left));
        let refunded = take(&shard.node, refund(charged.id, None)).await;
        assert_eq!(refunded.balance_after, money(all));
        let again = shard.node.run(refund(charged.id, None)).await;
        assert!(matches!(refusal(&again), Some(Refusal::RefundExceedsCharge { .. })));
        let (now, _) = hold_now(&shard.node, taken.id).await;
        assert_eq!((now.status, now.captured), (HoldStatus::Captured, money(part)));
    }
    assert_held_is_open_holds(&shard).await;
    shard.stop().await;
}

/// From Redis, from the ledger by another node, and after both have gone on.
#[tokio::test]
async fn a_replay_of_each_step_is_the_first_answer() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2)).await;
    let user = shard.user_with(usd("100")).await;
    let mut steps = Vec::new();
    let mut step = async |command: Command| {
        let outcome = shard.node.run(command.clone()).await;
        let first = decided(&outcome).0.clone();
        steps.push((command, first.clone()));
        first
    };
    let (one, two) = (step(hold(user, usd("30"))).await.id, step(hold(user, usd("20"))).await.id);
    step(hold(user, usd("70"))).await;
    step(charge(user, usd("70"))).await;
    step(capture(one, Some("31"))).await;
    step(capture(one, Some("10"))).await;
    step(capture(one, None)).await;
    step(void(two)).await;
    step(void(two)).await;
    let done: Vec<bool> = steps.iter().map(|(_, first)| first.status == Status::Completed).collect();
    assert_eq!(done, [true, true, false, false, false, true, false, true, false]);
    for node in [shard.node.clone(), shard.second_node()] {
        for (command, first) in &steps {
            let again = node.run(command.clone()).await;
            assert_eq!(decided(&again), (first, true), "{command:?}");
            // Redis is not asked about a key that no client sent, so this is from the ledger.
            let other = Command { is_client_key: false, ..command.clone() };
            let again = node.run(other).await;
            assert_eq!(decided(&again), (first, true), "{command:?}");
        }
    }
    // The same key for another step.
    for (command, _) in &steps {
        let other =
            Command { fingerprint: void(one).fingerprint, operation: void(one).operation, ..command.clone() };
        if other.fingerprint == command.fingerprint {
            continue;
        }
        let outcome = shard.node.run(other).await;
        assert!(matches!(outcome, Outcome::KeyReused { .. }), "{outcome:?}");
    }
    assert_eq!(shard.row_count(user).await, 1 + i64::try_from(steps.len()).unwrap());
    assert_held_is_open_holds(&shard).await;
    shard.stop().await;
}

#[tokio::test]
async fn holds_are_listed_as_they_are_now() {
    let shard =
        TestShard::start_with(ClusterSpec::one_shard().with_node_toml("[testing]\nhas_no_sweeper = true"))
            .await;
    let user = shard.user_with(usd("100")).await;
    let expired = take(&shard.node, hold_for(user, usd("1"), 1)).await;
    let mut ids = vec![expired.id];
    for _ in 0..4 {
        ids.push(take(&shard.node, hold(user, usd("2"))).await.id);
    }
    take(&shard.node, capture(ids[1], Some("1"))).await;
    take(&shard.node, void(ids[2])).await;
    let page = async |limit, before, status| {
        let query = Query::Holds(HoldsQuery { user_id: user, limit, before, status });
        match shard.node.read(query).await.found {
            Found::Holds { holds, goes_on_before } => (holds, goes_on_before),
            other => panic!("{other:?}"),
        }
    };
    eventually("the end of a hold", || async {
        (hold_now(&shard.node, expired.id).await.0.status == HoldStatus::Expired).then_some(())
    })
    .await;
    let newest_first: Vec<TransactionId> = ids.iter().rev().copied().collect();
    let (all, end) = page(100, None, None).await;
    assert_eq!(all.iter().map(|hold| hold.id).collect::<Vec<_>>(), newest_first);
    assert_eq!(end, None);
    assert_eq!(
        all.iter().map(|hold| hold.status).collect::<Vec<_>>(),
        [Open, Open, Voided, Captured, Expired]
    );
    assert_eq!((all[3].captured, all[3].reference.as_deref()), (usd("1"), Some("ride 7")));
    assert_eq!(all[4], Hold { status: Expired, ..expired.hold().unwrap() });
    let (first, next) = page(2, None, None).await;
    let (second, after) = page(3, next, None).await;
    assert_eq!([first, second].concat(), all);
    assert_eq!(after, None);
    for (status, count) in [(Open, 2), (Voided, 1), (Captured, 1), (Expired, 1)] {
        let (found, end) = page(100, None, Some(status)).await;
        assert_eq!((found.len(), end), (count, None), "{status:?}");
        assert!(found.iter().all(|hold| hold.status == status));
    }
    let nobody = UserId::try_from(1).unwrap();
    let query = HoldsQuery { user_id: nobody, limit: 1, before: None, status: None };
    assert_eq!(shard.node.read(Query::Holds(query)).await.found, Found::UserNotFound);
    let unknown = Query::Hold { id: TransactionId::first_at(5) };
    assert_eq!(shard.node.read(unknown).await.found, Found::HoldNotFound);
    assert_eq!(shard.node.run(void(TransactionId::first_at(5))).await, Outcome::HoldNotFound);
    shard.stop().await;
}

/// A hold from before a move is captured after it; what becomes of it during the move is the new owner's to say.
#[tokio::test]
async fn a_hold_moves_with_its_slot() {
    let shard = TestShard::start_with(ClusterSpec::default()).await;
    let second = NodeClient::new(&shard.cluster.node_url(1, 0), shard.cluster.internal_secret());
    let user = shard.user_in_first_half(usd("100")).await;
    let (one, two) =
        (take(&shard.node, hold(user, usd("40"))).await, take(&shard.node, hold(user, usd("50"))).await);
    let mut moved = shard.cluster.slot_move(user.slot(), 0, 1, 1).await.unwrap();
    moved.import().await.unwrap();
    // Taken and captured while the slot is on its way.
    take(&shard.node, capture(one.id, Some("10"))).await;
    moved.release().await.unwrap();
    for node in [&shard.node, &second] {
        assert!(matches!(node.run(capture(two.id, None)).await, Outcome::Moved(_)));
        let lookup = node.read(Query::Hold { id: two.id }).await.found;
        assert!(matches!(lookup, Found::Moved(_)), "{lookup:?}");
    }
    moved.copy().await.unwrap();
    moved.own().await.unwrap();
    assert_eq!(balance_of(&second, user).await, both("90.00", "40.00"));
    assert_eq!(hold_now(&second, one.id).await.0.status, HoldStatus::Captured);
    assert_eq!(refusal(&second.run(capture(one.id, None)).await), Some(not_open(HoldStatus::Captured)));
    let captured = take(&second, capture(two.id, None)).await;
    assert_eq!(captured.balance_after, usd("40"));
    assert!(matches!(shard.node.run(void(two.id)).await, Outcome::Moved(_)));
    shard.stop().await;
}

#[tokio::test]
async fn holds_wait_until_no_older_program_is_left() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let database = shard.cluster.connect_primary(0).await.unwrap();
    assert_eq!(shard.node.status().await.unwrap().finished, 4, "a new cluster has no older program");
    database.batch_execute("UPDATE schema_version SET oldest_known = 5").await.unwrap();
    let refused = eventually("a refusal", || async {
        match shard.node.run(hold(user, usd("1"))).await {
            Outcome::Unavailable { reason } if reason.contains("migrate --finish") => Some(reason),
            _ => None,
        }
    })
    .await;
    assert!(refused.contains("no older program"), "{refused}");
    assert_eq!(shard.node.status().await.unwrap().finished, 2);
    let lack = shard.node.run(charge(user, usd("1000"))).await;
    assert_eq!(decided(&lack).0.hold_part.available, None, "an older node would replay it so");
    assert!(is_completed(&shard.node.run(charge(user, usd("1"))).await));
    database.batch_execute("UPDATE schema_version SET oldest_known = 10").await.unwrap();
    eventually("a hold", || async {
        is_completed(&shard.node.run(hold(user, usd("1"))).await).then_some(())
    })
    .await;
    shard.stop().await;
}

/// Somebody changed a row by hand: his user is stopped, and nobody else.
#[tokio::test]
async fn a_balance_that_holds_less_than_its_holds_stops_its_own_user() {
    let shard = TestShard::start().await;
    let (odd, other) = (shard.user_with(usd("10")).await, shard.user_with(usd("10")).await);
    let ids =
        [take(&shard.node, hold(odd, usd("5"))).await.id, take(&shard.node, hold(other, usd("5"))).await.id];
    let database = shard.cluster.connect_primary(0).await.unwrap();
    let change = "UPDATE balances SET held = 1 WHERE user_id = $1";
    database.execute(change, &[&odd.get()]).await.unwrap();
    let outcomes = shard.node.write(ids.map(|id| capture(id, None)).to_vec()).await;
    assert_eq!(outcomes[0], Outcome::Internal);
    assert!(is_completed(&outcomes[1]));
    // And the database refuses what the program would not do.
    for wrong in ["held = 11", "held = -1", "held = 'NaN'"] {
        let update = format!("UPDATE balances SET {wrong} WHERE user_id = {}", odd.get());
        let error = database.batch_execute(&update).await.unwrap_err();
        assert_eq!(error.as_db_error().unwrap().constraint(), Some("held_is_there"), "{wrong}");
    }
    shard.stop().await;
}

/// Who uses no holds pays nothing: no statement of theirs is sent.
#[tokio::test]
async fn balances_without_holds_show_all_of_it_as_available() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("10")).await;
    let query = Query::Balance { user_id: user, currency: None, consistency: Consistency::Strong };
    let found = shard.node.read(query).await.found;
    assert_eq!(found, Found::Balances(vec![Balance::from(usd("10"))]));
    shard.stop().await;
}
