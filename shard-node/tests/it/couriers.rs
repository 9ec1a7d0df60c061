//! Transfers between two shards that nobody drives on: the courier ends them, whatever breaks between their steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use picopay_local::{ClusterSpec, LocalCluster};
use picopay_shard_client::{Decision, Reader, ShardClient, ShardClientConfig};
use picopay_shared::cluster::Cluster;
use picopay_shared::command::{Command, Operation, Payment};
use picopay_shared::id::TransactionId;
use picopay_shared::origin::Origin;
use picopay_shared::query::Consistency;
use picopay_shared::slot::UserId;
use picopay_shared::transfer::{CreditRefusal, Credited, Transfer, TransferStatus};
use uuid::Uuid;

use crate::test_shard::{NodeClient, command, command_with_key, eventually, top_up, usd};

/// Two shards without a gateway, and a client of both.
struct TwoShards {
    cluster: LocalCluster,
    client: Arc<ShardClient>,
    /// Of the first shard, and of the second.
    users: [Vec<UserId>; 2],
}

impl TwoShards {
    async fn start() -> Self {
        Self::start_with_nodes(1).await
    }

    async fn start_with_nodes(nodes: usize) -> Self {
        let spec = ClusterSpec::default().with_shards(2).with_nodes_per_shard(nodes).without_gateway();
        let cluster = LocalCluster::start(spec).await.unwrap();
        let file = Cluster::load(&cluster.cluster_file()).unwrap();
        let client = ShardClient::start(&file, &ShardClientConfig::default(), &prometheus::Registry::new());
        client.ask_all().await;
        let all = (1..=20).map(|id| UserId::try_from(id).unwrap());
        let is_of_first = |user: &UserId| client.shard_of(user.slot()).unwrap() == "shard-1";
        let users: (Vec<UserId>, Vec<UserId>) = all.partition(is_of_first);
        let test = Self { cluster, client, users: users.into() };
        for user_id in test.users.concat() {
            test.ask(command(Operation::CreateUser { user_id })).await;
            test.ask(top_up(user_id, usd("100"))).await;
        }
        test
    }

    /// As a client that tries again with the same key until it has an answer.
    async fn ask(&self, command: Command) -> Decision {
        eventually("a decision", || async { Some(self.client.write(command.clone()).await.ok()?.decision) })
            .await
    }

    /// The first step: the money leaves its sender.
    async fn begin(&self, from: UserId, to_user_id: UserId, money: &str) -> Transfer {
        let payment = Payment { user_id: from, money: usd(money), reference: None, metadata: None };
        match self.ask(command(Operation::Transfer { payment, to_user_id, only_replays: false })).await {
            Decision::Transferred { transfer, .. } => *transfer,
            other => panic!("{other:?}"),
        }
    }

    /// The second step: its recipient has it.
    async fn credit(&self, transfer: &Transfer) -> Credited {
        let step = Command { is_client_key: false, ..command_with_key(Uuid::nil(), transfer.credit()) };
        match self.ask(step).await {
            Decision::Credited(credited) => credited,
            other => panic!("{other:?}"),
        }
    }

    async fn balance(&self, user: UserId) -> String {
        let read = eventually("a balance", || async {
            self.client.read_balances(user, None, Consistency::Strong, reader()).await.ok()
        });
        read.await.found.unwrap()[0].balance.to_string()
    }

    async fn status(&self, id: TransactionId) -> Option<TransferStatus> {
        Some(self.client.read_transfer(id, reader()).await.ok()?.found?.status)
    }

    /// Waits until it is no longer pending.
    async fn end_of(&self, transfer: &Transfer) -> TransferStatus {
        eventually("the end of a transfer", || async {
            self.status(transfer.id).await.filter(|status| *status != TransferStatus::Pending)
        })
        .await
    }

    async fn move_slot(&self, user: UserId, from: usize, to: usize) {
        let mut moving = self.cluster.slot_move(user.slot(), from, to, 1).await.unwrap();
        moving.import().await.unwrap();
        moving.release().await.unwrap();
        moving.copy().await.unwrap();
        moving.own().await.unwrap();
        moving.purge().await.unwrap();
    }

    /// Of each shard: balances, and what is in transit, against what came in.
    async fn assert_books(&self) {
        let sql = "SELECT (SELECT coalesce(sum(balance), 0) FROM balances)
                        - (SELECT coalesce(sum(CASE kind WHEN 'topup' THEN amount
                                                         WHEN 'transfer_out' THEN -amount
                                                         WHEN 'transfer_in' THEN amount
                                                         WHEN 'transfer_back' THEN amount END), 0)
                           FROM transactions WHERE refusal IS NULL) = 0";
        for shard in 0..2 {
            let database = self.cluster.connect_primary(shard).await.unwrap();
            assert!(database.query_one(sql, &[]).await.unwrap().get::<_, bool>(0), "shard {shard}");
        }
    }

    async fn total(&self) -> String {
        let mut total = usd("0");
        for user in self.users.concat() {
            let read = self.client.read_balances(user, None, Consistency::Strong, reader()).await.unwrap();
            total = total.checked_add(read.found.unwrap()[0].balance).unwrap();
        }
        total.to_string()
    }
}

fn reader() -> Reader {
    Reader { origin: Origin { request_id: "test".to_owned(), traceparent: None }, session: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_left_between_two_steps_is_ended_by_the_courier() {
    let test = TwoShards::start().await;
    let [here, there] = &test.users;
    let after_first = test.begin(here[0], there[0], "10").await;
    let after_second = test.begin(here[1], there[1], "10").await;
    assert_eq!(test.credit(&after_second).await, Credited::Given);
    let within_a_shard = test.begin(here[2], here[3], "10").await;
    let to_nobody = test.begin(here[4], UserId::try_from(4_444_444).unwrap(), "10").await;
    for (transfer, end) in [
        (&after_first, TransferStatus::Completed),
        (&after_second, TransferStatus::Completed),
        (&within_a_shard, TransferStatus::Completed),
        (&to_nobody, TransferStatus::Reversed { reason: CreditRefusal::UserNotFound }),
    ] {
        assert_eq!(test.end_of(transfer).await, end);
    }
    let expected = BTreeMap::from([
        (here[0], "90.00"),
        (there[0], "110.00"),
        (here[1], "90.00"),
        (there[1], "110.00"),
        (here[2], "90.00"),
        (here[3], "110.00"),
        (here[4], "100.00"),
    ]);
    for (user, balance) in expected {
        assert_eq!(test.balance(user).await, balance, "user {user}");
    }
    test.assert_books().await;
    test.cluster.stop().await;
}

/// Down, it refuses at once, and could be asked again and again. Frozen, it takes as long as a question may, and others could
/// wait behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_recipients_shard_that_does_not_answer_holds_up_its_own_transfers_only() {
    let test = TwoShards::start().await;
    let [here, there] = &test.users;
    let silent = test.cluster.shard(1).node(0);
    let node = NodeClient::new(&test.cluster.node_url(0, 0), test.cluster.internal_secret());
    let tries = async || node.metric("picopay_node_courier_tries_total{result=\"postponed\"").await;
    for (is_frozen, there_has) in [(false, "140.00"), (true, "180.00")] {
        let before = tries().await;
        if is_frozen {
            silent.freeze();
        } else {
            silent.kill().await.unwrap();
        }
        let begun = Instant::now();
        let stuck: Vec<Transfer> =
            join_all((0..40).map(|number| test.begin(here[number % 4], there[0], "1"))).await;
        let others = join_all((0..4).map(|number| test.begin(here[number], here[5], "1"))).await;
        for transfer in &others {
            assert_eq!(test.end_of(transfer).await, TransferStatus::Completed);
        }
        // The courier comes after 5 s.
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        eventually("a first try", || async { (tries().await > before).then_some(()) }).await;
        if !is_frozen {
            let before = tries().await;
            // How often a silent shard is asked in a while is what this is about: after 1, 3 and 7 s.
            tokio::time::sleep(Duration::from_secs(12)).await;
            let more = tries().await - before;
            assert!(more <= 4.0, "{more} tries of 40 transfers in twelve seconds");
        }
        for transfer in &stuck {
            assert_eq!(test.status(transfer.id).await, Some(TransferStatus::Pending));
        }
        if is_frozen {
            silent.thaw();
        } else {
            silent.start().await.unwrap();
        }
        for transfer in &stuck {
            assert_eq!(test.end_of(transfer).await, TransferStatus::Completed);
        }
        assert_eq!(test.balance(there[0]).await, there_has);
    }
    test.assert_books().await;
    test.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_survives_its_node_and_a_failover_of_either_primary() {
    let test = TwoShards::start().await;
    let [here, there] = &test.users;
    let transfer = test.begin(here[0], there[0], "10").await;
    test.cluster.shard(0).node(0).kill().await.unwrap();
    test.cluster.failover(1).await.unwrap();
    test.cluster.shard(0).node(0).start().await.unwrap();
    assert_eq!(test.end_of(&transfer).await, TransferStatus::Completed);

    let transfer = test.begin(here[1], there[1], "10").await;
    assert_eq!(test.credit(&transfer).await, Credited::Given);
    test.cluster.failover(0).await.unwrap();
    assert_eq!(test.end_of(&transfer).await, TransferStatus::Completed);
    assert_eq!(
        (test.balance(there[0]).await, test.balance(there[1]).await),
        ("110.00".into(), "110.00".into())
    );
    test.assert_books().await;
    test.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn either_slot_may_move_between_any_two_steps() {
    let test = TwoShards::start().await;
    let [here, there] = &test.users;
    let sender_first = test.begin(here[0], there[0], "10").await;
    test.move_slot(here[0], 0, 1).await;
    let recipient_first = test.begin(here[1], there[1], "10").await;
    test.move_slot(there[1], 1, 0).await;
    let sender_second = test.begin(here[2], there[2], "10").await;
    assert_eq!(test.credit(&sender_second).await, Credited::Given);
    test.move_slot(here[2], 0, 1).await;
    let recipient_second = test.begin(here[3], there[3], "10").await;
    assert_eq!(test.credit(&recipient_second).await, Credited::Given);
    test.move_slot(there[3], 1, 0).await;
    for transfer in [&sender_first, &recipient_first, &sender_second, &recipient_second] {
        assert_eq!(test.end_of(transfer).await, TransferStatus::Completed);
        // Whoever comes late, at the new owner, finds what was decided.
        assert_eq!(test.credit(transfer).await, Credited::Given);
    }
    for number in 0..4 {
        assert_eq!(test.balance(here[number]).await, "90.00", "{number}");
        assert_eq!(test.balance(there[number]).await, "110.00", "{number}");
    }
    test.assert_books().await;
    test.cluster.stop().await;
}

/// Among all users, with two couriers of each shard and nobody else who ends anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_ring_of_transfers_with_faults_leaves_the_total_as_it_was() {
    let test = TwoShards::start_with_nodes(2).await;
    let all = test.users.concat();
    let before = test.total().await;
    let mut begun = Vec::new();
    for round in 0..6_usize {
        let pairs = (0..all.len()).map(|place| (all[place], all[(place + round + 1) % all.len()]));
        let faults = async {
            match round {
                1 => {
                    test.cluster.shard(1).node(0).kill().await.unwrap();
                    test.cluster.shard(1).node(0).start().await.unwrap();
                }
                3 => {
                    test.cluster.failover(0).await.unwrap();
                }
                _ => {}
            }
        };
        let asked = join_all(pairs.map(|(from, to)| test.begin(from, to, "7")));
        begun.extend(tokio::join!(asked, faults).0);
    }
    for transfer in &begun {
        assert_eq!(test.end_of(transfer).await, TransferStatus::Completed);
    }
    assert_eq!(test.total().await, before);
    test.assert_books().await;
    test.cluster.stop().await;
}
