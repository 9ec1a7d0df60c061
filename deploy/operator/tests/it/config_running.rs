//! `config check --against-running` says which entries a process has not taken, and what it refuses.

use std::path::{Path, PathBuf};

use picopay_local::{ClusterSpec, LocalCluster, eventually};
use serde_json::Value;

use crate::command::{Said, picopay, run};

/// A `cluster.toml` of the test's own, which no process watches, with the secrets of the running one.
struct Candidate {
    folder: tempfile::TempDir,
    text: String,
}

impl Candidate {
    fn of(cluster: &LocalCluster) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), text: cluster.cluster_toml() }
    }

    fn file(&self, text: &str) -> PathBuf {
        let file = self.folder.path().join("cluster.toml");
        std::fs::write(&file, text).unwrap();
        file
    }
}

async fn compare(file: &Path, gateway: &str, format: &str) -> Said {
    let mut command = picopay(file, ["config", "check", "--against-running", "--output", format]);
    command.args(["--gateway-url", gateway]);
    run(command).await
}

fn line<'a>(report: &'a Value, process: &str, shard: Option<&str>) -> &'a Value {
    let lines = report["running"].as_array().unwrap();
    let is_it = |line: &&Value| line["process"] == process && line["shard"].as_str() == shard;
    lines.iter().find(is_it).unwrap_or_else(|| panic!("{process} {shard:?} in {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_process_has_not_taken_is_named_without_any_secret() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let gateway = cluster.gateway_url();
    let candidate = Candidate::of(&cluster);

    let said = compare(&candidate.file(&candidate.text), &gateway, "json").await.success();
    assert_eq!((&said.json()["is_good"], &said.json()["would_change"]), (&true.into(), &false.into()));
    let said = compare(&candidate.file(&candidate.text), &gateway, "table").await.success();
    assert!(said.out.contains("Everybody has taken the file."), "{}", said.out);

    // A third shard, another Redis for the second, and a password of the first that is given in place.
    let port = cluster.redis_url().rsplit(':').next().unwrap().to_owned();
    let redis = format!("redis = \"redis://127.0.0.1:{port}\"");
    let (first, second) = candidate.text.split_at(candidate.text.rfind("[[shards]]").unwrap());
    let first = first.replace("durability = \"replicated\"", "durability = \"local\"");
    let second = second.replace(&redis, "redis = \"redis://:s3cret@10.9.9.9:6379\"");
    let third =
        "\n[[shards]]\nname = \"shard-3\"\nnodes = [\"http://127.0.0.1:9\"]\nprimary = \"host=10.9.9.8\"\n";
    let changed = candidate.file(&format!("{first}{second}{third}"));
    let said = compare(&changed, &gateway, "json").await;
    assert_eq!(said.code, Some(3), "{said:?}");
    let report = said.json();
    assert_eq!((&report["is_good"], &report["would_change"]), (&true.into(), &true.into()));
    for (process, shard, entry) in [
        ("gateway", None, "shard-3"),
        ("node", Some("shard-1"), "shard-1.durability"),
        ("node", Some("shard-2"), "shard-2.redis"),
    ] {
        assert_eq!(line(&report, process, shard)["differs"], serde_json::json!([entry]), "{report}");
    }
    assert_eq!(
        line(&report, "node", Some("shard-3"))["is_told"],
        false,
        "it is not there, which is no problem yet"
    );
    assert!(!said.out.contains("s3cret"), "{}", said.out);

    // The first shard goes away: the gateway would take that over, its node would not.
    let only_second = candidate.text.split("[[shards]]").enumerate().filter(|(number, _)| *number != 1);
    let only_second: Vec<&str> = only_second.map(|(_, part)| part).collect();
    let said = compare(&candidate.file(&only_second.join("[[shards]]")), &gateway, "table").await;
    assert_eq!(said.code, Some(1), "{said:?}");
    for needle in ["shard-1", "it would refuse the file"] {
        assert!(said.out.contains(needle), "{needle} in {}", said.out);
    }

    // With another internal secret nothing else is reported.
    let secret = format!("internal_secret_file = \"{}/secrets/internal\"", cluster.folder().display());
    let said = compare(
        &candidate
            .file(&candidate.text.replace(&secret, "internal_secret = \"another-secret-of-32-characters-\"")),
        &gateway,
        "json",
    )
    .await;
    assert_eq!(said.code, Some(3), "{said:?}");
    assert_eq!(line(&said.json(), "gateway", None)["differs"][0], "internal_secret");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_gone_or_refuses_its_file_is_a_problem() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let gateway = cluster.gateway_url();
    let candidate = Candidate::of(&cluster);
    let good = candidate.file(&candidate.text);

    std::fs::write(cluster.cluster_file(), "shards = = 1").unwrap();
    let said = eventually("a file that both refuse", async || {
        let said = compare(&good, &gateway, "json").await;
        let report = said.json();
        let refused = |process: &str, shard| {
            let reason = line(&report, process, shard)["refused"]["reason"].as_str();
            reason.is_some_and(|why| why.contains("line 1"))
        };
        let is_refused = refused("gateway", None) && refused("node", Some("shard-1"));
        if is_refused { Ok(said) } else { Err(format!("{said:?}")) }
    })
    .await;
    assert_eq!(said.code, Some(1), "{said:?}");

    cluster.shard(0).node(0).kill().await.unwrap();
    let said = compare(&good, &gateway, "table").await;
    assert!(said.code == Some(1) && said.out.contains("refused"), "{said:?}");
    let unreachable = compare(&good, "http://127.0.0.1:1", "json").await;
    assert_eq!(unreachable.code, Some(1), "{unreachable:?}");
    assert!(line(&unreachable.json(), "gateway", None)["problem"].as_str().unwrap().contains("refused"));
    cluster.stop().await;
}
