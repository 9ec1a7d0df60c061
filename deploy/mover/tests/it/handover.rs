//! Slots change hands with everything that belongs to their users, and with one owner at most at every moment.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster, eventually};
use picopay_mover::{Batch, Ended, Limits, Mover, Step, Unwatched};
use picopay_shared::cluster::Cluster;
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use super::field::{At, Field, PATIENT};
use super::owners::slot_of;
use super::traffic::write;

const USERS: [i64; 6] = [1, 2, 3, 42, 1000, 4096];

fn mover(cluster: &LocalCluster) -> Mover {
    Mover::new(&Cluster::load(&cluster.cluster_file()).unwrap(), PATIENT)
}

fn slots_of(users: &[i64]) -> Vec<u16> {
    users.iter().map(|user| slot_of(*user)).collect()
}

fn users_of_first() -> Vec<i64> {
    USERS.into_iter().filter(|user| slots_of(&[*user])[0] < 2048).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_moves_with_everything_that_belongs_to_its_users() {
    let cluster = LocalCluster::start(ClusterSpec::default().with_shards(2)).await.unwrap();
    let mut asked = Vec::new();
    for user_id in USERS {
        cluster.post("/users", None, &json!({"user_id": user_id})).await.unwrap();
        for (path, body) in [
            (
                "/topup",
                json!({"user_id": user_id, "amount": "100.00", "currency": "USD", "metadata": {"a": 1}}),
            ),
            ("/topup", json!({"user_id": user_id, "amount": "5", "currency": "JPY"})),
            ("/charge", json!({"user_id": user_id, "amount": "30.00", "currency": "USD", "reference": "é"})),
            ("/charge", json!({"user_id": user_id, "amount": "900.00", "currency": "USD"})),
        ] {
            let key = Uuid::new_v4();
            let (status, answer) = write(&cluster, path, key, &body).await;
            if body["amount"] == "30.00" {
                let charge: Value = serde_json::from_str(&answer).unwrap();
                let refund = json!({"transaction_id": charge["transaction"]["id"], "amount": "10.00"});
                let key = Uuid::new_v4();
                let (status, answer) = write(&cluster, "/refund", key, &refund).await;
                asked.push(("/refund", key, refund, status, answer));
            }
            asked.push((path, key, body, status, answer));
        }
    }
    let histories = async || {
        let mut histories = Vec::new();
        for user_id in USERS {
            histories.push(cluster.get(&format!("/transactions?user_id={user_id}")).await.unwrap().body);
        }
        histories
    };
    let before = histories().await;

    let moving = users_of_first();
    assert!(moving.len() > 1 && moving.len() < USERS.len(), "{moving:?}");
    let batch = Batch { slots: slots_of(&moving), from: "shard-1".to_owned(), to: "shard-2".to_owned() };
    let mover = mover(&cluster);
    let ended = mover.run(&batch, &Unwatched).await.unwrap();
    let Ended::Moved(figures) = ended else { panic!("{ended:?}") };
    // Per user: itself, two balances, four answers under a key and a refund, and what was given back of one charge.
    assert_eq!(figures.rows, 9 * moving.len() as u64);

    for (path, key, body, status, answer) in &asked {
        assert_eq!(&write(&cluster, path, *key, body).await, &(*status, answer.clone()), "{path} {body}");
    }
    assert_eq!(histories().await, before);
    // What is left of the charge can be given back, and no more.
    for (_, _, refund, _, _) in asked.iter().filter(|(path, ..)| *path == "/refund") {
        let id = &refund["transaction_id"];
        let too_much = json!({"transaction_id": id, "amount": "20.01"});
        assert_eq!(write(&cluster, "/refund", Uuid::new_v4(), &too_much).await.0, 422);
        assert_eq!(write(&cluster, "/refund", Uuid::new_v4(), &json!({"transaction_id": id})).await.0, 200);
        assert_eq!(
            cluster.get(&format!("/transactions/{}", id.as_str().unwrap())).await.unwrap().status,
            200
        );
    }

    let source = cluster.connect_primary(0).await.unwrap();
    let left = "SELECT count(*) FROM users WHERE slot = ANY ($1)";
    let slots: Vec<i16> = batch.slots.iter().map(|slot| slot.cast_signed()).collect();
    let count = async || {
        let row = source.query_one(left, &[&slots]).await.unwrap();
        usize::try_from(row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(count().await, moving.len(), "the source keeps its rows");
    let deleted = mover.purge("shard-1", &batch.slots, &Unwatched).await.unwrap();
    assert_eq!((deleted, count().await), (figures.rows, 0));
    let owned = mover.purge("shard-2", &batch.slots, &Unwatched).await.unwrap_err();
    assert!(owned.to_string().contains("slots that it owns"), "{owned}");

    // And back, where nothing of it is any more, by a role that has to have the foreign keys checked.
    for shard in 0..2 {
        let database = cluster.connect_as_superuser(shard).await.unwrap();
        database
            .batch_execute("REVOKE SET ON PARAMETER session_replication_role FROM picopay")
            .await
            .unwrap();
    }
    let back = Batch { from: batch.to.clone(), to: batch.from.clone(), slots: batch.slots.clone() };
    assert!(matches!(mover.run(&back, &Unwatched).await.unwrap(), Ended::Moved(_)));
    let ended = mover.run(&batch, &Unwatched).await.unwrap();
    assert!(matches!(ended, Ended::Moved(figures) if figures.rows == 11 * moving.len() as u64), "{ended:?}");
    assert!(histories().await.iter().all(|history| history.contains("refund")));
    cluster.stop().await;
}

/// Some 60 rows are sent at once and read back in a third of a second; after the last neither waits: hence 2.2 s of 2.3.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_as_long_as_its_pace_says() {
    let cluster = LocalCluster::start(ClusterSpec::default().with_shards(2)).await.unwrap();
    let user = users_of_first()[0];
    cluster.post("/users", None, &json!({"user_id": user})).await.unwrap();
    let slot = slot_of(user);
    let fill = format!(
        "INSERT INTO transactions (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind,
                                   currency, refusal, request_id)
         SELECT {slot}, {user}, lpad(to_hex(n), 32, '0')::uuid, gen_random_uuid(), decode(repeat('00', 16), 'hex'), now(), 1, 0,
                'charge', 'USD', 'insufficient-balance', repeat('r', 100)
         FROM generate_series(1, 2000) n"
    );
    cluster.connect_as_superuser(0).await.unwrap().batch_execute(&fill).await.unwrap();
    let limits = Limits { rows_per_second: NonZeroU32::new(1_000), ..PATIENT };
    let mover = Mover::new(&Cluster::load(&cluster.cluster_file()).unwrap(), limits);
    let batch = Batch { slots: vec![slot], from: "shard-1".into(), to: "shard-2".into() };
    let ended = mover.run(&batch, &Unwatched).await.unwrap();
    let Ended::Moved(figures) = ended else { panic!("{ended:?}") };
    assert_eq!(figures.rows, 2_001);
    assert!(figures.copy >= Duration::from_millis(2_200), "{figures:?}");
    cluster.stop().await;
}

/// So the first row comes at once, however many there are: also of a shard of which nothing is known yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_reads_along_the_primary_key_and_sorts_nothing() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    let database = cluster.connect_as_superuser(0).await.unwrap();
    database.batch_execute(include_str!("../../src/sql/session.sql")).await.unwrap();
    let bound = Uuid::parse_str("ffffffff-0000-8000-8000-000000000000").unwrap();
    let scope = include_str!("../../src/sql/scope.sql");
    database.query(scope, &[&vec![1_i16, 2, 40, 41], &bound, &bound, &0_i64, &0_i64]).await.unwrap();
    let copy = include_str!("../../src/sql/copy_older_out.sql");
    let select = copy.split_once("COPY (").unwrap().1.rsplit_once(") TO STDOUT").unwrap().0;
    let fill = "SET session_replication_role = replica;
         INSERT INTO transactions (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind,
                                   currency)
         SELECT n % 100, n % 5000 + 1, lpad(to_hex(n), 32, '0')::uuid, gen_random_uuid(), decode(repeat('00', 16), 'hex'), now(),
                1, 0, 'charge', 'USD'
         FROM generate_series(1, 30000) n;
         ANALYZE transactions";
    for fill in ["", fill] {
        database.batch_execute(fill).await.unwrap();
        let rows = database.query(&format!("EXPLAIN {select}"), &[]).await.unwrap();
        let plan = rows.iter().map(|row| row.get(0)).collect::<Vec<String>>().join("\n");
        assert!(plan.contains("using transactions_pkey") && !plan.contains("Sort"), "{plan}");
    }
    cluster.stop().await;
}

/// So patient that no charge gives up while this test holds it.
const PATIENT_NODE: &str =
    "[postgres]\nlock_timeout = \"10s\"\nstatement_timeout = \"11s\"\nflight_timeout = \"12s\"\n";

/// Interleaving: charges are through the fence and wait for their users' rows, the mover comes to the release, the charges
/// go on and are committed.
#[tokio::test(flavor = "multi_thread")]
async fn charges_that_have_passed_the_fence_keep_the_release_waiting_and_come_along() {
    let field = Field::start_with(ClusterSpec::default().with_node_toml(PATIENT_NODE)).await;
    let (at_release, are_held) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let watcher = At::new(Step::Release, {
        let (at_release, are_held) = (Arc::clone(&at_release), Arc::clone(&are_held));
        async move {
            at_release.notify_one();
            are_held.notified().await;
        }
    });
    let hold = async {
        at_release.notified().await;
        let holder = field.cluster.connect_primary(0).await.unwrap();
        holder.batch_execute("BEGIN").await.unwrap();
        let lock = "SELECT FROM users WHERE slot = ANY ($1) FOR NO KEY UPDATE";
        holder.execute(lock, &[&field.signed_slots()]).await.unwrap();
        wait_for(&field, "picopay-node lane", "transactionid").await;
        are_held.notify_one();
        wait_for(&field, "picopay", "advisory").await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let batch = field.batch(0, 1);
    let (ended, ()) = tokio::join!(async { field.mover().run(&batch, &watcher).await }, hold);
    assert!(matches!(ended, Ok(Ended::Moved(_))), "{ended:?}");
    field.end().await;
}

async fn wait_for(field: &Field, application: &str, lock: &str) {
    let database = field.cluster.connect_as_superuser(0).await.unwrap();
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity
                              WHERE wait_event_type = 'Lock' AND application_name = $1 AND wait_event = $2)";
    eventually(&format!("{application} that waits for {lock}"), async || {
        let waits: bool = database.query_one(sql, &[&application, &lock]).await.unwrap().get(0);
        if !waits {
            assert_eq!(field.owner().await, 0, "released under a charge that had passed the fence");
        }
        waits
    })
    .await;
}
