//! The load test against what it is made for: a whole cluster of real processes, and the proof of what was acknowledged.

use std::process::Command;

use picopay_local::{ClusterSpec, LocalCluster, programs};

fn run(program: &mut Command) -> (bool, String) {
    let output = program.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_under_load_is_in_the_ledger_once() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let acks = folder.path().join("acks.jsonl");
    let report = folder.path().join("report");
    let picopay = |program: &str, command: &str| {
        let mut program = Command::new(programs::find_picopay(program).unwrap());
        program.args([command, "--url", &cluster.gateway_url(), "--api-key", cluster.api_key()]);
        program
    };

    let (is_right, said) = run(&mut picopay("picopay-proofs", "smoke"));
    assert!(is_right, "{said}");
    assert_eq!(said.matches("ok    ").count(), 19, "{said}");

    let mut load = picopay("picopay-loadtest", "run");
    load.args(["--users", "200", "--connections", "32", "--warmup", "0", "--duration", "5"]);
    load.args(["--duplicates", "0.3", "--refunds", "0.1", "--topups", "0.1", "--hot-share", "0.2"]);
    load.args(["--history", "0.1", "--balance-reads", "0.1", "--holds", "0.2"]);
    load.arg("--acks").arg(&acks).arg("--report").arg(&report).arg("--cluster").arg(cluster.cluster_file());
    let (is_right, said) = run(&mut load);
    assert!(is_right, "{said}");

    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(report.join("report.json")).unwrap()).unwrap();
    let at = |pointer: &str| json.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {json}")).clone();
    for pointer in ["/unequal_replays", "/unexpected_replays", "/wrong_answers"] {
        assert_eq!(at(pointer), 0, "{pointer}");
    }
    assert_eq!((at("/shards/0/name"), at("/shards/1/name")), ("shard-1".into(), "shard-2".into()));
    assert_eq!(at("/durability/shard-1/fsync"), "on");
    for shard in ["shard-1", "shard-2"] {
        let standby = at(&format!("/durability/{shard}/synchronous_standby_names"));
        assert!(
            standby.as_str().is_some_and(|names| !names.is_empty()),
            "{shard} has no synchronous standby"
        );
    }
    let kinds: Vec<String> = json["kinds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| kind["name"].as_str().unwrap().to_owned())
        .collect();
    let all = ["charge", "replay", "refund", "topup", "hold", "capture", "void", "balance", "history"];
    assert_eq!(kinds, all);

    // The same in batches, all writes, into the same file.
    let mut load = picopay("picopay-loadtest", "run");
    load.args(["--users", "200", "--connections", "4", "--warmup", "0", "--duration", "3", "--skip-funding"]);
    load.args([
        "--batch",
        "50",
        "--duplicates",
        "0.3",
        "--refunds",
        "0.1",
        "--topups",
        "0.1",
        "--holds",
        "0.2",
    ]);
    load.arg("--acks").arg(&acks);
    let (is_right, said) = run(&mut load);
    assert!(is_right, "{said}");

    // Refunds and charges that were answered, and 200 top-ups before them.
    let lines = std::fs::read_to_string(&acks).unwrap().lines().count();
    assert!(lines > 300, "{lines}");
    let mut verify = Command::new(programs::find_picopay("picopay").unwrap());
    verify.arg("verify").arg("--cluster").arg(cluster.cluster_file()).arg("--acks").arg(&acks);
    let (is_right, said) = run(&mut verify);
    assert!(is_right, "{said}");
    cluster.stop().await;
}
