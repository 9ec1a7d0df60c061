//! Certificates that an operator makes, and a cluster over TLS as its operator sees it.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use picopay_certs::{Authority, Leaf, in_days};
use picopay_local::{ClusterSpec, LocalCluster, eventually};
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
    // Where the gateway listens, and that it is over TLS, its file says.
    let said =
        run(picopay(&file, ["config", "check", "--against-running", "--output", "json"])).await.success();
    assert_eq!(said.json()["gateways"][0]["asked_at"], cluster.gateway_url());

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

    let other = Authority::make(in_days(1)).unwrap();
    std::fs::write(certs.join("other-ca.pem"), other.pem()).unwrap();
    let said = run({
        let mut command = picopay(&file, ["config", "check", "--against-running"]);
        command.arg("--cacert").arg(certs.join("other-ca.pem"));
        command
    })
    .await;
    assert!(said.code == Some(1) && said.out.contains("signed it"), "{said:?}");
    let words = |name: &str| format!(" sslcert='{}.pem' sslkey='{}.key'", path(name), path(name));
    for (from, to, line) in [
        (
            format!("sslrootcert='{}'", path("ca.pem")),
            format!("sslrootcert='{}'", path("other-ca.pem")),
            "signed it",
        ),
        (
            "host=127.0.0.1,127.0.0.1".to_owned(),
            "host=db.example,db.example hostaddr=127.0.0.1,127.0.0.1".to_owned(),
            "it is not for this name",
        ),
        (words("picopay"), String::new(), "valid client certificate"),
    ] {
        expect_refusal(&changed(&from, &to), line).await;
    }
    // The server's own is over: it takes the files as they are.
    let over = SystemTime::now() - Duration::from_mins(1);
    let leaf = Leaf { name: "postgres", hosts: &["127.0.0.1"], expires: over };
    let pair = Authority::read(certs).unwrap().issue(&leaf).unwrap();
    let superuser = cluster.connect_as_superuser(0).await.unwrap();
    let data: String = superuser.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
    std::fs::write(Path::new(&data).join("server.pem"), &pair.certificate).unwrap();
    std::fs::write(Path::new(&data).join("server.key"), &pair.key).unwrap();
    superuser.query_one("SELECT pg_reload_conf()", &[]).await.unwrap();
    eventually("the server shows it", async || {
        let said = run(picopay(&file, ["status", "--output", "json"])).await;
        said.out.contains("it has expired")
    })
    .await;
    expect_refusal(&file, "it has expired").await;
}

/// By the command that shows the state of everything, and by one that works on the database alone.
async fn expect_refusal(file: &Path, line: &str) {
    let asked = Instant::now();
    let said = run(picopay(file, ["status", "--output", "json"])).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let problem = said.json()["shards"][0]["primary"]["error"].as_str().unwrap_or_default().to_owned();
    assert!(problem.contains(line) && !problem.contains('\n'), "{line}: {said:?}");
    let said = run(picopay(file, ["migrate"])).await;
    assert!(said.code == Some(1) && said.out.contains(line), "{line}: {said:?}");
    assert!(asked.elapsed() < Duration::from_secs(30), "nothing hangs: {:?}", asked.elapsed());
}

#[tokio::test]
async fn an_admin_address_and_a_probe_over_tls_are_asked_as_the_files_say() {
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let spec = ClusterSpec::one_shard().with_tls();
    let spec = spec.with_gateway_toml(&format!("[admin]\nlisten = \"{admin}\""));
    let cluster = LocalCluster::start(spec).await.unwrap();
    let file = cluster.cluster_file();
    let said =
        run(picopay(&file, ["config", "check", "--against-running", "--output", "json"])).await.success();
    let report = said.json();
    assert_eq!(report["gateways"][0]["asked_at"], format!("http://{admin}"), "{report}");
    assert_eq!(report["running"][0]["is_told"], true, "{report}");
    // At the public address nothing is told, which looks as another secret would.
    let url = cluster.gateway_url();
    let said = run(picopay(&file, ["config", "check", "--against-running", "--gateway-url", &url])).await;
    assert_eq!(said.code, Some(3), "{said:?}");

    let authority = cluster.authority_file().unwrap();
    let certs = authority.parent().unwrap();
    let path = |name: &str| certs.join(name).display().to_string();
    let (ca, cert, key) = (path("ca.pem"), path("caller.pem"), path("caller.key"));
    let health = async |words: &[&str]| run(bare_picopay(["health"].iter().chain(words))).await;
    let node = cluster.node_url(0, 0);
    for words in [
        &[url.as_str(), "--cacert", &ca][..],
        &[&format!("{url}/readyz"), "--cacert", &ca],
        &[&url.replace("127.0.0.1", "localhost"), "--cacert", &ca],
        &[&node, "--cacert", &ca, "--cert", &cert, "--key", &key],
        &[&format!("http://{admin}/readyz")],
    ] {
        health(words).await.success();
    }
    health(&[&url]).await.failure("no authority that is trusted here signed it");
    let demo = ["demo", &url, "--key", cluster.api_key(), "--patience", "1s"];
    let made = run(bare_picopay(demo.iter().chain(&["--cacert", &ca]))).await.success();
    assert!(made.out.contains("1000.00 USD"), "{made:?}");
    run(bare_picopay(demo.iter())).await.failure("no authority that is trusted here signed it");
    health(&[&format!("https://{admin}"), "--cacert", &ca]).await.failure("does not speak TLS");
    health(&[&url, "--cacert", "/nowhere/ca.pem"]).await.failure("/nowhere/ca.pem: cannot be read");
    health(&[&node, "--cacert", &ca]).await.failure("does not answer: ");
    let half = health(&[&node, "--cacert", &ca, "--cert", &cert]).await;
    assert!(half.code == Some(2) && half.err.contains("--key"), "{half:?}");
    cluster.stop().await;
}
