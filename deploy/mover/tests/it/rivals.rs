//! A mover that is killed, and two movers at once. Neither leaves a slot with two owners, and none is left without.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::pending;
use picopay_local::LocalCluster;
use picopay_mover::{Batch, Ended, Limits, MoveError, Mover, Step, Unwatched};
use tokio::sync::Notify;

use super::field::{At, Field, PATIENT};

async fn killed_at(mover: Mover, batch: Batch, step: Step) {
    let reached = Arc::new(Notify::new());
    let watcher = At::new(step, {
        let reached = Arc::clone(&reached);
        async move {
            reached.notify_one();
            pending::<()>().await;
        }
    });
    tokio::select! {
        ended = mover.run(&batch, &watcher) => panic!("{step:?} was not reached: {ended:?}"),
        () = reached.notified() => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_mover_left_is_settled_by_the_next() {
    let field = Field::start(2).await;
    // Of these, the last two are steps of one that was giving up.
    let hasty = Limits { pause_budget: Duration::ZERO, rows_per_second: None };
    let giving_up = [(hasty.clone(), Step::Abort), (hasty, Step::TakeBack)];
    for (limits, step) in Step::ALL.map(|step| (PATIENT, step)).into_iter().chain(giving_up) {
        let from = field.owner().await;
        let to = 1 - from;
        killed_at(field.mover_with(limits), field.batch(from, to), step).await;
        let mover = field.mover();
        let settled = mover.settle().await.unwrap();
        match step {
            // Nothing was begun, or nothing was left to do.
            Step::Import | Step::Done => assert_eq!(settled, []),
            _ => {
                let [(batch, settled)] = settled.as_slice() else { panic!("{step:?} {settled:?}") };
                assert_eq!(
                    (&batch.from, &batch.to),
                    (&field.batch(from, to).from, &field.batch(from, to).to)
                );
                assert_eq!((settled.aborted.len(), settled.moved.len()), (field.slots.len(), 0), "{step:?}");
            }
        }
        assert_eq!(field.owner().await, if step == Step::Done { to } else { from }, "{step:?}");
        assert_eq!(mover.settle().await.unwrap(), [], "{step:?}");
        if step != Step::Done {
            assert!(matches!(mover.run(&field.batch(from, to), &Unwatched).await, Ok(Ended::Moved(_))));
        }
    }
    field.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_mover_is_refused_while_one_is_at_work() {
    let field = Field::start(2).await;
    for step in [Step::Copy, Step::Take] {
        let from = field.owner().await;
        let batch = field.batch(from, 1 - from);
        let (second, settler, second_batch) = (field.mover(), field.mover(), batch.clone());
        let watcher = At::new(step, async move {
            let (run, settled) = tokio::join!(second.run(&second_batch, &Unwatched), settler.settle());
            assert!(matches!(run, Err(MoveError::Busy(_))), "{step:?} {run:?}");
            assert!(matches!(settled, Err(MoveError::Busy(_))), "{step:?} {settled:?}");
        });
        let ended = field.mover().run(&batch, &watcher).await;
        assert!(matches!(ended, Ok(Ended::Moved(_))), "{step:?} {ended:?}");
    }
    field.end().await;
}

/// Makes `pg_try_advisory_lock` a formality for whoever has this schema in its path.
const NO_LOCK: &str = "CREATE SCHEMA no_lock; GRANT USAGE ON SCHEMA no_lock TO PUBLIC;
    CREATE FUNCTION no_lock.pg_try_advisory_lock(bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true'";

/// As one whose connection was lost with its lock.
fn mover_without_lock(field: &Field, limits: Limits) -> Mover {
    let mut cluster = field.cluster_file();
    for shard in &mut cluster.shards {
        shard.primary.push_str(" options='-csearch_path=no_lock,pg_catalog,public'");
    }
    Mover::new(&cluster, limits)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_movers_without_a_lock_between_them_leave_every_slot_one_owner() {
    let field = Field::start(3).await;
    for shard in 0..3 {
        let database = field.cluster.connect_as_superuser(shard).await.unwrap();
        database.batch_execute(NO_LOCK).await.unwrap();
    }
    for step in Step::ALL {
        for is_to_another in [false, true] {
            let from = field.owner().await;
            let to = (from + 1) % 3;
            let (batch, second_to) = (field.batch(from, to), if is_to_another { (from + 2) % 3 } else { to });
            // The first waits until the second has done what it can: it ended, or wants to give up, which it may have to
            // wait with until the first lets go.
            let done = Arc::new(Notify::new());
            let wait = {
                let done = Arc::clone(&done);
                async move { done.notified().await }
            };
            let give_up = {
                let done = Arc::clone(&done);
                async move { done.notify_one() }
            };
            let (watcher, second_watcher) = (At::new(step, wait), At::new(Step::Abort, give_up));
            let (mover, second) = (mover_without_lock(&field, PATIENT), mover_without_lock(&field, PATIENT));
            let second_batch = field.batch(from, second_to);
            let start = Arc::new(Notify::new());
            let second = async {
                start.notified().await;
                let ended = second.run(&second_batch, &second_watcher).await;
                done.notify_one();
                ended
            };
            let watcher = Then { at: watcher, step, start: &start };
            let (one, two) = tokio::join!(mover.run(&batch, &watcher), second);
            let told = format!("{step:?} {is_to_another}: {one:?} {two:?}");
            let owner = field.owner().await;
            let has_moved = |ended: &Result<Ended, MoveError>| matches!(ended, Ok(Ended::Moved(_)));
            assert!(!(has_moved(&one) && has_moved(&two)) || step == Step::Done, "{told}");
            if has_moved(&two) {
                assert_eq!(owner, second_to, "{told}");
            } else if has_moved(&one) {
                assert_eq!(owner, to, "{told}");
            }
        }
    }
    an_import_that_was_given_up_or_begun_anew_is_not_ended(&field).await;
    a_slot_that_was_given_and_taken_back_meanwhile_is_not_released(&field).await;
    a_move_that_is_about_to_end_is_not_taken_back(&field).await;
    field.end().await;
}

async fn an_import_that_was_given_up_or_begun_anew_is_not_ended(field: &Field) {
    let from = field.owner().await;
    let batch = field.batch(from, (from + 1) % 3);
    for is_begun_anew in [false, true] {
        let (second, second_batch) = (mover_without_lock(field, PATIENT), batch.clone());
        let watcher = At::new(Step::Lock, async move {
            if is_begun_anew {
                killed_at(second, second_batch, Step::Clean).await;
            } else {
                assert_eq!(second.settle().await.unwrap().len(), 1);
            }
        });
        let ended = mover_without_lock(field, PATIENT).run(&batch, &watcher).await;
        assert!(matches!(ended, Ok(Ended::Aborted { .. })), "{is_begun_anew} {ended:?}");
        assert_eq!(field.owner().await, from);
    }
}

/// By a mover whose target imports at a lower epoch than the source has by then: whoever has seen that one would take the
/// target for a database that has lost state.
async fn a_slot_that_was_given_and_taken_back_meanwhile_is_not_released(field: &Field) {
    let from = field.owner().await;
    let to = (from + 2) % 3;
    let watcher = At::new(Step::Release, {
        let second =
            mover_without_lock(field, Limits { pause_budget: Duration::ZERO, rows_per_second: None });
        let batch = field.batch(from, (from + 1) % 3);
        async move {
            // Each time the source's epoch grows by two at least.
            for _ in 0..2 {
                let ended = second.run(&batch, &Unwatched).await;
                assert!(matches!(ended, Ok(Ended::Aborted { .. })), "{ended:?}");
            }
        }
    });
    let ended = mover_without_lock(field, PATIENT).run(&field.batch(from, to), &watcher).await;
    assert!(matches!(ended, Ok(Ended::Aborted { .. })), "{ended:?}");
    assert_eq!(field.owner().await, from);
    assert!(field.row(from).await.unwrap().1 >= field.row(to).await.unwrap().1);
}

/// By one who finds the source's rows released and the target's still importing: the target has to give up first, and that
/// its mover does not let it.
async fn a_move_that_is_about_to_end_is_not_taken_back(field: &Field) {
    for step in [Step::Release, Step::Tail, Step::Verify, Step::Take] {
        let from = field.owner().await;
        let to = (from + 1) % 3;
        let settler = mover_without_lock(field, PATIENT);
        let watcher = At::new(step, async move {
            let settled = settler.settle().await;
            assert!(matches!(settled, Err(MoveError::Database(_))), "{step:?} {settled:?}");
        });
        let ended = mover_without_lock(field, PATIENT).run(&field.batch(from, to), &watcher).await;
        assert!(matches!(ended, Ok(Ended::Moved(_))), "{step:?} {ended:?}");
        assert_eq!(field.owner().await, to, "{step:?}");
    }
}

async fn end_lock_holders(cluster: &LocalCluster) {
    for shard in 0..cluster.shards().len() {
        let database = cluster.connect_as_superuser(shard).await.unwrap();
        let sql =
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND granted
                   AND (classid, objid) = (x'7069636f'::int::oid, x'6d6f7665'::int::oid)";
        assert!(!database.query(sql, &[]).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_whose_connections_are_lost_leaves_the_slots_to_the_next() {
    let field = Field::start(2).await;
    for step in Step::ALL {
        let from = field.owner().await;
        let batch = field.batch(from, 1 - from);
        let (cluster, second) = (Arc::clone(&field.cluster), field.mover());
        let second_batch = batch.clone();
        let watcher = At::new(step, async move {
            end_lock_holders(&cluster).await;
            second.settle().await.unwrap();
            let ended = second.run(&second_batch, &Unwatched).await;
            match step {
                Step::Done => assert!(matches!(ended, Err(MoveError::NotOwned { .. })), "{ended:?}"),
                _ => assert!(matches!(ended, Ok(Ended::Moved(_))), "{step:?} {ended:?}"),
            }
        });
        let ended = field.mover().run(&batch, &watcher).await.unwrap();
        match &ended {
            Ended::Moved(_) => assert_eq!(step, Step::Done),
            // Not by itself; but it says that the slots are there.
            Ended::Aborted { settled, .. } => {
                assert_eq!(settled.moved.len(), field.slots.len(), "{step:?} {ended:?}");
            }
        }
        assert_eq!(field.owner().await, 1 - from, "{step:?}");
    }
    field.end().await;
}

struct Then<'a> {
    at: At,
    step: Step,
    start: &'a Notify,
}

impl picopay_mover::Watcher for Then<'_> {
    fn reached(&self, step: Step) -> futures_util::future::BoxFuture<'_, ()> {
        if step == self.step {
            self.start.notify_one();
        }
        self.at.reached(step)
    }
}
