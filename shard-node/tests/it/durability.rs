//! An acknowledged write is on two machines.

use std::time::Duration;

use picopay_local::{ClusterSpec, programs};
use picopay_shared::command::Outcome;
use tokio::time::sleep;

use crate::test_shard::{TestShard, charge, decided, eventually, is_completed, usd};

#[tokio::test]
async fn without_its_standby_a_shard_acknowledges_nothing_and_forgets_nothing() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let replica = shard.cluster.shard(0).replica();
    replica.freeze();

    // COMMIT is sent, and the standby does not confirm it: maybe done.
    let command = charge(user, usd("10"));
    assert_eq!(shard.node.run(command.clone()).await, Outcome::OutcomeUnknown);
    // The row is in the primary's log and visible, but no replay may promise it, and nothing new is promised.
    for _ in 0..5 {
        let again = shard.node.run(command.clone()).await;
        assert!(matches!(again, Outcome::OutcomeUnknown | Outcome::Unavailable { .. }), "{again:?}");
        let other = shard.node.run(charge(user, usd("1"))).await;
        assert!(matches!(other, Outcome::OutcomeUnknown | Outcome::Unavailable { .. }), "{other:?}");
        // So that the keeper, which tries every 250 ms, is met before and after its tries.
        sleep(Duration::from_millis(300)).await;
    }
    let status = shard.node.status().await.unwrap();
    assert!(!status.is_ready && status.not_ready_reason.is_some(), "{status:?}");
    // No heap of backends waits for the standby: the lanes' and one probe at most.
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let waiting: i64 = superuser.query_one(waiting, &[]).await.unwrap().get(0);
    assert!(waiting <= 6, "{waiting} backends wait");

    replica.thaw();
    let resolved = eventually("the same key's answer", || async {
        let outcome = shard.node.run(command.clone()).await;
        is_completed(&outcome).then_some(outcome)
    })
    .await;
    assert!(decided(&resolved).1, "the first attempt was booked, so this is its replay");
    shard.stop().await;
}

#[tokio::test]
async fn a_commit_whose_wait_for_the_standby_was_cancelled_is_no_success() {
    // In another language the warning is a WARNUNG.
    let language =
        ["de_DE.UTF-8", "C"].into_iter().find(|name| *name == "C" || programs::has_locale(name)).unwrap();
    if language == "C" {
        eprintln!("skipped, the servers speak English: there is no de_DE.UTF-8 here, see deploy/german.sh");
    }
    let shard =
        TestShard::start_with(ClusterSpec::one_shard().with_server_setting("lc_messages", language)).await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let replica = shard.cluster.shard(0).replica();
    replica.freeze();
    let (node, command) = (shard.node.clone(), charge(user, usd("10")));
    let asked = tokio::spawn({
        let command = command.clone();
        async move { node.run(command).await }
    });
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("a backend that waits", || async {
        let cancelled: i64 = superuser.query_one(cancel, &[]).await.unwrap().get(0);
        (cancelled > 0).then_some(())
    })
    .await;
    assert_eq!(asked.await.unwrap(), Outcome::OutcomeUnknown);
    replica.thaw();
    eventually("the same key's answer", || async {
        is_completed(&shard.node.run(command.clone()).await).then_some(())
    })
    .await;
    assert_eq!(shard.node.balance(user).await, "90.00");
    shard.stop().await;
}

#[tokio::test]
async fn no_node_replays_what_only_the_primary_has() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_nodes_per_shard(2)).await;
    let (user, other) = (shard.user_with(usd("100")).await, shard.second_node());
    let (command, replica) = (charge(user, usd("10")), shard.cluster.shard(0).replica());
    replica.freeze();
    assert_eq!(shard.node.run(command.clone()).await, Outcome::OutcomeUnknown);
    // Both have a gate, lanes and the Redis of their own; the second one's gate does not know of the first one's wait.
    // A backend that waits for the standby holds the user's row, so the row is there to be seen only when it is gone.
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    for _ in 0..5 {
        superuser.query_one(cancel, &[]).await.unwrap();
        for node in [&shard.node, &other] {
            let again = node.run(command.clone()).await;
            assert!(matches!(again, Outcome::OutcomeUnknown | Outcome::Unavailable { .. }), "{again:?}");
        }
    }
    assert_eq!(shard.row_count(user).await, 2, "the charge is there, and visible");
    replica.thaw();
    for node in [&shard.node, &other] {
        let resolved = eventually("the same key's answer", || async {
            let outcome = node.run(command.clone()).await;
            is_completed(&outcome).then_some(outcome)
        })
        .await;
        assert!(decided(&resolved).1, "it is a replay");
    }
    shard.stop().await;
}

#[tokio::test]
async fn a_shard_whose_standby_is_gone_says_so_before_a_charge_finds_out() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let replica = shard.cluster.shard(0).replica();
    replica.kill().await.unwrap();
    eventually("a node that is not ready", || async {
        let reason = shard.node.status().await.unwrap().not_ready_reason?;
        reason.contains("no standby that synchronous_standby_names names").then_some(())
    })
    .await;
    // Nothing was sent to the database, so nothing waits there, and the answer is certain.
    let refused = shard.node.run(charge(user, usd("1"))).await;
    assert!(matches!(refused, Outcome::Unavailable { .. }), "{refused:?}");
    assert_eq!(shard.node.balance(user).await, "100.00");
    assert!(shard.node.metric("picopay_node_ready").await < 0.5);
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    assert_eq!(superuser.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0), 0);

    replica.start().await.unwrap();
    eventually("charges again", || async {
        is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
    })
    .await;
    shard.stop().await;
}

#[tokio::test]
async fn a_primary_that_names_no_standby_any_more_takes_no_writes() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let set = async |statement: &str| {
        superuser.batch_execute(statement).await.unwrap();
        superuser.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
    };
    set("ALTER SYSTEM SET synchronous_standby_names = ''").await;
    eventually("a node that is not ready", || async {
        let reason = shard.node.status().await.unwrap().not_ready_reason?;
        reason.contains("synchronous_standby_names is empty").then_some(())
    })
    .await;
    let refused = shard.node.run(charge(user, usd("1"))).await;
    assert!(matches!(refused, Outcome::Unavailable { .. }), "{refused:?}");
    set("ALTER SYSTEM RESET synchronous_standby_names").await;
    eventually("charges again", || async {
        is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
    })
    .await;
    shard.stop().await;
}

/// Until this returns, a backend waits for the standby.
async fn wait_for_a_waiting_commit(superuser: &tokio_postgres::Client) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("a backend that waits", || async {
        (superuser.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0).then_some(())
    })
    .await;
}

/// What servers, databases and roles of real operators are set to, none of which may change what a session means.
const ODD_SETTINGS: [(&str, &str); 14] = [
    ("client_min_messages", "error"),
    ("datestyle", "German"),
    ("intervalstyle", "sql_standard"),
    ("timezone", "Asia/Kathmandu"),
    ("standard_conforming_strings", "off"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-10"),
    ("default_transaction_isolation", "serializable"),
    ("search_path", "pg_catalog"),
    ("idle_in_transaction_session_timeout", "1"),
    ("idle_session_timeout", "50"),
    ("statement_timeout", "1"),
    ("lock_timeout", "1"),
    ("synchronous_commit", "off"),
];

async fn set_odd_defaults(shard: &TestShard, superuser: &tokio_postgres::Client) {
    for (name, value) in ODD_SETTINGS {
        let set = format!("ALTER ROLE picopay SET {name} = '{value}'");
        superuser.batch_execute(&set).await.unwrap();
    }
    // Sessions from before have the old ones.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'picopay'";
    superuser.query_one(end, &[]).await.unwrap();
    eventually("a node that is ready again", || async {
        shard.node.status().await.unwrap().is_ready.then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_default_of_a_role_changes_what_a_commit_promises() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    set_odd_defaults(&shard, &superuser).await;
    let command = charge(user, usd("10"));
    assert!(is_completed(&shard.node.run(command.clone()).await));
    assert_eq!(shard.node.balance(user).await, "90.00");
    assert!(decided(&shard.node.run(command).await).1, "a replay");

    let replica = shard.cluster.shard(0).replica();
    replica.freeze();
    let node = shard.node.clone();
    let asked = tokio::spawn(async move { node.run(charge(user, usd("10"))).await });
    wait_for_a_waiting_commit(&superuser).await;
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    superuser.query_one(cancel, &[]).await.unwrap();
    assert_eq!(asked.await.unwrap(), Outcome::OutcomeUnknown);
    replica.thaw();
    shard.stop().await;
}

#[tokio::test]
async fn a_commit_that_was_let_go_because_no_standby_is_named_any_more_is_no_success() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let set = async |statement: &str| {
        superuser.batch_execute(statement).await.unwrap();
        superuser.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
    };
    let replica = shard.cluster.shard(0).replica();
    for is_back_at_once in [false, true] {
        replica.freeze();
        let (node, command) = (shard.node.clone(), charge(user, usd("1")));
        let asked = tokio::spawn({
            let command = command.clone();
            async move { node.run(command).await }
        });
        wait_for_a_waiting_commit(&superuser).await;
        set("ALTER SYSTEM SET synchronous_standby_names = ''").await;
        if is_back_at_once {
            // Long enough for the checkpointer, which lets waiting commits go.
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            eventually("nobody who waits", || async {
                (superuser.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(())
            })
            .await;
            set("ALTER SYSTEM RESET synchronous_standby_names").await;
        }
        assert_eq!(asked.await.unwrap(), Outcome::OutcomeUnknown);
        // Nor does a commit of the node's own open the gate on it.
        for _ in 0..10 {
            assert!(!is_completed(&shard.node.run(charge(user, usd("1"))).await));
            // A second in all: four of the keeper's tries.
            sleep(Duration::from_millis(100)).await;
        }
        replica.thaw();
        set("ALTER SYSTEM RESET synchronous_standby_names").await;
        eventually("the same key's answer", || async {
            is_completed(&shard.node.run(command.clone()).await).then_some(())
        })
        .await;
    }
    shard.stop().await;
}

#[tokio::test]
async fn a_reload_that_changes_no_standby_costs_no_charge() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    for _ in 0..5 {
        superuser.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
        assert!(is_completed(&shard.node.run(charge(user, usd("1"))).await));
    }
    shard.stop().await;
}

#[tokio::test]
async fn a_lane_whose_idle_connection_was_cut_serves_the_next_batch_all_the_same() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = 'picopay-node lane'";
    for _ in 0..5 {
        assert!(superuser.query_one(cut, &[]).await.unwrap().get::<_, i64>(0) > 0);
        let outcome = shard.node.run(charge(user, usd("1"))).await;
        assert!(is_completed(&outcome), "{outcome:?}");
        assert!(shard.node.status().await.unwrap().is_ready);
    }
    shard.stop().await;
}

#[tokio::test]
async fn a_standby_that_is_silent_for_ever_leaves_one_waiting_probe_and_no_heap_of_them() {
    // No server ends a connection to a standby that says nothing.
    let spec = ClusterSpec::one_shard().with_primary_setting("wal_sender_timeout", "0");
    let shard = TestShard::start_with(spec).await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let replica = shard.cluster.shard(0).replica();
    replica.freeze();
    assert_eq!(shard.node.run(charge(user, usd("1"))).await, Outcome::OutcomeUnknown);
    let probes = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'picopay-node probe'";
    for _ in 0..20 {
        // Whatever makes the keeper connect anew.
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE application_name = 'picopay-node gate'";
        superuser.query_one(cut, &[]).await.unwrap();
        // Time for the keeper, which tries every 250 ms, to connect anew and probe.
        sleep(Duration::from_millis(200)).await;
        let waiting: i64 = superuser.query_one(probes, &[]).await.unwrap().get(0);
        assert!(waiting <= 1, "{waiting} probes wait");
    }
    replica.thaw();
    eventually("charges again", || async {
        is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
    })
    .await;
    shard.stop().await;
}
