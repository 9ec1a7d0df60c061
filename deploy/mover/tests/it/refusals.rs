//! When a move must not be: too long a pause, a degraded shard, two sides that differ. The source serves its users again, at
//! a higher epoch if they had to wait.

use std::sync::Arc;
use std::time::Duration;

use picopay_local::LocalCluster;
use picopay_mover::{Ended, Limits, MoveError, Mover, Step, Unwatched};
use serde_json::json;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use uuid::Uuid;

use super::field::{At, Field};
use super::owners::slot_of;
use super::traffic::{make_user, write};

/// Runs `sql` at the shard in a session that waits for no standby.
async fn say(cluster: Arc<LocalCluster>, shard: usize, sql: String) {
    let database = cluster.connect_primary(shard).await.unwrap();
    database.batch_execute(&format!("SET synchronous_commit = local; {sql}")).await.unwrap();
}

const DEGRADE: &str = "INSERT INTO degradation (degraded_by, reason) VALUES ('a test', 'to see')";
const RESTORE: &str = "DELETE FROM degradation";

/// Broken off at `step` by `sql` at `shard`, for a reason that contains `words`. Returns whether users had to wait by then.
async fn is_broken_off(
    field: &Field,
    mover: &Mover,
    (step, shard, sql): (Step, usize, String),
    words: &str,
) -> bool {
    let (_, before) = field.row(0).await.unwrap();
    let watcher = At::new(step, say(Arc::clone(&field.cluster), shard, sql));
    let ended = mover.run(&field.batch(0, 1), &watcher).await.unwrap();
    let Ended::Aborted { reason, is_worth_another_try, settled } = &ended else {
        panic!("{step:?} {ended:?}")
    };
    assert!(reason.contains(words), "{words:?} in {reason}");
    assert_eq!(settled.aborted.len(), field.slots.len(), "{step:?} {settled:?}");
    assert_eq!(*is_worth_another_try, words != "slot", "{reason}");
    assert_eq!(field.row(1).await.unwrap().0, "aborted", "{step:?}");
    let (state, after) = field.row(0).await.unwrap();
    assert_eq!((state.as_str(), field.owner().await), ("owned", 0));
    after > before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_would_be_too_long_is_given_up() {
    let field = Field::start(2).await;
    for budget in [Duration::ZERO, Duration::from_millis(1)] {
        let mover = field.mover_with(Limits { pause_budget: budget, rows_per_second: None });
        let nothing = (Step::Import, 0, String::new());
        assert!(is_broken_off(&field, &mover, nothing, "the pause would have been longer").await);
    }
    // Somebody is in the way at the target, from the moment the pause begins.
    let holder = field.cluster.connect_primary(1).await.unwrap();
    let held = Arc::new(holder);
    let watcher = At::new(Step::Tail, {
        let held = Arc::clone(&held);
        async move { held.batch_execute("BEGIN; LOCK TABLE balances IN SHARE MODE").await.unwrap() }
    });
    let ended = field.mover().run(&field.batch(0, 1), &watcher).await.unwrap();
    assert!(matches!(&ended, Ended::Aborted { reason, .. } if reason.contains("lock timeout")), "{ended:?}");
    assert_eq!(field.owner().await, 0);
    held.batch_execute("ROLLBACK").await.unwrap();
    field.move_at_last(&field.batch(0, 1)).await;
    field.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_degraded_shard_gives_and_takes_no_slot() {
    let field = Field::start(2).await;
    let mover = field.mover();
    for shard in [0, 1] {
        say(Arc::clone(&field.cluster), shard, DEGRADE.to_owned()).await;
        let refused = mover.run(&field.batch(0, 1), &Unwatched).await;
        assert!(matches!(refused, Err(MoveError::Unfit { .. })), "{refused:?}");
        say(Arc::clone(&field.cluster), shard, RESTORE.to_owned()).await;
    }
    for (step, shard, have_waited) in
        [(Step::Copy, 1, false), (Step::Release, 0, false), (Step::Tail, 1, true)]
    {
        let deed = (step, shard, DEGRADE.to_owned());
        let words = format!("shard-{} can be no part of a move: it is degraded", shard + 1);
        assert_eq!(is_broken_off(&field, &mover, deed, &words).await, have_waited, "{step:?}");
        say(Arc::clone(&field.cluster), shard, RESTORE.to_owned()).await;
    }
    drop(mover);
    // The source loses its standby in the pause, an operator lets it go on, and the target cannot take the slots: the source
    // takes them back all the same, and at once.
    let cluster = Arc::clone(&field.cluster);
    let watcher = At::new(Step::Tail, async move {
        cluster.shard(0).replica().kill().await.unwrap();
        for shard in [0, 1] {
            say(Arc::clone(&cluster), shard, DEGRADE.to_owned()).await;
        }
    });
    let (mover, batch) = (field.mover(), field.batch(0, 1));
    let ended = timeout(AT_ONCE, mover.run(&batch, &watcher)).await.unwrap().unwrap();
    assert!(matches!(ended, Ended::Aborted { .. }), "{ended:?}");
    assert_eq!(field.owner().await, 0);
    drop(mover);
    say(Arc::clone(&field.cluster), 1, RESTORE.to_owned()).await;
    field.cluster.shard(0).replica().start().await.unwrap();
    field.cluster.wait_until_ready().await.unwrap();
    say(Arc::clone(&field.cluster), 0, RESTORE.to_owned()).await;
    field.move_at_last(&field.batch(0, 1)).await;
    a_shard_without_its_standby_is_told_at_once_and_costs_no_row(&field).await;
    field.end().await;
}

/// Much less than a commit without a standby takes.
const AT_ONCE: Duration = Duration::from_secs(10);

/// After the slots went from the first shard to the second.
async fn a_shard_without_its_standby_is_told_at_once_and_costs_no_row(field: &Field) {
    let purge = async || field.mover().purge("shard-1", &field.slots, &Unwatched).await;
    let left = field.users_at(0).await;
    let is_told = |refused: Result<MoveError, Elapsed>, shard: usize| {
        let words = format!("shard-{shard} can be no part of a move: no synchronous standby follows");
        assert!(refused.as_ref().is_ok_and(|error| error.to_string().contains(&words)), "{refused:?}");
    };
    // Degraded, the new owner confirms nothing.
    say(Arc::clone(&field.cluster), 1, DEGRADE.to_owned()).await;
    let refused = purge().await;
    assert!(matches!(refused, Err(MoveError::Unfit { .. })), "{refused:?}");
    say(Arc::clone(&field.cluster), 1, RESTORE.to_owned()).await;
    // That its standby is gone is not known yet, so all that it says may be on one machine.
    field.cluster.shard(1).replica().freeze();
    let unconfirmed = timeout(Duration::from_secs(2), purge()).await;
    assert!(unconfirmed.is_err(), "{unconfirmed:?}");
    // Of the mover that was ended there, a commit is left that waits for the standby, with its lock.
    field.cluster.shard(1).replica().kill().await.unwrap();
    let mover = field.mover();
    let refused = timeout(AT_ONCE, mover.run(&field.batch(1, 0), &Unwatched)).await;
    is_told(refused.map(Result::unwrap_err), 2);
    drop(mover);
    is_told(timeout(AT_ONCE, purge()).await.map(Result::unwrap_err), 2);
    field.cluster.shard(0).replica().kill().await.unwrap();
    is_told(timeout(AT_ONCE, purge()).await.map(Result::unwrap_err), 1);
    assert_eq!(field.users_at(0).await, left);
    for shard in [0, 1] {
        field.cluster.shard(shard).replica().start().await.unwrap();
    }
    field.cluster.wait_until_ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_whose_two_sides_differ_are_not_handed_over() {
    let field = Field::start(2).await;
    // Somebody who does not charge: what is changed by hand here stays so until it is put right.
    let user_id = (100..1_000_000).find(|user| slot_of(*user) == field.slots[0]).unwrap();
    make_user(&field.cluster, user_id).await;
    let topup = json!({"user_id": user_id, "amount": "5.00", "currency": "USD"});
    assert_eq!(write(&field.cluster, "/topup", Uuid::new_v4(), &topup).await.0, 200);
    let too_much = json!({"user_id": user_id, "amount": "9.00", "currency": "USD"});
    assert_eq!(write(&field.cluster, "/charge", Uuid::new_v4(), &too_much).await.0, 402);
    // A refusal with an id of long ago moves no money, and is copied before the pause.
    let late = |id: u32| {
        format!(
            "INSERT INTO transactions (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after,
                                       kind, currency, refusal, request_id)
             SELECT slot, user_id, '00000000-0000-8000-8000-{id:012}', gen_random_uuid(), fingerprint, created_at, amount,
                    balance_after, kind, currency, refusal, request_id
             FROM transactions WHERE user_id = {user_id} AND refusal IS NOT NULL LIMIT 1"
        )
    };
    let mover = field.mover();
    let by_one = |sign| format!("UPDATE balances SET balance = balance {sign} 1 WHERE user_id = {user_id}");
    let old =
        format!("transactions WHERE user_id = {user_id} AND id < '00000001-0000-8000-8000-000000000000'");
    say(Arc::clone(&field.cluster), 0, late(1)).await;
    for (step, shard, sql, undo, words, have_waited) in [
        (Step::Compare, 1, format!("DELETE FROM {old}"), String::new(), "slot", false),
        (
            Step::Compare,
            1,
            format!("UPDATE {}", old.replace("WHERE", "SET amount = 8 WHERE")),
            String::new(),
            "slot",
            false,
        ),
        // No money, and nothing that another table names.
        (
            Step::Compare,
            1,
            format!("UPDATE {}", old.replace("WHERE", "SET reference = '' WHERE")),
            String::new(),
            "slot",
            false,
        ),
        (Step::Compare, 1, late(4), String::new(), "slot", false),
        (Step::Lock, 1, late(5), String::new(), "slot", false),
        (Step::Lock, 1, format!("DELETE FROM {old}"), String::new(), "slot", false),
        (Step::Verify, 0, by_one('+'), by_one('-'), "slot", true),
        // Before anything is copied: both sides have it, and are wrong together.
        (Step::Import, 0, by_one('+'), by_one('-'), "slot", true),
        // The clock of a node is behind. The next move has it.
        (Step::Compare, 0, late(2), String::new(), "clock", true),
        (Step::Lock, 0, late(3), String::new(), "clock", true),
        // Rows that are gone are no late ones, and do not come back.
        (Step::Lock, 0, format!("DELETE FROM {old}"), late(6), "slot", true),
    ] {
        let deed = (step, shard, sql.clone());
        assert_eq!(is_broken_off(&field, &mover, deed, words).await, have_waited, "{step:?} {sql}");
        say(Arc::clone(&field.cluster), 0, undo).await;
    }
    drop(mover);
    field.move_at_last(&field.batch(0, 1)).await;
    say(Arc::clone(&field.cluster), 1, format!("DELETE FROM {old}")).await;
    field.end().await;
}
