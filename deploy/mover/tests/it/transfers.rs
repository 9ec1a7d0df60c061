//! Transfers move with their slots: the sender's row, whatever became of it, and what was decided about a credit.

use std::sync::Arc;

use picopay_local::{ClusterSpec, LocalCluster};
use picopay_mover::ownership::Ownership;
use picopay_mover::{Batch, Ended, Mover, Step, Unwatched};
use picopay_shard_client::{Decision, Reader, ShardClient, ShardClientConfig};
use picopay_shared::cluster::Cluster;
use picopay_shared::command::{Command, Operation, Payment};
use picopay_shared::money::{Currency, Money};
use picopay_shared::origin::Origin;
use picopay_shared::query::Consistency;
use picopay_shared::slot::UserId;
use picopay_shared::transfer::{CreditRefusal, Credited, Transfer, TransferStatus};
use uuid::Uuid;

use super::field::{At, PATIENT, verify};
use super::owners::{owners, slot_of};
use super::traffic::make_user;

/// Drives each step of a transfer when the test wants it. No courier comes meanwhile.
struct Driver {
    client: Arc<ShardClient>,
}

impl Driver {
    async fn ask(&self, operation: Operation) -> Decision {
        let command = Command {
            fingerprint: operation.fingerprint(),
            operation,
            idempotency_key: Uuid::new_v4(),
            is_client_key: true,
            origin: origin(),
            made_by: None,
        };
        self.client.write(command).await.unwrap().decision
    }

    async fn begin(&self, from: UserId, to_user_id: UserId) -> Transfer {
        let payment = Payment { user_id: from, money: usd("1"), reference: None, metadata: None };
        let operation = Operation::Transfer { payment, to_user_id, only_replays: false };
        match self.ask(operation).await {
            Decision::Transferred { transfer, .. } => *transfer,
            other => panic!("{other:?}"),
        }
    }

    async fn credit(&self, transfer: &Transfer) -> Credited {
        match self.ask(transfer.credit()).await {
            Decision::Credited(credited) => credited,
            other => panic!("{other:?}"),
        }
    }

    async fn settle(&self, transfer: &Transfer, credited: Credited) -> TransferStatus {
        match self.ask(transfer.settle(credited)).await {
            Decision::Transferred { transfer, .. } => transfer.status,
            other => panic!("{other:?}"),
        }
    }

    async fn end(&self, transfer: &Transfer) -> TransferStatus {
        let credited = self.credit(transfer).await;
        self.settle(transfer, credited).await
    }

    async fn balance(&self, user_id: UserId) -> String {
        let reader = Reader { origin: origin(), session: None };
        let read = self.client.read_balances(user_id, None, Consistency::Strong, reader).await.unwrap();
        read.found.unwrap()[0].balance.to_string()
    }
}

fn origin() -> Origin {
    Origin { request_id: "driver".to_owned(), traceparent: None }
}

fn usd(text: &str) -> Money {
    Money::parse(text, Currency::parse("USD").unwrap()).unwrap()
}

async fn user_with(cluster: &LocalCluster, driver: &Driver, user: i64) -> UserId {
    make_user(cluster, user).await;
    let user_id = UserId::try_from(user).unwrap();
    let payment = Payment { user_id, money: usd("100"), reference: None, metadata: None };
    assert!(matches!(driver.ask(Operation::TopUp(payment)).await, Decision::Decided { .. }));
    user_id
}

async fn start() -> (LocalCluster, Cluster, Arc<Driver>) {
    let cluster = LocalCluster::start(ClusterSpec::default().with_shards(2)).await.unwrap();
    cluster.hold_couriers().await.unwrap();
    let file = Cluster::load(&cluster.cluster_file()).unwrap();
    let client = ShardClient::start(&file, &ShardClientConfig::default(), &prometheus::Registry::new());
    (cluster, file, Arc::new(Driver { client }))
}

/// How many rows of `transfers` and `transfer_credits` a shard has of a user.
async fn rows(cluster: &LocalCluster, shard: usize, user: UserId) -> (i64, i64) {
    let database = cluster.connect_primary(shard).await.unwrap();
    let sql = "SELECT (SELECT count(*) FROM transfers WHERE user_id = $1),
                      (SELECT count(*) FROM transfer_credits WHERE user_id = $1)";
    let row = database.query_one(sql, &[&user.get()]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_is_pending_while_the_slot_of_its_sender_or_recipient_moves_ends_once_after_it() {
    let (cluster, file, driver) = start().await;
    let owners = owners(&cluster).await;
    let user_of = |shard: usize| (1..100).find(|user| owners[&slot_of(*user)] == shard).unwrap();
    let (leaves, stays) =
        (user_with(&cluster, &driver, user_of(0)).await, user_with(&cluster, &driver, user_of(1)).await);
    let same = (1..10_000).find(|user| slot_of(*user) == slot_of(leaves.get()) && *user != leaves.get());
    let nobody = UserId::try_from(same.unwrap()).unwrap();

    // As sender: ended; pending and not given; given and not ended. As recipient: not decided; given; refused for good.
    let ended = driver.begin(leaves, stays).await;
    assert_eq!(driver.end(&ended).await, TransferStatus::Completed);
    let [sent, given] = [driver.begin(leaves, stays).await, driver.begin(leaves, stays).await];
    assert_eq!(driver.credit(&given).await, Credited::Given);
    let [open, got] = [driver.begin(stays, leaves).await, driver.begin(stays, leaves).await];
    assert_eq!(driver.credit(&got).await, Credited::Given);
    let refused = driver.begin(stays, nobody).await;
    assert_eq!(driver.credit(&refused).await, Credited::Refused(CreditRefusal::UserNotFound));
    // What happens while the slot is copied goes along as well.
    let [late_end, late_credit] = [driver.begin(leaves, stays).await, driver.begin(stays, leaves).await];

    let mover = Mover::new(&file, PATIENT);
    let batch = Batch { slots: vec![slot_of(leaves.get())], from: "shard-1".into(), to: "shard-2".into() };
    let watcher = At::new(Step::Lock, {
        let (driver, late_end, late_credit) = (Arc::clone(&driver), late_end.clone(), late_credit.clone());
        async move {
            assert_eq!(driver.end(&late_end).await, TransferStatus::Completed);
            assert_eq!(driver.credit(&late_credit).await, Credited::Given);
            driver.begin(leaves, stays).await;
        }
    });
    let outcome = mover.run(&batch, &watcher).await.unwrap();
    assert!(matches!(outcome, Ended::Moved(_)), "{outcome:?}");
    assert_eq!(rows(&cluster, 1, leaves).await, (5, 2), "they went along");
    assert_eq!(rows(&cluster, 1, nobody).await, (0, 1), "a decision about nobody, too");
    verify(&cluster).await;

    // Each step again, wherever it was done before: it was done once.
    let reversed = TransferStatus::Reversed { reason: CreditRefusal::UserNotFound };
    for (transfer, status) in [
        (&ended, TransferStatus::Completed),
        (&sent, TransferStatus::Completed),
        (&given, TransferStatus::Completed),
        (&open, TransferStatus::Completed),
        (&got, TransferStatus::Completed),
        (&refused, reversed),
        (&late_end, TransferStatus::Completed),
        (&late_credit, TransferStatus::Completed),
    ] {
        assert_eq!(driver.end(transfer).await, status);
        assert_eq!(driver.end(transfer).await, status, "again");
    }
    // 5 were sent, one of which no step was done after the first, and 3 were got.
    assert_eq!([driver.balance(leaves).await, driver.balance(stays).await], ["98.00", "101.00"]);
    mover.purge("shard-1", &batch.slots, &Unwatched).await.unwrap();
    for user in [leaves, nobody] {
        assert_eq!(rows(&cluster, 0, user).await, (0, 0), "purged");
    }
    verify(&cluster).await;
    cluster.stop().await;
}

/// Every other row of a slot has its user there.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_about_nobody_goes_along_and_is_purged_although_its_slot_has_no_user() {
    let (cluster, file, driver) = start().await;
    let owners = owners(&cluster).await;
    let user_of = |shard: usize| (1..100).find(|user| owners[&slot_of(*user)] == shard).unwrap();
    let (sender, nobody) =
        (user_with(&cluster, &driver, user_of(1)).await, UserId::try_from(user_of(0)).unwrap());
    let refused = driver.begin(sender, nobody).await;
    assert_eq!(driver.credit(&refused).await, Credited::Refused(CreditRefusal::UserNotFound));

    let mover = Mover::new(&file, PATIENT);
    // Back to where rows were left.
    for (from, to) in [(0, 1), (1, 0)] {
        let name = |shard: usize| cluster.shard(shard).name().to_owned();
        let batch = Batch { slots: vec![slot_of(nobody.get())], from: name(from), to: name(to) };
        let outcome = mover.run(&batch, &Unwatched).await.unwrap();
        assert!(matches!(outcome, Ended::Moved(_)), "{outcome:?}");
        assert_eq!([rows(&cluster, 0, nobody).await, rows(&cluster, 1, nobody).await], [(0, 1), (0, 1)]);
        let ownership = Ownership::read(&file).await.unwrap();
        let left = ownership.shards[from].entries.iter().filter(|entry| entry.has_leftovers);
        assert_eq!(left.map(|entry| entry.row.slot.get()).collect::<Vec<_>>(), batch.slots);
    }
    mover.purge("shard-2", &[slot_of(nobody.get())], &Unwatched).await.unwrap();
    assert_eq!([rows(&cluster, 0, nobody).await, rows(&cluster, 1, nobody).await], [(0, 1), (0, 0)]);
    let reversed = TransferStatus::Reversed { reason: CreditRefusal::UserNotFound };
    assert_eq!(driver.end(&refused).await, reversed);
    verify(&cluster).await;
    cluster.stop().await;
}
