//! The money is proven after load and during it, and whatever is changed by hand is found and named.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use picopay_local::{ClusterSpec, LocalCluster};
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::command::{Said, picopay, run};

/// Users of both shards. User 2, whose rows are changed below, is in slot 579 of the first.
const USERS: [i64; 6] = [1, 2, 3, 42, 1000, 4096];

async fn verify(file: &Path) -> Said {
    run(picopay(file, ["verify", "--output", "json"])).await
}

async fn write(cluster: &LocalCluster, path: &str, body: Value) -> Value {
    let answer = cluster.post(path, Some(&Uuid::new_v4().to_string()), &body).await.unwrap();
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.body);
    answer.json()["transaction"].clone()
}

async fn make_users(cluster: &LocalCluster) {
    for user_id in USERS {
        let made = cluster.post("/users", None, &json!({"user_id": user_id})).await.unwrap();
        assert_eq!(made.status, 201, "{}", made.body);
        for (amount, currency) in [("100.00", "USD"), ("5000", "JPY")] {
            let body = json!({"user_id": user_id, "amount": amount, "currency": currency});
            write(cluster, "/topup", body).await;
        }
    }
}

async fn load(cluster: &LocalCluster) -> Vec<Value> {
    let mut booked = Vec::new();
    for user_id in USERS {
        for amount in ["3.00", "0.25", "7.10"] {
            let body = json!({"user_id": user_id, "amount": amount, "currency": "USD"});
            let charge = write(cluster, "/charge", body).await;
            if amount != "0.25" {
                let body = json!({"transaction_id": charge["id"], "amount": "1.00"});
                booked.push(write(cluster, "/refund", body).await);
            }
            booked.push(charge);
        }
        let too_much = json!({"user_id": user_id, "amount": "99999.00", "currency": "USD"});
        assert_eq!(cluster.post("/charge", None, &too_much).await.unwrap().status, 402);
    }
    booked
}

#[tokio::test(flavor = "multi_thread")]
async fn the_money_is_proven_while_charges_go_on_and_after() {
    let cluster = LocalCluster::start(ClusterSpec::default().with_nodes_per_shard(2)).await.unwrap();
    make_users(&cluster).await;
    let file = cluster.cluster_file();
    let proofs = async {
        for _ in 0..5 {
            let said = verify(&file).await.success();
            assert_eq!(said.json()["is_proven"], true);
        }
    };
    let ((), one, two, three) = tokio::join!(proofs, load(&cluster), load(&cluster), load(&cluster));

    let said = verify(&file).await.success().json();
    let sum = |field: &str| -> u64 {
        said["shards"].as_array().unwrap().iter().map(|shard| shard[field].as_u64().unwrap()).sum()
    };
    let booked = u64::try_from(one.len() + two.len() + three.len()).unwrap();
    assert_eq!((sum("users"), sum("balances"), sum("refused")), (6, 12, 18));
    assert_eq!(sum("completed"), 12 + booked);
    let books: Vec<_> = said["currencies"].as_array().unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        r#"{"balances":"30000","charges":"0","currency":"JPY","difference":"0","in_transit":"0","refunds":"0","topups":"30000"}"#,
        r#"{"balances":"449.70","charges":"186.30","currency":"USD","difference":"0.00","in_transit":"0.00","refunds":"36.00","topups":"600.00"}"#,
    ];
    assert_eq!(books, expected);
    let table = run(picopay(&file, ["verify"])).await.success();
    assert!(table.out.contains("nothing is wrong"), "{}", table.out);

    a_slot_that_changes_hands_raises_no_alarm(&cluster).await;

    acknowledged_writes_are_looked_up(&cluster, &one).await;
    cluster.stop().await;
}

/// Interleavings: one shard is read before it releases the slot and the other after it owns it, or the other way round, or
/// both in between.
async fn a_slot_that_changes_hands_raises_no_alarm(cluster: &LocalCluster) {
    let clients = [0, 1].map(async |shard| cluster.connect_as_superuser(shard).await.unwrap());
    let [one, other] = clients;
    let shards = [("shard-1", one.await), ("shard-2", other.await)];
    let release = "UPDATE slot_owner SET state = 'released', owner = $1, epoch = $2 WHERE slot = 10";
    let own = "INSERT INTO slot_owner VALUES (10, 'owned', $1, $2)
               ON CONFLICT (slot) DO UPDATE SET state = 'owned', owner = $1, epoch = $2";
    let moves = async {
        for turn in 0_i64.. {
            let from = usize::from(turn % 2 == 1);
            let to = &shards[1 - from];
            shards[from].1.execute(release, &[&to.0, &(2 * turn + 2)]).await.unwrap();
            // So that a proof meets this state as well, in which nobody owns the slot.
            tokio::time::sleep(Duration::from_millis(10)).await;
            to.1.execute(own, &[&to.0, &(2 * turn + 3)]).await.unwrap();
            // And this one, in which proofs may both begin and end.
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    let proofs = async {
        for _ in 0..5 {
            verify(&cluster.cluster_file()).await.success();
        }
    };
    tokio::select! {
        () = moves => {}
        () = proofs => {}
    }
    for (position, (_, client)) in shards.iter().enumerate() {
        let change = if position == 0 {
            "UPDATE slot_owner SET state = 'owned', owner = 'shard-1', epoch = epoch + 1000 WHERE slot = 10"
        } else {
            "UPDATE slot_owner SET state = 'released', owner = 'shard-1' WHERE slot = 10"
        };
        client.batch_execute(change).await.unwrap();
    }
}

async fn acknowledged_writes_are_looked_up(cluster: &LocalCluster, booked: &[Value]) {
    let (file, acks) = (cluster.cluster_file(), cluster.folder().join("acks.jsonl"));
    let check = async |text: &str| {
        std::fs::write(&acks, text).unwrap();
        let mut command = picopay(&file, ["verify", "--output", "json"]);
        command.arg("--acks").arg(&acks);
        run(command).await
    };
    let mut whole = String::new();
    for _ in 0..=(10_000 / booked.len()) {
        for transaction in booked {
            writeln!(whole, "{transaction}").unwrap();
        }
    }
    let said = check(&whole).await.success().json();
    assert_eq!(said["acks"]["acknowledged"], whole.lines().count());
    assert_eq!(said["acks"]["is_torn"], false);

    let torn = &whole[..whole.len() - 20];
    let said = check(torn).await.success().json();
    assert_eq!(said["acks"]["acknowledged"], whole.lines().count() - 1);
    assert_eq!(said["acks"]["is_torn"], true);

    let changed = |field: &str, value: Value| {
        let mut transaction = booked[0].clone();
        transaction[field] = value;
        format!("{}\n{transaction}\n{}\n", booked[1], booked[2])
    };
    let other_key = booked[1]["idempotency_key"].clone();
    for (text, needle) in [
        (changed("id", json!(Uuid::new_v4())), "no such transaction"),
        (changed("user_id", json!(3)), "no such transaction"),
        (changed("kind", json!("topup")), "refund"),
        (changed("amount", json!("1.01")), "1.00"),
        (changed("currency", json!("EUR")), "USD"),
        (changed("balance_after", json!("0.00")), "then "),
        (changed("idempotency_key", other_key), "key "),
        (changed("amount", json!("1e5")), "no amount"),
        (format!("{}\n{{\"id\": \n{}\n", booked[0], booked[1]), "EOF"),
    ] {
        let said = check(&text).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        let found = wrong(&said.json());
        assert_eq!(found.keys().collect::<Vec<_>>(), ["acks"], "{text}");
        let [row] = found["acks"].as_slice() else { panic!("{found:?}") };
        assert_eq!(row["key"]["line"], 2);
        assert!(row["found"].as_str().unwrap().contains(needle), "{needle:?} in {row}");
    }
}

fn wrong(report: &Value) -> std::collections::BTreeMap<String, Vec<Value>> {
    let checks = report["checks"].as_array().unwrap().iter();
    let wrong = checks.filter(|check| check["wrong"] != 0);
    wrong
        .map(|check| (check["check"].as_str().unwrap().to_owned(), check["rows"].as_array().unwrap().clone()))
        .collect()
}

/// Takes away what keeps such rows out: constraints, and the triggers behind the foreign keys.
const UNGUARD: &str = "
    DO $$
    DECLARE one record;
    BEGIN
        FOR one IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
                   WHERE connamespace = 'public'::regnamespace
                   ORDER BY contype = 'p', contype = 'u'
        LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', one.t, one.conname);
        END LOOP;
        FOR one IN SELECT conrelid::regclass AS t, a.attname FROM pg_attribute a
                   JOIN pg_class c ON c.oid = a.attrelid, LATERAL (SELECT c.oid AS conrelid) x
                   WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnotnull AND a.attnum > 0
        LOOP
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', one.t, one.attname);
        END LOOP;
    END $$;
    CREATE SCHEMA kept;
    CREATE TABLE kept.users AS TABLE users;
    CREATE TABLE kept.balances AS TABLE balances;
    CREATE TABLE kept.transactions AS TABLE transactions;
    CREATE TABLE kept.refund_totals AS TABLE refund_totals;
    CREATE TABLE kept.holds AS TABLE holds;
    CREATE TABLE kept.slot_owner AS TABLE slot_owner;
    CREATE TABLE kept.shard_identity AS TABLE shard_identity;
";

const RESTORE: &str = "
    BEGIN;
    TRUNCATE users, balances, transactions, refund_totals, holds, transfers, transfer_credits, slot_owner, shard_identity;
    INSERT INTO users SELECT * FROM kept.users;
    INSERT INTO balances SELECT * FROM kept.balances;
    INSERT INTO transactions SELECT * FROM kept.transactions;
    INSERT INTO refund_totals SELECT * FROM kept.refund_totals;
    INSERT INTO holds SELECT * FROM kept.holds;
    INSERT INTO slot_owner SELECT * FROM kept.slot_owner;
    INSERT INTO shard_identity SELECT * FROM kept.shard_identity;
    COMMIT;
";

/// What somebody does by hand in the first shard's database, the check that must find it, and what it must say: parts of
/// the finding's JSON. User 2 has, in this order and in USD: a top-up of 100, a charge of 3 refunded by 1, a charge of 0.25,
/// and a charge of 7.10 refunded by 1.
const CHANGES: &[(&str, &str, &[&str])] = &[
    ("UPDATE balances SET balance = balance + 1 WHERE user_id = 2 AND currency = 'USD'",
     "balance", &[r#""table":"balances""#, r#""user_id":2"#, r#""currency":"USD""#, r#""expected":"91.6500""#, r#""found":"92.6500""#]),
    ("UPDATE balances SET balance = balance + 1 WHERE user_id = 2 AND currency = 'USD'",
     "books", &[r#""currency":"USD""#, r#""shard":"cluster""#]),
    ("DELETE FROM balances WHERE user_id = 2 AND currency = 'USD'",
     "balance", &[r#""user_id":2"#, r#""found":"no row""#]),
    ("INSERT INTO balances VALUES (579, 2, 'EUR', 0)",
     "balance", &[r#""currency":"EUR""#, "no postings"]),
    ("UPDATE transactions SET amount = 8 WHERE user_id = 2 AND amount = 7.10",
     "balance", &[r#""user_id":2"#]),
    ("DELETE FROM transactions WHERE user_id = 2 AND amount = 0.25",
     "balance", &[r#""user_id":2"#]),
    ("DELETE FROM transactions WHERE user_id = 2 AND amount = 0.25",
     "balance_after", &[r#""user_id":2"#, r#""id":"#]),
    ("UPDATE transactions SET balance_after = 97.76 WHERE user_id = 2 AND amount = 0.25",
     "balance_after", &[r#""user_id":2"#, r#""found":"97.7600""#, r#""expected":"97.7500""#]),
    ("UPDATE transactions SET kind = 'topup' WHERE user_id = 2 AND amount = 0.25",
     "balance", &[r#""user_id":2"#]),
    ("INSERT INTO transactions SELECT slot, user_id, gen_random_uuid(), gen_random_uuid(), fingerprint, now(), 2.01, 0,
             kind, currency, refusal, request_id, charge_id FROM transactions WHERE user_id = 2 AND kind = 'refund' AND charge_id =
             (SELECT id FROM transactions WHERE user_id = 2 AND amount = 3)",
     "refund", &["at most 3.0000 refunded", r#""found":"3.0100""#]),
    ("UPDATE refund_totals SET refunded = 0.50 WHERE user_id = 2 AND charged = 3",
     "refund", &[r#""table":"refund_totals""#, "refunded 1.0000", r#""found":"0.5000""#]),
    ("DELETE FROM refund_totals WHERE user_id = 2 AND charged = 3",
     "refund", &[r#""table":"refund_totals""#, r#""found":"no row""#]),
    ("UPDATE refund_totals SET charged = 30 WHERE user_id = 2 AND charged = 3",
     "refund", &["charged 3.0000", r#""found":"30.0000""#]),
    ("INSERT INTO refund_totals SELECT slot, user_id, id, amount, amount FROM transactions WHERE user_id = 2 AND amount = 0.25",
     "refund", &["refunded nothing", r#""found":"0.2500""#]),
    ("UPDATE transactions SET charge_id = (SELECT id FROM transactions WHERE user_id = 2 AND kind = 'topup' AND currency = 'USD')
      WHERE user_id = 2 AND kind = 'refund'",
     "refund", &["there is no such charge"]),
    ("UPDATE transactions SET charge_id = (SELECT id FROM transactions WHERE user_id = 42 AND amount = 3)
      WHERE user_id = 2 AND kind = 'refund'",
     "refund", &["there is no such charge"]),
    ("UPDATE transactions SET refusal = 'insufficient-balance' WHERE user_id = 2 AND amount = 3",
     "refund", &["there is no such charge"]),
    ("UPDATE transactions SET currency = 'EUR' WHERE user_id = 2 AND kind = 'refund'",
     "refund", &["refunds in USD", r#""found":"EUR""#]),
    ("UPDATE transactions SET idempotency_key = '00000000-0000-4000-8000-000000000000' WHERE user_id = 2 AND kind = 'refund'",
     "key", &[r#""user_id":2"#, "00000000-0000-4000-8000-000000000000", r#""found":"2 transactions""#]),
    ("UPDATE balances SET held = 1, open_holds = 1, hold_due_at = now() WHERE user_id = 2 AND currency = 'USD'",
     "hold", &[r#""table":"balances""#, r#""user_id":2"#, "0 held by 0 open holds", "1.0000 held by 1, due"]),
    ("INSERT INTO holds SELECT slot, user_id, id, currency, amount, 0, 'open', now(), NULL
      FROM transactions WHERE user_id = 2 AND amount = 0.25",
     "hold", &[r#""table":"balances""#, "0.2500 held by 1 open holds", "nothing held"]),
    ("INSERT INTO holds SELECT slot, user_id, id, currency, amount, 0, 'open', now(), NULL
      FROM transactions WHERE user_id = 2 AND amount = 0.25",
     "hold", &[r#""table":"holds""#, "nobody took it"]),
    ("UPDATE transactions SET hold_id = id WHERE user_id = 2 AND amount = 0.25",
     "hold", &[r#""table":"holds""#, "captured by", r#""found":"no row""#]),
    ("INSERT INTO holds SELECT slot, user_id, gen_random_uuid(), currency, amount, amount, 'captured', now(), id
      FROM transactions WHERE user_id = 2 AND amount = 0.25",
     "hold", &[r#""table":"holds""#, "open, and nothing captured", "captured by"]),
    ("INSERT INTO transfers (slot, user_id, id, to_user_id, to_slot, currency, amount, next_try_at)
      SELECT slot, user_id, id, 42, 1, currency, amount, now() FROM transactions WHERE user_id = 2 AND amount = 0.25",
     "transfer", &[r#""table":"transfers""#, "nothing was taken", "0.2500 USD to 42"]),
    ("INSERT INTO transfer_credits SELECT slot, user_id, id, 42, currency, amount, id, NULL, now()
      FROM transactions WHERE user_id = 2 AND amount = 0.25",
     "transfer", &[r#""table":"transfer_credits""#, "nothing was given", "0.2500 USD from 42"]),
    ("INSERT INTO transfer_credits SELECT slot, user_id, id, 42, currency, amount, id, NULL, now()
      FROM transactions WHERE user_id = 2 AND amount = 0.25",
     "transfer", &[r#""table":"transfer_credits""#, "in transfers of the other user, too", r#""found":"no such row""#]),
    ("INSERT INTO transfer_credits SELECT slot, user_id, '01000000-0000-8243-8000-000000000000', 42, currency, amount, id, NULL,
             now()
      FROM transactions WHERE user_id = 2 AND amount IN (0.25, 3)",
     "transfer", &[r#""table":"transfer_credits""#, r#""expected":"1 credit at most""#, r#""found":"2 credits""#]),
    ("INSERT INTO transfers (slot, user_id, id, to_user_id, to_slot, currency, amount, state, ended_at, next_try_at)
      SELECT slot, user_id, id, 42, 1, currency, amount, 'completed', now(), now() FROM transactions
      WHERE user_id = 2 AND amount = 0.25",
     "transfer", &[r#""table":"transfers""#, "in transfer_credits of the other user, too", r#""found":"no such row""#]),
    ("UPDATE transactions SET kind = 'transfer_out', transfer_id = id, other_user_id = 42 WHERE user_id = 2 AND amount = 0.25;
      INSERT INTO transfers (slot, user_id, id, to_user_id, to_slot, currency, amount, state, reason, ended_at, next_try_at)
      SELECT slot, user_id, id, 42, 1, currency, amount, 'reversed', 'user-not-found', now(), now() FROM transactions
      WHERE user_id = 2 AND amount = 0.25",
     "transfer", &[r#""table":"transfers""#, "0.2500 USD back once", r#""found":"nothing back""#]),
    ("UPDATE transactions SET kind = 'transfer_out', transfer_id = id, other_user_id = 42, created_at = now() - interval '2 minutes'
      WHERE user_id = 2 AND amount = 0.25;
      INSERT INTO transfers (slot, user_id, id, to_user_id, to_slot, currency, amount, next_try_at)
      SELECT slot, user_id, id, 42, 1, currency, amount, now() FROM transactions WHERE user_id = 2 AND amount = 0.25",
     "transfer", &[r#""table":"transfers""#, "an end within a minute", "pending since"]),
    ("DELETE FROM slot_owner WHERE slot = 579",
     "owned", &[r#""user_id":2"#, r#""slot":579"#]),
    ("UPDATE slot_owner SET state = 'released', owner = 'shard-2', changed_at = now() - interval '1 hour' WHERE slot = 579",
     "slot_owner", &[r#""slot":579"#, r#""found":"none""#]),
    ("UPDATE slot_owner SET state = 'released', owner = 'shard-2', changed_at = now() - interval '1 hour' WHERE slot = 579",
     "fence", &[r#""table":"transactions""#, r#""user_id":2"#, "given away at", "only here"]),
    ("UPDATE slot_owner SET owner = 'shard-2' WHERE slot = 579",
     "slot_owner", &[r#""slot":579"#, r#""found":"shard-2""#]),
    ("INSERT INTO slot_owner VALUES (4000, 'owned', 'shard-1', 3)",
     "slot_owner", &[r#""slot":4000"#, "shard-1 at epoch 3 and shard-2 at epoch 1"]),
    ("UPDATE users SET slot = 580 WHERE user_id = 2; UPDATE balances SET slot = 580 WHERE user_id = 2;
      UPDATE transactions SET slot = 580 WHERE user_id = 2; UPDATE refund_totals SET slot = 580 WHERE user_id = 2",
     "slot", &[r#""table":"users""#, r#""slot":580"#, "slot 579, tag 633937646"]),
    ("UPDATE users SET tag = 7 WHERE user_id = 2",
     "slot", &[r#""table":"users""#, "slot 579, tag 7"]),
    ("UPDATE transactions SET id = '01000000-0000-8244-8000-000000000000' WHERE user_id = 2 AND amount = 0.25",
     "slot", &["an id of version 8 that carries slot 579", "version 8, slot 580"]),
    ("UPDATE transactions SET id = '01000000-0000-8243-8000-000700000000' WHERE user_id = 2 AND amount = 0.25",
     "slot", &["an id that carries tag 633937646", r#""found":"tag 7""#]),
    ("UPDATE transactions SET id = '01000000-0000-4243-a5c9-1eee00000000' WHERE user_id = 2 AND amount = 0.25",
     "slot", &["version 4"]),
    ("DELETE FROM users WHERE user_id = 2",
     "user", &[r#""user_id":2"#, "a row in users"]),
    ("UPDATE balances SET balance = -1 WHERE user_id = 2 AND currency = 'USD'",
     "value", &["a balance of 0 or more", r#""found":"-1.0000""#]),
    ("UPDATE balances SET balance = 'NaN' WHERE user_id = 2 AND currency = 'USD'",
     "value", &[r#""found":"NaN""#]),
    ("UPDATE transactions SET balance_after = -1 WHERE user_id = 2 AND amount = 0.25",
     "value", &["balance_after of 0 or more"]),
    ("UPDATE transactions SET amount = 'NaN' WHERE user_id = 2 AND amount = 0.25",
     "value", &["an amount above 0", "NaN"]),
    ("UPDATE transactions SET amount = -0.25 WHERE user_id = 2 AND amount = 0.25",
     "value", &["an amount above 0"]),
    ("UPDATE transactions SET amount = 0.2501 WHERE user_id = 2 AND amount = 0.25",
     "value", &["at most 2 decimals in USD"]),
    ("UPDATE balances SET balance = balance + 0.001 WHERE user_id = 2 AND currency = 'JPY'",
     "value", &["at most 0 decimals in JPY"]),
    ("UPDATE transactions SET kind = 'gift' WHERE user_id = 2 AND amount = 0.25",
     "value", &["a kind of operation", "gift"]),
    ("UPDATE transactions SET currency = 'ZZZ' WHERE user_id = 2 AND amount = 0.25",
     "value", &["a currency of ISO 4217", "ZZZ"]),
    ("UPDATE balances SET currency = 'ZZZ' WHERE user_id = 2 AND currency = 'USD'",
     "value", &[r#""table":"balances""#, "ZZZ"]),
    ("UPDATE shard_identity SET shard_name = 'shard-2'",
     "identity", &[r#""expected":"shard-1""#, r#""found":"shard-2""#]),
    ("UPDATE shard_identity SET slot_count = 1024", "identity", &["4096", "1024"]),
    ("UPDATE shard_identity SET slot_hash = 'crc16'", "identity", &["crc16"]),
    ("UPDATE shard_identity SET cluster_id = gen_random_uuid()", "identity", &["cluster_id"]),
    ("DELETE FROM shard_identity", "identity", &["picopay init"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_by_hand_is_found_and_named() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    make_users(&cluster).await;
    load(&cluster).await;
    let file = cluster.cluster_file();
    verify(&file).await.success();

    let client: Client = cluster.connect_as_superuser(0).await.unwrap();
    client.batch_execute(CHANGES[0].0).await.unwrap();
    let table = run(picopay(&file, ["verify"])).await;
    assert_eq!(table.code, Some(1));
    let line = "shard-1 balances slot=579 user_id=2 currency=USD: expected 91.6500, found 92.6500";
    assert!(table.out.contains(line), "{}", table.out);
    client.batch_execute(&CHANGES[0].0.replace('+', "-")).await.unwrap();

    client.batch_execute(UNGUARD).await.unwrap();
    verify(&file).await.success();
    for group in CHANGES.chunk_by(|one, next| one.0 == next.0) {
        let change = group[0].0;
        client.batch_execute(change).await.unwrap();
        let said = verify(&file).await;
        assert_eq!(said.code, Some(1), "{change}: {said:?}");
        let found = wrong(&said.json());
        for (_, check, needles) in group {
            let rows = found.get(*check).unwrap_or_else(|| panic!("{check} after {change}: {found:?}"));
            let is_named = |row: &Value| needles.iter().all(|needle| row.to_string().contains(needle));
            assert!(rows.iter().any(is_named), "{needles:?} after {change}: {rows:?}");
        }
        client.batch_execute(RESTORE).await.unwrap();
    }
    verify(&file).await.success();
    cluster.stop().await;
}

/// User 2's slot goes to the second shard. What stays behind is no finding, and counts nowhere; what comes after is one.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_move_left_behind_are_noted_and_a_write_after_it_is_found() {
    let cluster = LocalCluster::start(ClusterSpec::default()).await.unwrap();
    make_users(&cluster).await;
    load(&cluster).await;
    let file = cluster.cluster_file();
    let books = async || {
        let report = verify(&file).await.success().json();
        (report["currencies"].clone(), report["leftovers"].clone())
    };
    let (before, nothing) = books().await;
    assert_eq!(nothing, json!([]));
    run(picopay(&file, ["slot", "move", "579", "--to", "shard-2"])).await.success();
    let (after, left) = books().await;
    assert_eq!(before, after, "nothing counts twice");
    // A user, two balances and, in two currencies, two top-ups, three charges, two refunds, a refusal and two totals.
    let released =
        json!({"shard": "shard-1", "state": "released", "runs": [{"first": 579, "last": 579}], "rows": 13});
    assert_eq!(left, json!([released]));
    let table = run(picopay(&file, ["verify"])).await.success();
    assert!(table.out.contains("`picopay slots purge` removes them"), "{}", table.out);

    let clients =
        [cluster.connect_as_superuser(0).await.unwrap(), cluster.connect_as_superuser(1).await.unwrap()];
    what_is_half_way_in_is_left_over_too(&clients, &file).await;

    let late = "INSERT INTO transactions (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after,
                                          kind, currency)
                VALUES (579, 2, '01000000-0000-8243-8000-000000000000', '00000000-0000-4000-8000-000000000000',
                        decode(repeat('00', 16), 'hex'), now(), 1, 90.65, 'charge', 'USD')";
    clients[0].batch_execute(late).await.unwrap();
    let found = wrong(&verify(&file).await.json());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["fence"], "{found:?}");
    let text = found["fence"][0].to_string();
    for needle in [r#""shard":"shard-1""#, r#""id":"01000000-0000-8243"#, "at shard-2 too", "only here"] {
        assert!(text.contains(needle), "{needle} in {text}");
    }
    // Clocks differ: a row that seems to be of after the release was booked before, if the new owner has it too.
    clients[1].batch_execute(late).await.unwrap();
    let found = wrong(&verify(&file).await.json());
    assert!(!found.contains_key("fence") && found.contains_key("balance"), "{found:?}");
    for client in &clients {
        client
            .batch_execute("DELETE FROM transactions WHERE id = '01000000-0000-8243-8000-000000000000'")
            .await
            .unwrap();
    }

    let user = "INSERT INTO users (slot, user_id, tag) VALUES (579, 77, 0)";
    clients[0].batch_execute(user).await.unwrap();
    let found = wrong(&verify(&file).await.json());
    assert!(found["fence"][0].to_string().contains(r#""table":"users""#), "{found:?}");
    cluster.stop().await;
}

/// A target's rows before it takes the slot, and after it has given up, are not its own: they may well be half a copy.
async fn what_is_half_way_in_is_left_over_too(clients: &[Client; 2], file: &Path) {
    let half = "INSERT INTO slot_owner VALUES (10, 'importing', 'shard-1', 2);
                INSERT INTO users VALUES (10, 5, 0); INSERT INTO balances VALUES (10, 5, 'USD', 7)";
    clients[1].batch_execute(half).await.unwrap();
    for state in ["importing", "aborted"] {
        clients[1].execute("UPDATE slot_owner SET state = $1 WHERE slot = 10", &[&state]).await.unwrap();
        let report = verify(file).await.success().json();
        let left = &report["leftovers"].as_array().unwrap()[1];
        assert_eq!((&left["state"], &left["rows"]), (&json!(state), &json!(2)), "{left}");
    }
    clients[1].batch_execute("DELETE FROM slot_owner WHERE slot = 10").await.unwrap();
    let found = wrong(&verify(file).await.json());
    assert!(found.contains_key("owned"), "rows of a slot that it never had: {found:?}");
    clients[1]
        .batch_execute("DELETE FROM balances WHERE slot = 10; DELETE FROM users WHERE slot = 10")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_wrong_rows_are_counted_and_twenty_are_named() {
    let spec = ClusterSpec::one_shard().without_gateway();
    let cluster = LocalCluster::start(spec).await.unwrap();
    let client = cluster.connect_as_superuser(0).await.unwrap();
    let users = "INSERT INTO users SELECT n, n + 1, 0 FROM generate_series(0, 99) n";
    client.batch_execute(users).await.unwrap();
    let said = verify(&cluster.cluster_file()).await;
    assert_eq!(said.code, Some(1));
    let report = said.json();
    let check = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "slot").unwrap();
    assert_eq!((check["wrong"].as_u64(), check["rows"].as_array().unwrap().len()), (Some(100), 20));
    let table = run(picopay(&cluster.cluster_file(), ["verify"])).await;
    assert!(table.out.contains("and 80 more of"), "{}", table.out);
    cluster.stop().await;
}
