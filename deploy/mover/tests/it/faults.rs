//! A server dies at each step of a move. Afterwards every slot has one owner without help, and no client was told what is
//! not so.

use std::sync::Arc;

use picopay_local::LocalCluster;
use picopay_mover::{Ended, Step};
use tokio::sync::Notify;

use super::field::{At, Field};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Source,
    Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Return {
    Restarted,
    Replaced,
}

async fn kill(cluster: Arc<LocalCluster>, shard: usize, comes_back: Return, is_back: Arc<Notify>) {
    cluster.shard(shard).primary().kill().await.unwrap();
    tokio::spawn(async move {
        match comes_back {
            Return::Restarted => cluster.shard(shard).primary().start().await.unwrap(),
            Return::Replaced => drop(cluster.failover(shard).await.unwrap()),
        }
        is_back.notify_one();
    });
}

async fn a_primary_dies(at: &[Step], victim: Victim, comes_back: Return) {
    let field = Field::start(2).await;
    for step in at {
        let from = field.owner().await;
        let to = 1 - from;
        let dies = if victim == Victim::Source { from } else { to };
        let is_back = Arc::new(Notify::new());
        let death = kill(Arc::clone(&field.cluster), dies, comes_back, Arc::clone(&is_back));
        let watcher = At::new(*step, death);
        let batch = field.batch(from, to);
        let ended = field.mover().run(&batch, &watcher).await.unwrap();
        // Once the target has everything, it does not need the source to take the slots; and what it took it keeps.
        let is_moved = matches!(step, Step::Done) || (victim == Victim::Source && matches!(step, Step::Take));
        match &ended {
            Ended::Moved(_) => assert!(is_moved, "{step:?} {ended:?}"),
            Ended::Aborted { settled, .. } => {
                assert!(!is_moved && settled.moved.is_empty(), "{step:?} {ended:?}");
            }
        }
        is_back.notified().await;
        field.cluster.wait_until_ready().await.unwrap();
        assert_eq!(field.owner().await, if is_moved { to } else { from }, "{step:?}");
        if !is_moved {
            field.move_at_last(&batch).await;
        }
    }
    field.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_dies_and_comes_back_leaves_every_slot_one_owner() {
    a_primary_dies(&Step::ALL, Victim::Source, Return::Restarted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_dies_and_comes_back_leaves_every_slot_one_owner() {
    a_primary_dies(&Step::ALL, Victim::Target, Return::Restarted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_standby_takes_over_leaves_every_slot_one_owner() {
    a_primary_dies(&Step::ALL, Victim::Source, Return::Replaced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_whose_standby_takes_over_leaves_every_slot_one_owner() {
    a_primary_dies(&Step::ALL, Victim::Target, Return::Replaced).await;
}
