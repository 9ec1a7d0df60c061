//! What a cluster promises of its PostgreSQL servers and its Redis.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use picopay_local::{ClusterSpec, Data, LocalCluster, LocalError, eventually};
use picopay_shared::cluster::Durability;

use crate::{start, text};

#[tokio::test]
async fn a_row_written_on_the_primary_appears_on_the_replica() {
    let cluster = start(ClusterSpec::one_shard()).await;
    let primary = cluster.connect_primary(0).await.unwrap();
    primary.batch_execute("CREATE TABLE letters AS SELECT 'a'::text AS letter").await.unwrap();

    let replica = cluster.connect_replica(0).await.unwrap();
    eventually("the row is on the replica", async || replica.query_one("TABLE letters", &[]).await.is_ok())
        .await;
    assert!(replica.batch_execute("INSERT INTO letters VALUES ('b')").await.is_err());
    cluster.stop().await;
}

#[tokio::test]
async fn the_services_role_owns_its_database_and_is_no_superuser() {
    let cluster = start(ClusterSpec::one_shard()).await;
    let primary = cluster.connect_primary(0).await.unwrap();
    assert_eq!(
        text(&primary, "SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user").await,
        "false"
    );
    assert_eq!(text(&primary, "SELECT pg_has_role('pg_monitor', 'MEMBER')::text").await, "true");
    let may_skip_checks = "SELECT has_parameter_privilege('session_replication_role', 'SET')::text";
    assert_eq!(text(&primary, may_skip_checks).await, "true");
    primary.batch_execute("CREATE TABLE mine ()").await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_replicated_commit_waits_for_the_replica_and_a_local_one_does_not() {
    let shard = ClusterSpec::one_shard();
    let (replicated, local) =
        tokio::join!(start(shard.clone()), start(shard.with_durability(Durability::Local)));
    for (cluster, is_replicated) in [(replicated, true), (local, false)] {
        let primary = cluster.connect_primary(0).await.unwrap();
        cluster.shard(0).replica().freeze();
        let commit = primary.batch_execute("CREATE TABLE acknowledged ()");
        let answered = tokio::time::timeout(Duration::from_secs(1), commit).await.is_ok();
        assert_eq!(answered, !is_replicated);
        cluster.shard(0).replica().thaw();
        let superuser = cluster.connect_as_superuser(0).await.unwrap();
        // It becomes visible once its wait is over.
        eventually("what was committed is there", async || {
            superuser.query_one("SELECT count(*) FROM acknowledged", &[]).await.is_ok()
        })
        .await;
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_server_whose_disk_is_full_writes_no_more_until_there_is_room() {
    let cluster = start(ClusterSpec::one_shard()).await;
    let (primary, replica) = (cluster.connect_primary(0).await.unwrap(), cluster.shard(0).replica());
    // The first quarter megabyte of each WAL file can be written as before.
    let some_log = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 512 * 1024))";
    primary.batch_execute(some_log).await.unwrap();
    replica.fill_disk().unwrap();
    let commit = primary.batch_execute("CREATE TABLE acknowledged ()");
    let answered = tokio::time::timeout(Duration::from_secs(1), commit).await;
    assert!(answered.is_err(), "the replica cannot have it: {answered:?}");
    assert!(replica.log_tail(100).contains("File too large"), "{}", replica.log_tail(15));

    replica.free_disk().unwrap();
    replica.kill().await.unwrap();
    replica.start().await.unwrap();
    let client = cluster.connect_primary(0).await.unwrap();
    client.batch_execute("CREATE TABLE replicated ()").await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_killed_primary_comes_back_with_what_it_acknowledged() {
    let cluster = start(ClusterSpec::one_shard()).await;
    let primary = cluster.shard(0).primary();
    let before = (primary.pid(), cluster.shard(0).primary_port());
    let client = cluster.connect_primary(0).await.unwrap();
    client.batch_execute("CREATE TABLE letters AS SELECT 'a'::text AS letter").await.unwrap();

    primary.kill().await.unwrap();
    assert!(!primary.is_running() && primary.died().is_none(), "it was asked to end");
    assert!(client.batch_execute("SELECT 1").await.is_err());
    primary.start().await.unwrap();

    let client = cluster.connect_primary(0).await.unwrap();
    assert_eq!(text(&client, "TABLE letters").await, "a");
    assert_ne!(primary.pid(), before.0);
    // The replica finds it again: otherwise no commit would come back.
    client.batch_execute("INSERT INTO letters VALUES ('b')").await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_frozen_primary_keeps_its_connections_and_answers_when_it_is_thawed() {
    let cluster = start(ClusterSpec::one_shard()).await;
    let client = cluster.connect_primary(0).await.unwrap();
    let primary = cluster.shard(0).primary();
    primary.freeze();
    let silent = tokio::time::timeout(Duration::from_millis(300), client.batch_execute("SELECT 1")).await;
    assert!(silent.is_err() && primary.is_running());
    primary.thaw();
    client.batch_execute("SELECT 1").await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_restarted_redis_is_on_its_port_again_and_empty() {
    let cluster = start(ClusterSpec::one_shard()).await;
    let (redis, url) = (cluster.redis(), cluster.redis_url());
    assert_eq!(redis_says(&url, "SET letter a").await, "+OK");
    assert_eq!(redis_says(&url, "GET letter").await, "$1");
    redis.kill().await.unwrap();
    redis.start().await.unwrap();
    assert_eq!(redis_says(&url, "GET letter").await, "$-1");
    cluster.stop().await;
}

async fn redis_says(url: &str, command: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(url.strip_prefix("redis://").unwrap()).await.unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn two_clusters_run_side_by_side_and_share_nothing() {
    let shard = ClusterSpec::one_shard();
    let (one, other) = tokio::join!(start(shard.clone()), start(shard));
    assert_ne!(one.folder(), other.folder());
    one.connect_primary(0).await.unwrap().batch_execute("CREATE TABLE letters ()").await.unwrap();
    for client in [other.connect_primary(0).await.unwrap(), other.connect_replica(0).await.unwrap()] {
        assert_eq!(text(&client, "SELECT (to_regclass('letters') IS NULL)::text").await, "true");
    }
    // Not even a password, though both may be copies of one template: nobody connects to the wrong one by mistake.
    for (role, file) in [("postgres", "superuser"), ("picopay", "picopay"), ("replicator", "replicator")] {
        let password = |of: &LocalCluster| {
            std::fs::read_to_string(of.folder().join("secrets").join(file)).unwrap().trim().to_owned()
        };
        for (password, is_right) in [(password(&other), true), (password(&one), false)] {
            let port = other.shard(0).primary_port();
            let config = format!("host=127.0.0.1 port={port} user={role} password={password} dbname=picopay");
            let connected = tokio_postgres::connect(&config, tokio_postgres::NoTls).await;
            assert_eq!(connected.is_ok(), is_right, "{role}");
        }
    }
    tokio::join!(one.stop(), other.stop());
}

#[tokio::test]
async fn no_two_shards_of_a_cluster_are_copies_of_one_server() {
    let cluster = start(ClusterSpec::default()).await;
    let identifier = "SELECT system_identifier::text FROM pg_control_system()";
    let mut seen = std::collections::HashSet::new();
    for shard in cluster.shards() {
        let primary = shard.connect_as_superuser().await.unwrap();
        let replica = shard.connect_replica_as_superuser().await.unwrap();
        let its = text(&primary, identifier).await;
        assert_eq!(its, text(&replica, identifier).await);
        assert!(seen.insert(its), "`picopay init` takes the two for one database");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn kept_data_is_there_at_the_next_start_and_gone_with_fresh() {
    let folder = tempfile::tempdir().unwrap();
    let kept = ClusterSpec::one_shard().kept_in(folder.path().join("kept"));
    let cluster = start(kept.clone()).await;
    let client = cluster.connect_primary(0).await.unwrap();
    client.batch_execute("CREATE TABLE letters AS SELECT 'a'::text AS letter").await.unwrap();
    cluster.stop().await;

    let cluster = start(kept.clone()).await;
    assert_eq!(text(&cluster.connect_primary(0).await.unwrap(), "TABLE letters").await, "a");
    let error = LocalCluster::start_databases(kept.clone()).await.unwrap_err();
    let this = std::process::id().to_string();
    assert!(matches!(&error, LocalError::AlreadyRunning { pid, .. } if *pid == this), "{error}");
    cluster.stop().await;

    let more = LocalCluster::start_databases(kept.clone().with_shards(2)).await.unwrap_err().to_string();
    assert!(more.contains("1 shards") && more.contains("--fresh"), "{more}");

    let Data::Kept { folder, .. } = kept.data.clone() else { unreachable!() };
    let fresh = ClusterSpec { data: Data::Kept { folder, is_fresh: true }, ..kept };
    let cluster = start(fresh).await;
    let client = cluster.connect_primary(0).await.unwrap();
    assert!(client.query_one("TABLE letters", &[]).await.is_err());
    cluster.stop().await;
}

#[tokio::test]
async fn a_folder_with_other_things_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious");
    std::fs::write(&precious, "").unwrap();
    let data = Data::Kept { folder: folder.path().to_owned(), is_fresh: true };
    let spec = ClusterSpec { data, ..ClusterSpec::one_shard() };
    let message = LocalCluster::start_databases(spec).await.unwrap_err().to_string();
    assert!(message.contains("other things") && precious.exists(), "{message}");
}

#[tokio::test]
async fn a_busy_port_of_the_gateway_is_named_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = ClusterSpec { gateway_listen: Some(taken.local_addr().unwrap()), ..ClusterSpec::one_shard() };
    let message = LocalCluster::start_databases(spec).await.unwrap_err().to_string();
    assert!(message.contains(&taken.local_addr().unwrap().to_string()), "{message}");
    assert!(message.contains("PICOPAY_GATEWAY__LISTEN"), "{message}");
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_file() {
    let place = tempfile::tempdir().unwrap();
    // Otherwise PostgreSQL's user could not pass, and the cluster would go elsewhere.
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let example = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/cluster");
    let mut command = std::process::Command::new(example);
    command.env("TMPDIR", place.path()).env("PICOPAY_PG_BIN", "/nowhere").arg("databases");
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("PICOPAY_PG_BIN=/nowhere"), "{message}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn servers_role_and_database_begin_with_what_was_asked_for_after_a_failover_too() {
    let spec = ClusterSpec::one_shard()
        .with_server_setting("deadlock_timeout", "7s")
        .with_founding_sql("CREATE SCHEMA odd AUTHORIZATION picopay")
        .with_role_setting("DateStyle", "'German'")
        .with_role_setting("search_path", "odd, public")
        .with_database_setting("TimeZone", "'Pacific/Kiritimati'");
    let cluster = start(spec).await;
    for is_after_failover in [false, true] {
        let client = cluster.connect_primary(0).await.unwrap();
        let settings = "SELECT concat_ws('; ', current_setting('DateStyle'), current_schemas(false)::text, \
                        current_setting('TimeZone'), current_setting('deadlock_timeout'))";
        assert_eq!(
            text(&client, settings).await,
            "German, DMY; {odd,public}; Pacific/Kiritimati; 7s",
            "{is_after_failover}"
        );
        if !is_after_failover {
            cluster.shard(0).primary().kill().await.unwrap();
            cluster.failover(0).await.unwrap();
        }
    }
    cluster.stop().await;
}
