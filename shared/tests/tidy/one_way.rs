//! What is to be done in one place is done in one place: connections to PostgreSQL and Redis, and cryptography for TLS.

use std::process::Command;

use super::sources::{SourceFile, root};

#[test]
fn connections_to_postgresql_and_redis_are_made_where_tls_is_known() {
    // Not written out, or this file would be one of them.
    let plain = ["No", "Tls"].concat();
    let redis = ["redis::Client::", "open("].concat();
    let others: Vec<String> = (SourceFile::all().iter())
        .filter(|source| source.is_rust())
        .filter(|source| {
            let is_plain = source.text.contains(&plain) && !source.path.starts_with("shared/postgres/src/");
            let is_redis = source.text.contains(&redis) && source.path.contains("/src/");
            is_plain || is_redis
        })
        .map(|source| source.path.clone())
        .filter(|path| !ALLOWED.iter().any(|(allowed, _)| path == allowed))
        .collect();
    assert!(
        others.is_empty(),
        "make them with `picopay_postgres::Connection` and `redis_client`: {others:?}"
    );
}

/// With a reason each.
const ALLOWED: [(&str, &str); 4] = [
    ("shard-node/config/src/running_config.rs", "reads the address off a URL, and connects to nobody"),
    ("loadtest/proofs/src/bench/baseline.rs", "PostgreSQL without PicoPay, over a Unix socket"),
    ("loadtest/proofs/src/chaos/fault/forger.rs", "whoever writes to Redis behind our back"),
    ("deploy/local/tests/servers/databases.rs", "that a server asks for a password"),
];

#[test]
fn one_provider_of_cryptography_is_in_the_tree() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--locked", "--offline", "--edges", "all", "--prefix", "none"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"ring") && names.contains(&"rustls"), "this is no tree: {tree}");
    for other in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"] {
        assert!(!names.contains(&other), "{other} came in: see who takes it with `cargo tree -i {other}`");
    }
    let versions: std::collections::BTreeSet<&str> = tree
        .lines()
        .filter(|line| line.starts_with("rustls v"))
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    assert_eq!(versions.len(), 1, "{versions:?}");
}
