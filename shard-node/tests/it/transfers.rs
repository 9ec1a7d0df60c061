//! The steps of a transfer on real servers, one by one: each is done once, whoever asks for it and however often.

use futures_util::future::join_all;
use picopay_local::ClusterSpec;
use picopay_shared::command::{Command, Kind, Operation, Outcome, Payment, Refusal};
use picopay_shared::id::TransactionId;
use picopay_shared::money::Money;
use picopay_shared::query::{Consistency, Found, Query, Source};
use picopay_shared::slot::UserId;
use picopay_shared::transfer::{CreditRefusal, Credited, Transfer, TransferStatus};
use uuid::Uuid;

use crate::test_shard::{
    NodeClient, TestShard, charge, command, command_with_key, decided, eventually, is_completed, refusal,
    top_up, usd,
};

/// Nobody but the test drives a step.
const NO_COURIER: &str = "[testing]\nhas_no_courier = true";

fn transfer(from: UserId, to_user_id: UserId, money: Money) -> Command {
    let payment = Payment {
        user_id: from,
        money,
        reference: Some("rent".to_owned()),
        metadata: Some(r#"{"month": 11}"#.to_owned()),
    };
    command(Operation::Transfer { payment, to_user_id, only_replays: false })
}

fn begun(outcome: &Outcome) -> (Transfer, String, bool) {
    match outcome {
        Outcome::Transferred { transfer, balance_after, is_replayed } => {
            (*transfer.clone(), balance_after.to_string(), *is_replayed)
        }
        other => panic!("no transfer: {other:?}"),
    }
}

fn credited(outcome: &Outcome) -> (Credited, bool) {
    match outcome {
        Outcome::Credited { credited, is_replayed } => (*credited, *is_replayed),
        other => panic!("no credit: {other:?}"),
    }
}

/// The later steps have no key.
fn step(operation: Operation) -> Command {
    Command { is_client_key: false, ..command_with_key(Uuid::nil(), operation) }
}

async fn balance(node: &NodeClient, user_id: UserId) -> Option<String> {
    let query = Query::Balance { user_id, currency: None, consistency: Consistency::Strong };
    match node.read(query).await.found {
        Found::Balances(balances) => Some(balances.first()?.balance.to_string()),
        other => panic!("{other:?}"),
    }
}

async fn transfer_now(node: &NodeClient, id: TransactionId) -> Transfer {
    let answer = node.read(Query::Transfer { id }).await;
    assert_eq!(answer.source, Source::Primary);
    match answer.found {
        Found::Transfer(transfer) => *transfer,
        other => panic!("{other:?}"),
    }
}

/// The kinds of a user's history, oldest first, with the other user and the balance after.
async fn history(node: &NodeClient, user: UserId) -> Vec<(Kind, Option<UserId>, String)> {
    let Found::History { mut transactions, .. } = node.history(user).await.found else { panic!("none") };
    transactions.reverse();
    let told = transactions
        .iter()
        .map(|one| (one.kind, one.transfer.map(|part| part.other_user_id), one.balance_after.to_string()));
    told.collect()
}

async fn start() -> TestShard {
    TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2).with_node_toml(NO_COURIER)).await
}

#[tokio::test]
async fn a_transfer_is_taken_given_and_ended_once_and_its_replay_shows_it_as_it_is_now() {
    let shard = start().await;
    let (node, other) = (shard.node.clone(), shard.second_node());
    let (from, to) = (shard.user_with(usd("100")).await, shard.user_with(usd("0")).await);
    let asked = transfer(from, to, usd("30"));
    let (pending, new_balance, is_replayed) = begun(&node.run(asked.clone()).await);
    assert_eq!(
        (pending.status, new_balance.as_str(), is_replayed),
        (TransferStatus::Pending, "70.00", false)
    );
    assert_eq!((balance(&node, from).await.as_deref(), balance(&node, to).await), (Some("70.00"), None));
    assert_eq!(transfer_now(&node, pending.id).await, pending);
    assert!(is_completed(&node.run(charge(from, usd("5"))).await));

    for (number, node) in [&node, &other, &node].into_iter().enumerate() {
        let given = credited(&node.run(step(pending.credit())).await);
        assert_eq!(given, (Credited::Given, number > 0));
        assert_eq!(balance(node, to).await.as_deref(), Some("30.00"));
    }
    let (still, _, is_replayed) = begun(&other.run(asked.clone()).await);
    assert_eq!((still.status, is_replayed), (TransferStatus::Pending, true));

    for (number, node) in [&other, &node, &other].into_iter().enumerate() {
        let (ended, new_balance, is_replayed) = begun(&node.run(step(pending.settle(Credited::Given))).await);
        assert_eq!((ended.status, is_replayed), (TransferStatus::Completed, number > 0));
        assert_eq!(new_balance, "70.00", "right after the debit");
        assert!(ended.ended_at_ms.unwrap() >= pending.id.unix_ms());
    }
    let (now, new_balance, is_replayed) = begun(&node.run(asked.clone()).await);
    assert_eq!((now.status, new_balance.as_str(), is_replayed), (TransferStatus::Completed, "70.00", true));
    assert_eq!(now, transfer_now(&other, pending.id).await);

    let first = (Kind::TopUp, None, "100.00".to_owned());
    let expected =
        [first, (Kind::TransferOut, Some(to), "70.00".to_owned()), (Kind::Charge, None, "65.00".to_owned())];
    assert_eq!(history(&node, from).await, expected);
    assert_eq!(history(&node, to).await, [(Kind::TransferIn, Some(from), "30.00".to_owned())]);
    let Found::History { transactions, .. } = node.history(to).await.found else { panic!("none") };
    let given = &transactions[0];
    assert_eq!((given.idempotency_key, given.transfer.unwrap().transfer_id), (None, pending.id));
    assert_eq!(given.reference.as_deref(), Some("rent"));
    // What was given can be spent, and is looked up like anything else.
    assert!(is_completed(&node.run(charge(to, usd("30"))).await));
    let Found::Transaction(found) = node.read(Query::Lookup { id: given.id }).await.found else {
        panic!("none")
    };
    assert_eq!(found.transfer, given.transfer);
    shard.stop().await;
}

#[tokio::test]
async fn a_refused_transfer_is_recorded_and_a_used_key_is_judged_by_what_was_asked() {
    let shard = start().await;
    let node = shard.node.clone();
    let (from, to) = (shard.user_with(usd("10")).await, shard.user_with(usd("0")).await);
    let asked = transfer(from, to, usd("10.01"));
    let refused = node.run(asked.clone()).await;
    assert_eq!(refusal(&refused), Some(Refusal::InsufficientBalance));
    assert!(is_completed(&node.run(top_up(from, usd("50"))).await));
    let replayed = node.run(asked.clone()).await;
    let ((first, _), (again, is_replayed)) = (decided(&refused), decided(&replayed));
    assert_eq!((&first.hold_part, &first.status, is_replayed), (&again.hold_part, &again.status, true));
    assert_eq!(first.hold_part.available, Some(usd("10")));

    let differs = |operation: Operation| {
        let (node, key) = (node.clone(), asked.idempotency_key);
        async move {
            match node.run(command_with_key(key, operation)).await {
                Outcome::KeyReused { differs } => differs,
                other => panic!("{other:?}"),
            }
        }
    };
    let Operation::Transfer { payment, .. } = asked.operation.clone() else { unreachable!() };
    let somebody_else = shard.user_with(usd("0")).await;
    let other =
        Operation::Transfer { payment: payment.clone(), to_user_id: somebody_else, only_replays: false };
    assert_eq!(differs(other).await, ["to_user_id"]);
    let other_money = Payment { money: usd("1"), ..payment.clone() };
    assert_eq!(
        differs(Operation::Transfer { payment: other_money, to_user_id: to, only_replays: false }).await,
        ["amount"]
    );
    assert_eq!(differs(Operation::Charge(payment)).await, ["operation"]);

    let to_self = node.run(transfer(from, from, usd("1"))).await;
    assert!(matches!(to_self, Outcome::AmountInvalid { .. }), "{to_self:?}");
    let nobody = UserId::try_from(999_999).unwrap();
    assert_eq!(node.run(transfer(nobody, to, usd("1"))).await, Outcome::UserNotFound);
    // Held money is not available to a transfer.
    let payment = Payment { user_id: from, money: usd("55"), reference: None, metadata: None };
    assert!(is_completed(&node.run(command(Operation::Hold { payment, expires_in_s: 600 })).await));
    assert_eq!(refusal(&node.run(transfer(from, to, usd("6"))).await), Some(Refusal::InsufficientBalance));
    assert_eq!(begun(&node.run(transfer(from, to, usd("5"))).await).1, "55.00");
    let nothing = TransactionId::from_uuid(Uuid::from_u128(7));
    let settled = node.run(step(Operation::Settle { transfer_id: nothing, credited: Credited::Given })).await;
    assert_eq!(settled, Outcome::TransferNotFound);
    shard.stop().await;
}

/// A refusal of a credit never changes, also when its reason has gone: the transfer may have been reversed.
#[tokio::test]
async fn a_credit_that_was_refused_stays_refused_and_only_that_permits_a_reversal() {
    let shard = start().await;
    let node = shard.node.clone();
    let from = shard.user_with(usd("100")).await;
    let nobody = UserId::try_from(777_777).unwrap();
    let asked = transfer(from, nobody, usd("40"));
    let (pending, ..) = begun(&node.run(asked.clone()).await);
    let reason = CreditRefusal::UserNotFound;
    assert_eq!(credited(&node.run(step(pending.credit())).await), (Credited::Refused(reason), false));
    shard.fund(nobody, usd("1")).await;
    assert_eq!(credited(&node.run(step(pending.credit())).await), (Credited::Refused(reason), true));
    assert_eq!(balance(&node, nobody).await.as_deref(), Some("1.00"));
    for number in 0..3 {
        let (ended, new_balance, is_replayed) =
            begun(&node.run(step(pending.settle(Credited::Refused(reason)))).await);
        assert_eq!((ended.status, is_replayed), (TransferStatus::Reversed { reason }, number > 0));
        assert_eq!(new_balance, "60.00");
    }
    assert_eq!(node.run(step(pending.settle(Credited::Given))).await, Outcome::Internal);
    assert_eq!(balance(&node, from).await.as_deref(), Some("100.00"));
    assert_eq!(begun(&node.run(asked).await).0.status, TransferStatus::Reversed { reason });
    let back = (Kind::TransferBack, Some(nobody), "100.00".to_owned());
    assert_eq!(history(&node, from).await.last(), Some(&back));

    let rich = shard.user_with(usd("1")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser
        .execute("UPDATE balances SET balance = 99999999999999999999.99 WHERE user_id = $1", &[&rich.get()])
        .await
        .unwrap();
    let (pending, ..) = begun(&node.run(transfer(from, rich, usd("0.01"))).await);
    let reason = CreditRefusal::BalanceTooLarge;
    assert_eq!(credited(&node.run(step(pending.credit())).await), (Credited::Refused(reason), false));
    let (ended, ..) = begun(&node.run(step(pending.settle(Credited::Refused(reason)))).await);
    assert_eq!(ended.status, TransferStatus::Reversed { reason });
    shard.stop().await;
}

/// Interleavings: gateway and courier at once, on two nodes and in one batch; a user who comes to be between two credits.
#[tokio::test]
async fn of_many_credits_and_ends_at_once_one_is_done() {
    let shard = start().await;
    let nodes = [shard.node.clone(), shard.second_node()];
    let (from, to) = (shard.user_with(usd("100")).await, shard.user_with(usd("0")).await);
    for round in 1..=10 {
        let (pending, ..) = begun(&shard.node.run(transfer(from, to, usd("5"))).await);
        let batches = nodes.iter().map(|node| node.write(vec![step(pending.credit()); 4]));
        let outcomes: Vec<Outcome> = join_all(batches).await.concat();
        let fresh = outcomes.iter().filter(|outcome| credited(outcome) == (Credited::Given, false)).count();
        assert_eq!((fresh, outcomes.len()), (1, 8), "{outcomes:?}");
        let total = usd(&(round * 5).to_string()).to_string();
        assert_eq!(balance(&shard.node, to).await, Some(total));
        let settle = step(pending.settle(Credited::Given));
        let batches = nodes.iter().map(|node| node.write(vec![settle.clone(); 4]));
        let outcomes: Vec<Outcome> = join_all(batches).await.concat();
        assert_eq!(outcomes.iter().filter(|outcome| !begun(outcome).2).count(), 1, "{outcomes:?}");

        let late = UserId::try_from(800_000 + i64::from(round)).unwrap();
        let (pending, ..) = begun(&shard.node.run(transfer(from, late, usd("1"))).await);
        let create = command(Operation::CreateUser { user_id: late });
        let (credits, _, more) = tokio::join!(
            nodes[0].write(vec![step(pending.credit()); 2]),
            nodes[1].run(create),
            nodes[1].write(vec![step(pending.credit()); 2]),
        );
        let decisions: Vec<Credited> = credits.iter().chain(&more).map(|one| credited(one).0).collect();
        assert!(decisions.iter().all(|one| *one == decisions[0]), "{decisions:?}");
        begun(&shard.node.run(step(pending.settle(decisions[0]))).await);
        let has_it = balance(&shard.node, late).await.is_some();
        assert_eq!(has_it, decisions[0] == Credited::Given);
    }
    shard.stop().await;
}

#[tokio::test]
async fn a_hundred_transfers_and_charges_at_once_take_exactly_what_is_there() {
    let shard = start().await;
    let nodes = [shard.node.clone(), shard.second_node()];
    let (from, to) = (shard.user_with(usd("100")).await, shard.user_with(usd("0")).await);
    let asked = (0..100).map(|number| {
        let command = if number % 4 < 2 { transfer(from, to, usd("3")) } else { charge(from, usd("3")) };
        nodes[number % 2].run(command)
    });
    let outcomes = join_all(asked).await;
    let refused =
        |outcome: &&Outcome| matches!(outcome, Outcome::Decided { .. }) && refusal(outcome).is_some();
    assert_eq!(outcomes.iter().filter(refused).count(), 67, "{outcomes:?}");
    assert_eq!(balance(&shard.node, from).await.as_deref(), Some("1.00"));
    shard.stop().await;
}

/// What it writes may be lost, and then a transfer could be at both users or at none. What is begun can be ended there.
#[tokio::test]
async fn a_degraded_shard_begins_no_transfer_and_credits_none() {
    let shard = start().await;
    let node = shard.node.clone();
    let (from, to) = (shard.user_with(usd("100")).await, shard.user_with(usd("0")).await);
    let (pending, ..) = begun(&node.run(transfer(from, to, usd("30"))).await);
    let (given, ..) = begun(&node.run(transfer(from, to, usd("20"))).await);
    credited(&node.run(step(given.credit())).await);
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser
        .batch_execute("INSERT INTO degradation (degraded_by, reason) VALUES ('test', 'a test')")
        .await
        .unwrap();
    eventually("a degraded node", || async { shard.node.status().await.ok()?.degraded.map(|_| ()) }).await;
    eventually("a charge while degraded", || async {
        is_completed(&node.run(charge(from, usd("1"))).await).then_some(())
    })
    .await;
    for command in [transfer(from, to, usd("1")), step(pending.credit()), step(given.credit())] {
        let outcome = node.run(command).await;
        assert!(matches!(outcome, Outcome::Unavailable { .. }), "{outcome:?}");
    }
    let (ended, ..) = begun(&node.run(step(given.settle(Credited::Given))).await);
    assert_eq!(ended.status, TransferStatus::Completed);
    assert_eq!(balance(&node, to).await.as_deref(), Some("20.00"));
    shard.stop().await;
}
