//! Read your writes, as a client has it: keep the header of the last write, send it with reads.

use picopay_local::ClusterSpec;
use serde_json::json;
use uuid::Uuid;

use crate::client::{TestCluster, code_of, eventually, source_of};

/// No replica of this test is too far behind to be asked: only tokens keep reads off it.
const ANY_LAG: &str = "[reads]\nreplica_lag_max = \"1m\"\n";

#[tokio::test]
async fn every_answer_to_a_write_has_a_token_with_which_reads_show_it() {
    let test = TestCluster::start(ClusterSpec::one_shard().with_node_toml(ANY_LAG)).await;
    let client = &test.client;
    let user = test.user_with("100").await;
    let history = format!("/transactions?user_id={user}");
    let balance = format!("/users/{user}/balance?currency=USD&consistency=eventual");
    eventually("a history from the replica", || async {
        (source_of(&client.get(&history).await?) == Some("replica")).then_some(())
    })
    .await;
    let replica = test.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    replica.execute("SELECT pg_wal_replay_pause()", &[]).await.unwrap();

    let charge = client.charge(user, Uuid::new_v4(), "10").await.json();
    let id = charge["transaction"]["id"].as_str().unwrap().to_owned();
    let pay = |amount: &str| json!({"user_id": user, "amount": amount, "currency": "USD"});
    for (path, body, status) in [
        ("/users", json!({"user_id": user + 1_000_000}), 201),
        ("/users", json!({"user_id": user}), 200),
        ("/topup", pay("5"), 200),
        ("/charge", pay("1"), 200),
        ("/charge", pay("100000"), 402),
        ("/refund", json!({"transaction_id": id, "amount": "2"}), 200),
        ("/refund", json!({"transaction_id": id, "amount": "100"}), 422),
    ] {
        let key = Uuid::new_v4();
        for is_again in [false, true] {
            let answer = client.post(path, Some(key), &body).await.unwrap();
            // Making a user twice is no replay but the answer "was there".
            let expected = if is_again && status == 201 { 200 } else { status };
            assert_eq!(answer.status, expected, "{path} {body}: {answer:?}");
            let session = answer.session().unwrap_or_else(|| panic!("{path} {body}: {answer:?}"));
            assert_eq!(session.len(), 28);
            let Some(mut transaction) = answer.json().get("transaction").cloned() else { continue };
            // The one thing that a read says more.
            transaction["made_by"] = json!("dev");
            let page = client.get_with(&history, Some(session)).await.unwrap();
            assert_eq!(page.json()["data"][0], transaction, "{path} {body}");
            let read = client.get_with(&balance, Some(session)).await.unwrap();
            assert_eq!(read.json()["balance"], transaction["balance_after"], "{path} {body}");
            let path = format!("/transactions/{}", transaction["id"].as_str().unwrap());
            let lookup = client.get_with(&path, Some(session)).await.unwrap();
            assert_eq!(lookup.json()["transaction"], transaction);
            for read in [page, read, lookup] {
                assert_eq!(source_of(&read), Some("primary"));
            }
        }
    }
    let past = client.get(&history).await.unwrap();
    assert_eq!((past.json()["data"].as_array().unwrap().len(), source_of(&past)), (1, Some("replica")));
    for (path, body, status) in [
        ("/charge", pay("-1"), 400),
        ("/charge", json!({"user_id": 1, "amount": "1", "currency": "USD"}), 404),
    ] {
        let answer = client.post(path, None, &body).await.unwrap();
        assert_eq!((answer.status, answer.session()), (status, None));
    }
    let missing = client.get("/transactions?user_id=1").await.unwrap();
    assert_eq!((missing.status, source_of(&missing)), (404, Some("primary")));
    test.stop().await;
}

#[tokio::test]
async fn a_token_that_is_none_is_refused_and_named_and_one_of_another_shard_is_taken() {
    let test = TestCluster::start(ClusterSpec::default()).await;
    let client = &test.client;
    let (first, second) = (test.user_with("100").await, test.user_with("100").await);
    let slot = |user: i64| picopay_shared::slot::UserId::try_from(user).unwrap().slot().get();
    let mut users = vec![first, second];
    while users.iter().all(|user| (slot(*user) < 2048) == (slot(first) < 2048)) {
        users.push(test.user_with("100").await);
    }
    let elsewhere = *users.last().unwrap();
    let session = client.charge(first, Uuid::new_v4(), "1").await.session().unwrap().to_owned();
    let history = format!("/transactions?user_id={elsewhere}");
    let answer = client.get_with(&history, Some(&session)).await.unwrap();
    assert_eq!((answer.status, source_of(&answer)), (200, Some("primary")));
    for (path, parameter) in [
        (format!("/transactions?user_id={first}&limit=0"), Some("limit")),
        (format!("/users/{first}/balance"), None),
        (format!("/transactions/{}", Uuid::new_v4()), None),
    ] {
        let answer = client.get_with(&path, Some(&session[1..])).await.unwrap();
        assert_eq!((answer.status, code_of(&answer).as_str()), (400, "invalid-request"), "{answer:?}");
        let body = answer.json();
        let errors = body["errors"].as_array().unwrap();
        assert!(errors.iter().any(|error| error["header"] == "PicoPay-Session"), "{body}");
        assert_eq!(errors.iter().find_map(|error| error["parameter"].as_str()), parameter);
    }
    test.stop().await;
}
