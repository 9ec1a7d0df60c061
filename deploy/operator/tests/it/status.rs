//! Whatever is down is shown as down, the rest is shown all the same, and the answer comes soon.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use picopay_local::{ClusterSpec, LocalCluster, eventually_within};
use picopay_shared::node_status::WIRE_VERSION;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::bare_databases::BareDatabases;
use crate::command::{Said, picopay, run};

/// Two seconds for a connect, one for each of a few statements, and room for a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// How long parts may take to come back, and a replica to catch up.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

async fn status(file: &Path) -> Said {
    run(picopay(file, ["status", "--output", "json"])).await
}

async fn all_well(file: &Path) -> Value {
    eventually_within(RECOVERY_MAX, "a cluster that is well", async || {
        let said = status(file).await;
        if said.code == Some(0) { Ok(said.json()) } else { Err(format!("{said:?}")) }
    })
    .await
}

async fn not_well(file: &Path, needles: &[&str]) -> Value {
    let started = Instant::now();
    let said = status(file).await;
    assert!(started.elapsed() < ANSWER_MAX, "{:?}", started.elapsed());
    assert_eq!(said.code, Some(1), "{said:?}");
    let report = said.json();
    assert_eq!(report["is_well"], false);
    let problems: Vec<_> = report["problems"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let problems = problems.join("\n");
    for needle in needles {
        assert!(problems.contains(needle), "{needle:?} in {problems}");
    }
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_down_is_named_and_the_rest_is_shown() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let file = cluster.cluster_file();

    let report = all_well(&file).await;
    assert_eq!(report["slots"]["owned_once"], 4096);
    let shard = &report["shards"][0];
    assert_eq!(shard["slots"]["count"], 2048);
    assert_eq!(shard["primary"]["standbys"][0]["sync_state"], "sync");
    assert_eq!(shard["nodes"][0]["is_ready"], true);
    assert_eq!(shard["nodes"][0]["wire"], WIRE_VERSION);
    assert_eq!(shard["redis"]["is_up"], true);
    // Read once more, since a first look may meet the last row of the start on its way.
    assert!(shard["replicas"][0]["lag_ms"].as_u64().unwrap() <= 1_000);
    assert!(shard["replicas"][0]["lag_bytes"].is_u64());
    let table = run(picopay(&file, ["status"])).await.success();
    assert!(table.out.contains(&format!("1/1 ready, wire {WIRE_VERSION}")), "{}", table.out);
    assert!(table.out.contains("All is well.") && !table.out.contains('\u{1b}'), "{}", table.out);

    cluster.redis().kill().await.unwrap();
    cluster.shard(1).node(0).kill().await.unwrap();
    let report = not_well(&file, &["redis", "node of shard-2"]).await;
    assert_eq!(report["shards"][0]["redis"]["is_up"], false);
    assert_eq!(report["shards"][1]["nodes"][0]["is_up"], false);
    assert_eq!(report["shards"][1]["primary"]["is_up"], true);

    cluster.shard(0).replica().kill().await.unwrap();
    let report = not_well(&file, &["replica of shard-1", "no synchronous standby"]).await;
    assert_eq!(report["shards"][0]["replicas"][0]["is_up"], false);

    cluster.shard(1).primary().freeze();
    let report = not_well(&file, &["primary of shard-2"]).await;
    assert_eq!(report["shards"][1]["slots"]["source"], "replica");
    assert_eq!(report["slots"]["owned_once"], 4096);

    cluster.shard(1).replica().freeze();
    cluster.shard(0).primary().freeze();
    cluster.shard(0).node(0).freeze();
    let report = not_well(&file, &["4096 slots are owned by no shard that answers", "cannot say"]).await;
    assert_eq!(report["shards"][1]["slots"], Value::Null);

    for shard in cluster.shards() {
        shard.primary().thaw();
    }
    cluster.shard(1).replica().thaw();
    cluster.shard(0).node(0).thaw();
    cluster.redis().start().await.unwrap();
    cluster.shard(0).replica().start().await.unwrap();
    cluster.shard(1).node(0).start().await.unwrap();
    all_well(&file).await;

    slots_and_identities_are_judged(&cluster, &file).await;
    cluster.stop().await;
}

async fn slots_and_identities_are_judged(cluster: &LocalCluster, file: &Path) {
    let client = cluster.connect_as_superuser(0).await.unwrap();
    for (change, back, needle) in [
        (
            "DELETE FROM slot_owner WHERE slot BETWEEN 3 AND 5",
            "INSERT INTO slot_owner SELECT n, 'owned', 'shard-1', 1 FROM generate_series(3, 5) n",
            "3 slots are owned by no shard that answers (3–5)",
        ),
        (
            "INSERT INTO slot_owner VALUES (4000, 'owned', 'shard-1', 9)",
            "DELETE FROM slot_owner WHERE slot = 4000",
            "1 slots are owned by more than one shard (4000)",
        ),
        (
            "UPDATE shard_identity SET cluster_id = gen_random_uuid()",
            "UPDATE shard_identity SET cluster_id = '00000000-0000-0000-0000-000000000000'",
            "different clusters",
        ),
        (
            "UPDATE shard_identity SET shard_name = 'shard-2'",
            "UPDATE shard_identity SET shard_name = 'shard-1'",
            "says that it is \"shard-2\"",
        ),
    ] {
        client.batch_execute(change).await.unwrap();
        not_well(file, &[needle]).await;
        client.batch_execute(back).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_init_status_says_what_to_do() {
    let bare = BareDatabases::start(1).await;
    bare.describe(&[("shard-1", 0)]);
    let BareDatabases { cluster, file, .. } = bare;
    not_well(&file, &["run `picopay init`"]).await;
    run(picopay(&file, ["verify"])).await.failure("run `picopay init`");

    let migrated = run(picopay(&file, ["migrate", "--output", "json"])).await.success().json();
    assert_eq!(migrated["shards"][0]["applied"][0], "V1__ledger");
    let again =
        run(picopay(&file, ["migrate", "--shard", "shard-1", "--output", "json"])).await.success().json();
    assert_eq!(again["shards"][0]["applied"].as_array().unwrap().len(), 0);
    run(picopay(&file, ["migrate", "--shard", "shard-9"])).await.failure("names shard-1");
    not_well(&file, &["run `picopay init`"]).await;
    a_migration_says_what_it_waits_for(&cluster, &file).await;
    cluster.stop().await;
}

/// V4 waits for whoever works on one of its tables, as VACUUM does.
async fn a_migration_says_what_it_waits_for(cluster: &LocalCluster, file: &Path) {
    let client = cluster.connect_primary(0).await.unwrap();
    client.batch_execute("DELETE FROM refinery_schema_history WHERE version = 4").await.unwrap();
    let lock = "SET application_name = 'clerk'; BEGIN; LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE";
    client.batch_execute(lock).await.unwrap();
    let said = run(picopay(file, ["migrate", "--wait", "1"])).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("V4__short_analyze waits for process") && said.err.contains("clerk"),
        "{said:?}"
    );
    assert!(said.out.contains("clerk"), "{said:?}");
    let mut migrate = picopay(file, ["migrate", "--output", "json"]);
    let mut migrate = migrate.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(migrate.stderr.take().unwrap()).lines();
    // It says so while it waits, and goes on when the clerk is done.
    while !told.next_line().await.unwrap().expect("a word of the clerk").contains("clerk") {}
    client.batch_execute("ROLLBACK").await.unwrap();
    let output = migrate.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["shards"][0]["applied"], serde_json::json!(["V4__short_analyze"]));
}

#[tokio::test]
async fn a_missing_cluster_file_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::command::bare_picopay(["status"]);
    command.current_dir(folder.path());
    run(command).await.failure("--cluster");
    let missing = folder.path().join("nowhere.toml");
    run(picopay(&missing, ["status"])).await.failure("nowhere.toml");
}
