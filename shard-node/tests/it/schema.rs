//! A node serves what it was built for and what came later, and says what to run when it cannot. It changes no schema.

use std::time::{Duration, Instant};

use picopay_migrations::{Migration, Patience, all, apply};
use picopay_shared::query::Found;

use crate::test_shard::{TestShard, charge, eventually, is_completed, usd};

async fn not_ready_reason(shard: &TestShard) -> Option<String> {
    shard.node.status().await.ok()?.not_ready_reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_on_after_a_newer_migration_unless_that_asks_for_more() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let database = shard.cluster.connect_primary(0).await.unwrap();
    let newer = "INSERT INTO refinery_schema_history VALUES (900, 'newer', '', '0')";
    database.batch_execute(newer).await.unwrap();
    let node = shard.cluster.shard(0).node(0);
    node.stop().await.unwrap();
    node.start().await.unwrap();
    eventually("a charge by a node that was started after it", || async {
        let command = charge(user, usd("1"));
        shard.node.try_write(vec![command]).await.ok().filter(|reply| is_completed(&reply.outcomes[0]))
    })
    .await;

    database.batch_execute("UPDATE schema_version SET oldest_known = 900").await.unwrap();
    // Before the gate looks, the pool of the reads may have met it.
    eventually("the refusal", || async {
        not_ready_reason(&shard).await.filter(|reason| reason.contains("programs that know V900"))
    })
    .await;
    assert!(!is_completed(&shard.node.run(charge(user, usd("1"))).await));
    let read = shard.node.history(user).await.found;
    assert!(matches!(&read, Found::Unavailable { reason } if reason.contains("V900")), "{read:?}");
    assert!(shard.node.metric("picopay_node_ready").await < 0.5);

    database.batch_execute("UPDATE schema_version SET oldest_known = 5").await.unwrap();
    eventually("a charge", || async {
        is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
    })
    .await;
    assert!(matches!(shard.node.history(user).await.found, Found::History { .. }));
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_needs_more_than_is_there_says_what_to_run_and_serves_when_it_was() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let database = shard.cluster.connect_primary(0).await.unwrap();
    let older = "DROP TABLE schema_version; DELETE FROM refinery_schema_history WHERE version = 5";
    database.batch_execute(older).await.unwrap();
    eventually("the refusal", || async {
        not_ready_reason(&shard)
            .await
            .filter(|reason| reason.contains("V5") && reason.contains("picopay migrate"))
    })
    .await;
    assert!(!is_completed(&shard.node.run(charge(user, usd("1"))).await));
    let node = shard.cluster.shard(0).node(0);
    node.stop().await.unwrap();
    node.start().await.unwrap();
    let again = eventually("the same of a node that was just started", || not_ready_reason(&shard)).await;
    assert!(again.contains("picopay migrate") || again == "starting", "{again}");
    let count = "SELECT count(*) FROM refinery_schema_history WHERE version = 5";
    // A look of the keeper, and four of its tries, at each of which a node could migrate.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(database.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0, "a node migrates nothing");

    let watcher = shard.cluster.connect_primary(0).await.unwrap();
    apply(&database, &watcher, &all(), Patience::default(), &mut |_| {}).await.unwrap();
    eventually("a charge", || async {
        is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
    })
    .await;
    shard.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn charges_go_on_while_a_migration_waits_for_somebody_who_holds_a_table() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("1000")).await;
    let holder = shard.cluster.connect_primary(0).await.unwrap();
    holder.batch_execute("BEGIN; SELECT FROM transactions LIMIT 1").await.unwrap();
    let (client, watcher) =
        (shard.cluster.connect_primary(0).await.unwrap(), shard.cluster.connect_primary(0).await.unwrap());
    let migration = tokio::spawn(async move {
        let change = Migration::new("V900__change", "ALTER TABLE transactions ADD COLUMN more text");
        let migrations: Vec<Migration> = all().into_iter().chain([change]).collect();
        apply(&client, &watcher, &migrations, Patience::default(), &mut |_| {}).await
    });
    let (started, mut longest, mut charged) = (Instant::now(), Duration::ZERO, 0);
    while started.elapsed() < Duration::from_secs(6) {
        let began = Instant::now();
        let outcome = shard.node.run(charge(user, usd("0.01"))).await;
        assert!(is_completed(&outcome), "{outcome:?}");
        longest = longest.max(began.elapsed());
        charged += 1;
        // As a client that has other things to do; and the migration has to get at its lock.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!migration.is_finished(), "the table is held");
    assert!(longest > Duration::from_millis(200), "nothing waited, {longest:?}: is the test still one?");
    // One try is 500 ms; the rest is for a busy machine. No charge failed.
    assert!(longest < Duration::from_millis(1_100), "{longest:?}");
    assert!(charged > 100, "{charged}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(migration.await.unwrap().unwrap(), ["V900__change"]);
    eventually("a charge after it", || async {
        is_completed(&shard.node.run(charge(user, usd("1"))).await).then_some(())
    })
    .await;
    shard.stop().await;
}
