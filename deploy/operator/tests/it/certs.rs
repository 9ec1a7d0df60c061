//! Certificates that an operator makes, and a cluster over TLS as its operator sees it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use picopay_local::{ClusterSpec, LocalCluster};
use picopay_tls::{Authorities, Identity};

use crate::command::{bare_picopay, picopay, run};

#[tokio::test]
async fn an_authority_and_its_certificates_are_made_once_and_renewed_only_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let command = |words: &[&str]| {
        let mut command = bare_picopay(["certs", words[0]]);
        command.arg(&certs).args(&words[1..]);
        run(command)
    };
    command(&["issue", "node-1"]).await.failure("there is no authority to sign with");
    let parts = ["create", "--part", "node-1=10.0.0.1,node-1.internal", "--part", "caller"];
    let said = command(&parts).await.success();
    assert!(said.out.contains("node-1.pem: CN=node-1, for 90 days: 10.0.0.1, node-1.internal"), "{said:?}");
    assert!(said.out.contains("it only calls"), "{said:?}");
    let read =
        |name: &str| Identity::read(&certs.join(format!("{name}.pem")), &certs.join(format!("{name}.key")));
    Authorities::read(&certs.join("ca.pem")).unwrap();
    let first = read("node-1").unwrap();
    assert_eq!((first.subject(), read("caller").unwrap().subject()), ("CN=node-1", "CN=caller"));
    for file in ["ca.key", "node-1.key", "caller.key"] {
        assert_eq!(
            std::fs::metadata(certs.join(file)).unwrap().permissions().mode() & 0o777,
            0o600,
            "{file}"
        );
    }
    command(&parts).await.failure("is there already, and nothing was changed");
    command(&["issue", "node-1=10.0.0.9"]).await.failure("--renew");
    assert_eq!(read("node-1").unwrap(), first);
    command(&["issue", "node-2=10.0.0.2", "--days", "7"]).await.success();
    command(&["issue", "node-1=10.0.0.1", "--renew"]).await.success();
    assert_ne!(read("node-1").unwrap(), first);
    let refused = command(&["issue", "../node"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
}

#[tokio::test]
async fn an_operator_works_on_a_cluster_over_tls_as_on_any_and_hears_why_he_cannot() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard().with_tls()).await.unwrap();
    let file = cluster.cluster_file();
    let said = run(picopay(&file, ["status", "--output", "json"])).await.success().json();
    assert_eq!(said["shards"][0]["redis"]["error"], serde_json::Value::Null, "{said}");
    run(picopay(&file, ["verify"])).await.success();
    run(picopay(&file, ["config", "check", "--gateway-url", &cluster.gateway_url(), "--against-running"]))
        .await
        .success();

    let good = std::fs::read_to_string(&file).unwrap();
    let certs = cluster.authority_file().unwrap();
    let certs = certs.parent().unwrap();
    let changed = |from: &str, to: &str| {
        let other = cluster.folder().join("other.toml");
        assert!(good.contains(from), "{from} in {good}");
        std::fs::write(&other, good.replace(from, to)).unwrap();
        other
    };
    let path = |name: &str| certs.join(name).display().to_string();
    let anybody = changed("sslmode=verify-full", "sslmode=prefer");
    run(picopay(&anybody, ["status"])).await.failure("goes on without TLS");
    let missing = changed(&path("caller.pem"), "/nowhere/caller.pem");
    run(picopay(&missing, ["status"])).await.failure("/nowhere/caller.pem: cannot be read");
    let unfit = changed(&path("caller.key"), &path("node.key"));
    run(picopay(&unfit, ["status"])).await.failure("does not fit the first certificate");
    // Left out, the rest of the file still stands: the node says what it wants.
    let lines =
        good.lines().filter(|line| !["cert_file", "key_file"].iter().any(|key| line.starts_with(key)));
    let anonymous = cluster.folder().join("anonymous.toml");
    std::fs::write(&anonymous, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let said = run(picopay(Path::new(&anonymous), ["status", "--output", "json"])).await;
    assert!(said.out.contains("none was shown"), "{said:?}");
}
