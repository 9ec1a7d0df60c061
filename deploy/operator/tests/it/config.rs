//! Wrong configuration is found before a service finds it, all of it at once, and no secret is shown.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::command::{Said, picopay, run};

struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn check(&self, format: &str) -> Said {
        check(&self.path("cluster.toml"), format).await
    }
}

async fn check(cluster: &Path, format: &str) -> Said {
    run(picopay(cluster, ["config", "check", "--output", format])).await
}

const CLUSTER: &str = r#"
internal_secret = "internal-s3cret-internal-s3cret-"
[[shards]]
name = "shard-1"
nodes = ["http://10.0.0.1:7100"]
primary = "postgresql://picopay:url-s3cret@10.0.0.2,10.0.0.3:5433/picopay"
replicas = ["host=10.0.0.3 dbname=other user=picopay"]
password = "s3cret"
redis = "redis://:redis-s3cret@10.0.0.4:6379"
"#;

const GATEWAY: &str = r#"
listen = "0.0.0.0:8080"
public_url = "https://pay.example"
[[keys]]
name = "shop"
digest = "sha256:abababababababababababababababababababababababababababababababab"
scopes = ["write", "read"]
rate_per_second = 7
"#;

const NODE: &str = "shard = \"shard-1\"\nlisten = \"0.0.0.0:7100\"\n";

#[tokio::test]
async fn good_files_are_summed_up_without_their_secrets() {
    let files =
        Files::new(&[("cluster.toml", CLUSTER), ("gateway.toml", GATEWAY), ("shard-1-node-1.toml", NODE)]);
    for format in ["table", "json"] {
        let said = files.check(format).await.success();
        for needle in
            ["10.0.0.2:5432", "10.0.0.3:5433", "10.0.0.4:6379", "replicated", "pay.example", "shop", "7"]
        {
            assert!(said.out.contains(needle), "{needle} in {said:?}");
        }
        assert!(!format!("{said:?}").contains("s3cret") && !said.out.contains("abab"), "{said:?}");
    }
    let id = "0192f7a0-5c3e-7c11-9a55-0d2f6f1f2a3b";
    let named = format!("cluster_id = {id:?}\n{CLUSTER}");
    assert!(files.check("table").await.out.contains("no cluster_id"));
    let said = Files::new(&[("cluster.toml", &named)]).check("json").await.success();
    assert_eq!(said.json()["cluster_id"], id);
}

#[tokio::test]
async fn primary_and_replica_may_name_the_same_servers_whose_roles_change() {
    let both = CLUSTER
        .replace("10.0.0.2,10.0.0.3:5433", "10.0.0.2,10.0.0.3")
        .replace("host=10.0.0.3 dbname=other", "host=10.0.0.3,10.0.0.2 dbname=picopay");
    Files::new(&[("cluster.toml", &both)]).check("table").await.success();
    let one = both.replace("host=10.0.0.3,10.0.0.2", "host=10.0.0.2");
    let said = Files::new(&[("cluster.toml", &one)]).check("table").await;
    assert!(said.code == Some(1) && said.out.contains("leads to 10.0.0.2:5432/picopay"), "{said:?}");
}

#[tokio::test]
async fn every_problem_of_every_file_is_named_at_once() {
    let gateway = GATEWAY.replace("\"write\"", "\"everything\"").replace("sha256:", "md5:");
    let node = NODE.replace("shard-1", "shard-9");
    let shared = CLUSTER
        .replace("10.0.0.2,10.0.0.3:5433", "10.0.0.2")
        .replace("10.0.0.3", "10.0.0.2")
        .replace("dbname=other", "dbname=picopay");
    let unquoted = CLUSTER.replace("host=10.0.0.3", "host=10.0.0.3 password=my s3cret=x");
    let unreadable = CLUSTER.replace("host=10.0.0.3", "hots=10.0.0.3");
    for (cluster, needles) in [
        (
            shared.as_str(),
            vec!["replicas[0]: leads to 10.0.0.2:5432/picopay, as does", "no shard \"shard-9\""],
        ),
        (unreadable.as_str(), vec!["replicas[0]", "hots"]),
        (unquoted.as_str(), vec!["replicas[0]", "single quotes"]),
        ("shards = []", vec!["internal_secret", "there is no [[shards]] entry"]),
        ("shards = = 1", vec!["cluster.toml", "line 1"]),
    ] {
        let files =
            Files::new(&[("cluster.toml", cluster), ("gateway.toml", &gateway), ("node.toml", &node)]);
        let said = files.check("table").await;
        assert_eq!(said.code, Some(1), "{said:?}");
        for needle in needles.iter().chain(&["gateway.toml", "everything", "digest must look like"]) {
            assert!(said.out.contains(needle), "{needle} in {}", said.out);
        }
        assert!(!format!("{said:?}").contains("s3cret"), "{said:?}");
    }
}

#[tokio::test]
async fn files_that_are_named_are_checked_wherever_they_are() {
    let files = Files::new(&[("cluster.toml", CLUSTER)]);
    let elsewhere = Files::new(&[("mine.toml", "listen = 8080")]);
    let alone = files.check("table").await.success();
    assert!(alone.out.contains("No file of a gateway or a node was given"), "{}", alone.out);
    for option in ["--gateway", "--node"] {
        for (file, needle) in [("mine.toml", "mine.toml"), ("missing.toml", "missing.toml")] {
            let mut command = picopay(&files.path("cluster.toml"), ["config", "check"]);
            command.arg(option).arg(elsewhere.path(file));
            let said = run(command).await;
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.out.contains(needle), "{}", said.out);
        }
    }
}
