//! Keys are made once, shown once, and let their owner in.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster, eventually_within, http_call};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::command::{bare_picopay, run};

#[tokio::test]
async fn a_key_is_shown_once_and_only_its_digest_is_kept() {
    let said =
        run(bare_picopay(["keys", "create", "--name", "shop", "--scopes", "write,read"])).await.success();
    let key = said.out.split_whitespace().find(|word| word.starts_with("pp_")).unwrap();
    let digest = format!("digest = \"sha256:{:x}\"", Sha256::digest(key));
    assert!(said.out.contains(&digest), "{said:?}");
    assert!(said.out.contains("scopes = [\"write\", \"read\"]"), "{said:?}");
    assert_eq!(said.out.matches(key).count(), 1);
}

#[tokio::test]
async fn an_entry_is_added_whole_to_a_file_that_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\" # mine").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let create = |name: &str, output: &str| {
        let mut command = bare_picopay(["keys", "create", "--scopes", "read", "--name", name]);
        command.arg("--append").arg(&file).args(["--rate-per-second", "5", "--output", output]);
        run(command)
    };
    let key: Value = create("first", "json").await.success().json();
    assert_eq!(key["name"], "first");
    assert_eq!(key["rate_per_second"], 5);
    create("first", "table").await.failure("has a key \"first\" already");

    // Each replaces the file: without a lock one would take the other's entry away.
    let names: Vec<String> = (0..12).map(|number| format!("key-{number}")).collect();
    let created = names.iter().map(|name| create(name, "table"));
    for said in futures_util::future::join_all(created).await {
        said.success();
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("listen = \"127.0.0.1:1\" # mine\n\n[[keys]]\n"), "{text}");
    assert!(text.contains(key["digest"].as_str().unwrap()) && !text.contains(key["key"].as_str().unwrap()));
    assert_eq!(text.matches("[[keys]]").count(), 13);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left behind");
}

#[tokio::test]
async fn a_file_that_cannot_take_an_entry_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    for (text, needle) in [("keys = []\n", "[[keys]] tables"), ("keys = = 1\n", "no gateway.toml")] {
        std::fs::write(&file, text).unwrap();
        let mut command = bare_picopay(["keys", "create", "--name", "a", "--scopes", "read", "--append"]);
        command.arg(&file);
        let said = run(command).await.failure(needle);
        assert!(said.out.is_empty(), "no key is shown that nobody lets in");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    let missing = folder.path().join("missing.toml");
    let mut command = bare_picopay(["keys", "create", "--name", "a", "--scopes", "read", "--append"]);
    command.arg(&missing);
    run(command).await.failure("missing.toml");
}

#[tokio::test]
async fn a_wrong_scope_or_name_is_a_usage_error() {
    for args in [["--name", "a", "--scopes", "everything"], ["--name", "a b", "--scopes", "read"]] {
        let said = run(bare_picopay(["keys", "create"].into_iter().chain(args))).await;
        assert_eq!(said.code, Some(2), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_added_lets_its_owner_in_and_no_further_than_its_scopes() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard().without_redis()).await.unwrap();
    let mut command =
        bare_picopay(["keys", "create", "--name", "reader", "--scopes", "read", "--output", "json"]);
    command.arg("--append").arg(cluster.folder().join("gateway.toml"));
    let key = run(command).await.success().json()["key"].as_str().unwrap().to_owned();
    let ask = async |path: &str, method: http::Method, body: &str| {
        let url = format!("{}{path}", cluster.gateway_url());
        http_call::call(method, &url, &[("x-api-key", &key)], body).await.unwrap().status
    };
    let history = "/transactions?user_id=1";
    // No user has this id, and that is known to who may ask; the gateway takes the changed file over while it runs.
    answers(404, async || ask(history, http::Method::GET, "").await).await;
    assert_eq!(ask("/users", http::Method::POST, r#"{"user_id":1}"#).await, 403);
    let mut command = bare_picopay(["keys", "revoke", "reader", "--config"]);
    command.arg(cluster.folder().join("gateway.toml"));
    run(command).await.success();
    answers(401, async || ask(history, http::Method::GET, "").await).await;
    cluster.stop().await;
}

/// The contract gives it 2 s, and a busy machine needs some more.
async fn answers(status: u16, ask: impl AsyncFn() -> u16) {
    eventually_within(Duration::from_secs(10), &format!("an answer of {status}"), async || {
        ask().await == status
    })
    .await;
}

#[tokio::test]
async fn keys_are_listed_with_what_they_may_do_and_taken_away_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\" # mine\n").unwrap();
    for (name, more) in [
        ("shop", vec!["--scopes", "charge,refund", "--rate-per-second", "5"]),
        ("guest", vec!["--scopes", "read", "--expires-at", "2000-01-01T02:00:00+02:00"]),
        ("boss", vec!["--scopes", "admin", "--expires-at", "9999-01-01T00:00:00Z"]),
    ] {
        let mut command = bare_picopay(["keys", "create", "--name", name].into_iter().chain(more));
        command.arg("--append").arg(&file);
        run(command).await.success();
    }
    let on_file = |args: &[&str]| {
        let mut command = bare_picopay(["keys"].iter().chain(args));
        command.arg("--config").arg(&file);
        run(command)
    };
    let listed: Value = on_file(&["list", "--output", "json"]).await.success().json();
    let told = |key: &Value| {
        (key["name"].clone(), key["scopes"].clone(), key["expires_at"].clone(), key["is_expired"].clone())
    };
    let told: Vec<_> = listed.as_array().unwrap().iter().map(told).collect();
    assert_eq!(
        told,
        [
            ("shop".into(), json!(["charge", "refund"]), Value::Null, false.into()),
            ("guest".into(), json!(["read"]), "2000-01-01T00:00:00Z".into(), true.into()),
            ("boss".into(), json!(["admin"]), "9999-01-01T00:00:00Z".into(), false.into()),
        ]
    );
    let screen = on_file(&["list"]).await.success().out;
    assert!(screen.contains("2000-01-01T00:00:00Z, expired") && screen.contains("never"), "{screen}");

    on_file(&["revoke", "nobody"]).await.failure("has no key \"nobody\"");
    on_file(&["revoke", "guest"]).await.success();
    on_file(&["revoke", "shop"]).await.success();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("listen = \"127.0.0.1:1\" # mine\n\n[[keys]]\nname = \"boss\"\n"), "{text}");
    // A gateway refuses a file without keys, and would go by the one before.
    on_file(&["revoke", "boss"]).await.failure("the only key");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let mut command =
        bare_picopay(["keys", "create", "--name", "a", "--scopes", "read", "--expires-at", "soon"]);
    command.arg("--append").arg(&file);
    assert_eq!(run(command).await.code, Some(2), "no time");
}
