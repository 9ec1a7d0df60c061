//! While a slot changes hands its clients wait a moment, and nothing happens twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use picopay_local::{ClusterSpec, SlotMove};
use picopay_shared::slot::{Slot, UserId};
use tokio::time::sleep;
use uuid::Uuid;

use crate::client::{Answer, TestCluster, code_of, eventually};
use crate::load::{UserLoad, settle};

/// No pause of a test on a busy machine reaches it.
const PATIENT: &str = "[shard_client]\nmove_wait = \"20s\"\nrequest_timeout = \"30s\"\n";
/// As long as the mover's may be, and then some.
const PAUSE: Duration = Duration::from_millis(300);

async fn let_it_last() {
    // How long users have to wait, and are served in between, is what this is about.
    sleep(PAUSE).await;
}

const RACING: usize = 3;

fn slot_of(user: i64) -> Slot {
    UserId::try_from(user).unwrap().slot()
}

async fn begin(test: &TestCluster, slot: Slot, from: usize, to: usize, epoch: i64) -> SlotMove {
    let mut moving = test.cluster.slot_move(slot, from, to, epoch).await.unwrap();
    moving.import().await.unwrap();
    moving.release().await.unwrap();
    moving
}

async fn finish(mut moving: SlotMove) -> i64 {
    moving.copy().await.unwrap();
    moving.own().await.unwrap();
    moving.purge().await.unwrap();
    moving.epoch()
}

#[tokio::test]
async fn a_pause_of_300_ms_under_load_is_waited_for_and_told_to_nobody() {
    let test = TestCluster::start(ClusterSpec::default().with_gateway_toml(PATIENT)).await;
    let user = test.user_of_first_shard("1000").await;
    let load = UserLoad::start(&test.client, user);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = [
        format!("/users/{user}/balance"),
        format!("/users/{user}/balance?consistency=eventual"),
        format!("/transactions?user_id={user}"),
    ]
    .into_iter()
    .map(|path| {
        let (client, stop) = (test.client.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = client.get(&path).await.expect("an answer");
                // A machine that has too much to do may lose a shard from sight, but the move is no reason for that.
                assert!(answer.status == 200 || code_of(&answer) != "slot-moving", "{path}: {answer:?}");
            }
        })
    })
    .collect();
    let mut epoch = 1;
    for (from, to) in [(0, 1), (1, 0), (0, 1)] {
        // One that is given up, and one that is not.
        let mut moving = begin(&test, slot_of(user), from, to, epoch).await;
        let_it_last().await;
        moving.abort().await.unwrap();
        let_it_last().await;
        let moving = begin(&test, slot_of(user), from, to, moving.epoch()).await;
        let_it_last().await;
        epoch = finish(moving).await;
        let_it_last().await;
    }
    let charges = load.end().await;
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(!charges.problems.contains(&"slot-moving".to_owned()), "{:?}", charges.problems);
    assert!(test.client.metric("picopay_gateway_held_total").await > 0.0, "they had to wait");
    let none =
        ["picopay_gateway_held", "picopay_gateway_held_given_up_total", "picopay_gateway_held_refused_total"];
    for name in none {
        assert!(test.client.metric(name).await == 0.0, "{name}");
    }
    settle(&test.client, user, 100_000, charges).await;
    test.stop().await;
}

#[tokio::test]
async fn a_pause_that_does_not_end_is_answered_and_the_next_requests_do_not_wait_for_it() {
    // No poll tells the gateway of the release before the first request does.
    let hasty = "[shard_client]\nmove_wait = \"300ms\"\npoll_interval = \"5s\"\n";
    let test = TestCluster::start(ClusterSpec::default().with_gateway_toml(hasty)).await;
    let client = &test.client;
    let user = test.user_of_first_shard("100").await;
    let charge = client.charge(user, Uuid::new_v4(), "10").await.json();
    let id = charge["transaction"]["id"].as_str().unwrap().to_owned();
    let moving = begin(&test, slot_of(user), 0, 1, 1).await;
    let expect_moving = |answer: &Answer| {
        assert_eq!((answer.status, code_of(answer).as_str()), (503, "slot-moving"), "{answer:?}");
        let seconds: u64 = answer.header("retry-after").expect("when to come back").parse().unwrap();
        assert!(seconds > 0);
    };
    let (charge_key, refund_key) = (Uuid::new_v4(), Uuid::new_v4());
    let history = format!("/transactions?user_id={user}");
    for round in 0..2 {
        expect_moving(&client.charge(user, charge_key, "1").await);
        if round == 0 {
            assert!(client.metric("picopay_gateway_held_total").await > 0.0, "it waited");
        }
        expect_moving(&client.refund(&id, refund_key, "1").await);
        for path in [format!("/users/{user}/balance"), history.clone(), format!("/transactions/{id}")] {
            expect_moving(&client.get(&path).await.unwrap());
        }
    }
    // Only what came within `move_wait` of the release was held.
    eventually("an answer without a wait", || async {
        let before = client.metric("picopay_gateway_held_total").await;
        expect_moving(&client.charge(user, charge_key, "1").await);
        (client.metric("picopay_gateway_held_total").await - before == 0.0).then_some(())
    })
    .await;
    finish(moving).await;
    eventually("the slot at its new place", || async {
        (client.charge(user, charge_key, "1").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(client.refund(&id, refund_key, "1").await.status, 200);
    assert_eq!(client.balance(user).await, "90.00");
    test.stop().await;
}

#[tokio::test]
async fn no_more_requests_wait_than_there_are_places() {
    let few = format!("{PATIENT}moving_max = 3\n");
    let test = TestCluster::start(ClusterSpec::default().with_gateway_toml(&few)).await;
    let user = test.user_of_first_shard("100").await;
    let neighbour = test.user_of_first_shard("100").await;
    let moving = begin(&test, slot_of(user), 0, 1, 1).await;
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let client = test.client.clone();
            tokio::spawn(async move { client.charge(user, Uuid::new_v4(), "1").await })
        })
        .collect();
    // Those that found no place are answered while the others wait.
    eventually("seven answers", || async {
        (waiting.iter().filter(|one| one.is_finished()).count() == 7).then_some(())
    })
    .await;
    assert!((test.client.metric("picopay_gateway_held").await - 3.0).abs() < 0.5);
    assert_eq!(test.client.charge(neighbour, Uuid::new_v4(), "1").await.status, 200);
    finish(moving).await;
    let answers: Vec<Answer> = join_all(waiting).await.into_iter().map(Result::unwrap).collect();
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(503)), (3, 7));
    for refused in answers.iter().filter(|answer| answer.status == 503) {
        assert_eq!(
            (code_of(refused).as_str(), refused.header("retry-after").is_some()),
            ("slot-moving", true)
        );
    }
    assert_eq!(test.client.balance(user).await, "97.00");
    test.stop().await;
}

/// Interleavings: each of the three is first asked for at the source before the release, refused there after it, held, or
/// sent to the target at once; and once more a step of the move later, with the same key.
#[tokio::test]
async fn a_charge_a_refund_and_an_old_key_that_race_the_flip_happen_once() {
    let test = TestCluster::start(ClusterSpec::default().with_gateway_toml(PATIENT)).await;
    let client = &test.client;
    let user = test.user_of_first_shard("1000").await;
    let (mut epoch, mut rows) = (1, 1);
    for (from, to) in [(0, 1), (1, 0), (0, 1), (1, 0)] {
        let old_key = Uuid::new_v4();
        let old = client.charge(user, old_key, "15").await;
        let id = old.json()["transaction"]["id"].as_str().unwrap().to_owned();
        // New keys for each step: with the first ones alone, everything would be decided before the release.
        let keys: Vec<[Uuid; 2]> = (0..5 * RACING).map(|_| [Uuid::new_v4(), Uuid::new_v4()]).collect();
        let mut racing = Vec::new();
        let mut ask = |step: usize| {
            let numbers = step.saturating_sub(1) * RACING..(step + 1) * RACING;
            for (number, [charge_key, refund_key]) in numbers.clone().zip(keys[numbers].to_vec()) {
                let (client, id) = (client.clone(), id.clone());
                racing.push(tokio::spawn(async move {
                    let charge = client.charge(user, charge_key, "2").await;
                    let refund = client.refund(&id, refund_key, "1").await;
                    (number, charge, refund, client.charge(user, old_key, "15").await)
                }));
            }
        };
        let are_held = async |count: usize| {
            eventually("requests that wait for an owner", async || {
                client.metric("picopay_gateway_held").await > f64::from(u32::try_from(count).unwrap()) - 0.5
            })
            .await;
        };
        let mut moving = test.cluster.slot_move(slot_of(user), from, to, epoch).await.unwrap();
        ask(0);
        moving.import().await.unwrap();
        ask(1);
        moving.release().await.unwrap();
        ask(2);
        // Of this step and of the one before. Nobody owns the slot, so none of them can be answered.
        are_held(2 * RACING).await;
        moving.copy().await.unwrap();
        ask(3);
        are_held(4 * RACING).await;
        moving.own().await.unwrap();
        ask(4);
        moving.purge().await.unwrap();
        epoch = moving.epoch();
        let answers: Vec<_> = join_all(racing).await.into_iter().map(Result::unwrap).collect();
        let mut first = vec![None; keys.len()];
        for (number, charge, refund, again) in &answers {
            let first = first[*number].get_or_insert((&charge.body, &refund.body));
            assert_eq!((charge.status, &charge.body), (200, first.0));
            assert_eq!((refund.status, &refund.body), (200, first.1));
            assert_eq!((again.status, &again.body, again.is_replayed()), (200, &old.body, true));
        }
        rows += 1 + 2 * keys.len();
        let owner = test.cluster.connect_primary(to).await.unwrap();
        let count = "SELECT count(*) FROM transactions WHERE user_id = $1";
        let there: i64 = owner.query_one(count, &[&user]).await.unwrap().get(0);
        assert_eq!(usize::try_from(there).unwrap(), rows);
    }
    assert_eq!(client.balance(user).await, "880.00");
    test.stop().await;
}
