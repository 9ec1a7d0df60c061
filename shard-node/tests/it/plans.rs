//! A transaction is found by its id among its user's thousands, not by reading all of them; and a read that asks for the
//! owner in the same breath finds everything by its key.

use picopay_local::ClusterSpec;
use tokio_postgres::Client;

use crate::test_shard::TestShard;

/// Five transactions of each of four thousand users: as for any ledger, the planner believes that slot and user are
/// independent, and that a user in a slot has less than one row.
const FILL: &str = "
    INSERT INTO users (slot, user_id, tag) SELECT n % 4096, n, n FROM generate_series(1, 4000) n;
    INSERT INTO transactions
        (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency)
    SELECT n % 4096, n, gen_random_uuid(), gen_random_uuid(), uuid_send(gen_random_uuid()), now(), 1, 1, 'charge', 'USD'
    FROM generate_series(1, 4000) n, generate_series(1, 5);
    INSERT INTO balances SELECT n % 4096, n, 'USD', 1 FROM generate_series(1, 4000) n;
    ANALYZE";

#[tokio::test]
async fn a_transaction_is_found_by_its_id_and_not_by_its_user() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().without_redis()).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser.batch_execute(FILL).await.unwrap();
    // What the foreign key of a refund asks, and what the node asks for refunds and lookups.
    let foreign_key =
        "SELECT 1 FROM ONLY transactions x WHERE slot = $1 AND user_id = $2 AND id = $3 FOR KEY SHARE OF x";
    let asked = [
        (foreign_key, "(smallint, bigint, uuid)", "(1, 1, gen_random_uuid())"),
        (
            include_str!("../../src/sql/read_refunded.sql"),
            "(smallint[], integer[], uuid[])",
            "('{}', '{}', '{}')",
        ),
        (
            include_str!("../../src/sql/find_transaction.sql"),
            "(smallint, integer, uuid)",
            "(1, 1, gen_random_uuid())",
        ),
        (
            include_str!("../../src/sql/find_history.sql"),
            "(smallint, bigint, uuid, uuid, text, bigint)",
            "(1, 1, gen_random_uuid(), gen_random_uuid(), NULL, 21)",
        ),
    ];
    for (text, types, values) in asked {
        let prepare = format!(
            "DEALLOCATE ALL; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;
             PREPARE asked {types} AS {text}"
        );
        superuser.batch_execute(&prepare).await.unwrap();
        let plan = explain(&superuser, &format!("EXECUTE asked {values}")).await;
        assert!(plan.contains("transactions_pkey"), "{text}\n{plan}");
        assert!(!plan.contains("one_transaction_per_key"), "{text}\n{plan}");
    }
    shard.stop().await;
}

/// As the planner does it by itself, with and without the values.
#[tokio::test]
async fn a_read_finds_owner_user_and_rows_by_their_keys() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().without_redis()).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser.batch_execute(FILL).await.unwrap();
    // With one user in a slot, as here, either index of `users` is as good.
    let asked = [
        (
            include_str!("../../src/sql/find_balances.sql"),
            "(smallint, bigint)",
            "(1, 1)",
            ["users_", "balances_pkey"],
        ),
        (
            include_str!("../../src/sql/find_history.sql"),
            "(smallint, bigint, uuid, uuid, text, bigint)",
            "(1, 1, '00000000-0000-8000-8000-000000000000', 'ffffffff-ffff-8fff-8fff-ffffffffffff', NULL, 21)",
            ["users_", "Index Scan Backward using transactions_pkey"],
        ),
        (
            include_str!("../../src/sql/find_transaction.sql"),
            "(smallint, integer, uuid)",
            "(1, 1, gen_random_uuid())",
            ["users_by_tag", "transactions_pkey"],
        ),
    ];
    for mode in ["force_generic_plan", "force_custom_plan"] {
        for (text, types, values, indexes) in asked {
            let prepare =
                format!("DEALLOCATE ALL; SET plan_cache_mode = {mode}; PREPARE asked {types} AS {text}");
            superuser.batch_execute(&prepare).await.unwrap();
            let plan = explain(&superuser, &format!("EXECUTE asked {values}")).await;
            for index in indexes.into_iter().chain(["slot_owner_pkey"]) {
                assert!(plan.contains(index), "{index}: {text}\n{plan}");
            }
            assert!(!plan.contains("Seq Scan"), "{text}\n{plan}");
        }
    }
    shard.stop().await;
}

async fn explain(database: &Client, statement: &str) -> String {
    let rows = database.query(&format!("EXPLAIN {statement}"), &[]).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.join("\n")
}
