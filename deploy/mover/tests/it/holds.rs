//! Holds move with their slot: those that ended long ago, those that end while it is copied, and the open ones.

use std::sync::Arc;
use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster};
use picopay_mover::{Batch, Ended, Mover, Step, Unwatched};
use picopay_shard_client::{Decision, Reader, ShardClient, ShardClientConfig};
use picopay_shared::cluster::Cluster;
use picopay_shared::command::{Command, Operation, Payment, Refusal, Status, Transaction};
use picopay_shared::hold::HoldStatus;
use picopay_shared::id::TransactionId;
use picopay_shared::money::{Currency, Money};
use picopay_shared::origin::Origin;
use picopay_shared::query::Consistency;
use picopay_shared::slot::UserId;
use tokio::time::sleep;
use uuid::Uuid;

use super::field::{At, PATIENT, verify};
use super::owners::{owners, slot_of};
use super::traffic::make_user;

struct Holder {
    client: Arc<ShardClient>,
    user_id: UserId,
}

impl Holder {
    async fn ask(&self, operation: Operation) -> Transaction {
        let command = Command {
            fingerprint: operation.fingerprint(),
            operation,
            idempotency_key: Uuid::new_v4(),
            is_client_key: true,
            origin: Origin { request_id: "holder".to_owned(), traceparent: None },
            made_by: None,
        };
        match self.client.write(command).await.unwrap().decision {
            Decision::Decided { transaction, .. } => *transaction,
            other => panic!("{other:?}"),
        }
    }

    async fn done(&self, operation: Operation) -> Transaction {
        let transaction = self.ask(operation).await;
        assert_eq!(transaction.status, Status::Completed);
        transaction
    }

    async fn hold(&self, text: &str, expires_in_s: u32) -> TransactionId {
        let payment = Payment { user_id: self.user_id, money: usd(text), reference: None, metadata: None };
        self.done(Operation::Hold { payment, expires_in_s }).await.id
    }

    async fn capture(&self, hold_id: TransactionId) -> Transaction {
        self.done(Operation::Capture { hold_id, amount: None }).await
    }

    async fn balance(&self) -> (String, String) {
        let origin = Origin { request_id: "holder".to_owned(), traceparent: None };
        let reader = Reader { origin, session: None };
        let read = self.client.read_balances(self.user_id, None, Consistency::Strong, reader).await.unwrap();
        let balance = read.found.unwrap()[0];
        (balance.balance.to_string(), balance.available().to_string())
    }
}

fn usd(text: &str) -> Money {
    Money::parse(text, Currency::parse("USD").unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_from_before_a_move_is_captured_during_it_or_after_it() {
    let cluster = LocalCluster::start(ClusterSpec::default().with_shards(2)).await.unwrap();
    let owners = owners(&cluster).await;
    let user = (1..100).find(|user| owners[&slot_of(*user)] == 0).unwrap();
    make_user(&cluster, user).await;
    let file = Cluster::load(&cluster.cluster_file()).unwrap();
    let client = ShardClient::start(&file, &ShardClientConfig::default(), &prometheus::Registry::new());
    let user_id = UserId::try_from(user).unwrap();
    let holder = Arc::new(Holder { client, user_id });
    let payment = Payment { user_id, money: usd("100"), reference: None, metadata: None };
    holder.done(Operation::TopUp(payment)).await;
    let ended = [holder.hold("1", 600).await, holder.hold("2", 600).await, holder.hold("3", 1).await];
    holder.capture(ended[0]).await;
    holder.done(Operation::Void { hold_id: ended[1] }).await;
    let [during, at_last, after] =
        [holder.hold("10", 600).await, holder.hold("20", 600).await, holder.hold("30", 600).await];
    // Longer than the tail that is left for the pause, and than the sweeper needs: what has ended by now is copied before.
    sleep(Duration::from_secs(7)).await;

    let mover = Mover::new(&file, PATIENT);
    let batch = Batch { slots: vec![slot_of(user)], from: "shard-1".into(), to: "shard-2".into() };
    let watcher = At::new(Step::Lock, {
        let holder = Arc::clone(&holder);
        async move {
            holder.capture(during).await;
            holder.done(Operation::Void { hold_id: at_last }).await;
            holder.hold("5", 600).await;
        }
    });
    let outcome = mover.run(&batch, &watcher).await.unwrap();
    assert!(matches!(outcome, Ended::Moved(_)), "{outcome:?}");
    // 100 - 1 - 10; held are 30 and 5.
    assert_eq!(holder.balance().await, ("89.00".to_owned(), "54.00".to_owned()));
    assert_eq!(holder.capture(after).await.balance_after, usd("59"));
    for (id, status) in [
        (ended[0], HoldStatus::Captured),
        (ended[1], HoldStatus::Voided),
        (ended[2], HoldStatus::Expired),
        (during, HoldStatus::Captured),
        (at_last, HoldStatus::Voided),
    ] {
        let refused = holder.ask(Operation::Void { hold_id: id }).await.status;
        let Status::Refused { refusal, .. } = refused else { panic!("{status:?} was voided") };
        assert_eq!(refusal, Refusal::HoldNotOpen { status });
    }
    verify(&cluster).await;
    mover.purge("shard-1", &batch.slots, &Unwatched).await.unwrap();
    let source = cluster.connect_primary(0).await.unwrap();
    let left =
        source.query_one("SELECT count(*) FROM rows_of_users WHERE user_id = $1", &[&user]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0, "purged");
    verify(&cluster).await;
    cluster.stop().await;
}
