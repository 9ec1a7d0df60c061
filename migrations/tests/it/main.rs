//! What whoever applies migrations promises, on a real PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use picopay_local::{ClusterSpec, LocalCluster, eventually};
use picopay_migrations::{
    Migration, MigrationError, Patience, Progress, Schema, Unfit, all, apply, newest_known,
};
use tokio::time::sleep;
use tokio_postgres::Client;

struct Database {
    cluster: LocalCluster,
    client: Client,
    watcher: Client,
}

impl Database {
    async fn start() -> Self {
        let spec = ClusterSpec::one_shard().without_redis();
        let cluster = LocalCluster::start_databases(spec).await.unwrap();
        let (client, watcher) =
            (cluster.connect_primary(0).await.unwrap(), cluster.connect_primary(0).await.unwrap());
        Self { cluster, client, watcher }
    }

    async fn connect(&self) -> Client {
        self.cluster.connect_primary(0).await.unwrap()
    }

    async fn apply(&self, migrations: &[Migration]) -> Result<Vec<String>, MigrationError> {
        apply(&self.client, &self.watcher, migrations, Patience::default(), &mut |_| {}).await
    }

    async fn apply_with(&self, more: &[Migration]) -> Result<Vec<String>, MigrationError> {
        let mut migrations = all();
        migrations.extend_from_slice(more);
        self.apply(&migrations).await
    }

    async fn check(&self) -> Result<(), Unfit> {
        Schema::read(&self.client).await.unwrap().check()
    }

    async fn execute(&self, sql: &str) {
        self.watcher.batch_execute(sql).await.unwrap();
    }

    async fn count(&self, sql: &str) -> i64 {
        self.watcher.query_one(sql, &[]).await.unwrap().get(0)
    }
}

const PID: &str =
    // The migration that goes on until somebody ends it.
    "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%' AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_is_applied_once_and_says_who_may_serve() {
    let database = Database::start().await;
    assert_eq!(database.check().await, Err(Unfit::Empty));
    let names: Vec<String> = all().iter().map(ToString::to_string).collect();
    assert_eq!(database.apply(&all()[..4]).await.unwrap(), names[..4]);
    // As nodes of the release before find it, and leave it.
    assert_eq!(database.check().await, Err(Unfit::TooOld { missing: (5..=newest_known()).collect() }));
    assert_eq!(database.apply(&all()).await.unwrap(), names[4..]);
    assert_eq!(database.check().await, Ok(()));
    assert!(database.apply(&all()).await.unwrap().is_empty());

    // A newer program's migration is left alone, and this program serves on unless that says otherwise.
    let (newer, strict) = (
        Migration::new("V900__newer", "CREATE TABLE newer ()"),
        Migration::new("V901__strict", "-- oldest-known: 901\nCREATE TABLE strict ()"),
    );
    assert_eq!(database.apply_with(&[newer]).await.unwrap(), ["V900__newer"]);
    assert_eq!(database.check().await, Ok(()));
    assert!(database.apply(&all()).await.unwrap().is_empty(), "an older program migrates without an error");
    database.apply_with(&[strict]).await.unwrap();
    let too_new = Unfit::TooNew { oldest_known: 901, known: newest_known() };
    assert_eq!(database.check().await, Err(too_new));
    assert!(database.apply(&all()).await.unwrap().is_empty());

    let other = Migration::new("V900__newer", "CREATE TABLE other ()");
    let error = database.apply_with(&[other]).await.unwrap_err();
    assert!(matches!(error, MigrationError::Diverged(_)), "{error}");
    database.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_release_applied_is_known() {
    let mut database = Database::start().await;
    // As every node of it did at its start.
    let first = all()
        .into_iter()
        .take(4)
        .map(|migration| refinery::Migration::unapplied(&migration.to_string(), migration.sql()).unwrap());
    let first: Vec<refinery::Migration> = first.collect();
    refinery::Runner::new(&first).run_async(&mut database.client).await.unwrap();
    assert_eq!(
        database.apply(&all()).await.unwrap().first().map(String::as_str),
        Some("V5__schema_versions")
    );
    assert_eq!(database.check().await, Ok(()));
    database.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_takes_long_is_not_cut_off_by_a_limit_of_its_role() {
    let database = Database::start().await;
    database.execute("ALTER ROLE picopay SET statement_timeout = '500ms'; ALTER ROLE picopay SET lock_timeout = '100ms'").await;
    let client = database.connect().await;
    // Four times as long as the role's limit.
    let slow = Migration::new("V900__slow", "SELECT pg_sleep(2)");
    let migrations: Vec<Migration> = all().into_iter().chain([slow]).collect();
    let applied =
        apply(&client, &database.watcher, &migrations, Patience::default(), &mut |_| {}).await.unwrap();
    assert!(applied.contains(&"V900__slow".to_owned()));
    database.cluster.stop().await;
}

/// Interleavings: both find the same one missing; one of them is ended in the middle, by its machine or by an operator.
#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_apply_each_migration_once_and_a_killed_one_is_taken_up() {
    let database = Database::start().await;
    let (one, two) = (database.connect().await, database.connect().await);
    let with = |client| async {
        let client: Client = client;
        apply(&client, &database.watcher, &all(), Patience::default(), &mut |_| {}).await.unwrap()
    };
    let (first, second) = tokio::join!(with(one), with(two));
    assert_eq!(first.len() + second.len(), all().len());

    // Longer than this test takes, so that it is ended in the middle.
    let text = "CREATE TABLE half (); SELECT pg_sleep(300)";
    let victim = database.connect().await;
    let watcher = database.connect().await;
    let task = tokio::spawn(async move {
        let mut migrations = all();
        migrations.push(Migration::new("V900__half", text));
        apply(&victim, &watcher, &migrations, Patience::default(), &mut |_| {}).await
    });
    eventually("a migration under way", async || !database.watcher.query(PID, &[]).await.unwrap().is_empty())
        .await;
    let kill = format!("SELECT pg_terminate_backend(pid) FROM ({PID}) AS victim");
    database.execute(&kill).await;
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(error, MigrationError::Failed { .. }), "{error}");
    let started = Instant::now();
    let whole = Migration::new("V900__half", "CREATE TABLE half ()");
    assert_eq!(database.apply_with(&[whole]).await.unwrap(), ["V900__half"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    database.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_lock_is_asked_for_in_short_tries_and_writes_go_on_in_between() {
    let database = Database::start().await;
    database.apply(&all()).await.unwrap();
    database.execute("CREATE TABLE busy (n bigint)").await;
    let holder = database.connect().await;
    holder.batch_execute("SET application_name = 'report'; BEGIN; SELECT FROM busy").await.unwrap();

    let (is_over, longest_ms, write_count) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let writer = tokio::spawn({
        let (client, is_over) = (database.connect().await, Arc::clone(&is_over));
        let (longest_ms, write_count) = (Arc::clone(&longest_ms), Arc::clone(&write_count));
        async move {
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                client.execute("INSERT INTO busy VALUES (1)", &[]).await.unwrap();
                let took = i64::try_from(began.elapsed().as_millis()).unwrap();
                longest_ms.fetch_max(took, Ordering::Relaxed);
                write_count.fetch_add(1, Ordering::Relaxed);
                // As often as an application writes, and never too busy to leave the others a processor.
                sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let release = tokio::spawn(async move {
        // Longer than two tries and the pauses between them (2 s each) take.
        sleep(Duration::from_secs(5)).await;
        holder.batch_execute("ROLLBACK").await.unwrap();
    });
    let mut told = Vec::new();
    let change = Migration::new("V900__change", "ALTER TABLE busy ADD COLUMN more text");
    let migrations: Vec<Migration> = all().into_iter().chain([change]).collect();
    let started = Instant::now();
    let applied =
        apply(&database.client, &database.watcher, &migrations, Patience::default(), &mut |progress| {
            told.push(progress);
        })
        .await
        .unwrap();
    assert_eq!(applied, ["V900__change"]);
    assert!(started.elapsed() > Duration::from_secs(4), "it waited for the one who held the lock");
    release.await.unwrap();
    is_over.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    // One try is 500 ms; the rest is for a busy machine.
    let longest = longest_ms.load(Ordering::Relaxed);
    assert!((100..1_200).contains(&longest), "the longest write took {longest} ms");
    assert!(write_count.load(Ordering::Relaxed) > 100, "{write_count:?} write_count");
    let is_named = told.iter().any(|progress| match progress {
        Progress::Waiting { holders, .. } => holders.iter().any(|holder| holder.contains("report")),
        _ => false,
    });
    assert!(is_named, "{told:?}");

    // And when it is never released, it says who it is.
    let holder = database.connect().await;
    holder.batch_execute("SET application_name = 'report'; BEGIN; SELECT FROM busy").await.unwrap();
    let change = Migration::new("V901__change", "ALTER TABLE busy ADD COLUMN most text");
    let patience = Patience { locks: Duration::from_secs(2), ..Patience::default() };
    let migrations: Vec<Migration> = all().into_iter().chain([change]).collect();
    let error =
        apply(&database.client, &database.watcher, &migrations, patience, &mut |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("report"), "{error}");
    database.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_a_table_in_use_is_made_beside_it_and_a_broken_one_is_made_anew() {
    let database = Database::start().await;
    database.apply(&all()).await.unwrap();
    database.execute("CREATE TABLE busy (n bigint); INSERT INTO busy VALUES (1), (1)").await;
    let index = Migration::new(
        "V900__index",
        "-- oldest-known: 5\n-- no transaction\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS busy_by_n\n    ON busy (n);\n",
    );
    let error = database.apply_with(std::slice::from_ref(&index)).await.unwrap_err();
    assert!(matches!(error, MigrationError::Failed { .. }), "{error}");
    let broken = "SELECT count(*) FROM pg_index WHERE indexrelid = 'busy_by_n'::regclass AND NOT indisvalid";
    assert_eq!(database.count(broken).await, 1, "it left one that nobody can use");
    database.execute("DELETE FROM busy; INSERT INTO busy VALUES (1), (2)").await;
    assert_eq!(database.apply_with(&[index]).await.unwrap(), ["V900__index"]);
    assert_eq!(database.count(broken).await, 0);
    database.cluster.stop().await;
}
