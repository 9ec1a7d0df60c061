//! The smoke test and the load test against a cluster over TLS, and what they say of one that they cannot believe.

use std::process::Command;

use picopay_certs::{Authority, in_days};
use picopay_local::{ClusterSpec, LocalCluster, programs};

fn run(program: &str, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(programs::find_picopay(program).unwrap());
    let output = command.args(words).env_remove("PICOPAY_API_KEY").output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), said.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_take_an_https_url_with_the_file_of_its_authority() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard().with_tls()).await.unwrap();
    let (url, authority) = (cluster.gateway_url(), cluster.authority_file().unwrap());
    let ca = authority.display().to_string();
    let other = authority.parent().unwrap().join("other-ca.pem");
    std::fs::write(&other, Authority::make(in_days(1)).unwrap().pem()).unwrap();
    let other = other.display().to_string();
    let to = ["--url", &url, "--api-key", cluster.api_key()];
    let load =
        [&["run"], &to[..], &["--users", "20", "--connections", "8", "--warmup", "0", "--duration", "2"]];
    let smoke = [&["smoke"], &to[..]];

    let (code, said) = run("picopay-proofs", &[&smoke.concat()[..], &["--cacert", &ca][..]].concat());
    assert_eq!((code, said.matches("ok    ").count()), (Some(0), 19), "{said}");
    let (code, said) = run("picopay-loadtest", &[&load.concat()[..], &["--cacert", &ca][..]].concat());
    assert_eq!(code, Some(0), "{said}");
    for (program, words) in [("picopay-proofs", smoke.concat()), ("picopay-loadtest", load.concat())] {
        let (code, said) = run(program, &[&words[..], &["--cacert", &other][..]].concat());
        let refused =
            said.lines().filter(|line| line.contains("no authority that is trusted here signed it"));
        assert_eq!((code, refused.count()), (Some(1), 1), "{program}: {said}");
    }
    cluster.stop().await;
}
